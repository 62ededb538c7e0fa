"""Transitions read out of the arrays of replay memories."""

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


@entry
def read_rows(success, fail, n_success, positions, fields, places, gamma, starts, batch):
    """
    Read transitions as ``SuccessFailReplayBuffer`` does.

    :param success, fail: The rows of both partitions, each as int32 and as float32, of shape (rows, words).
    :param n_success: Positions below it are rows of ``success``, the others of ``fail``.
    :param positions: int64 of shape (n,): which transitions are read.
    :param fields: int64 of shape (parts, 5), for each part of an observation: whether it is numbers, where they or its
        codes go, how many there are, and in which words the part of the observation and of the next one begins. Of an
        int64 the lower half is read.
    :param places: int64 of shape (4,): the words of the action, the reward, and whether the episode ended; and the
        first word of the mask.
    :param gamma: Discount factor.
    :param starts: int64 of shape (codes,): what each code counts from.
    :param batch: Takes the transitions, see :mod:`minibatches`.
    """
    codes, numbers, next_codes, next_numbers, actions, rewards, discounts, masks = batch
    for i in range(positions.shape[0]):
        at = positions[i]
        (whole, floats), row = (success, at) if at < n_success else (fail, at - n_success)
        for part in range(fields.shape[0]):
            first, n, obs, next_obs = fields[part, 1], fields[part, 2], fields[part, 3], fields[part, 4]
            if fields[part, 0]:
                for k in range(n):
                    numbers[i, first + k], next_numbers[i, first + k] = floats[row, obs + k], floats[row, next_obs + k]
            else:
                for k in range(n):
                    codes[i, first + k] = whole[row, obs + 2 * k] - starts[first + k]
                    next_codes[i, first + k] = whole[row, next_obs + 2 * k] - starts[first + k]
        actions[i], rewards[i] = whole[row, places[0]], floats[row, places[1]]
        discounts[i] = (np.float32(1) - floats[row, places[2]]) * np.float32(gamma)
        for k in range(masks.shape[1]):
            low, high = whole[row, places[3] + 2 * k], whole[row, places[3] + 2 * k + 1]
            masks[i, k] = (np.int64(high) << 32) | (np.int64(low) & 0xFFFFFFFF)
