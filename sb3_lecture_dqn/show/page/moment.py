"""A moment of a training: all that a page shows of it, as raw numbers that are quick to take."""

import dataclasses
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.transition_row import DISCRETE_ROW, STATE_WORD, TransitionRow
from sb3_lecture_dqn.envs.tabular import TabularModel
from sb3_lecture_dqn.saving.weights import with_tensors

#: Why a moment is taken
WHY = ("start", "test", "target_copy", "checkpoint", "end", "diverged")
#: Transitions of which a page shows the update in numbers, at most
MAX_UPDATES = 5
#: Successes that a page lists, at most, and the rows of the memory that are searched for them
MAX_SUCCESSES, _SEARCHED = 20, 1000
#: Transitions over which the loss is computed, at most
MAX_IN_LOSS = 2048


@dataclasses.dataclass
class Moment:
    """
    The state of a training between two rollouts.

    Transitions are rows of a replay memory between ``Discrete`` states (see :data:`transition_row.DISCRETE_ROW`), as
    int64 words, with those of the mask of the next state after them.

    :param step: Environment steps so far
    :param episode: Episodes that have ended
    :param why: Why it was taken, some of :data:`WHY`
    :param epsilon: Probability of a random action
    :param online: Arrays of the online network by name
    :param target: Arrays of the target network by name; ``None`` if they are those of the online network
    :param optimizer: State of the optimiser, as its ``state_dict()``
    :param n_successes: Transitions held that ended well
    :param n_failures: Other transitions held
    :param held: Which states and actions the memory holds: bit ``s * A + a``, the lowest bit first, uint8 of shape
        ``(ceil(S * A / 8),)``; ``None`` without a memory
    :param successes: Some different successes held
    :param sample: Transitions over which the loss is computed: all that are held, or some
    :param drawn_rows: Transitions that were drawn last
    :param drawn: ``"last"`` if they are exactly those, ``"sample"`` if they are drawn for the page; ``None`` for none
    """

    step: int
    episode: int
    why: list[str]
    epsilon: float
    online: dict[str, np.ndarray]
    target: dict[str, np.ndarray] | None
    optimizer: dict[str, Any]
    n_successes: int
    n_failures: int
    held: np.ndarray | None
    successes: np.ndarray
    sample: np.ndarray
    drawn_rows: np.ndarray
    drawn: str | None

    def n_bytes(self) -> int:
        """
        Estimate how large moments of this model are.

        :return: Bytes of the networks (every second moment has the target's arrays too), of the optimiser with its
            moments, and of half of the largest sample of the memory
        """
        n_online = sum(tensor.nbytes for tensor in self.online.values())
        group = self.optimizer["param_groups"][0]
        n_moments = 2 if "betas" in group else 1 if group.get("momentum") or "alpha" in group else 0
        return int(n_online * (1.5 + n_moments) + MAX_IN_LOSS * 4 * self.sample.shape[1])


