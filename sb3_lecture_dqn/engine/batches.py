"""Minibatches for the kernels, read from replay memories without PyTorch where the memory is known."""

import sys
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import Observation
from sb3_lecture_dqn.common.masks import pack_masks
from sb3_lecture_dqn.engine.layout import Layout
from sb3_lecture_dqn.kernels.kinds import NUMBERS

#: Codes and numbers of observations and of next observations, actions, rewards, discounts, and words of the valid next
#: actions, as the kernels read them
Batches = tuple[np.ndarray, ...]


class _Fields(NamedTuple):
    """Where a row of a memory has what, see :func:`kernels.memories.read_rows`."""

    fields: np.ndarray
    places: np.ndarray
    starts: np.ndarray


class BatchReader:
    """
    Draws minibatches from the memory of a model, with the draws that ``replay_buffer.sample`` makes.

    :param model: The model; another reader is needed if its memory is replaced
    :param layout: How observations go into its network
    """

    def __init__(self, model: Any, layout: Layout) -> None:
        self.model, self.layout = model, layout
        memory = model.replay_buffer
        self._fields = _fields_of(memory, layout) if isinstance(memory, SuccessFailReplayBuffer) else None

    def draw(self, n: int, batch_size: int) -> Batches:
        """
        Draw minibatches.

        :param n: Number of minibatches
        :param batch_size: Number of transitions in each
        :return: Arrays of ``n * batch_size`` transitions, the minibatches one after the other
        """
        model, layout, normalize = self.model, self.layout, self.model._vec_normalize_env
        memory, gamma = model.replay_buffer, float(model.gamma)
        if isinstance(memory, SuccessFailReplayBuffer):
            positions = memory.draw_minibatches(n, batch_size).reshape(-1)
            if self._fields is not None and normalize is None:
                return _read_rows(memory, layout, self._fields, gamma, positions)
            return _of_our_memory(memory, layout, gamma, positions, normalize)
        if type(memory) in (ReplayBuffer, DictReplayBuffer):
            return _of_stock_memory(memory, layout, gamma, n, batch_size, normalize)
        parts = [_of_samples(memory.sample(batch_size, env=normalize), layout, gamma) for _ in range(n)]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))


