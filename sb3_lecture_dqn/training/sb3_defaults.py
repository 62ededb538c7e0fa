"""Settings with which an algorithm of this package behaves like its stock algorithm in SB3 or sb3-contrib."""

import inspect
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_lecture_dqn.common.stock import stock_algorithm, stock_memory
from sb3_lecture_dqn.envs.make import check_env_id
from sb3_lecture_dqn.training.keywords import accepted_keywords, check_keywords


def stock_settings(kind: type[BaseAlgorithm], env: Any) -> dict[str, Any]:
    """
    Collect the settings with which an algorithm of this package behaves like the stock algorithm with its defaults.

    :param kind: The algorithm of this package
    :param env: The environment, or its id
    :return: The defaults of the stock constructor by name, and the values of this package's keywords for behaviour
        that is fixed in the stock algorithm. ``replay_buffer_class`` is ``None``, see :func:`stock_memory`
    """
    parameters = inspect.signature(stock_algorithm(kind).__init__).parameters.values()
    settings = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    settings |= {"exploration_decay": None, "max_episode_steps": _registered_limit(env)}
    if "loss" in (accepted_keywords(kind) or ()):
        settings["loss"] = "huber"
    return settings


def _registered_limit(env: Any) -> int | None:
    """Return the registered step limit of an id. For the lecture's tasks, ``None`` would mean the lecture's limit."""
    if not isinstance(env, str):
        return None
    check_env_id(env)
    return gym.spec(env).max_episode_steps


def stock_model(cls: Any, policy: Any, env: Any, overrides: dict[str, Any]) -> Any:
    """
    Make a model that behaves like the stock algorithm, see :meth:`LectureDQN.with_sb3_defaults`.

    :param cls: The algorithm
    :param policy: The policy model to use
    :param env: The environment to learn from, or its id
    :param overrides: Arguments of the constructor that replace the stock defaults
    :return: A new model
    """
    check_keywords(f"{cls.__name__}.with_sb3_defaults", overrides, cls, filled=("policy", "env"))
    keywords = {**stock_settings(cls, env), **overrides}
    set_up = keywords.pop("_init_setup_model")
    model = cls(policy, env, **keywords, _init_setup_model=False)
    if model.env is None and set_up:
        raise ValueError("env=None: give an environment or its id")
    needs_own_memory = model.use_masking or not model.store_and_replay
    needs_other_memory = model.replay_buffer_class is not None or model.n_steps > 1
    if model.env is not None and not needs_own_memory and not needs_other_memory:
        model.replay_buffer_class = stock_memory(model.observation_space)
    if set_up:
        model._setup_model()
    return model
