"""Stock algorithms: the settings with which ours do what SB3's and sb3-contrib's do."""

import inspect
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from sb3_lecture_dqn.envs.make import check_env_id
from sb3_lecture_dqn.training.keywords import accepted_keywords


def stock_algorithm(kind: type[BaseAlgorithm]) -> type[BaseAlgorithm]:
    """
    The algorithm of SB3 or sb3-contrib that one of ours extends.

    :param kind: A class such as :class:`LectureDQN`
    :return: SB3's ``DQN``, sb3-contrib's ``QRDQN``
    """
    theirs = ("stable_baselines3", "sb3_contrib")
    return next(base for base in kind.__mro__ if base.__module__.split(".")[0] in theirs and hasattr(base, "learn"))


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


def stock_memory(observation_space: spaces.Space[Any]) -> type[ReplayBuffer]:
    """
    The replay memory that a stock algorithm chooses for one-step returns.

    :param observation_space: Observation space
    :return: Its class
    """
    return DictReplayBuffer if isinstance(observation_space, spaces.Dict) else ReplayBuffer