def _fields_of(memory: SuccessFailReplayBuffer, layout: Layout) -> _Fields | None:
    """Describe the rows of a memory; ``None`` if a part of them is not whole words of float32 or int64."""
    in_row = memory.row.dtype.fields
    assert in_row is not None
    offsets = {name: int(found[1]) for name, found in in_row.items()}
    fields = []
    starts = np.zeros(layout.n_codes, np.int64)
    for part in layout.parts:
        name = "observations" if part.key is None else f"observations/{part.key}"
        is_number = part.kind == NUMBERS
        n = part.sizes[0] if is_number else len(part.sizes)
        if in_row[name][0].base != (np.float32 if is_number else np.int64):
            return None
        fields.append([is_number, part.first, n, offsets[name], offsets[f"next_{name}"]])
        if part.starts is not None:
            starts[part.first : part.first + n] = part.starts
            if np.abs(part.starts).max() >= 2**30:  # only half of each number is read
                return None
    table = np.array(fields, np.int64).reshape(-1, 5)
    mask = offsets["next_action_masks"] if memory.use_masking else 0
    places = np.array([offsets["actions"], offsets["rewards"], offsets["dones"], mask], np.int64)
    is_whole = not ((table[:, 3:] % 4).any() or (places % 4).any()) and in_row["actions"][0].base == np.int64
    if sys.byteorder != "little" or not is_whole or memory.row.dtype.itemsize % 8:
        return None
    table[:, 3:] //= 4
    return _Fields(table, places // 4, starts)


def _of_our_memory(
    memory: SuccessFailReplayBuffer, layout: Layout, gamma: float, positions: np.ndarray, normalize: VecNormalize | None
) -> Batches:
    rows, row = memory._rows(positions), memory.row
    masks = rows["next_action_masks"] if memory.use_masking else None
    observations, next_observations = (
        memory._normalize_obs(row.observations(rows, prefix), normalize) for prefix in ("", "next_")
    )
    rewards = memory._normalize_reward(rows["rewards"], normalize)
    discounts = (1 - rows["dones"]) * np.float32(gamma)
    return _batches(layout, observations, next_observations, rows["actions"], rewards, discounts, masks)


def _read_rows(
    memory: SuccessFailReplayBuffer, layout: Layout, where: _Fields, gamma: float, positions: np.ndarray
) -> Batches:
    """Read transitions of float32 numbers and int64 codes in one call, in a fraction of the time."""
    from sb3_lecture_dqn.kernels.memories import read_rows  # here, since numba takes half a second

    n, (fields, places, starts), success, fail = len(positions), where, memory.success, memory.fail
    n_mask_words = (fail.words.shape[1] * 2 - places[3]) // 2 if memory.use_masking else 0
    batch = (
        np.empty((n, layout.n_codes), np.int64), np.empty((n, layout.n_numbers), np.float32),
        np.empty((n, layout.n_codes), np.int64), np.empty((n, layout.n_numbers), np.float32),
        np.empty(n, np.int64), np.empty(n, np.float32), np.empty(n, np.float32), np.empty((n, n_mask_words), np.int64),
    )  # fmt: skip
    both = [(partition.words.view(np.int32), partition.floats) for partition in (success, fail)]
    read_rows(*both, success.size, positions, fields, places, gamma, starts, batch)
    return layout.joined(batch[0]), batch[1], layout.joined(batch[2]), *batch[3:]


def _of_stock_memory(
    memory: Any, layout: Layout, gamma: float, n: int, batch_size: int, normalize: VecNormalize | None
) -> Batches:
    """Read transitions as SB3's buffers do, with their draws from NumPy's global generator."""
    randint, size, optimized = np.random.randint, memory.buffer_size, memory.optimize_memory_usage
    rows, envs = np.empty((n, batch_size), np.int64), np.empty((n, batch_size), np.int64)
    for i in range(n):
        if optimized and memory.full:
            rows[i] = (randint(1, size, size=batch_size) + memory.pos) % size
        else:
            rows[i] = randint(0, size if memory.full else memory.pos, size=batch_size)
        envs[i] = randint(0, high=memory.n_envs, size=(batch_size,))
    at = rows.reshape(-1), envs.reshape(-1)
    part, is_plain = layout.only_part, normalize is None and not optimized
    if is_plain and part is not None and memory.observations.dtype == part.dtype:
        return _read_in_place(memory, layout, gamma, *at)
    if optimized:
        next_observations = memory.observations[(at[0] + 1) % size, at[1]]
    else:
        next_observations = _taken(memory.next_observations, at)
    done = memory.dones[at] * (1 - memory.timeouts[at])
    discounts = (1 - done) * np.float32(gamma)
    observations = memory._normalize_obs(_taken(memory.observations, at), normalize)
    next_observations = memory._normalize_obs(next_observations, normalize)
    rewards = memory._normalize_reward(memory.rewards[at], normalize)
    return _batches(layout, observations, next_observations, memory.actions[at], rewards, discounts, None)


def _read_in_place(memory: Any, layout: Layout, gamma: float, rows: np.ndarray, envs: np.ndarray) -> Batches:
    """Read transitions between observations of one part in one call, in a third of the time."""
    from sb3_lecture_dqn.kernels.memories import read_transitions  # here, since numba takes half a second

    n, shape, part = len(rows), (memory.buffer_size, memory.n_envs, -1), layout.only_part
    assert part is not None
    found, following = np.empty((n, part.length), part.dtype), np.empty((n, part.length), part.dtype)
    actions, rewards, discounts = np.empty(n, np.int64), np.empty(n, np.float32), np.empty(n, np.float32)
    read_transitions(
        memory.observations.reshape(shape), memory.next_observations.reshape(shape), memory.actions, memory.rewards,
        memory.dones, memory.timeouts, rows, envs, gamma, found, following, actions, rewards, discounts,
    )  # fmt: skip
    nothing = np.empty((n, 0), np.int64)
    if part.dtype == np.int64:
        no_numbers = np.empty((n, 0), np.float32)
        return found, no_numbers, following, no_numbers, actions, rewards, discounts, nothing
    return nothing, found, nothing, following, actions, rewards, discounts, nothing


def _of_samples(samples: Any, layout: Layout, gamma: float) -> Batches:
    """Read a minibatch of tensors."""
    not_done = 1 - samples.dones.numpy().reshape(-1)
    discounts = getattr(samples, "discounts", None)
    discount = np.float32(gamma) if discounts is None else discounts.numpy().reshape(-1)
    masks = getattr(samples, "next_action_masks", None)
    words = None if masks is None else pack_masks(masks.numpy())
    observations, next_observations = _arrays(samples.observations), _arrays(samples.next_observations)
    actions, rewards = samples.actions.numpy(), samples.rewards.numpy()
    return _batches(layout, observations, next_observations, actions, rewards, not_done * discount, words)


def _taken(observations: Any, at: tuple[np.ndarray, np.ndarray]) -> Observation:
    if isinstance(observations, dict):
        return {key: part[at] for key, part in observations.items()}
    taken: np.ndarray = observations[at]
    return taken


def _arrays(observations: Any) -> Observation:
    if isinstance(observations, dict):
        return {key: part.numpy() for key, part in observations.items()}
    array: np.ndarray = observations.numpy()
    return array


def _batches(
    layout: Layout,
    observations: Observation,
    next_observations: Observation,
    actions: np.ndarray,
    rewards: np.ndarray,
    discounts: np.ndarray,
    masks: np.ndarray | None,
) -> Batches:
    n = len(rewards)
    return (
        *layout.encode(observations, n),
        *layout.encode(next_observations, n),
        actions.reshape(-1).astype(np.int64),
        rewards.reshape(-1).astype(np.float32),
        discounts.astype(np.float32),
        np.zeros((n, 0), np.int64) if masks is None else np.ascontiguousarray(masks),
    )
