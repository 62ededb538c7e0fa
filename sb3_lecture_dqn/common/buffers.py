"""The lecture's replay memory: one partition for successes, one for everything else."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lecture_dqn.common.checks import Observation, check_number
from sb3_lecture_dqn.common.masks import MaskableReplayBufferSamples, pack_masks, unpack_masks
from sb3_lecture_dqn.common.partition import Partition
from sb3_lecture_dqn.common.seeding import draw_indices, generator_state, make_rng, set_generator_state
from sb3_lecture_dqn.common.transition_row import TransitionRow

SuccessCriterion = Literal["terminal", "is_success", "positive_reward"] | Callable[[float, bool, dict[str, Any]], bool]


# A pickled memory names these functions and `Partition` by their place in this module.


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
def _errors_name(part: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from error


class SuccessFailReplayBuffer(ReplayBuffer):
    """
    The lecture's replay memory: one partition for successes, one for everything else.

    A transition goes to the *success* partition if it meets ``success_criterion``, else to the *fail* partition. A
    transition that is already held is not stored again. A draw is uniform over both partitions, with replacement.
    Insert, duplicate check, replacement and draw are O(1) each.

    It replaces SB3's :class:`ReplayBuffer` and :class:`DictReplayBuffer` in any off-policy algorithm
    (``replay_buffer_class=SuccessFailReplayBuffer``). As in SB3, ``buffer_size`` bounds the whole memory, for all
    environments together. When it is full, a new transition replaces a random transition of the larger partition, or
    of its own partition if both are equally large. So successes are kept until they are half of the memory.

    With ``success_capacity``, each partition has its own bound: ``buffer_size`` bounds the fail partition, and in a
    full partition a new transition overwrites a random one. The lecture's memory has ``success_capacity=math.inf``: it
    keeps all successes. :class:`LectureDQN` uses this for ``Discrete`` observations with ``deduplicate``, where the
    number of different successes is limited.

    .. warning::
      If a transition has several outcomes, values are only right if each outcome weighs as often as it happens. So
      pass ``deduplicate=False`` in stochastic environments: otherwise a rare outcome weighs as much as a frequent one.
      Successful outcomes also weigh more with ``success_fraction``, and when failures are forgotten while successes
      are kept: leave it at ``None``, and make ``buffer_size`` as large as the training is long.

    :param buffer_size: Most transitions in the memory; with ``success_capacity``, in the fail partition
    :param observation_space: Observation space
    :param action_space: Action space
    :param device: PyTorch device of the samples
    :param n_envs: Number of parallel environments
    :param optimize_memory_usage: Not supported, must be ``False``
    :param handle_timeout_termination: Whether an episode that a time limit cut is stored as not done, so that its last
        transition bootstraps
    :param success_criterion: Which transitions are successes: ``"terminal"`` (it ended the episode, and not by a
        time limit), ``"is_success"`` (``info["is_success"]`` is true), ``"positive_reward"`` (the reward is above 0),
        or a function ``(reward, terminal, info) -> bool``
    :param success_fraction: Share of a minibatch that is drawn from the successes as soon as there are any, in [0, 1].
        If the share is not a whole number of transitions, it is rounded at random so that its mean is exact.
        ``None``: uniform over both partitions, as in the lecture
    :param deduplicate: Whether a transition that is already held is not stored again
    :param success_capacity: Most transitions in the success partition, besides ``buffer_size`` in the fail partition;
        ``math.inf`` for no bound. ``None``: ``buffer_size`` bounds both together
    :param seed: Seed of the buffer's own generator. ``None``: one number from NumPy's global generator, which the
        ``seed`` of an SB3 algorithm has set just before
    :param use_masking: Whether the valid actions of the next state are stored with a transition, one bit each. Then
        equal transitions also have equal masks
    :raises ValueError: If an argument is out of range
    """

    #: Whether ``buffer_size`` bounds both partitions together. Memories pickled by 1.0 lack this attribute.
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
        # Not ReplayBuffer's constructor, which allocates arrays of buffer_size rows.
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.success_criterion = success_criterion
        self.success_fraction = success_fraction
        self.deduplicate = deduplicate
        self.use_masking = use_masking
        self._is_success = success_criterion if callable(success_criterion) else SUCCESS_CRITERIA[success_criterion]
        self.row = TransitionRow(observation_space, action_space, use_masking)
        self.bounds_all = success_capacity is None
        most_successes = buffer_size if success_capacity is None else None if unbounded else int(success_capacity)
        self.success = Partition(self.row.dtype, most_successes, deduplicate)
        self.fail = Partition(self.row.dtype, buffer_size, deduplicate)
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
        tuples of ``(key, value)`` pairs for ``Dict`` observations. Takes O(:attr:`success_size`).
        """
        return {self.row.state_key(row) for row in self.success.rows[: self.success.size]}

    # SB3's buffers have arrays of shape (rows, n_envs, ...). These properties copy the memory into that layout, as if
    # of one environment, successes first. They are for users to look at.

    def _all_rows(self) -> np.ndarray:
        return np.concatenate([self.success.filled(), self.fail.filled()])[:, None]

    @property
    def observations(self) -> Observation:  # type: ignore[override]
        """A copy of the observations, shape ``(size, 1, *obs_shape)`` (each part of a Dict)."""
        return self.row.observations(self._all_rows())

    @property
    def next_observations(self) -> Observation:  # type: ignore[override]
        """A copy of the next observations, shape ``(size, 1, *obs_shape)`` (each part of a Dict)."""
        return self.row.observations(self._all_rows(), "next_")

    @property
    def actions(self) -> np.ndarray:  # type: ignore[override]
        """A copy of the actions, shape ``(size, 1, action_dim)``."""
        return self._all_rows()["actions"]

    @property
    def rewards(self) -> np.ndarray:  # type: ignore[override]
        """A copy of the rewards, float32 of shape ``(size, 1)``."""
        return self._all_rows()["rewards"]

    @property
    def dones(self) -> np.ndarray:  # type: ignore[override]
        """A copy of the terminal flags, float32 of shape ``(size, 1)``."""
        return self._all_rows()["dones"]

    @property
    def timeouts(self) -> np.ndarray:  # type: ignore[override]
        """Zeros, float32 of shape ``(size, 1)``: a transition that a time limit cut is stored as not done."""
        return np.zeros((self.size(), 1), np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "row"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.row = TransitionRow(self.observation_space, self.action_space, self.use_masking)

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
        :param next_obs: Observations after the step; the terminal observation where an episode ended
        :param action: Actions, ``n_envs`` of them
        :param reward: Rewards, shape ``(n_envs,)``
        :param done: Whether the episode ended, shape ``(n_envs,)``
        :param infos: The infos of the step
        :param next_action_masks: With ``use_masking``, the valid actions of the next states, bool of shape
            ``(n_envs, n_actions)``. A mask without any valid action means that the mask is not known. A transition
            with such a mask is only stored if it is terminal, because the value of its next state is not known
        :raises ValueError: If masks are given without ``use_masking``, or not given with it
        """
        if self.use_masking and next_action_masks is None:
            raise ValueError("next_action_masks=None, but use_masking=True: give masks of shape (n_envs, n_actions)")
        if next_action_masks is not None and not self.use_masking:
            raise ValueError("next_action_masks is given, but use_masking=False: leave it out")
        masks = None if next_action_masks is None else pack_masks(next_action_masks).tolist()
        row = self.row
        # Python's numbers are several times faster here than NumPy's.
        for i, (info, r, ended) in enumerate(zip(infos, reward.tolist(), done.tolist(), strict=True)):
            terminal = ended and not (self.handle_timeout_termination and info.get("TimeLimit.truncated", False))
            if masks is not None and not row.write_mask(masks[i], terminal):
                continue
            row.write(i, obs, next_obs, action, r, terminal)
            partition = self.success if self._is_success(r, terminal, info) else self.fail
            if self.bounds_all:
                self._make_room(partition)
            partition.insert(row.words, self.rng)
        self._update_pos()

    def _make_room(self, partition: Partition) -> None:
        """Forget a transition if the memory is full and the new one is going to be stored in this partition."""
        if self.size() < self.buffer_size or partition.holds(self.row.words):
            return
        other = self.fail if partition is self.success else self.success
        larger = partition if partition.size >= other.size else other
        larger.remove(int(self.rng.random() * larger.size))

    def set_sizes(self, n_success: int, n_fail: int) -> None:
        """
        Set the numbers of transitions, after a compiled loop has changed the arrays of the partitions.

        :param n_success: Number of successes
        :param n_fail: Number of failures
        """
        if (n_success, n_fail) != (self.success.size, self.fail.size):
            self.success.set_size(n_success)
            self.fail.set_size(n_fail)
            self._update_pos()

    def _update_pos(self) -> None:
        """Keep SB3's ``pos`` and ``full`` up to date."""
        self.pos = self.size()
        self.full = self.pos >= self.buffer_size if self.bounds_all else self.fail.full

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
        Draw several minibatches with replacement: the same draws as by calling :meth:`draw` for one after the other.

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
        :return: Tensors of shape ``(batch_size, ...)``, as SB3's buffers return them (``DictReplayBufferSamples`` for a
            Dict observation); ``dones`` is 1 where the episode ended, but not by a time limit
        :raises ValueError: If the memory is empty
        """
        return self._get_samples(self.draw(batch_size), env)

    def get_state(self) -> dict[str, Any]:
        """
        Return the state that :meth:`set_state` restores.

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

        :param state: The result of :meth:`get_state`
        :raises ValueError: If the arrays do not fit this buffer, which then stays unchanged
        """
        if missing := {"success", "fail", "rng"} - state.keys():
            raise ValueError(f"the state of the memory has no {', '.join(sorted(missing))}")
        rng = make_rng(0, "memory")
        with _errors_name("rng"):
            set_generator_state(rng, state["rng"])
        self._check_together(len(state["success"]), len(state["fail"]))
        with _errors_name("success partition"):
            success = self.success.holding(state["success"])
        with _errors_name("fail partition"):
            fail = self.fail.holding(state["fail"])
        self.success, self.fail, self.rng = success, fail, rng
        self._update_pos()

    def _check_together(self, n_success: int, n_fail: int) -> None:
        if self.bounds_all and n_success + n_fail > self.buffer_size:
            raise ValueError(
                f"there are {n_success + n_fail} transitions, and buffer_size={self.buffer_size} bounds them: "
                "give a larger buffer_size, or success_capacity=math.inf to bound failures only, as in version 1"
            )

    def check_valid(self) -> None:
        """
        Check the consistency of the memory.

        :raises ValueError: If a partition contradicts itself; the message says which and how
        """
        with _errors_name("success partition"):
            self.success.check_valid()
        with _errors_name("fail partition"):
            self.fail.check_valid()
        self._check_together(self.success.size, self.fail.size)

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None) -> ReplayBufferSamples:
        rows = self._rows(batch_inds)
        obs = self._normalize_obs(self.row.observations(rows), env)
        next_obs = self._normalize_obs(self.row.observations(rows, "next_"), env)
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
            masks = self.to_torch(unpack_masks(rows["next_action_masks"], self.row.n_actions))
            return MaskableReplayBufferSamples(*tensors[:5], masks)  # type: ignore[call-arg,return-value]
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


class LatestTransitionBuffer(SuccessFailReplayBuffer):
    """
    The lecture's ``store_and_replay=False``: a memory of the last step only.

    With several environments, samples are drawn from their last transitions.
    """

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Replace the last step of all environments by a new one; see :meth:`SuccessFailReplayBuffer.add`."""
        before = self.get_state() if self.use_masking else None
        self.reset()
        super().add(*args, **kwargs)
        if before is not None and self.size() == 0:  # the step had no known mask
            self.set_state(before)
