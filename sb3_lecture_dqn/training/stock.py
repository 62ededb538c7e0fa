"""Stock algorithms: the settings with which ours do what SB3's and sb3-contrib's do."""

import inspect
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_lecture_dqn.common.stock import stock_algorithm, stock_memory
from sb3_lecture_dqn.envs.make import check_env_id
from sb3_lecture_dqn.training.keywords import accepted_keywords, check_keywords


def stock_settings(kind: type[BaseAlgorithm], env: Any) -> dict[str, Any]:
    """
    Settings with which an algorithm of ours does what the stock one does with its own defaults.

    :param kind: Ours
    :param env: The environment, or its id
    :return: The default of every keyword of the stock constructor, by name, and what takes the place of what it does
        without a keyword. ``replay_buffer_class`` is ``None``: see :func:`stock_memory`
    """
    parameters = inspect.signature(stock_algorithm(kind).__init__).parameters.values()
    settings = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    settings |= {"exploration_decay": None, "max_episode_steps": _registered_limit(env)}
    if "loss" in (accepted_keywords(kind) or ()):
        settings["loss"] = "huber"
    return settings


def _registered_limit(env: Any) -> int | None:
    """The limit of an id for gymnasium and SB3, which of the lecture's tasks is not what ``None`` means here."""
    if not isinstance(env, str):
        return None
    check_env_id(env)
    return gym.spec(env).max_episode_steps


def stock_model(cls: Any, policy: Any, env: Any, overrides: dict[str, Any]) -> Any:
    """
    Make a model that does what the stock algorithm does, see :meth:`LectureDQN.with_sb3_defaults`.

    :param cls: The algorithm
    :param policy: The policy model to use
    :param env: The environment to learn from, or its id
    :param overrides: Arguments of the constructor that take the place of the stock defaults
    :return: A new model
    """
    check_keywords(f"{cls.__name__}.with_sb3_defaults", overrides, cls, filled=("policy", "env"))
    keywords = {**stock_settings(cls, env), **overrides}
    set_up = keywords.pop("_init_setup_model")
    model = cls(policy, env, **keywords, _init_setup_model=False)
    if model.env is None and set_up:
        raise ValueError("env=None: give an environment or its id")
    ours_is_meant = model.use_masking or not model.store_and_replay
    other_is_meant = model.replay_buffer_class is not None or model.n_steps > 1
    if model.env is not None and not ours_is_meant and not other_is_meant:
        model.replay_buffer_class = stock_memory(model.observation_space)
    if set_up:
        model._setup_model()
    return model
