"""SB3's ``HerReplayBuffer`` with the lecture's schedule, which updates from the first step on."""

from typing import Any, cast

import numpy as np
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer


def waits_for_episode(memory: BaseBuffer | None) -> bool:
    """
    Look whether a memory draws from whole episodes and has none yet.

    :param memory: The replay memory
    :return: Whether it cannot be drawn from yet
    :raises ValueError: If it never can, because one episode fills it
    """
    if not isinstance(memory, HerReplayBuffer) or memory.ep_length.any():
        return False
    if memory.full:
        raise ValueError(
            f"buffer_size={memory.buffer_size * memory.n_envs} is shorter than an episode in each of {memory.n_envs} "
            "environment(s), and HerReplayBuffer draws from whole episodes only: give a larger buffer_size"
        )
    return True


def sample(memory: Any, batch_size: int, env: VecNormalize | None) -> ReplayBufferSamples:
    """
    Draw a minibatch.

    ``HerReplayBuffer`` rounds the number of transitions with a new goal down, and fails if that gives 0, as with the
    lecture's ``batch_size=1``. Then this function rounds at random, so that the mean follows ``n_sampled_goal``.

    :param memory: Any replay memory of SB3 or this package
    :param batch_size: Number of transitions
    :param env: Normalises observations and rewards when given
    :return: The minibatch
    """
    if batch_size > 1 or not isinstance(memory, HerReplayBuffer):
        return memory.sample(batch_size, env=env)  # type: ignore[no-any-return]
    real_and_new = memory.sample(2, env=env)  # first a transition with its own goal, then one with a new goal
    chosen = slice(1, 2) if np.random.random() < memory.her_ratio else slice(0, 1)  # noqa: NPY002
    batch = real_and_new._replace(
        observations={key: part[chosen] for key, part in real_and_new.observations.items()},
        actions=real_and_new.actions[chosen],
        next_observations={key: part[chosen] for key, part in real_and_new.next_observations.items()},
        dones=real_and_new.dones[chosen],
        rewards=real_and_new.rewards[chosen],
    )
    return cast(ReplayBufferSamples, batch)
