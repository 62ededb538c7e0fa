"""Episodes of a policy in a tabular environment: expectations computed exactly, or samples run on arrays."""

from typing import NamedTuple

import numpy as np

from sb3_lecture_dqn.envs.tabular import TabularModel


class EpisodeFigures(NamedTuple):
    """
    The numbers that the lecture's test counts, for n episodes, or as expectations for n first states.

    :param steps: Steps, float64 of shape ``(n,)``
    :param penalties: Steps with the penalty's reward, float64 of shape ``(n,)``
    :param returns: Undiscounted sums of rewards, float64 of shape ``(n,)``
    :param successes: 1 if the episode ended well, see :attr:`TabularModel.successes`, else 0, float64 of shape ``(n,)``
    """

    steps: np.ndarray
    penalties: np.ndarray
    returns: np.ndarray
    successes: np.ndarray


def policy_figures(
    model: TabularModel, actions: np.ndarray, max_episode_steps: int, penalty_reward: float
) -> EpisodeFigures:
    """
    Compute the expected figures of one episode from every state.

    They are exact up to the rounding of float64. With deterministic outcomes, counts and returns of integer rewards are
    exact.

    :param model: The environment
    :param actions: The policy's action in every state, integers of shape ``(S,)``
    :param max_episode_steps: Steps after which an episode is cut
    :param penalty_reward: The reward that counts as a penalty
    :return: One entry for every first state
    """
    every = np.arange(model.n_states)
    next_states, rewards = model.next_states[every, actions], model.rewards[every, actions]
    terminated, successes = model.terminated[every, actions], model.successes[every, actions]
    penalties = rewards == penalty_reward
    if model.deterministic:
        columns = (penalties[:, 0], rewards[:, 0], successes[:, 0])
        return _figures_by_doubling(next_states[:, 0], terminated[:, 0], columns, max_episode_steps)
    probabilities = model.probabilities[every, actions]
    # Of one step: the number of steps, a penalty, the reward, a good end of the episode
    one_step = np.stack([np.ones_like(rewards), penalties, rewards, successes], axis=2)
    gains = np.einsum("sk,skf->sf", probabilities, one_step)
    going_on = probabilities * ~terminated
    # Backward recursion: the values with h + 1 steps to go are one step plus the next state's values with h to go.
    values = np.zeros_like(gains)
    for _ in range(max_episode_steps):
        before, values = values, gains + np.einsum("sk,skf->sf", going_on, values[next_states])
        if np.array_equal(values, before):
            break  # further steps would change nothing
    return EpisodeFigures(*values.T)


def _figures_by_doubling(
    next_states: np.ndarray, terminated: np.ndarray, columns: tuple[np.ndarray, ...], max_episode_steps: int
) -> EpisodeFigures:
    """
    Run deterministic episodes from all states in O(log(max_episode_steps)) array operations.

    A jump of 2h steps is two jumps of h steps, for the state reached and for the sums. An episode of n steps consists
    of jumps of 1, 2, 4, … steps, as n consists of powers of 2.
    """
    n = len(next_states)
    end = n  # an extra state for terminated episodes: it leads to itself and counts nothing
    jump = np.append(np.where(terminated, end, next_states), end)
    gains = np.zeros((n + 1, 4))
    gains[:n] = np.stack([np.ones(n), *columns], axis=1)
    reached, totals = np.arange(n), np.zeros((n, 4))
    while max_episode_steps > 0:
        if max_episode_steps % 2 == 1:
            totals += gains[reached]
            reached = jump[reached]
        gains = gains + gains[jump]
        jump = jump[jump]
        max_episode_steps //= 2
    return EpisodeFigures(*totals.T)


def run_policy(
    model: TabularModel,
    actions: np.ndarray,
    starts: np.ndarray,
    max_episode_steps: int,
    penalty_reward: float,
    rng: np.random.Generator,
) -> EpisodeFigures:
    """
    Run many episodes of a deterministic policy at once.

    :param model: The environment
    :param actions: The policy's action in every state, integers of shape ``(S,)``
    :param starts: First state of every episode, int64 of shape ``(n,)``
    :param max_episode_steps: Steps after which an episode is cut
    :param penalty_reward: The reward that counts as a penalty
    :param rng: Draws outcomes; it is not used if the model is deterministic
    :return: One entry for every episode
    """
    if model.deterministic:  # the expectation is the result
        expected = policy_figures(model, actions, max_episode_steps, penalty_reward)
        return EpisodeFigures(*(column[starts] for column in expected))
    next_states, rewards, terminated = model.next_states.ravel(), model.rewards.ravel(), model.terminated.ravel()
    successes = model.successes.ravel()
    figures = EpisodeFigures(*np.zeros((4, len(starts))))
    running, states = np.arange(len(starts)), starts
    for _ in range(max_episode_steps):
        outcomes = model.draw_outcomes(states * model.n_actions + actions[states], rng)
        step_rewards, ended = rewards[outcomes], terminated[outcomes]
        figures.steps[running] += 1
        figures.penalties[running] += step_rewards == penalty_reward
        figures.returns[running] += step_rewards
        figures.successes[running] = successes[outcomes]
        running, states = running[~ended], next_states[outcomes[~ended]]
        if len(running) == 0:
            break
    return figures
