"""The lecture's replay memory: one partition for successes, one for everything else."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lecture_dqn.common.seeding import make_rng

Observation = np.ndarray | dict[str, np.ndarray]
SuccessCriterion = Literal["terminal", "is_success", "positive_reward"] | Callable[[float, bool, dict[str, Any]], bool]

_MIN_ROWS = 64
_MAX_PLAIN_KEY = 64


def _terminal(reward: float, terminal: bool, info: dict[str, Any]) -> bool:
    return terminal


def _is_success(reward: float, terminal: bool, info: dict[str, Any]) -> bool:
    return bool(info.get("is_success", False))


def _positive_reward(reward: float, terminal: bool, info: dict[str, Any]) -> bool:
    return reward > 0


SUCCESS_CRITERIA: dict[str, Callable[[float, bool, dict[str, Any]], bool]] = {
    "terminal": _terminal,
    "is_success": _is_success,
    "positive_reward": _positive_reward,
}


def _hashable(value: Any) -> Hashable:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value


class Partition:
    """
    Transitions in flat arrays, with an index that answers in O(1) whether a transition is held.

    A column is one field of all transitions, an array of shape ``(rows, *field shape)``; the first :attr:`size` rows
    are in use. Columns grow by doubling, so an insert is O(1) amortised.

    :param columns: Name to (field shape, dtype).
    :param capacity: Most rows held; a further insert overwrites a uniformly random one. ``None``: no bound.
    :param deduplicate: Whether a transition that is held already is not stored again.
    """

    def __init__(
        self, columns: Mapping[str, tuple[tuple[int, ...], np.dtype]], capacity: int | None, deduplicate: bool
    ) -> None:
        self.capacity = capacity
        self.deduplicate = deduplicate
        self.size = 0
        rows = _MIN_ROWS if capacity is None else min(capacity, _MIN_ROWS)
        self.columns = {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in columns.items()}
        self._row_of: dict[bytes, int] = {}

    @property
    def full(self) -> bool:
        """Whether an insert overwrites a row."""
        return self.size == self.capacity

    def clear(self) -> None:
        """Forget every transition."""
        self.size = 0
        self._row_of.clear()

    def insert(self, fields: Mapping[str, Any], rng: np.random.Generator) -> int | None:
        """
        Store one transition.

        :param fields: One value for every column.
        :param rng: Draws the row to overwrite if the partition is full.
        :return: The row it was stored in, or ``None`` if it is held already.
        """
        row = {
            name: np.asarray(fields[name], column.dtype).reshape(column.shape[1:])
            for name, column in self.columns.items()
        }
        if self.deduplicate:
            key = self._key(row)
            if key in self._row_of:
                return None
        if self.full:
            index = int(rng.integers(self.size))
            if self.deduplicate:
                del self._row_of[self._key({name: column[index] for name, column in self.columns.items()})]
        else:
            index = self.size
            self._reserve(index + 1)
            self.size += 1
        for name, column in self.columns.items():
            column[index] = row[name]
        if self.deduplicate:
            self._row_of[key] = index
        return index

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """
        Append rows as they are; the inverse of :meth:`filled`.

        :param columns: The same number of rows for every column, none of which is held already.
        """
        start = self.size
        self._reserve(start + len(columns["rewards"]))
        self.size += len(columns["rewards"])
        for name, column in self.columns.items():
            column[start : self.size] = columns[name]
        if self.deduplicate:
            self._row_of.update((key, start + i) for i, key in enumerate(self._keys(start, self.size)))

    def filled(self) -> dict[str, np.ndarray]:
        """
        The rows in use.

        :return: Name to a copy of the column, of shape ``(size, *field shape)``.
        """
        return {name: column[: self.size].copy() for name, column in self.columns.items()}

    def check_valid(self) -> None:
        """
        Check that size, columns and index agree.

        :raises ValueError: If they do not; the message says where.
        """
        limit = np.inf if self.capacity is None else self.capacity
        if not 0 <= self.size <= limit:
            raise ValueError(f"size={self.size} is outside [0, {limit}]")
        for name, column in self.columns.items():
            if len(column) < self.size:
                raise ValueError(f"column {name!r} has {len(column)} rows, fewer than size={self.size}")
        expected = {key: row for row, key in enumerate(self._keys(0, self.size))} if self.deduplicate else {}
        if self.deduplicate and len(expected) != self.size:
            raise ValueError(f"{self.size - len(expected)} of {self.size} transitions are duplicates")
        if expected != self._row_of:
            raise ValueError("the duplicate index does not match the stored transitions")

    def check_rows(self, columns: Mapping[str, np.ndarray], name: str) -> None:
        """
        Check that rows from elsewhere can be stored here.

        :param columns: What :meth:`filled` of another partition returned.
        :param name: What the message calls them.
        :raises ValueError: If columns are missing, are of another shape or dtype, or are too many rows.
        """
        if columns.keys() != self.columns.keys():
            raise ValueError(f"{name} has the columns {sorted(columns)}, this memory has {sorted(self.columns)}")
        rows = len(columns["rewards"])
        if self.capacity is not None and rows > self.capacity:
            raise ValueError(f"{name} has {rows} transitions, this memory holds at most {self.capacity}")
        for column, own in self.columns.items():
            given = columns[column]
            if given.shape != (rows, *own.shape[1:]) or given.dtype != own.dtype:
                raise ValueError(
                    f"{name}[{column!r}] is {given.dtype} of shape {given.shape}, "
                    f"this memory needs {own.dtype} of shape {(rows, *own.shape[1:])}"
                )

    def _reserve(self, rows: int) -> None:
        allocated = len(next(iter(self.columns.values())))
        if rows <= allocated:
            return
        wanted = max(rows, 2 * allocated)
        if self.capacity is not None:
            wanted = min(wanted, self.capacity)
        for name, column in self.columns.items():
            self.columns[name] = np.concatenate(
                [column, np.zeros((wanted - allocated, *column.shape[1:]), column.dtype)]
            )

    def _keys(self, start: int, stop: int) -> Iterator[bytes]:
        for row in range(start, stop):
            yield self._key({name: column[row] for name, column in self.columns.items()})

    @staticmethod
    def _key(row: Mapping[str, np.ndarray]) -> bytes:
        # Adding zero makes -0.0 and 0.0, which are equal, equal in their bytes too.
        key = b"".join((field + 0.0 if field.dtype.kind == "f" else field).tobytes() for field in row.values())
        # 128 bits: images stay out of the index, and a collision is out of the question.
        return key if len(key) <= _MAX_PLAIN_KEY else blake2b(key, digest_size=16).digest()


class SuccessFailReplayBuffer(ReplayBuffer):
    """
    The lecture's replay memory: successes are kept for good, everything else in a bounded list.

    A transition goes to the *success* partition if it meets ``success_criterion``, else to the *fail* partition. One
    that is held already is not stored again; when its partition is full, a new one overwrites a uniformly random
    slot. A draw is uniform over both partitions, with replacement. Insert, duplicate check, replacement and draw are
    O(1) each.

    It takes the place of SB3's :class:`ReplayBuffer` and :class:`DictReplayBuffer` in any off-policy algorithm
    (``replay_buffer_class=SuccessFailReplayBuffer``), with one difference: ``buffer_size`` bounds the fail partition,
    for all environments together.

    .. warning::
      Where a transition has several outcomes, ``deduplicate=True`` makes a rare outcome weigh as much as a frequent
      one, and so biases the values learned. Pass ``deduplicate=False`` for stochastic environments.

    :param buffer_size: Most transitions in the fail partition
    :param observation_space: Observation space
    :param action_space: Action space
    :param device: PyTorch device of the samples
    :param n_envs: Number of parallel environments
    :param optimize_memory_usage: Not supported, must be ``False``
    :param handle_timeout_termination: Whether an episode that a time limit cut is stored as not done, so that its last
        transition bootstraps
    :param success_criterion: What makes a transition a success: ``"terminal"`` (it ended the episode, and not by a
        time limit), ``"is_success"`` (``info["is_success"]`` is true), ``"positive_reward"`` (the reward is above 0),
        or a function ``(reward, terminal, info) -> bool``
    :param success_fraction: Share of a minibatch that is drawn from the successes as soon as there are any, in [0, 1];
        a share that is no whole number of transitions is rounded at random, so that its mean is exact.
        ``None``: uniform over both partitions, as in the lecture
    :param deduplicate: Whether a transition that is held already is not stored again
    :param success_capacity: Most transitions in the success partition, ``None`` for no bound
    :param seed: Seed of the buffer's own generator. ``None``: one number from NumPy's global generator, once, which
        the ``seed`` of an SB3 algorithm has set just before
    :raises ValueError: If an argument is out of range
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        success_criterion: SuccessCriterion = "terminal",
        success_fraction: float | None = None,
        deduplicate: bool = True,
        success_capacity: int | None = None,
        seed: int | None = None,
    ) -> None:
        if buffer_size < 1:
            raise ValueError(f"buffer_size={buffer_size} must be at least 1")
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage=True is not supported by SuccessFailReplayBuffer, it must be False")
        if success_fraction is not None and not 0 <= success_fraction <= 1:
            raise ValueError(f"success_fraction={success_fraction} must be None or in [0, 1]")
        if success_capacity is not None and success_capacity < 1:
            raise ValueError(f"success_capacity={success_capacity} must be None or at least 1")
        if not callable(success_criterion) and success_criterion not in SUCCESS_CRITERIA:
            raise ValueError(
                f"success_criterion={success_criterion!r} must be one of {list(SUCCESS_CRITERIA)} or a function"
            )
        # Not ReplayBuffer's: it would allocate arrays of its own.
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.success_criterion = success_criterion
        self.success_fraction = success_fraction
        self.deduplicate = deduplicate
        self._is_success = (
            success_criterion if callable(success_criterion) else SUCCESS_CRITERIA[success_criterion]
        )

        # SB3 names the parts of a Dict observation; a plain observation is one part without a name.
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {None: observation_space}
        shapes = self.obs_shape if isinstance(self.obs_shape, dict) else {None: self.obs_shape}
        self._obs_columns = {part: "observations" if part is None else f"observations/{part}" for part in parts}
        columns: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        for prefix in ("", "next_"):
            for part, space in parts.items():
                columns[prefix + self._obs_columns[part]] = (shapes[part], np.dtype(space.dtype))
        columns["actions"] = ((self.action_dim,), np.dtype(self._maybe_cast_dtype(action_space.dtype)))
        columns["rewards"] = ((), np.dtype(np.float32))
        columns["dones"] = ((), np.dtype(np.bool_))
        self.success = Partition(columns, success_capacity, deduplicate)
        self.fail = Partition(columns, buffer_size, deduplicate)
        self.seed(np.random.randint(2**31 - 1) if seed is None else seed)

    def seed(self, seed: int) -> None:
        """
        Seed the generator of draws and replacements.

        :param seed: A non-negative integer
        """
        self.rng = make_rng(seed, "memory")

    @property
    def success_size(self) -> int:
        """Number of transitions in the success partition."""
        return self.success.size

    @property
    def fail_size(self) -> int:
        """Number of transitions in the fail partition."""
        return self.fail.size

    @property
    def success_states(self) -> set[Hashable]:
        """
        The states from which a success is held: integers for ``Discrete`` observations, nested tuples for arrays, and
        tuples of ``(key, value)`` pairs for ``Dict`` observations. Found on demand, in O(:attr:`success_size`).
        """
        return {self._state_key(row) for row in range(self.success.size)}

    # SB3's buffers are arrays of shape (rows, n_envs, ...). These show the memory so, as if of one environment.

    @property
    def observations(self) -> Observation:  # type: ignore[override]
        """A copy of all observations, shape ``(size, 1, *obs_shape)`` (each part of a Dict), successes first."""
        return self._all_obs("")

    @property
    def next_observations(self) -> Observation:  # type: ignore[override]
        """A copy of all next observations, shape ``(size, 1, *obs_shape)`` (each part of a Dict), successes first."""
        return self._all_obs("next_")

    @property
    def actions(self) -> np.ndarray:  # type: ignore[override]
        """A copy of all actions, shape ``(size, 1, action_dim)``, successes first."""
        return self._gather("actions", np.arange(self.size()))[:, None]

    @property
    def rewards(self) -> np.ndarray:  # type: ignore[override]
        """A copy of all rewards, float32 of shape ``(size, 1)``, successes first."""
        return self._gather("rewards", np.arange(self.size()))[:, None]

    @property
    def dones(self) -> np.ndarray:  # type: ignore[override]
        """A copy of all terminal flags, float32 of shape ``(size, 1)``, successes first."""
        return self._gather("dones", np.arange(self.size())).astype(np.float32)[:, None]

    @property
    def timeouts(self) -> np.ndarray:  # type: ignore[override]
        """Zeros, float32 of shape ``(size, 1)``: a transition that a time limit cut is stored as not done."""
        return np.zeros((self.size(), 1), np.float32)

    def size(self) -> int:
        """
        :return: The number of transitions held, in both partitions
        """
        return self.success.size + self.fail.size

    def reset(self) -> None:
        """Forget every transition."""
        super().reset()
        self.success.clear()
        self.fail.clear()

    def add(
        self,
        obs: Observation,  # type: ignore[override]
        next_obs: Observation,  # type: ignore[override]
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store the transitions of one step of all environments, environment by environment.

        :param obs: Observations before the step, with a leading dimension of ``n_envs`` (each part of a Dict)
        :param next_obs: Observations after it; the terminal one where an episode ended
        :param action: Actions, ``n_envs`` of them
        :param reward: Rewards, shape ``(n_envs,)``
        :param done: Whether the episode ended, shape ``(n_envs,)``
        :param infos: What the environments said of the step
        """
        observed, observed_next = self._by_part(obs), self._by_part(next_obs)
        actions = np.asarray(action).reshape(self.n_envs, self.action_dim)
        for i, info in enumerate(infos):
            timeout = self.handle_timeout_termination and info.get("TimeLimit.truncated", False)
            terminal = bool(done[i]) and not timeout
            transition = {"actions": actions[i], "rewards": reward[i], "dones": terminal}
            for part, column in self._obs_columns.items():
                transition[column] = observed[part][i]
                transition["next_" + column] = observed_next[part][i]
            success = self._is_success(float(reward[i]), terminal, info)
            (self.success if success else self.fail).insert(transition, self.rng)
        self.pos, self.full = self.size(), self.fail.full

    def draw(self, batch_size: int) -> np.ndarray:
        """
        Draw transitions with replacement.

        :param batch_size: How many
        :return: Their positions, int64 of shape ``(batch_size,)``: position ``p`` is row ``p`` of the success
            partition, or row ``p - success_size`` of the fail partition
        :raises ValueError: If the memory is empty
        """
        n_success, n = self.success.size, self.size()
        if n == 0:
            raise ValueError("cannot sample from an empty replay memory")
        if self.success_fraction is None or n_success in (0, n):
            return self.rng.integers(n, size=batch_size)
        from_success = int(batch_size * self.success_fraction + self.rng.random())
        return np.concatenate(
            [
                self.rng.integers(n_success, size=from_success),
                self.rng.integers(n_success, n, size=batch_size - from_success),
            ]
        )

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:  # type: ignore[override]
        """
        Draw a minibatch.

        :param batch_size: Number of transitions
        :param env: Normalises observations and rewards when given
        :return: Tensors of shape ``(batch_size, ...)``, as SB3's buffers give them (for a Dict observation its
            ``DictReplayBufferSamples``); ``dones`` is 1 only where the episode ended other than by a time limit
        :raises ValueError: If the memory is empty
        """
        return self._get_samples(self.draw(batch_size), env)

    def get_state(self) -> dict[str, Any]:
        """
        What :meth:`set_state` needs to go on as if nothing had happened.

        :return: Arrays of both partitions in stored order, and the state of the generator
        """
        return {
            "success": self.success.filled(),
            "fail": self.fail.filled(),
            "rng": self.rng.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """
        Take over the state of another buffer with the same spaces and settings.

        :param state: What :meth:`get_state` returned
        :raises ValueError: If the arrays do not fit this buffer; it is left as it was
        """
        for name, partition in self._partitions.items():
            partition.check_rows(state[name], name)
        self.reset()
        for name, partition in self._partitions.items():
            partition.append(state[name])
        self.rng.bit_generator.state = state["rng"]
        self.pos, self.full = self.size(), self.fail.full

    def check_valid(self) -> None:
        """
        Check the consistency of the memory.

        :raises ValueError: If a partition contradicts itself; the message says which and how
        """
        for name, partition in self._partitions.items():
            try:
                partition.check_valid()
            except ValueError as error:
                raise ValueError(f"{name} partition: {error}") from error

    @property
    def _partitions(self) -> dict[str, Partition]:
        return {"success": self.success, "fail": self.fail}

    def _get_samples(
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> ReplayBufferSamples | DictReplayBufferSamples:
        rewards = self._normalize_reward(self._gather("rewards", batch_inds).reshape(-1, 1), env)
        actions = self._gather("actions", batch_inds)
        dones = self._gather("dones", batch_inds).astype(np.float32).reshape(-1, 1)
        obs = self._normalize_obs(self._gather_obs("", batch_inds), env)
        next_obs = self._normalize_obs(self._gather_obs("next_", batch_inds), env)
        if isinstance(obs, dict) and isinstance(next_obs, dict):
            return DictReplayBufferSamples(
                {part: self.to_torch(value) for part, value in obs.items()},
                self.to_torch(actions),
                {part: self.to_torch(value) for part, value in next_obs.items()},
                self.to_torch(dones),
                self.to_torch(rewards),
            )
        return ReplayBufferSamples(*map(self.to_torch, (obs, actions, next_obs, dones, rewards)))

    def _gather(self, column: str, positions: np.ndarray) -> np.ndarray:
        success, fail = self.success.columns[column], self.fail.columns[column]
        if self.success.size == 0:
            return fail[positions]
        gathered = np.empty((len(positions), *success.shape[1:]), success.dtype)
        in_success = positions < self.success.size
        gathered[in_success] = success[positions[in_success]]
        gathered[~in_success] = fail[positions[~in_success] - self.success.size]
        return gathered

    def _all_obs(self, prefix: str) -> Observation:
        obs = self._gather_obs(prefix, np.arange(self.size()))
        return {part: value[:, None] for part, value in obs.items()} if isinstance(obs, dict) else obs[:, None]

    def _gather_obs(self, prefix: str, positions: np.ndarray) -> Observation:
        gathered = {
            part: self._gather(prefix + column, positions) for part, column in self._obs_columns.items()
        }
        return gathered[None] if None in gathered else gathered

    def _by_part(self, obs: Observation) -> Mapping[str | None, np.ndarray]:
        return obs if isinstance(obs, dict) else {None: np.asarray(obs)}

    def _state_key(self, row: int) -> Hashable:
        parts = {part: self.success.columns[column][row] for part, column in self._obs_columns.items()}
        if None not in parts:
            return tuple((part, _hashable(value.tolist())) for part, value in parts.items())
        if isinstance(self.observation_space, spaces.Discrete):
            return int(parts[None][0])
        return _hashable(parts[None].tolist())


class LatestTransitionBuffer(SuccessFailReplayBuffer):
    """
    The lecture's ``store_and_replay=False``: what is sampled is the transition just seen.

    With several environments it is one of their last transitions, drawn at random.
    """

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Store one step of all environments in place of the last; see :meth:`SuccessFailReplayBuffer.add`."""
        self.reset()
        super().add(*args, **kwargs)
