"""
Environments like a model's own, for tests.

They are copies of the training's environment in its present state, not new environments from its id. So they have its
random map, its changed table, and the attributes that were set since. Wrappers that only write or show are left out,
running statistics do not change, and an environment that cannot be copied is an error that asks for a test environment.

In the order of reading: this module decides how to make the environment, ``env_copies`` copies sub-environments, and
``env_compare`` checks that they are all the same task.
"""

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
    is_vecenv_wrapped,
)

from sb3_lecture_dqn.envs.make import Wrapper, make_env, make_tabular_env
from sb3_lecture_dqn.envs.tabular import NotTabularError, TabularModel
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv, without_wrappers
from sb3_lecture_dqn.evaluation.env_compare import CannotCopyError, chain_of, check_made_alike
from sb3_lecture_dqn.evaluation.env_copies import LEFT_OUT, copiers

_VEC_LEFT_OUT = (VecMonitor, VecCheckNan, VecVideoRecorder)


def env_like_model(
    model: BaseAlgorithm, n_envs: int = 1, max_episode_steps: int | None = None, argument: str = "env"
) -> VecEnv:
    """
    Make an environment like the model's own, which stays unchanged.

    If the model's own is tabular, the new one runs on arrays, see :func:`table_like_model`. Else it has copies of the
    model's sub-environment, with its present attributes, maps, tables, wrappers and statistics. The statistics of
    ``NormalizeObservation``, ``NormalizeReward`` and ``VecNormalize`` do not change, and rewards are not normalised.
    Wrappers that only write or show (:data:`LEFT_OUT`) are left out, and no window is opened. If the model has no
    environment, for example because it was just loaded, the new one is made by the model's id.

    :param model: Any algorithm of SB3 or made on it
    :param n_envs: Number of environments
    :param max_episode_steps: Steps after which an episode is cut, in place of the environment's own limit; ``None``
        keeps that limit
    :param argument: The argument by which the caller's user can give an environment, for messages
    :return: A vectorised environment with the wrappers of the model's own
    :raises CannotCopyError: If the model's environment runs in another process, has no gymnasium spec, has
        sub-environments that differ or attributes that cannot be copied; or if a wrapper of the user's may write, or
        keeps something from one episode to the next
    """
    try:
        env: VecEnv = table_like_model(model, max_episode_steps, argument)
    except NotTabularError:
        try:
            env = DummyVecEnv(_copiers(model, n_envs, max_episode_steps))
        except CannotCopyError as error:
            raise CannotCopyError(error.why, argument) from error
    return wrap_like_model(model, env, argument)


def table_like_model(
    model: BaseAlgorithm, max_episode_steps: int | None = None, argument: str = "env"
) -> TabularVecEnv:
    """
    Make an environment on arrays from the present tables of the model's own.

    :param model: Any algorithm of SB3 or made on it
    :param max_episode_steps: See :func:`env_like_model`
    :param argument: See :func:`env_like_model`
    :return: One environment
    :raises NotTabularError: If the model's environment is not tabular; the message says why
    :raises CannotCopyError: If the model has no environment and no id, or sub-environments have different tables
    """
    model_env = model.get_env()
    if model_env is None:
        check_made_by_id(model, argument)
        return make_tabular_env(*_by_id(model, max_episode_steps, argument))
    base = without_wrappers(model_env, VecVideoRecorder)
    if type(base) is TabularVecEnv:
        limit = base.max_episode_steps if max_episode_steps is None else max_episode_steps
        return TabularVecEnv(base.model, max_episode_steps=-1 if limit is None else limit)
    if type(base) is not DummyVecEnv:
        raise NotTabularError(f"{type(base).__name__} is not, or does more than, a TabularVecEnv")
    tables = [TabularModel.from_env(env, leaving_out=LEFT_OUT) for env in base.envs]
    for i, table in enumerate(tables):
        if not table.same_as(tables[0]):
            raise CannotCopyError(
                f"sub-environments 0 and {i} of the model's environment have different tables", argument
            )
    return TabularVecEnv(tables[0], max_episode_steps=max_episode_steps)


def _copiers(model: BaseAlgorithm, n_envs: int, max_episode_steps: int | None) -> list[Callable[[], gym.Env]]:
    model_env = model.get_env()
    if model_env is None:
        return [lambda: make_env(*_by_id(model, max_episode_steps))] * n_envs
    base = model_env.unwrapped
    if type(base) is not DummyVecEnv:
        where = "runs in processes of its own" if isinstance(base, SubprocVecEnv) else f"is a {type(base).__name__}"
        raise CannotCopyError(f"the model's environment {where}, which cannot be copied")
    return copiers(base.envs, n_envs, max_episode_steps)


