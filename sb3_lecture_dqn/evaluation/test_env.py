"""The environment that a model is tested on."""

from collections.abc import Callable

import gymnasium as gym
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecMonitor,
    VecNormalize,
)

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.common.wrappers import check_not_nested
from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.envs.tabular import NotTabularError
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.evaluation.like_model import env_like_model, step_limit_of, table_like_model, wrap_like_model

MAX_TEST_ENVS = 10


def own_step_limit(model: BaseAlgorithm) -> int | None:
    """
    The step limit of the environment that a model was made for.

    :param model: The model, also a loaded one that has no environment yet
    :return: ``None`` if there is none, or it is not known
    """
    env = model.get_env()
    return getattr(model, "max_episode_steps", None) if env is None else step_limit_of(env)


def check_step_limit(max_episode_steps: int | None) -> None:
    """
    Check the step limit that a test is given.

    :param max_episode_steps: See :func:`run_test`
    :raises ValueError: If it is no step limit
    """
    if max_episode_steps is not None:
        check_number("max_episode_steps", max_episode_steps, 1, integer=True)


def check_ends(env: VecEnv, max_episode_steps: int | None) -> None:
    """
    Check that the episodes of a test on arrays end, before work is lost.

    :param env: What :func:`make_test_env` or :func:`tabular_env` returned
    :param max_episode_steps: See :func:`run_test`
    :raises ValueError: If there is no step limit
    """
    tabular = unwrap_tabular(env)
    if tabular is not None:
        tighter_limit(tabular, max_episode_steps)


def is_own_to_close(made: VecEnv, model: BaseAlgorithm, env: gym.Env | VecEnv | str | None) -> bool:
    """
    Whether the environment of a test is to be closed when it is done.

    :param made: What :func:`make_test_env` or :func:`tabular_env` returned
    :param model: The model that was tested
    :param env: See :func:`run_test`
    :return: ``False`` for one that the user gave, and for copies of the training's: to close those might take from the
        training what they share with it
    """
    made_anew = model.get_env() is None or isinstance(made.unwrapped, TabularVecEnv)
    return isinstance(env, str) or (env is None and made_anew)


def tighter_limit(env: TabularVecEnv, max_episode_steps: int | None) -> int:
    """
    Find out after how many steps the episodes of a test are cut.

    :param env: The environment
    :param max_episode_steps: The limit that is asked for besides the environment's own
    :return: The smaller one
    :raises ValueError: If there is none
    """
    limits = [limit for limit in (env.max_episode_steps, max_episode_steps) if limit is not None]
    if not limits:
        raise ValueError("max_episode_steps=None and the environment has no limit of its own: give one")
    return min(limits)


def make_test_env(
    model: BaseAlgorithm,
    env: gym.Env | VecEnv | str | None,
    max_episode_steps: int | None,
    n_envs: int,
    argument: str = "env",
) -> VecEnv:
    """
    The environment of a test, wrapped as the model's own is.

    :param model: The model to be tested
    :param env: An environment, or its id. ``None``: one like the model's own
    :param max_episode_steps: See :func:`run_test`
    :param n_envs: Number of environments that are made here
    :param argument: The argument by which the caller's user can give an environment, for messages
    :return: A vectorised environment
    :raises ValueError: If the model's environment cannot be copied, or the spaces are not the model's
    """
    if env is None:
        vec_env = env_like_model(model, n_envs, max_episode_steps, argument)
    elif isinstance(env, VecEnv):
        vec_env = env
    elif isinstance(env, gym.Env):
        limited = env if max_episode_steps is None else TimeLimit(env, max_episode_steps)
        vec_env = DummyVecEnv([lambda: limited])
    else:
        try:
            vec_env = tabular_env(model, env, max_episode_steps)
        except NotTabularError:
            vec_env = DummyVecEnv([_env_maker(model, env, max_episode_steps)] * n_envs)
    if env is not None:
        vec_env = wrap_like_model(model, vec_env, argument if isinstance(env, str) else None)
    check_not_nested(vec_env.observation_space)
    # Not for Box: its bounds are another thing before and after a normalisation.
    needed, given = model.observation_space, vec_env.observation_space
    if vec_env.action_space != model.action_space or (isinstance(needed, spaces.Discrete) and given != needed):
        raise ValueError(
            f"env has the spaces {given} and {vec_env.action_space}, the model needs {needed} and {model.action_space}"
        )
    return vec_env


def tabular_env(
    model: BaseAlgorithm,
    env: gym.Env | VecEnv | str | None,
    max_episode_steps: int | None,
    argument: str = "env",
) -> TabularVecEnv:
    """
    The tabular environment behind whatever a test can be given.

    :param model: The model to be tested
    :param env: An environment, or its id. ``None``: one like the model's own
    :param max_episode_steps: See :func:`run_test`
    :param argument: See :func:`make_test_env`
    :return: The given one, or a new one
    :raises NotTabularError: If there is none; the message says why
    """
    if env is None:
        return table_like_model(model, max_episode_steps, argument)
    if isinstance(env, VecEnv):
        tabular = unwrap_tabular(env)
        if tabular is None:
            raise NotTabularError(f"{type(env).__name__} is not, or does more than, a TabularVecEnv")
        return tabular
    if isinstance(env, gym.Env):
        return TabularVecEnv(env)
    made = _env_maker(model, env, max_episode_steps)()
    try:
        return TabularVecEnv(made)
    finally:
        made.close()


def unwrap_tabular(env: VecEnv) -> TabularVecEnv | None:
    """
    Find the environment on arrays that a test can run on.

    :param env: An environment, perhaps in wrappers
    :return: What is in the wrappers that change nothing of a test; ``None`` if that is not on arrays
    """
    # These leave actions alone, and observations of a Discrete space; rewards are tested as they were before.
    while type(env) in (VecNormalize, VecMonitor, VecCheckNan):
        env = env.venv  # type: ignore[attr-defined]
    return env if type(env) is TabularVecEnv else None


def _env_maker(model: BaseAlgorithm, env_id: str, max_episode_steps: int | None) -> Callable[[], gym.Env]:
    return lambda: make_env(env_id, max_episode_steps, getattr(model, "env_wrapper", None))
