"""
Environments like a model's own, for tests.

They are copies of the training's environment as it is now, not new ones from its id: so a random map, a changed table
and attributes that were set since are in them. What only writes or shows is left out, statistics stand still, and what
cannot be copied is asked for.
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

from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.envs.tabular import NotTabularError, TabularModel
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.evaluation.env_copies import LEFT_OUT, CannotCopyError, chain_of, check_made_alike, copiers

_VEC_LEFT_OUT = (VecMonitor, VecCheckNan, VecVideoRecorder)


def env_like_model(
    model: BaseAlgorithm, n_envs: int = 1, max_episode_steps: int | None = None, argument: str = "env"
) -> VecEnv:
    """
    Make an environment like the model's own, which stays as it is.

    It is on arrays where the model's own is tabular, see :func:`table_like_model`. Else it has copies of the model's
    sub-environment: attributes, maps, tables, wrappers and their statistics are those of now. The statistics of
    ``NormalizeObservation``, ``NormalizeReward`` and ``VecNormalize`` stand still, and rewards are not normalised.
    Wrappers that only write or show (:data:`LEFT_OUT`) are left out, and nothing is shown in a window. A model that has
    no environment, as one that was just loaded, gets one by the id that it was made with.

    :param model: Any algorithm of SB3 or made on it
    :param n_envs: Number of environments
    :param max_episode_steps: Steps after which an episode is cut, in place of the environment's own limit, which
        ``None`` keeps
    :param argument: The argument by which the caller's user can give an environment, for messages
    :return: A vectorised environment, wrapped as the model's own
    :raises CannotCopyError: If it cannot be made: of an environment in a process of its own, one without a gymnasium
        spec, sub-environments that differ from one another, a wrapper of which it is not known what else it does, or
        that keeps something from one episode to the next, and attributes that cannot be copied
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
    Make an environment on arrays like the model's own, from the tables of that one as they are now.

    :param model: Any algorithm of SB3 or made on it
    :param max_episode_steps: See :func:`env_like_model`
    :param argument: See :func:`env_like_model`
    :return: One environment
    :raises NotTabularError: If the model's is not tabular; the message says why
    :raises CannotCopyError: If it is not known how to make one, or sub-environments have different tables
    """
    own = model.get_env()
    if own is None:
        check_made_by_id(model, argument)
        made = _by_id(model, max_episode_steps, argument)
        try:
            return TabularVecEnv(made)
        finally:
            made.close()
    base = own
    # These leave actions alone, and observations of a Discrete space; rewards are tested as they were before.
    while type(base) in (VecNormalize, *_VEC_LEFT_OUT):
        base = base.venv  # type: ignore[attr-defined]
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


def step_limit_of(env: VecEnv) -> int | None:
    """
    The step limit of a vectorised environment.

    :param env: The environment
    :return: The tightest limit of its first sub-environment, ``None`` if there is none, or it is not known
    """
    base = env.unwrapped
    if isinstance(base, TabularVecEnv):
        return base.max_episode_steps
    if isinstance(base, DummyVecEnv):
        limits = [wrapper._max_episode_steps for wrapper in chain_of(base.envs[0]) if isinstance(wrapper, TimeLimit)]
        return min(limits, default=None)
    spec = base.get_attr("spec", 0)[0] if base.has_attr("spec") else None
    return None if spec is None else spec.max_episode_steps


def wrap_like_model(model: BaseAlgorithm, env: VecEnv, argument: str | None = None) -> VecEnv:
    """
    Put the wrappers of the model's vectorised environment around another, unless that has them.

    :param model: Any algorithm of SB3 or made on it
    :param env: What is wrapped
    :param argument: See :func:`env_like_model`. ``None`` for an environment that the user gave: wrappers that are not
        known are left out then
    :return: The wrapped environment; statistics stand still, and rewards are not normalised
    :raises CannotCopyError: If it is not known how to wrap as the model's own is
    """
    own, wrappers = model.get_env(), []
    while isinstance(own, VecEnvWrapper):
        wrappers.append(own)
        own = own.venv
    for wrapper in reversed(wrappers):
        if is_vecenv_wrapped(env, type(wrapper)) or isinstance(wrapper, _VEC_LEFT_OUT):
            continue
        kind = type(wrapper) if argument is not None else next((k for k in _VEC_KNOWN if isinstance(wrapper, k)), None)
        if kind in _VEC_KNOWN:
            env = _VEC_KNOWN[kind](wrapper, env)
        elif argument is not None:
            raise CannotCopyError(
                f"it is not known how to wrap a new environment in {type(wrapper).__name__} as the model's own is",
                argument,
            )
    return env


def _normalized(own: Any, env: VecEnv) -> VecEnv:
    made = VecNormalize(
        env,
        training=False,
        norm_obs=own.norm_obs,
        norm_reward=False,
        clip_obs=own.clip_obs,
        epsilon=own.epsilon,
        norm_obs_keys=own.norm_obs_keys,
    )
    if own.norm_obs:
        made.obs_rms = copy.deepcopy(own.obs_rms)
    return made


def _stacked(own: Any, env: VecEnv) -> VecEnv:
    stacked, is_dict = own.stacked_obs, isinstance(own.observation_space, spaces.Dict)
    parts = stacked.sub_stacked_observations if is_dict else {"": stacked}
    order = {key: "first" if part.channels_first else "last" for key, part in parts.items()}
    return VecFrameStack(env, stacked.n_stack, order if is_dict else order[""])


_VEC_KNOWN: dict[Any, Callable[[Any, VecEnv], VecEnv]] = {
    VecTransposeImage: lambda own, env: VecTransposeImage(env, skip=own.skip),
    VecNormalize: _normalized,
    VecFrameStack: _stacked,
    VecExtractDictObs: lambda own, env: VecExtractDictObs(env, own.key),
}


def _by_id(model: BaseAlgorithm, max_episode_steps: int | None, argument: str = "env") -> gym.Env:
    env_id = getattr(model, "env_id", None)
    if env_id is None:
        raise CannotCopyError("the model has no environment, and its file knows none by an id", argument)
    limit = getattr(model, "max_episode_steps", None) if max_episode_steps is None else max_episode_steps
    return make_env(env_id, limit, getattr(model, "env_wrapper", None))


def check_made_by_id(model: BaseAlgorithm, argument: str = "env") -> None:
    """
    Check that an environment that is made by the model's id is that of the training.

    :param model: A model of this package that has no environment
    :param argument: See :func:`env_like_model`
    :raises CannotCopyError: If the id makes another one every time, or the model knows none
    """
    try:
        check_made_alike(lambda: _by_id(model, None, argument))
    except CannotCopyError as error:
        raise CannotCopyError(error.why, argument) from error


def _copiers(model: BaseAlgorithm, n_envs: int, max_episode_steps: int | None) -> list[Callable[[], gym.Env]]:
    own = model.get_env()
    if own is None:
        return [lambda: _by_id(model, max_episode_steps)] * n_envs
    base = own.unwrapped
    if type(base) is not DummyVecEnv:
        where = "runs in processes of its own" if isinstance(base, SubprocVecEnv) else f"is a {type(base).__name__}"
        raise CannotCopyError(f"the model's environment {where}, which cannot be copied")
    return copiers(base.envs, n_envs, max_episode_steps)
