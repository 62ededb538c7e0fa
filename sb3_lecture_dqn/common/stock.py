"""The algorithms of SB3 and sb3-contrib that ours extend."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer


def stock_algorithm(kind: type[BaseAlgorithm]) -> type[BaseAlgorithm]:
    """
    Find the algorithm of SB3 or sb3-contrib that one of ours extends.

    :param kind: A class such as :class:`LectureDQN`
    :return: SB3's ``DQN``, sb3-contrib's ``QRDQN``
    """
    theirs = ("stable_baselines3", "sb3_contrib")
    return next(base for base in kind.__mro__ if base.__module__.split(".")[0] in theirs and hasattr(base, "learn"))


def stock_memory(observation_space: spaces.Space[Any]) -> type[ReplayBuffer]:
    """
    Find the replay memory that a stock algorithm chooses for one-step returns.

    :param observation_space: Observation space
    :return: Its class
    """
    return DictReplayBuffer if isinstance(observation_space, spaces.Dict) else ReplayBuffer
