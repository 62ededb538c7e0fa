"""The states of environments as data, and how to bring other environments to the same state."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from sb3_lecture_dqn.common.checks import check_number, find_outside
from sb3_lecture_dqn.common.seeding import generator_state, set_generator_state
from sb3_lecture_dqn.common.wrappers import MAX_REPLAYED, OwnName, ResumableEnv, TransparentWrapper
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv

State = dict[str, Any]


class EpisodeNotReplayedError(ValueError):
    """An environment did not come back to its state."""


def make_resumable(env: VecEnv) -> None:
    """
    Put a :class:`ResumableEnv` around every sub-environment of a ``DummyVecEnv`` that has none.

    It checks all steps of its environment from now on. Other vectorised environments are left as they are.

    :param env: A vectorised environment
    """
    base = env.unwrapped
    if isinstance(base, DummyVecEnv):
        for i, sub_env in enumerate(base.envs):
            resumable = _resumable(sub_env)
            if resumable is None:
                base.envs[i] = resumable = ResumableEnv(sub_env)
            resumable.check_steps(i)


def _resumable(env: gym.Env) -> ResumableEnv | None:
    """Return the :class:`ResumableEnv` that sees the steps as the environment returns them, ``None`` without one."""
    while isinstance(env, Monitor | TransparentWrapper):
        if isinstance(env, ResumableEnv):
            return env
        env = env.env
    return None


def gives_new_arrays(env: VecEnv) -> bool:
    """
    Look whether every step returns observations in new memory, of their space's type.

    :param env: A vectorised environment
    :return: ``False`` also if that is not known
    """
    while type(env) in (VecMonitor, VecNormalize, *_STATELESS):
        env = env.venv  # type: ignore[attr-defined]
    return type(env) in (DummyVecEnv, TabularVecEnv)


def env_state(env: VecEnv, with_episodes: bool = True) -> State:
    """
    Capture the state of an environment and of all of its wrappers.

    :param env: A vectorised environment
    :param with_episodes: Whether to ask the environment itself, or only the wrappers
    :return: Its state as data; ``None`` in place of parts that are not known
    """
    wrappers = []
    while isinstance(env, VecEnvWrapper):
        wrappers.append({"kind": type(env).__name__, "state": _wrapper_state(env)})
        env = env.venv
    base: State = {"kind": type(env).__name__, "state": None}
    if not with_episodes:
        return {"wrappers": wrappers, "base": base}
    if isinstance(env, TabularVecEnv):
        base["state"] = env.get_state()
    elif all(env.env_is_wrapped(ResumableEnv)):
        episodes = env.env_method(OwnName("episode_state"))
        if None not in episodes:
            base["state"] = {"episodes": episodes, "seeds": list(env._seeds)}
    return {"wrappers": wrappers, "base": base}


def set_env_state(env: VecEnv, state: State) -> None:
    """
    Bring an environment to the state of another.

    :param env: A vectorised environment, made as the other was
    :param state: What :func:`env_state` returned for the other
    :raises EpisodeNotReplayedError: If it does not come to the same state; then it must be reset
    """
    env = set_wrapper_states(env, state)
    base, kind = state["base"]["state"], state["base"]["kind"]
    if type(env).__name__ != kind:
        raise EpisodeNotReplayedError(f"it was a {kind}, and is a {type(env).__name__} now")
    if base is None:
        raise EpisodeNotReplayedError(f"a {kind} cannot say where it stands; put ResumableEnv around what it steps")
    if isinstance(env, TabularVecEnv):
        env.set_state(base)
        return
    if len(base["episodes"]) != env.num_envs or not all(env.env_is_wrapped(ResumableEnv)):
        raise EpisodeNotReplayedError(f"there were {len(base['episodes'])} sub-environments with a ResumableEnv around")
    for episode in base["episodes"]:
        _check_actions(episode["actions"], env)
    n_steps = sum(len(episode["actions"]) for episode in base["episodes"])
    if n_steps > MAX_REPLAYED:
        raise EpisodeNotReplayedError(f"the episodes had {n_steps} steps, and {MAX_REPLAYED} are the most replayed")
    seeds = _checked_seeds(base["seeds"], env)
    for i, episode in enumerate(base["episodes"]):
        (problem,) = env.env_method(OwnName("replay_episode"), episode, indices=[i])
        if problem is not None:
            raise EpisodeNotReplayedError(f"environment {i}: {problem}")
    env._seeds = seeds


def set_wrapper_states(env: VecEnv, state: State) -> VecEnv:
    """
    Bring the wrappers of an environment to the state of another's.

    :param env: A vectorised environment, wrapped as the other was
    :param state: What :func:`env_state` returned for the other
    :return: The environment without its wrappers
    :raises EpisodeNotReplayedError: If it is wrapped in another way
    """
    for described in state["wrappers"]:
        if not isinstance(env, VecEnvWrapper) or type(env).__name__ != described["kind"]:
            raise EpisodeNotReplayedError(f"it was wrapped in {described['kind']}, and is {type(env).__name__} now")
        _set_wrapper_state(env, described["state"])
        env = env.venv
    return env


def _check_actions(actions: Any, env: VecEnv) -> None:
    if not isinstance(actions, np.ndarray) or actions.ndim != 1 or actions.dtype != np.int64:
        raise ValueError("the actions of an episode must be int64 of shape (n_steps,)")
    if actions.size and (at := find_outside(actions, env.action_space)) is not None:
        raise ValueError(f"action {actions[at]} is outside the space {env.action_space}")


def _checked_seeds(seeds: Any, env: VecEnv) -> list[int | None]:
    if len(seeds) != env.num_envs:
        raise ValueError(f"there are {len(seeds)} seeds for {env.num_envs} environments")
    for seed in seeds:
        if seed is not None:
            check_number("seed", seed, 0, integer=True)
    return list(seeds)


def unknown_parts(env: VecEnv) -> list[str]:
    """
    List the parts of an environment whose state :func:`env_state` cannot capture.

    :param env: A vectorised environment
    :return: Names of wrappers and of the environment itself; empty if all can be restored
    """
    state = env_state(env)
    return [part["kind"] for part in (*state["wrappers"], state["base"]) if part["state"] is None]


def generators_state(env: VecEnv) -> State | None:
    """
    Capture the generators of an environment that is reset before it is used again, as test environments are.

    :param env: A vectorised environment
    :return: Their state, ``None`` for an environment in processes of its own, or with generators of another kind
    """
    base = env.unwrapped
    if isinstance(base, TabularVecEnv):
        return base.get_state()
    if isinstance(base, DummyVecEnv):
        generators = [generator_state(generator) for generator in base.get_attr("np_random")]
        if None not in generators:
            return {"generators": generators, "seeds": list(base._seeds)}
    return None


def set_generators_state(env: VecEnv, state: State | None) -> None:
    """
    Restore generators; the inverse of :func:`generators_state`.

    :param env: A vectorised environment of the same kind
    :param state: What :func:`generators_state` returned
    :raises ValueError: If it is the state of another kind of environment
    """
    base = env.unwrapped
    if state is None:
        return
    if isinstance(base, TabularVecEnv):
        base.set_state(state)
    elif isinstance(base, DummyVecEnv):
        base._seeds = _checked_seeds(state["seeds"], base)
        for generator, its_state in zip(base.get_attr("np_random"), state["generators"], strict=True):
            set_generator_state(generator, its_state)


# Wrappers of Stable-Baselines3. Others may have get_state() and set_state().

_STATELESS = (VecTransposeImage, VecCheckNan, VecExtractDictObs)


def _wrapper_state(wrapper: Any) -> State | None:
    if isinstance(wrapper, VecNormalize):
        return {
            "obs_rms": _moments(wrapper.obs_rms) if wrapper.norm_obs else None,
            "ret_rms": _moments(wrapper.ret_rms),
            "returns": wrapper.returns,
            "old_obs": wrapper.old_obs,
            "old_reward": wrapper.old_reward,
        }
    if isinstance(wrapper, VecFrameStack):
        return {key: part.stacked_obs for key, part in _stacks(wrapper).items()}
    if isinstance(wrapper, VecMonitor):
        return {
            "returns": wrapper.episode_returns,
            "lengths": wrapper.episode_lengths,
            "count": wrapper.episode_count,
        }
    if isinstance(wrapper, _STATELESS):
        return {}
    if hasattr(wrapper, "get_state") and hasattr(wrapper, "set_state"):
        return dict(wrapper.get_state())
    return None


def _set_wrapper_state(wrapper: Any, state: State | None) -> None:
    if state is None:
        warnings.warn(f"{type(wrapper).__name__} has no get_state() and set_state(): it goes on as it is now")
    elif isinstance(wrapper, VecNormalize):
        if wrapper.norm_obs:
            _set_moments(wrapper.obs_rms, state["obs_rms"])
        _set_moments(wrapper.ret_rms, state["ret_rms"])
        wrapper.returns = _array_like("returns of VecNormalize", state["returns"], wrapper.returns)
        # Before the first reset there are none of these two to compare with.
        wrapper.old_obs, wrapper.old_reward = state["old_obs"], state["old_reward"]
    elif isinstance(wrapper, VecFrameStack):
        for key, part in _stacks(wrapper).items():
            part.stacked_obs = _array_like("observations of VecFrameStack", state[key], part.stacked_obs)
    elif isinstance(wrapper, VecMonitor):
        check_number("episodes of VecMonitor", state["count"], 0, integer=True)
        shape = np.zeros(wrapper.num_envs)
        wrapper.episode_returns = _array_like("returns of VecMonitor", state["returns"], shape)
        wrapper.episode_lengths = _array_like("lengths of VecMonitor", state["lengths"], shape)
        wrapper.episode_count = state["count"]
    elif not isinstance(wrapper, _STATELESS):
        wrapper.set_state(state)


def _stacks(wrapper: VecFrameStack) -> dict[str, Any]:
    stacked: Any = wrapper.stacked_obs
    parts: dict[str, Any] = getattr(stacked, "sub_stacked_observations", None) or {"": stacked}
    return parts


def _moments(moments: RunningMeanStd | dict[str, RunningMeanStd]) -> Any:
    if isinstance(moments, dict):
        return {key: _moments(part) for key, part in moments.items()}
    return {"mean": moments.mean, "var": moments.var, "count": moments.count}


def _set_moments(moments: RunningMeanStd | dict[str, RunningMeanStd], state: Any) -> None:
    if isinstance(moments, dict):
        for key, part in moments.items():
            _set_moments(part, state[key])
        return
    check_number("count of VecNormalize", state["count"], 0)
    mean = _array_like("mean of VecNormalize", state["mean"], moments.mean)
    moments.var = _array_like("variance of VecNormalize", state["var"], moments.var)
    moments.mean, moments.count = mean, state["count"]


def _array_like(what: str, value: Any, own: np.ndarray) -> np.ndarray:
    """Return a stored array after checking its shape: NumPy would broadcast other shapes to large arrays."""
    if np.shape(value) != np.shape(own) or not np.isfinite(value).all():
        raise ValueError(f"{what}: there must be finite numbers of shape {np.shape(own)}")
    array: np.ndarray = value
    return array
