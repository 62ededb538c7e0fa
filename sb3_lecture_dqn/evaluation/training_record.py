"""What a trained model still knows of its training: its memory, its counts of actions, and the course of its ε."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.envs.tabular import TabularModel

#: Most transitions that are read if the environment is not tabular
MOST_ROWS = 2000


class Epsilon(NamedTuple):
    """
    The course of ε.

    :param now: Its present value
    :param floor: Its lowest value
    :param unit: What its schedule counts, ``"episode"`` or ``"step"``
    :param floor_since: Episode or step at which it reached its lowest value; ``None`` if it has not, or is constant
    :param share_at_floor: Share of the episodes or steps since then, in [0, 1]
    """

    now: float
    floor: float
    unit: str
    floor_since: int | None
    share_at_floor: float


class Transitions(NamedTuple):
    """
    Transitions of a memory, n rows.

    :param observations: Array, or dictionary of arrays, with a leading dimension of n
    :param next_observations: The same; ``None`` if the memory does not store them
    :param actions: int64 of shape ``(n,)``
    :param rewards: float of shape ``(n,)``
    :param terminal: bool of shape ``(n,)``
    """

    observations: Any
    next_observations: Any
    actions: np.ndarray
    rewards: np.ndarray
    terminal: np.ndarray


@dataclass(frozen=True)
class TrainingRecord:
    """
    What is known of a training.

    :param steps: Environment steps
    :param episodes: Episodes that have ended
    :param transitions: Transitions that the memory holds; ``None`` if it holds none
    :param n_held: Their number
    :param forgets: Whether the memory forgets a transition for each new one
    :param is_complete: Whether the memory holds all different transitions of the training
    :param keeps_ends: Whether it holds all different transitions that ended an episode by success
    :param has_replay: Whether the model replays at all
    :param counts: How often each action was tried in each state, int64 of shape ``(S, A)``; ``None`` if not counted
    :param epsilon: The course of ε
    :param first_solved: Episode of the first test that solved some starts, ``None`` if there was none; -1 if not known
    """

    steps: int
    episodes: int
    transitions: Transitions | None
    n_held: int
    forgets: bool
    is_complete: bool
    keeps_ends: bool
    has_replay: bool
    counts: np.ndarray | None
    epsilon: Epsilon
    first_solved: int | None

    def tried(self, table: TabularModel) -> np.ndarray | None:
        """
        Find the actions that were tried.

        :param table: The environment
        :return: bool of shape ``(S, A)``; ``None`` if the record is not complete
        """
        if self.counts is not None and self.counts.shape == (table.n_states, table.n_actions):
            tried: np.ndarray = self.counts > 0
            return tried
        return self.held(table) if self.is_complete else None

    def held(self, table: TabularModel) -> np.ndarray:
        """
        Find the actions whose transitions the memory holds.

        :param table: The environment
        :return: bool of shape ``(S, A)``
        """
        held = np.zeros((table.n_states, table.n_actions), dtype=bool)
        if self.transitions is not None:
            held[_numbers(self.transitions.observations), self.transitions.actions] = True
        return held

    def seen_ends(self, table: TabularModel) -> np.ndarray:
        """
        Find the successful ends in the memory.

        :param table: The environment
        :return: The states in which successful episodes ended, bool of shape ``(S,)``
        """
        seen = np.zeros(table.n_states, dtype=bool)
        if self.transitions is None:
            return seen
        rows = self.transitions
        states = _numbers(rows.observations)
        fits = table.successes[states, rows.actions] & rows.terminal[:, None]
        fits &= table.rewards[states, rows.actions].astype(np.float32) == rows.rewards[:, None].astype(np.float32)
        if rows.next_observations is not None:
            fits &= table.next_states[states, rows.actions] == _numbers(rows.next_observations)[:, None]
        seen[table.next_states[states, rows.actions][fits]] = True
        return seen


def _numbers(observations: np.ndarray) -> np.ndarray:
    return observations.reshape(len(observations)).astype(np.int64)


def read_record(model: Any, solved: Mapping[int, float] | None, most_rows: int | None = None) -> TrainingRecord:
    """
    Read what a model still knows of its training.

    :param model: A DQN or QR-DQN
    :param solved: Share of solved episodes in tests, by the episode of the test; ``None`` if not known
    :param most_rows: Most transitions to read, evenly spaced; ``None`` for all
    :return: The record
    """
    steps, episodes = int(model.num_timesteps), int(model._episode_num)
    memory = model.replay_buffer
    has_replay = bool(getattr(model, "store_and_replay", True)) and not isinstance(memory, LatestTransitionBuffer)
    n_held, forgets, whole, keeps_ends, transitions = 0, not has_replay, False, False, None
    if memory is not None and memory.size() > 0:
        n_envs = memory.n_envs if not isinstance(memory, SuccessFailReplayBuffer) else 1
        n_held = memory.size() * n_envs
        transitions = _read_rows(memory, most_rows)
        if has_replay:
            stores_once = isinstance(memory, SuccessFailReplayBuffer) and memory.deduplicate
            forgets = _is_full(memory)
            whole = not forgets and (stores_once or n_held + model.n_envs >= steps)
            keeps_ends = whole or (forgets and isinstance(memory, SuccessFailReplayBuffer) and _keeps_ends(memory))
    exploration = getattr(model, "_exploration", None)
    counts = getattr(exploration, "counts", None)
    if counts is not None and counts.sum() < steps:  # a file of `save` has no counts
        counts = None
    first_solved: int | None = -1
    if solved is not None:
        first_solved = min((episode for episode, share in solved.items() if share > 0), default=None)
    epsilon = _read_epsilon(model, steps, episodes)
    return TrainingRecord(
        steps,
        episodes,
        transitions,
        n_held,
        forgets,
        whole,
        keeps_ends,
        has_replay,
        counts,
        epsilon,
        first_solved,
    )


def _is_full(memory: Any) -> bool:
    """Whether a new transition takes the place of another one."""
    if not isinstance(memory, SuccessFailReplayBuffer):
        return bool(memory.full)
    if memory.bounds_all:
        return memory.size() >= memory.buffer_size
    return memory.success.full or memory.fail.full


def _keeps_ends(memory: SuccessFailReplayBuffer) -> bool:
    """Whether a memory that has forgotten transitions still holds every successful end."""
    if memory.success_criterion not in ("terminal", "positive_reward"):
        return False
    # A memory with a common bound forgets successes only while they are at least half of it. Of an odd number of
    # transitions, failures may then have one more.
    return memory.fail.size > memory.success.size + 1 if memory.bounds_all else not memory.success.full


def _read_rows(memory: Any, most: int | None) -> Transitions:
    if isinstance(memory, SuccessFailReplayBuffer):
        held = memory.success.size + memory.fail.size
        at = _spaced(held, most)
        n_success = memory.success.size
        rows = np.concatenate(
            [memory.success.rows[at[at < n_success]], memory.fail.rows[at[at >= n_success] - n_success]]
        )
        return Transitions(
            memory.row.observations(rows),
            memory.row.observations(rows, "next_"),
            rows["actions"].reshape(-1).astype(np.int64),
            rows["rewards"],
            rows["dones"] > 0,
        )
    at = _spaced(memory.size(), None if most is None else max(1, most // memory.n_envs))

    def flat(array: np.ndarray) -> np.ndarray:
        chosen: np.ndarray = array[at]
        return chosen.reshape(len(at) * memory.n_envs, *chosen.shape[2:])

    def parts(observations: Any) -> Any:
        if isinstance(observations, dict):
            return {name: flat(part) for name, part in observations.items()}
        return flat(observations)

    following = None if memory.optimize_memory_usage else parts(memory.next_observations)
    terminal = flat(memory.dones) > 0
    if memory.handle_timeout_termination:
        terminal &= flat(memory.timeouts) == 0
    actions = flat(memory.actions).reshape(-1).astype(np.int64)
    return Transitions(parts(memory.observations), following, actions, flat(memory.rewards), terminal)


def _spaced(n: int, most: int | None) -> np.ndarray:
    return np.arange(n) if most is None or n <= most else np.linspace(0, n - 1, most).astype(np.int64)


def _read_epsilon(model: Any, steps: int, episodes: int) -> Epsilon:
    initial, floor = float(model.exploration_initial_eps), float(model.exploration_final_eps)
    decay = getattr(model, "exploration_decay", None)
    since: int | None
    if decay is not None:
        unit, done = "episode", episodes
        lowest = max(floor, 0.01)  # without a lowest value ε falls for ever: below 1 % it does not explore
        if decay >= 1 or initial <= lowest:
            since = None if decay >= 1 else 1
        else:
            since = 1 if decay == 0 else math.ceil(math.log(lowest / initial) / math.log(decay))
    else:
        unit, done = "step", steps
        total = int(getattr(model, "_total_timesteps", 0) or 0)
        since = math.ceil(model.exploration_fraction * total) if total > 0 else None
    if initial <= floor:
        since = None
    now = float(model.exploration_rate)
    if since is None or since >= done:
        return Epsilon(now, floor, unit, None, 0.0)
    since = max(since, 0)
    return Epsilon(now, floor, unit, since, 1 - since / done)
