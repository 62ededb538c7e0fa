"""Transitions read out of the arrays of SB3's replay memories."""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import entry


@entry
def read_transitions(obs, next_obs, actions, rewards, dones, timeouts, rows, envs, gamma, codes, next_codes,
                     batch_actions, batch_rewards, discounts):  # fmt: skip
    """
    Read transitions as SB3's ``ReplayBuffer`` does.

    :param obs, next_obs: Observations of one dtype, of shape (rows, environments, numbers).
    :param actions: int64 of shape (rows, environments, 1).
    :param rewards, dones, timeouts: float32 of shape (rows, environments).
    :param rows, envs: int64 of shape (n,): which transitions are read.
    :param gamma: Discount factor.
    :param codes, next_codes: Take the observations, of the same dtype, shape (n, numbers).
    :param batch_actions, batch_rewards: Take the actions, int64, and the rewards, float32, of shape (n,).
    :param discounts: Takes gamma, or 0 where an episode ended and no time limit cut it, float32 of shape (n,).
    """
    for i in range(rows.shape[0]):
        row, env = rows[i], envs[i]
        for k in range(codes.shape[1]):
            codes[i, k] = obs[row, env, k]
            next_codes[i, k] = next_obs[row, env, k]
        batch_actions[i] = actions[row, env, 0]
        batch_rewards[i] = rewards[row, env]
        done = dones[row, env] * (np.float32(1) - timeouts[row, env])
        discounts[i] = (np.float32(1) - done) * np.float32(gamma)
