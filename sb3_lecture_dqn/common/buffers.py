"""The lecture's replay memory: one partition for successes, one for everything else."""

import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lecture_dqn.common.checks import Observation, check_number, check_stored
from sb3_lecture_dqn.common.masks import MaskableReplayBufferSamples, n_mask_words, pack_masks, unpack_masks
from sb3_lecture_dqn.common.partition import DISCRETE_ROW, Partition, _hashable, transition_dtype
from sb3_lecture_dqn.common.seeding import draw_indices, generator_state, make_rng, set_generator_state

SuccessCriterion = Literal["terminal", "is_success", "positive_reward"] | Callable[[float, bool, dict[str, Any]], bool]


# A network for more could not be made, and its masks would be there before it.
_MAX_MASKED_ACTIONS = 2**24


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


@contextmanager
def _named(part: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from error


class SuccessFailReplayBuffer(ReplayBuffer):
    """
    The lecture's replay memory: one partition for successes, one for everything else.

    A transition goes to the *success* partition if it meets ``success_criterion``, else to the *fail* partition. One
    that is held already is not stored again. A draw is uniform over both partitions, with replacement. Insert,
    duplicate check, replacement and draw are O(1) each.

    It takes the place of SB3's :class:`ReplayBuffer` and :class:`DictReplayBuffer` in any off-policy algorithm
    (``replay_buffer_class=SuccessFailReplayBuffer``). As there, ``buffer_size`` bounds the whole memory, for all
    environments together: when it is full, a new transition takes the place of a random one in the larger partition,
    of its own where they are equal. So successes are kept until they are half of the memory.

    With ``success_capacity``, the partitions have a bound each: ``buffer_size`` is that of the fail partition, and in a
    full one a new transition overwrites a random one. The lecture's memory has ``success_capacity=math.inf``, so that
    successes are kept for good. :class:`LectureDQN` makes it so for ``Discrete`` observations with ``deduplicate``,
    where there are only so many different ones.

    .. warning::
      Where a transition has several outcomes, values are only right if each weighs as often as it happens. So in
      stochastic environments pass ``deduplicate=False``: otherwise a rare outcome weighs as much as a frequent one.
      ``success_fraction``, and failures that are forgotten while successes are kept, make outcomes that are successes
      weigh more: leave it at ``None``, and let ``buffer_size`` be as large as the training is long.

    :param buffer_size: Most transitions in the memory; with ``success_capacity``, in the fail partition
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
    :param success_capacity: Most transitions in the success partition besides ``buffer_size`` in the other,
        ``math.inf`` for no bound. ``None``: ``buffer_size`` bounds both together
    :param seed: Seed of the buffer's own generator. ``None``: one number from NumPy's global generator, once, which
        the ``seed`` of an SB3 algorithm has set just before
    :param use_masking: Whether the valid actions of the next state are stored with a transition, one bit for each.
        Transitions are then equal only if these are too
    :raises ValueError: If an argument is out of range
    """

    #: Whether ``buffer_size`` bounds both partitions together; not in a memory that 1.0 has pickled
    bounds_all = False

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        success_criterion: SuccessCriterion = "terminal",
        success_fraction: float | None = None,
        deduplicate: bool = True,
        success_capacity: float | None = None,
        seed: int | None = None,
        use_masking: bool = False,
    ) -> None:
        if buffer_size < 1:
            raise ValueError(f"buffer_size={buffer_size} must be at least 1")
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage=True is not supported by SuccessFailReplayBuffer, it must be False")
        if success_fraction is not None and not 0 <= success_fraction <= 1:
            raise ValueError(f"success_fraction={success_fraction} must be None or in [0, 1]")
        unbounded = success_capacity is not None and success_capacity == math.inf
        if success_capacity is not None and not unbounded:
            check_number("success_capacity", success_capacity, 1, integer=True)
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
        self._is_success = success_criterion if callable(success_criterion) else SUCCESS_CRITERIA[success_criterion]

        # SB3 names the parts of a Dict observation; a plain observation is one part without a name.
        parts: Mapping[Any, spaces.Space[Any]] = (
            observation_space.spaces if isinstance(observation_space, spaces.Dict) else {None: observation_space}
        )
        shapes: Mapping[Any, tuple[int, ...]] = (
            self.obs_shape if isinstance(self.obs_shape, dict) else {None: self.obs_shape}
        )
        self._obs_fields = {part: "observations" if part is None else f"observations/{part}" for part in parts}
        fields: list[tuple[str, np.dtype, tuple[int, ...]]] = []
        for prefix in ("", "next_"):
            for part, space in parts.items():
                fields.append((prefix + self._obs_fields[part], np.dtype(space.dtype), shapes[part]))
        fields.append(("actions", np.dtype(self._maybe_cast_dtype(action_space.dtype)), (self.action_dim,)))
        fields.append(("rewards", np.dtype(np.float32), ()))
        fields.append(("dones", np.dtype(np.float32), ()))
        discrete = isinstance(observation_space, spaces.Discrete) and transition_dtype(fields) == DISCRETE_ROW
        self.use_masking = use_masking
        if use_masking:
            if not isinstance(action_space, spaces.Discrete):
                raise ValueError(f"use_masking=True needs a Discrete action space, not {action_space}")
            self.n_actions = int(action_space.n)
            if self.n_actions > _MAX_MASKED_ACTIONS:
                raise ValueError(
                    f"use_masking=True can be had with {_MAX_MASKED_ACTIONS} actions at most, not {action_space}"
                )
            self._all_valid = pack_masks(np.ones((1, self.n_actions), dtype=bool))[0]
            fields.append(("next_action_masks", np.dtype(np.int64), (n_mask_words(self.n_actions),)))
        dtype = transition_dtype(fields)
        self.bounds_all = success_capacity is None
        most_successes = buffer_size if success_capacity is None else None if unbounded else int(success_capacity)
        self.success = Partition(dtype, most_successes, deduplicate)
        self.fail = Partition(dtype, buffer_size, deduplicate)
        #: Whether a row is the words state, next state, action, (reward, done) and, with masks, those of the next
        #: state's, as the compiled loops read it.
        self.is_discrete = discrete
        self._new_row = np.zeros(1, dtype)
        self._view_new_row()
        self.seed(np.random.randint(2**31 - 1) if seed is None else seed)  # noqa: NPY002

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
        return {self._state_key(row) for row in self.success.rows[: self.success.size]}

    # SB3's buffers are arrays of shape (rows, n_envs, ...). These show the memory so, as if of one environment.

    @property
    def observations(self) -> Observation:  # type: ignore[override]
        """A copy of all observations, shape ``(size, 1, *obs_shape)`` (each part of a Dict), successes first."""
        return self._observations_of(self._all_rows(), "")

    @property
    def next_observations(self) -> Observation:  # type: ignore[override]
        """A copy of all next observations, shape ``(size, 1, *obs_shape)`` (each part of a Dict), successes first."""
        return self._observations_of(self._all_rows(), "next_")

    @property
    def actions(self) -> np.ndarray:  # type: ignore[override]
        """A copy of all actions, shape ``(size, 1, action_dim)``, successes first."""
        return self._all_rows()["actions"]

    @property
    def rewards(self) -> np.ndarray:  # type: ignore[override]
        """A copy of all rewards, float32 of shape ``(size, 1)``, successes first."""
        return self._all_rows()["rewards"]

    @property
    def dones(self) -> np.ndarray:  # type: ignore[override]
        """A copy of all terminal flags, float32 of shape ``(size, 1)``, successes first."""
        return self._all_rows()["dones"]

    @property
    def timeouts(self) -> np.ndarray:  # type: ignore[override]
        """Zeros, float32 of shape ``(size, 1)``: a transition that a time limit cut is stored as not done."""
        return np.zeros((self.size(), 1), np.float32)

    def _all_rows(self) -> np.ndarray:
        return np.concatenate([self.success.filled(), self.fail.filled()])[:, None]

    def __getstate__(self) -> dict[str, Any]:
        views = ("_new_words", "_new_floats", "_new_masks")
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view_new_row()

    def _view_new_row(self) -> None:
        self._new_words = self._new_row.view(np.int64).reshape(1, -1)
        self._new_floats = self._new_row.view(np.float32).reshape(1, -1)
        if self.use_masking:
            self._new_masks = self._new_row["next_action_masks"][0]

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
        obs: Observation,
        next_obs: Observation,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
        next_action_masks: np.ndarray | None = None,
    ) -> None:
        """
        Store the transitions of one step of all environments, environment by environment.

        :param obs: Observations before the step, with a leading dimension of ``n_envs`` (each part of a Dict)
        :param next_obs: Observations after it; the terminal one where an episode ended
        :param action: Actions, ``n_envs`` of them
        :param reward: Rewards, shape ``(n_envs,)``
        :param done: Whether the episode ended, shape ``(n_envs,)``
        :param infos: What the environments said of the step
        :param next_action_masks: With ``use_masking``, the valid actions of the states after it, bool of shape
            ``(n_envs, n_actions)``. A transition that is not terminal is left out where none is valid: this is what the
            mask is where it is not known, and then there is no telling what the next state is worth
        :raises ValueError: If there are masks without ``use_masking``, or none with it
        """
        if (next_action_masks is not None) != self.use_masking:
            raise ValueError(f"use_masking={self.use_masking} and next_action_masks={next_action_masks}")
        masks = None if next_action_masks is None else pack_masks(next_action_masks).tolist()
        write_row = self._write_discrete if self.is_discrete else self._write_any
        # Plain numbers are several times faster than those of NumPy.
        for i, (info, r, ended) in enumerate(zip(infos, reward.tolist(), done.tolist(), strict=True)):
            terminal = ended and not (self.handle_timeout_termination and info.get("TimeLimit.truncated", False))
            if masks is not None and not self._write_mask(masks[i], terminal):
                continue
            write_row(i, obs, next_obs, action, r, terminal)
            partition = self.success if self._is_success(r, terminal, info) else self.fail
            if self.bounds_all:
                self._make_room(partition)
            partition.insert(self._new_words, self.rng)
        self._count()

    def _make_room(self, partition: Partition) -> None:
        """Forget a transition if the memory is full, and the new one is to be stored in this partition."""
        if self.size() < self.buffer_size or partition.holds(self._new_words):
            return
        other = self.fail if partition is self.success else self.success
        larger = partition if partition.size >= other.size else other
        larger.remove(int(self.rng.random() * larger.size))

    def _count(self) -> None:
        self.pos = self.size()
        self.full = self.pos >= self.buffer_size if self.bounds_all else self.fail.full

    def _write_mask(self, words: list[int], terminal: bool) -> bool:
        """Write the mask of a new row; ``False`` if it says that the valid actions are not known."""
        # No action is chosen in a terminal state: that all are allowed there keeps its maximum finite, times 0.
        self._new_masks[:] = self._all_valid if terminal else words
        known = terminal or any(words)
        if not known:
            warnings.warn(
                "a transition that a time limit cut is not stored, because the valid actions of its last state are not "
                "known; put sb3_lecture_dqn's ActionMaskInfo around every sub-environment to make them known"
            )
        return known

    # Adding zero makes -0.0, which equals 0.0, equal to it in its bytes too: duplicates are found by those.

    def _write_any(
        self, i: int, obs: Observation, next_obs: Observation, action: np.ndarray, reward: float, terminal: bool
    ) -> None:
        row = self._new_row
        for part, field in self._obs_fields.items():
            for name, value in ((field, obs), ("next_" + field, next_obs)):
                observed = np.asarray(value[part] if part is not None else value)[i]
                row[name] = observed + 0.0 if observed.dtype.kind == "f" else observed
        row["actions"] = action.reshape(self.n_envs, self.action_dim)[i]
        row["rewards"] = reward + 0.0
        row["dones"] = terminal

    def _write_discrete(
        self, i: int, obs: Observation, next_obs: Observation, action: np.ndarray, reward: float, terminal: bool
    ) -> None:
        """The same for :data:`DISCRETE_ROW`, in a quarter of the time."""
        words, floats = self._new_words[0], self._new_floats[0]
        words[0] = obs.item(i)  # type: ignore[union-attr]
        words[1] = next_obs.item(i)  # type: ignore[union-attr]
        words[2] = action.item(i)
        floats[6] = reward + 0.0
        floats[7] = terminal

    def draw(self, batch_size: int) -> np.ndarray:
        """
        Draw a minibatch with replacement.

        :param batch_size: Number of transitions
        :return: Their positions, int64 of shape ``(batch_size,)``, see :meth:`draw_minibatches`
        :raises ValueError: If the memory is empty
        """
        return self.draw_minibatches(1, batch_size).reshape(batch_size)

    def draw_minibatches(self, n_batches: int, batch_size: int) -> np.ndarray:
        """
        Draw minibatches with replacement; the same draws as by :meth:`draw`, one minibatch after the other.

        :param n_batches: Number of minibatches
        :param batch_size: Number of transitions in each
        :return: Their positions, int64 of shape ``(n_batches, batch_size)``: position ``p`` is row ``p`` of the success
            partition, or row ``p - success_size`` of the fail partition
        :raises ValueError: If the memory is empty
        """
        n_success = self.success.size
        n = n_success + self.fail.size
        if n == 0:
            raise ValueError("cannot sample from an empty replay memory")
        if self.success_fraction is None or n_success in (0, n):
            return draw_indices(self.rng, 0, n, (n_batches, batch_size))
        positions = np.empty((n_batches, batch_size), np.int64)
        for batch in positions:
            from_success = int(batch_size * self.success_fraction + self.rng.random())
            batch[:from_success] = draw_indices(self.rng, 0, n_success, from_success)
            batch[from_success:] = draw_indices(self.rng, n_success, n, batch_size - from_success)
        return positions

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
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
            "rng": generator_state(self.rng),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """
        Take over the state of another buffer with the same spaces and settings.

        :param state: What :meth:`get_state` returned
        :raises ValueError: If the arrays do not fit this buffer; it is left as it was
        """
        if missing := {"success", "fail", "rng"} - state.keys():
            raise ValueError(f"the state of the memory has no {', '.join(sorted(missing))}")
        rng = make_rng(0, "memory")
        with _named("rng"):
            set_generator_state(rng, state["rng"])
        self._check_together(len(state["success"]), len(state["fail"]))
        with _named("success partition"):
            success = self.success.holding(state["success"])
        with _named("fail partition"):
            fail = self.fail.holding(state["fail"])
        self.success, self.fail, self.rng = success, fail, rng
        self._count()

    def _check_together(self, n_success: int, n_fail: int) -> None:
        if self.bounds_all and n_success + n_fail > self.buffer_size:
            raise ValueError(
                f"there are {n_success + n_fail} transitions, and at most buffer_size={self.buffer_size} are "
                "held: give a larger buffer_size, or success_capacity=math.inf to bound failures only, as in version 1"
            )

    def check_rows(self, rows: np.ndarray) -> None:
        """
        Check transitions that come from outside: the compiled loops look up what they say.

        :param rows: Records of one of the partitions
        :raises ValueError: If an observation, an action, a reward or a terminal flag cannot be one
        """
        for part, field in self._obs_fields.items():
            space: Any = self.observation_space if part is None else self.observation_space[part]  # type: ignore[index]
            for name in (field, "next_" + field):
                check_stored(name, rows[name], space)
        discrete = isinstance(self.action_space, spaces.Discrete)
        check_stored("actions", rows["actions"], self.action_space if discrete else None)
        check_stored("rewards", rows["rewards"], None)
        check_stored("dones", rows["dones"], None)

    def check_valid(self) -> None:
        """
        Check the consistency of the memory.

        :raises ValueError: If a partition contradicts itself; the message says which and how
        """
        with _named("success partition"):
            self.success.check_valid()
        with _named("fail partition"):
            self.fail.check_valid()
        self._check_together(self.success.size, self.fail.size)

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None) -> ReplayBufferSamples:
        rows = self._rows(batch_inds)
        obs = self._normalize_obs(self._observations_of(rows, ""), env)
        next_obs = self._normalize_obs(self._observations_of(rows, "next_"), env)
        rewards = self._normalize_reward(rows["rewards"].reshape(-1, 1), env)
        dones = rows["dones"].reshape(-1, 1)
        tensors: tuple[Any, ...] = (
            self._to_torch(obs),
            self.to_torch(rows["actions"]),
            self._to_torch(next_obs),
            self.to_torch(dones),
            self.to_torch(rewards),
        )
        if self.use_masking:
            masks = self.to_torch(unpack_masks(rows["next_action_masks"], self.n_actions))
            return MaskableReplayBufferSamples(*tensors[:5], masks)  # type: ignore[call-arg,return-value]
        # Those of a Dict are what SB3's DictReplayBuffer returns.
        samples = DictReplayBufferSamples if isinstance(obs, dict) else ReplayBufferSamples
        return samples(*tensors)  # type: ignore[return-value]

    def _to_torch(self, obs: Observation) -> Any:
        return {part: self.to_torch(o) for part, o in obs.items()} if isinstance(obs, dict) else self.to_torch(obs)

    def _rows(self, positions: np.ndarray) -> np.ndarray:
        n_success = self.success.size
        rows = np.empty(len(positions), self.fail.rows.dtype)
        in_success = positions < n_success
        rows[in_success] = self.success.rows[positions[in_success]]
        rows[~in_success] = self.fail.rows[positions[~in_success] - n_success]
        return rows

    def _observations_of(self, rows: np.ndarray, prefix: str) -> Observation:
        if None in self._obs_fields:
            plain: np.ndarray = rows[prefix + "observations"]
            return plain
        return {str(part): rows[prefix + field] for part, field in self._obs_fields.items()}

    def _state_key(self, row: np.ndarray) -> Hashable:
        if None not in self._obs_fields:
            return tuple((part, _hashable(row[field].tolist())) for part, field in self._obs_fields.items())
        if isinstance(self.observation_space, spaces.Discrete):
            return int(row["observations"][0])
        return _hashable(row["observations"].tolist())


class LatestTransitionBuffer(SuccessFailReplayBuffer):
    """
    The lecture's ``store_and_replay=False``: what is sampled is the transition just seen.

    With several environments it is one of their last transitions, drawn at random.
    """

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Store one step of all environments in place of the last; see :meth:`SuccessFailReplayBuffer.add`."""
        before = self.get_state() if self.use_masking else None
        self.reset()
        super().add(*args, **kwargs)
        if before is not None and self.size() == 0:  # nothing could be stored
            self.set_state(before)
