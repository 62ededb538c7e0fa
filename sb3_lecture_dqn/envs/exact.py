"""What a policy does in a tabular environment, computed exactly or run on its arrays."""

from typing import NamedTuple

import numpy as np

from sb3_lecture_dqn.envs.tabular import TabularModel


class EpisodeFigures(NamedTuple):
    """
    What the lecture's test counts, for many episodes or as expectations for many first states.

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
    The expected figures of one episode from every state, computed and not sampled.

    With deterministic outcomes counts are exact, and so are returns of whole-numbered rewards; everything else is exact
    up to the rounding of float64.

    :param model: The environment
    :param actions: What the policy does in every state, integers of shape ``(S,)``
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
    # Expectations of one step: a step, a penalty, the reward, a good end of the episode.
    one_step = np.stack([np.ones_like(rewards), penalties, rewards, successes], axis=2)
    gains = np.einsum("sk,skf->sf", probabilities, one_step)
    going_on = probabilities * ~terminated
    # Backward recursion: with h + 1 steps to go, one step and then what h steps to go are worth in the next state.
    values = np.zeros_like(gains)
    for _ in range(max_episode_steps):
        before, values = values, gains + np.einsum("sk,skf->sf", going_on, values[next_states])
        if np.array_equal(values, before):
            break  # no bit would change in any further step
    return EpisodeFigures(*values.T)


def _figures_by_doubling(
    next_states: np.ndarray, terminated: np.ndarray, columns: tuple[np.ndarray, ...], max_episode_steps: int
) -> EpisodeFigures:
    """
    Run deterministic episodes from all states in O(log(max_episode_steps)) array operations.

    Where 2h steps lead, and what they sum up to, follows from doing h steps twice. An episode of any length is put
    together from such jumps of 1, 2, 4, … steps, as its number of steps is from powers of 2.
    """
    n = len(next_states)
    end = n  # one more state, for episodes that have terminated: it leads to itself, and nothing is counted there
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
    Run episodes of a deterministic policy, all of them together.

    :param model: The environment
    :param actions: What the policy does in every state, integers of shape ``(S,)``
    :param starts: First state of every episode, int64 of shape ``(n,)``
    :param max_episode_steps: Steps after which an episode is cut
    :param penalty_reward: The reward that counts as a penalty
    :param rng: Draws outcomes; not used if the model is deterministic
    :return: One entry for every episode
    """
    if model.deterministic:  # nothing is left to chance, so the expectation is what happens
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