def check_made_by_id(model: BaseAlgorithm, argument: str = "env") -> None:
    """
    Check that the model's id makes the environment of the training.

    :param model: A model of this package that has no environment
    :param argument: See :func:`env_like_model`
    :raises CannotCopyError: If the model has no id, or the id makes another environment every time
    """
    try:
        check_made_alike(lambda: make_env(*_by_id(model, None)))
    except CannotCopyError as error:
        raise CannotCopyError(error.why, argument) from error


def _by_id(
    model: BaseAlgorithm, max_episode_steps: int | None, argument: str = "env"
) -> tuple[str, int | None, Wrapper | None]:
    """The arguments of :func:`make_env` that make the environment of a model."""
    env_id = getattr(model, "env_id", None)
    if env_id is None:
        raise CannotCopyError("the model has no environment, and its file has no id of one", argument)
    limit = getattr(model, "max_episode_steps", None) if max_episode_steps is None else max_episode_steps
    return env_id, limit, getattr(model, "env_wrapper", None)


def wrap_like_model(model: BaseAlgorithm, env: VecEnv, argument: str | None = None) -> VecEnv:
    """
    Put the wrappers of the model's vectorised environment around another, unless that already has them.

    :param model: Any algorithm of SB3 or made on it
    :param env: The environment to wrap
    :param argument: See :func:`env_like_model`. ``None`` for an environment that the user gave: then wrappers that are
        not known here are left out
    :return: The wrapped environment; its statistics do not change, and rewards are not normalised
    :raises CannotCopyError: If the model's environment has a wrapper that is not known here
    """
    inner, wrappers = model.get_env(), []
    while isinstance(inner, VecEnvWrapper):
        wrappers.append(inner)
        inner = inner.venv
    for wrapper in reversed(wrappers):
        if is_vecenv_wrapped(env, type(wrapper)) or isinstance(wrapper, _VEC_LEFT_OUT):
            continue
        kind = type(wrapper) if argument is not None else next((k for k in _VEC_KNOWN if isinstance(wrapper, k)), None)
        if kind in _VEC_KNOWN:
            env = _VEC_KNOWN[kind](wrapper, env)
        elif argument is not None:
            raise CannotCopyError(
                f"it is not known how to wrap a new environment in {type(wrapper).__name__}, as the model's own is",
                argument,
            )
    return env


def _normalized(wrapper: Any, env: VecEnv) -> VecEnv:
    normalized = VecNormalize(
        env,
        training=False,
        norm_obs=wrapper.norm_obs,
        norm_reward=False,
        clip_obs=wrapper.clip_obs,
        epsilon=wrapper.epsilon,
        norm_obs_keys=wrapper.norm_obs_keys,
    )
    if wrapper.norm_obs:
        normalized.obs_rms = copy.deepcopy(wrapper.obs_rms)
    return normalized


def _stacked(wrapper: Any, env: VecEnv) -> VecEnv:
    stacked, is_dict = wrapper.stacked_obs, isinstance(wrapper.observation_space, spaces.Dict)
    parts = stacked.sub_stacked_observations if is_dict else {"": stacked}
    order = {key: "first" if part.channels_first else "last" for key, part in parts.items()}
    return VecFrameStack(env, stacked.n_stack, order if is_dict else order[""])


_VEC_KNOWN: dict[Any, Callable[[Any, VecEnv], VecEnv]] = {
    VecTransposeImage: lambda wrapper, env: VecTransposeImage(env, skip=wrapper.skip),
    VecNormalize: _normalized,
    VecFrameStack: _stacked,
    VecExtractDictObs: lambda wrapper, env: VecExtractDictObs(env, wrapper.key),
}


def step_limit_of(env: VecEnv) -> int | None:
    """
    Find the step limit of a vectorised environment.

    :param env: The environment
    :return: The tightest limit of its first sub-environment; ``None`` if there is no limit, or it is not known
    """
    base = env.unwrapped
    if isinstance(base, TabularVecEnv):
        return base.max_episode_steps
    if isinstance(base, DummyVecEnv):
        limits = [wrapper._max_episode_steps for wrapper in chain_of(base.envs[0]) if isinstance(wrapper, TimeLimit)]
        return min(limits, default=None)
    spec = base.get_attr("spec", 0)[0] if base.has_attr("spec") else None
    return None if spec is None else spec.max_episode_steps