class Taker:
    """
    Takes moments of one training.

    :param model: A model of this package on a tabular environment
    :param table: The environment
    :param updates_before: Number of updates when the training began, before which nothing is known about draws
    """

    def __init__(self, model: Any, table: TabularModel, updates_before: int) -> None:
        self.model, self.table, self.updates_before = model, table, updates_before
        self._back = np.random.PCG64(0)  # takes draws back
        # The pairs held by each partition, and the number of rows that they stand for
        self._held: dict[int, tuple[np.ndarray, int]] = {}
        # Of each network, its arrays, and where they come from
        self._arrays: dict[th.nn.Module, tuple[dict[str, np.ndarray], list[tuple[dict[str, Any], str, th.Tensor, int]]]]
        self._arrays = {}

    def take(self, why: list[str], has_updated: bool = True) -> Moment:
        """
        Take a moment. The training does not change, and its generators draw nothing.

        :param why: See :class:`Moment`
        :param has_updated: Whether the updates of the last rollout are done, and nothing was stored since
        :return: Its numbers; arrays of the networks, of the optimiser and of the memory are not copied
        """
        model: Any = self.model
        online, target = (vars(model)[name] for name in model.network_names)
        memory = model.replay_buffer
        in_memory = (
            self._of_ours(memory, has_updated)
            if isinstance(memory, SuccessFailReplayBuffer)
            else self._of_others(memory)
        )
        online_state = self._arrays_of(online)
        target_state = None if target is online else self._arrays_of(target)
        if target_state is not None and all(map(np.array_equal, online_state.values(), target_state.values())):
            target_state = None
            if "test" in why and model._n_updates > 0:  # the target network was copied just now
                why = [*dict.fromkeys([*why, "target_copy"])]
        by_episode = model.exploration_decay is not None
        return Moment(
            step=int(model.num_timesteps),
            episode=int(model._episode_num),
            why=why,
            epsilon=float(model.epsilon(model._episode_num + 1) if by_episode else model.exploration_rate),
            online=online_state,
            target=target_state,
            optimizer=_state_of(vars(model)["policy"].optimizer),
            **in_memory,
        )

    def _rng(self) -> np.random.Generator:
        """Return a generator of this moment alone."""
        return np.random.default_rng(self.model.num_timesteps)

    def _arrays_of(self, network: th.nn.Module) -> dict[str, np.ndarray]:
        """Return the arrays of a network's ``state_dict``, in a tenth of its time."""
        arrays, places = self._arrays.get(network, ({}, []))
        if places and all(at[key] is tensor and tensor.data_ptr() == address for at, key, tensor, address in places):
            return arrays
        state = network.state_dict(keep_vars=True)
        arrays = {name: on_cpu(tensor).numpy() for name, tensor in state.items()}
        if all(tensor.device.type == "cpu" for tensor in state.values()):  # so that the arrays are no copies
            holders: list[dict[str, Any]] = [
                holder for module in network.modules() for holder in (module._parameters, module._buffers)
            ]
            found = {id(tensor): (holder, key, tensor) for holder in holders for key, tensor in holder.items()}
            places = [(*found[id(tensor)], tensor.data_ptr()) for tensor in state.values()]
            self._arrays[network] = arrays, places
        return arrays

    def _of_ours(self, memory: SuccessFailReplayBuffer, has_updated: bool) -> dict[str, Any]:
        success, fail = (part.words[: part.size] for part in (memory.success, memory.fail))
        n_success, n_fail = len(success), len(fail)
        positions, drawn = self._drawn(memory, n_success + n_fail, has_updated)
        removes = isinstance(memory, LatestTransitionBuffer) or (
            memory.bounds_all and memory.size() >= memory.buffer_size
        )
        held = self._held_by(memory.success, removes) | self._held_by(memory.fail, removes)
        if n_success + n_fail <= MAX_IN_LOSS:
            sample = np.concatenate([success, fail])
        else:
            chosen = self._rng().integers(n_success + n_fail, size=MAX_IN_LOSS)
            sample = _rows_at(success, fail, chosen)
        return {
            "n_successes": n_success,
            "n_failures": n_fail,
            "held": np.packbits(held, bitorder="little"),
            "successes": success[:MAX_SUCCESSES] if memory.success.index is not None else _different(success),
            "sample": sample,
            "drawn_rows": _rows_at(success, fail, positions),
            "drawn": drawn,
        }

    def _held_by(self, partition: Any, may_remove: bool) -> np.ndarray:
        """Return which pairs a partition holds. Rows that were only added are not looked at again."""
        n_pairs = self.table.n_states * self.table.n_actions
        only_grows = not may_remove and (partition.capacity is None or partition.size < partition.capacity)
        held, n_seen = self._held.get(id(partition), (np.zeros(n_pairs, np.bool_), 0))
        if not only_grows or partition.size < n_seen or partition.index is not None:
            held, n_seen = np.zeros(n_pairs, np.bool_), 0
        new = partition.words[n_seen : partition.size]
        held[new[:, STATE_WORD] * self.table.n_actions + new[:, 2]] = True
        self._held[id(partition)] = held, partition.size
        return held

    def _drawn(self, memory: SuccessFailReplayBuffer, n: int, has_updated: bool) -> tuple[np.ndarray, str | None]:
        """Return the positions of the transitions that were drawn last, and how they are known."""
        model: Any = self.model
        if n == 0 or model._n_updates == self.updates_before:
            return np.zeros(0, np.int64), None
        positions = (
            None
            if not has_updated
            else last_draws(memory, model.batch_size, self._updates_after_a_rollout(), self._back)
        )
        if positions is not None:
            return positions, "last"
        return self._rng().integers(n, size=min(MAX_UPDATES, n)), "sample"

    def _updates_after_a_rollout(self) -> int:
        """Return how many updates follow a rollout, at least."""
        model: Any = self.model
        if model.gradient_steps >= 0:
            return int(model.gradient_steps)
        return int(model.train_freq.frequency * model.n_envs) if model.train_freq.unit == TrainFrequencyUnit.STEP else 1

    def _of_others(self, memory: Any) -> dict[str, Any]:
        """Read a memory of SB3: a ring. Its draws come from a global generator, so they are not known."""
        n_pairs = self.table.n_states * self.table.n_actions
        rows = _rows_of_ring(memory) if type(memory) is ReplayBuffer else None
        if rows is None:
            empty = np.zeros((0, DISCRETE_ROW.itemsize // 8), np.int64)
            n_held = 0 if memory is None else memory.size()
            return {
                "n_successes": 0, "n_failures": n_held, "held": None, "successes": empty, "sample": empty,
                "drawn_rows": empty, "drawn": None,
            }  # fmt: skip
        held = np.zeros(n_pairs, np.bool_)
        held[rows[:, STATE_WORD] * self.table.n_actions + rows[:, 2]] = True
        good_ends = self.table.rewards[self.table.successes].astype(np.float32)
        floats = rows.view(np.float32)
        is_success = (floats[:, 7] == 1) & np.isin(floats[:, 6], good_ends)
        has_learned = self.model._n_updates > 0 and len(rows) > 0
        drawn = self._rng().integers(len(rows), size=MAX_UPDATES) if has_learned else np.zeros(0, np.int64)
        chosen = slice(None) if len(rows) <= MAX_IN_LOSS else self._rng().integers(len(rows), size=MAX_IN_LOSS)
        return {
            "n_successes": int(is_success.sum()),
            "n_failures": int(len(rows) - is_success.sum()),
            "held": np.packbits(held, bitorder="little"),
            "successes": _different(rows[is_success]),
            "sample": rows[chosen],
            "drawn_rows": rows[drawn],
            "drawn": "sample" if has_learned else None,
        }


def last_draws(
    memory: SuccessFailReplayBuffer, batch_size: int, n_updates: int, back: np.random.PCG64
) -> np.ndarray | None:
    """
    Find the transitions that were drawn last from a memory, if nothing was stored since.

    A draw takes one double of the memory's generator, and a minibatch with a share of successes takes one more. So the
    generator, set back by as many, draws the same again.

    :param memory: The memory, which stays unchanged
    :param batch_size: Number of transitions in a minibatch
    :param n_updates: Number of updates since the last transition was stored, at least
    :param back: Any generator, which is set back
    :return: Positions, see :meth:`SuccessFailReplayBuffer.draw_minibatches`, of the last :data:`MAX_UPDATES` updates if
        each has one transition, else of the end of the last minibatch; ``None`` if the generator cannot be set back
    """
    bits: Any = memory.rng.bit_generator
    if type(bits) is not np.random.PCG64 or n_updates == 0:
        return None
    n_batches = 1 if batch_size > 1 else min(MAX_UPDATES, n_updates)
    is_mixed = memory.success_fraction is not None and 0 < memory.success.size < memory.size()
    back.state = state = bits.state
    back.advance(-n_batches * (batch_size + is_mixed))
    training_rng, memory.rng = memory.rng, np.random.Generator(back)
    try:
        positions = memory.draw_minibatches(n_batches, batch_size)
    finally:
        memory.rng = training_rng
    if back.state["state"] != state["state"]:
        return None
    return positions.reshape(-1)[-MAX_UPDATES:]


def _state_of(optimizer: th.optim.Optimizer) -> dict[str, Any]:
    """Return the ``state_dict`` of an optimiser, on the CPU."""
    groups = optimizer.param_groups
    if optimizer.state or len(groups) > 1 or type(optimizer).state_dict is not th.optim.Optimizer.state_dict:
        return dict(with_tensors(optimizer.state_dict(), on_cpu))
    settings = {name: value for name, value in groups[0].items() if name != "params"}  # in a tenth of the time
    return {
        "state": {},
        "param_groups": [with_tensors(settings, on_cpu) | {"params": [*range(len(groups[0]["params"]))]}],
    }


def on_cpu(tensor: th.Tensor) -> th.Tensor:
    """
    Return a tensor without its gradient, on the CPU.

    :param tensor: The tensor
    :return: The same memory if it is there already
    """
    return tensor.detach().cpu()


def _rows_at(success: np.ndarray, fail: np.ndarray, positions: np.ndarray) -> np.ndarray:
    rows = np.empty((len(positions), fail.shape[1]), np.int64)
    in_success = positions < len(success)
    rows[in_success] = success[positions[in_success]]
    rows[~in_success] = fail[positions[~in_success] - len(success)]
    return rows


def _different(rows: np.ndarray) -> np.ndarray:
    """Return the first different rows."""
    first: dict[bytes, int] = {}
    for i, row in enumerate(rows[:_SEARCHED]):
        if first.setdefault(row.tobytes(), i) == i and len(first) == MAX_SUCCESSES:
            break
    return rows[[*first.values()]]


def _rows_of_ring(memory: Any) -> np.ndarray | None:
    """Return the transitions of a ``ReplayBuffer`` as rows; ``None`` if they have another form."""
    row = TransitionRow(memory.observation_space, memory.action_space, False)
    if memory.optimize_memory_usage or not row.is_discrete:
        return None
    n = memory.buffer_size if memory.full else memory.pos
    records = np.zeros(n * memory.n_envs, DISCRETE_ROW)
    for name in ("observations", "next_observations", "actions"):
        records[name] = getattr(memory, name)[:n].reshape(-1, 1)
    records["rewards"] = memory.rewards[:n].reshape(-1)
    records["dones"] = (memory.dones[:n] * (1 - memory.timeouts[:n])).reshape(-1)
    return records.view(np.int64).reshape(len(records), DISCRETE_ROW.itemsize // 8)
