"""The values that a model gives to actions, and the best values that are possible."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.envs.make import make_tabular_env
from sb3_lecture_dqn.envs.tabular import OptimalValues, TabularModel
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv


def optimal_values(
    env: TabularModel | TabularVecEnv | gym.Env | str, max_episode_steps: int | None = None
) -> OptimalValues:
    """
    Compute the best returns that any policy can have on a tabular environment, and those of the random policy.

    They are undiscounted and found by value iteration under the step limit, see :meth:`TabularModel.optimum`. For Taxi
    this takes milliseconds:

        >>> optimal_values("Taxi-v3").mean_reward
        7.93

    :param env: A tabular environment, its model or its id; it is not stepped
    :param max_episode_steps: Steps after which an episode is cut, besides the environment's own limit; ``None`` for
        that limit alone (1000 steps for the id of Taxi, see :func:`make_env`)
    :return: Values of all states, and their means over the starts
    :raises NotTabularError: If the environment is not tabular; the message says why
    :raises ValueError: If ``max_episode_steps`` is below 1, or there is no step limit
    """
    if max_episode_steps is not None:
        check_number("max_episode_steps", max_episode_steps, 1, integer=True)
    if isinstance(env, str):
        env = make_tabular_env(env, max_episode_steps)
    tabular = env if isinstance(env, TabularVecEnv) else TabularVecEnv(env)
    return tabular.model.optimum(tabular.tightest_limit(max_episode_steps))


def action_values(model: BaseAlgorithm, observations: Any) -> np.ndarray:
    """
    Compute the action values of a model.

    :param model: A DQN or QR-DQN of SB3, sb3-contrib or this package
    :param observations: Observations with a leading dimension of n (each part of a Dict)
    :return: The values, for QR-DQN the means of the quantiles, float32 of shape ``(n, n_actions)``
    :raises ValueError: If the model has no action values
    """
    network = value_network(model)
    with evaluating(network), th.no_grad():
        values: th.Tensor = network(model.policy.obs_to_tensor(observations)[0])
    means = values.mean(dim=1) if values.dim() == 3 else values
    return means.cpu().numpy()


@contextmanager
def evaluating(network: th.nn.Module) -> Iterator[None]:
    """
    Put a network into evaluation mode within this context: without dropout, with fixed running statistics.

    :param network: The network
    """
    training = network.training
    network.train(False)
    try:
        yield
    finally:
        network.train(training)


def value_network(model: BaseAlgorithm) -> th.nn.Module:
    """
    Return the online network of a model.

    :param model: A DQN or QR-DQN of SB3, sb3-contrib or this package
    :return: Its ``q_net`` or ``quantile_net``
    :raises ValueError: If it has neither
    """
    for name in ("q_net", "quantile_net"):
        if isinstance(network := getattr(model, name, None), th.nn.Module):
            return network
    raise ValueError(f"model: a {type(model).__name__} has no action values; give a DQN or a QR-DQN")
