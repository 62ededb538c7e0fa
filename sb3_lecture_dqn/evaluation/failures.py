"""How the episodes of a greedy policy fail in a tabular environment: loops, illegal actions, bad ends, time limits."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sb3_lecture_dqn.envs.exact import EpisodeFigures, policy_figures
from sb3_lecture_dqn.envs.tabular import TabularModel

#: Probabilities and returns that differ by less than this are equal up to rounding
_ROUNDING = 1e-9


class Loop(NamedTuple):
    """
    States that the policy never leaves, and that end no episode.

    :param states: The states; in the order of the walk if it is certain
    :param n_starts: Number of first states whose failing episodes end in this loop
    :param illegal: Whether the policy chooses an illegal action in one of the states
    """

    states: tuple[int, ...]
    n_starts: int
    illegal: bool


@dataclass(frozen=True)
class Failures:
    """
    The episodes of a policy, from all first states.

    :param limit: Steps after which an episode is cut
    :param figures: The exact figures of one episode from every state
    :param ended: Probability that an episode from a state ends before the limit, float64 of shape ``(S,)``
    :param best_successes: Highest probability of success that any policy has, float64 of shape ``(S,)``
    :param can_succeed: From which states some policy may succeed without a limit, bool of shape ``(S,)``
    :param by_kind: First states that fail, int64, by the kind of their most probable failure: ``"loop"``,
        ``"illegal"``, ``"bad_end"`` or ``"cut"``
    :param loops: The loops in which failing episodes end, that of most first states first
    :param detours: First states that succeed as often as possible, but with a lower return than the best policy
    :param worse: All first states with a lower return than the best policy
    :param visited: States that an episode from one of ``worse`` can reach, bool of shape ``(S,)``
    """

    limit: int
    figures: EpisodeFigures
    ended: np.ndarray
    best_successes: np.ndarray
    can_succeed: np.ndarray
    by_kind: dict[str, np.ndarray]
    loops: list[Loop]
    detours: np.ndarray
    worse: np.ndarray
    visited: np.ndarray


def find_failures(table: TabularModel, actions: np.ndarray, limit: int, penalty_reward: float) -> Failures:
    """
    Run a policy from all first states, exactly, and sort its failures by kind.

    :param table: The environment
    :param actions: The policy's action in every state, integers of shape ``(S,)``
    :param limit: Steps after which an episode is cut
    :param penalty_reward: The reward of an illegal action. If no action has it, invalid actions by the masks are
        illegal
    :return: The failures
    """
    every = np.arange(table.n_states)
    happens = table.probabilities[every, actions] > 0
    terminated, next_states = table.terminated[every, actions], table.next_states[every, actions]
    goes_on = happens & ~terminated
    figures = policy_figures(table, actions, limit, penalty_reward)
    ended = _probability_of_end(table.probabilities[every, actions], terminated, next_states, limit)
    best, can_succeed = _best_successes(table, limit), _can_succeed(table)
    starts = table.start_states
    fails = starts[figures.successes[starts] < best[starts] - _ROUNDING]

    may_end = _reaches((happens & terminated).any(axis=1), goes_on, next_states)
    stuck = ~may_end & _reached_from(fails, goes_on, next_states)
    loop_of = _label_loops(stuck, goes_on, next_states)
    loop_states = loop_of >= 0
    loop_of = _spread_back(loop_of, goes_on, next_states)
    illegal = _illegal_actions(table, actions, penalty_reward) & loop_states
    illegal_loops = np.unique(loop_of[illegal])

    not_ended = 1 - ended[fails]
    goes_bad = ended[fails] - figures.successes[fails] > not_ended
    in_loop = ~goes_bad & (loop_of[fails] >= 0)
    in_illegal = in_loop & np.isin(loop_of[fails], illegal_loops)
    by_kind = {
        "loop": fails[in_loop & ~in_illegal],
        "illegal": fails[in_illegal],
        "bad_end": fails[goes_bad],
        "cut": fails[~goes_bad & ~in_loop],
    }
    numbers, counts = np.unique(loop_of[fails[in_loop]], return_counts=True)
    loops = [
        Loop(
            _in_order(np.flatnonzero((loop_of == number) & loop_states), goes_on, next_states),
            int(count),
            bool(number in illegal_loops),
        )
        for number, count in sorted(zip(numbers, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))
    ]
    optimum = table.optimum(limit).values[starts]
    is_worse = figures.returns[starts] < optimum - _ROUNDING * np.maximum(1, np.abs(optimum))
    worse = starts[is_worse]
    detours = np.setdiff1d(worse, fails)
    visited = _reached_from(worse, goes_on, next_states)
    return Failures(limit, figures, ended, best, can_succeed, by_kind, loops, detours, worse, visited)


def _illegal_actions(table: TabularModel, actions: np.ndarray, penalty_reward: float) -> np.ndarray:
    """In which states the policy chooses an illegal action, bool of shape ``(S,)``."""
    every = np.arange(table.n_states)
    if (table.rewards[table.probabilities > 0] == penalty_reward).any():
        penalties = (table.rewards == penalty_reward) & (table.probabilities > 0)
        illegal: np.ndarray = penalties[every, actions].any(axis=1)
        return illegal
    if table.action_masks is None:
        return np.zeros(table.n_states, dtype=bool)
    invalid: np.ndarray = ~table.action_masks[every, actions]
    return invalid


def _probability_of_end(
    probabilities: np.ndarray, terminated: np.ndarray, next_states: np.ndarray, limit: int
) -> np.ndarray:
    ends, goes_on = (probabilities * terminated).sum(axis=1), probabilities * ~terminated
    ended = np.zeros(len(ends))
    for _ in range(limit):
        before, ended = ended, ends + (goes_on * ended[next_states]).sum(axis=1)
        if np.array_equal(ended, before):
            break
    return ended


def _best_successes(table: TabularModel, limit: int) -> np.ndarray:
    """The highest probability of success within the limit from every state, float64 of shape ``(S,)``."""
    gains = (table.probabilities * table.successes).sum(axis=2)
    goes_on = table.probabilities * ~table.terminated
    best = np.zeros(table.n_states)
    for _ in range(limit):
        before, best = best, (gains + (goes_on * best[table.next_states]).sum(axis=2)).max(axis=1)
        if np.allclose(best, before, rtol=0, atol=1e-12) and np.array_equal(best > 0, before > 0):
            break
    return best


def _can_succeed(table: TabularModel) -> np.ndarray:
    """From which states some policy may succeed without a limit, bool of shape ``(S,)``."""
    flat = table.n_states, -1
    goes_on = ((table.probabilities > 0) & ~table.terminated).reshape(flat)
    succeeding = np.asarray(table.successes.reshape(flat).any(axis=1))
    return _reaches(succeeding, goes_on, table.next_states.reshape(flat))


def _reaches(targets: np.ndarray, goes_on: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    """From which states the policy can reach a target, bool of shape ``(S,)``."""
    reaching: np.ndarray = targets
    while True:
        before, reaching = reaching, reaching | (goes_on & reaching[next_states]).any(axis=1)
        if np.array_equal(reaching, before):
            return reaching


def _reached_from(starts: np.ndarray, goes_on: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    """Which states an episode of the policy can reach, bool of shape ``(S,)``."""
    reached = np.zeros(len(goes_on), dtype=bool)
    frontier = starts
    while len(frontier):
        reached[frontier] = True
        following = np.unique(next_states[frontier][goes_on[frontier]])
        frontier = following[~reached[following]]
    return reached


def _label_loops(stuck: np.ndarray, goes_on: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    """
    Number the loops in a set of states that the policy does not leave.

    :return: Number of the loop of every state, -1 for a state in no loop, int64 of shape ``(S,)``
    """
    n = len(stuck)
    while True:  # leave out the states that lead to a loop
        following = np.zeros(n, dtype=bool)
        following[next_states[stuck][goes_on[stuck]]] = True
        if np.array_equal(following, stuck):
            break
        stuck = following
    labels = np.where(stuck, np.arange(n), -1)
    states, outcomes = np.nonzero(goes_on & stuck[:, None])
    targets = next_states[states, outcomes]
    while True:  # states of a loop get the lowest of their numbers
        lowest = np.minimum(labels[states], labels[targets])
        new = labels.copy()
        np.minimum.at(new, states, lowest)
        np.minimum.at(new, targets, lowest)
        if np.array_equal(new, labels):
            return labels
        labels = new


def _spread_back(labels: np.ndarray, goes_on: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    """Give every state the number of a loop that the policy can reach from it; -1 if there is none."""
    while True:
        reachable = np.where(goes_on, labels[next_states], -1).max(axis=1)
        new = np.where(labels >= 0, labels, reachable)
        if np.array_equal(new, labels):
            return labels
        labels = new


def _in_order(states: np.ndarray, goes_on: np.ndarray, next_states: np.ndarray) -> tuple[int, ...]:
    """The states of a loop in the order in which a certain policy visits them; else as they are."""
    if (goes_on[states].sum(axis=1) != 1).any():
        return tuple(states.tolist())
    walk = [int(states[0])]
    while True:
        following = int(next_states[walk[-1]][goes_on[walk[-1]]][0])
        if following == walk[0]:
            return tuple(walk)
        walk.append(following)
