"""The environment that a model is tested on, made from what the user gives."""

import functools

import gymnasium as gym
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.common.wrappers import check_observation_space
from sb3_lecture_dqn.envs.make import make_env, make_tabular_env
from sb3_lecture_dqn.envs.tabular import NotTabularError
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv, without_wrappers
from sb3_lecture_dqn.evaluation.like_model import env_like_model, table_like_model, wrap_like_model

MAX_TEST_ENVS = 10


def make_test_env(
    model: BaseAlgorithm,
    env: gym.Env | VecEnv | str | None,
    max_episode_steps: int | None,
    n_envs: int,
    argument: str = "env",
) -> VecEnv:
    """
    Make the environment of a test, with the wrappers of the model's own.

    :param model: The model to be tested
    :param env: An environment, or its id. ``None``: an environment like the model's own
    :param max_episode_steps: See :func:`run_test`
    :param n_envs: Number of environments, if they are made here
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
            wrapper = getattr(model, "env_wrapper", None)
            vec_env = DummyVecEnv([functools.partial(make_env, env, max_episode_steps, wrapper)] * n_envs)
    if env is not None:
        vec_env = wrap_like_model(model, vec_env, argument if isinstance(env, str) else None)
    check_observation_space(vec_env.observation_space)
    # Box spaces are not compared, because a normalisation changes their bounds.
    needed, offered = model.observation_space, vec_env.observation_space
    if vec_env.action_space != model.action_space or (isinstance(needed, spaces.Discrete) and offered != needed):
        raise ValueError(
            f"env has the spaces {offered} and {vec_env.action_space}, the model needs {needed} and "
            f"{model.action_space}"
        )
    return vec_env


def tabular_env(
    model: BaseAlgorithm,
    env: gym.Env | VecEnv | str | None,
    max_episode_steps: int | None,
    argument: str = "env",
) -> TabularVecEnv:
    """
    Make or find the tabular environment of a test.

    :param model: The model to be tested
    :param env: An environment, or its id. ``None``: an environment like the model's own
    :param max_episode_steps: See :func:`run_test`
    :param argument: See :func:`make_test_env`
    :return: The given environment if it is a :class:`TabularVecEnv`, else a new one
    :raises NotTabularError: If the environment is not tabular; the message says why
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
    return make_tabular_env(env, max_episode_steps, getattr(model, "env_wrapper", None))


def unwrap_tabular(env: VecEnv) -> TabularVecEnv | None:
    """
    Find the environment on arrays that a test can run on.

    :param env: An environment, perhaps in wrappers
    :return: The :class:`TabularVecEnv` inside wrappers that do not change a test; ``None`` if there is none
    """
    base = without_wrappers(env)
    return base if type(base) is TabularVecEnv else None


def is_own_to_close(test_env: VecEnv, model: BaseAlgorithm, env: gym.Env | VecEnv | str | None) -> bool:
    """
    Look whether the environment of a test is to be closed after it.

    :param test_env: The result of :func:`make_test_env` or :func:`tabular_env`
    :param model: The model that was tested
    :param env: See :func:`run_test`
    :return: ``False`` for an environment that the user gave, and for copies of the training's environment, because
        closing them might close something that they share with it
    """
    is_new = model.get_env() is None or isinstance(test_env.unwrapped, TabularVecEnv)
    return isinstance(env, str) or (env is None and is_new)


def check_step_limit(max_episode_steps: int | None) -> None:
    """
    Check the step limit of a test.

    :param max_episode_steps: See :func:`run_test`
    :raises ValueError: If it is not ``None`` or an integer of at least 1
    """
    if max_episode_steps is not None:
        check_number("max_episode_steps", max_episode_steps, 1, integer=True)


def check_ends(env: VecEnv, max_episode_steps: int | None) -> None:
    """
    Check before a training that the episodes of its tests end.

    :param env: The result of :func:`make_test_env` or :func:`tabular_env`
    :param max_episode_steps: See :func:`run_test`
    :raises ValueError: If the environment is on arrays and there is no step limit
    """
    if (tabular := unwrap_tabular(env)) is not None:
        tabular.tightest_limit(max_episode_steps)
