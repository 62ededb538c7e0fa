"""The compiled engine: gradient updates by compiled loops that work in the memory of PyTorch's tensors."""

import math
from typing import Any

import numpy as np
import torch as th

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.masks import pack_masks
from sb3_lecture_dqn.common.transition_row import DISCRETE_ROW
from sb3_lecture_dqn.engine.batches import BatchReader
from sb3_lecture_dqn.engine.changes import Watch
from sb3_lecture_dqn.engine.divergence import loss_not_finite
from sb3_lecture_dqn.engine.known import COMPILED_LOSSES, compiled_optimizer, counts_steps, is_flat, moment_names
from sb3_lecture_dqn.engine.layout import Layout
from sb3_lecture_dqn.engine.torch_engine import copy_target
from sb3_lecture_dqn.kernels.kinds import ADAM, ARITHMETIC, SGD

#: Largest table of the target's action values that is kept, in numbers
_MAX_KEPT = 2**24
_NOTHING, _NO_MASKS = np.zeros(0, np.float32), np.zeros((64, 0), np.int64)
_N_DISCRETE_WORDS = DISCRETE_ROW.itemsize // 8


class CompiledEngine:
    """
    Engine that updates by the loops of :mod:`kernels`, in the memory of the model's PyTorch tensors.

    The parameters of each network become views of one flat array, and so do the moments of the optimiser. The loops
    work on these arrays. Therefore, code that reads or writes the tensors in place (``state_dict``,
    ``load_state_dict``, ``save``, ``predict``, another engine) sees the same numbers. :class:`changes.Watch` notices
    changes that are not made in place.

    The action values of the target network are kept for every state until the target changes.

    :param model: A model for which :func:`known.why_not_compiled` returns ``None``
    """

    name = "numba"

    def __init__(self, model: Any) -> None:
        from sb3_lecture_dqn.kernels import compiling, networks, updates  # here, since numba takes half a second

        self.model = model
        self._fuses = compiling.fuses()
        self.networks, self.updates = networks, updates
        q_net, q_net_target = model._networks
        self.layout = Layout(q_net)
        self._reader = BatchReader(model, self.layout)
        self.net = net = self.layout.net
        self.parameters = list(q_net.parameters())
        self.online = _flat(self.parameters)
        self.target = self.online if q_net_target is q_net else _flat(list(q_net_target.parameters()))
        #: Addresses of the memory that this engine holds
        self.addresses = {array.ctypes.data for array in (self.online, self.target)}
        n_states, n_outputs = int(net[networks.N_STATES]), self.layout.n_actions * self.layout.n_quantiles
        #: Whether the target network has memory of its own
        self.is_target_apart = not np.may_share_memory(self.online, self.target)
        keeps = self.is_target_apart and 0 < n_states * n_outputs <= _MAX_KEPT
        # `kept` has the target's outputs for state s if known[s] equals the last number of `known`.
        self.known = np.zeros(n_states + 1 if keeps else 0, np.int64)
        self.kept = np.zeros(n_states * n_outputs if keeps else 0, np.float32)
        self.forget_target()
        self.gradient = np.zeros_like(self.online)
        self.moments: list[np.ndarray] = []
        self.steps = np.zeros(0, np.float32)
        self._options = model.policy.optimizer.param_groups[0]
        self.optimizer = compiled_optimizer(model.policy.optimizer)
        self._is_plain_sgd = self.layout.is_plain and self.optimizer == (SGD, 0.0, 0.0, 0.0, 0.0)
        self.one = np.zeros((6, room_for_one(net)), np.float32)
        self._work: dict[tuple[int, int], Any] = {}
        self._was_plain = False
        # Whether code outside may have changed the target network since it was compared with this copy; and the last
        # number of `known` then, which changes whenever the target is copied
        self._looks_at_target, self._target_then, self._known_then = False, _NOTHING, -1
        self.watch = Watch(model)

    @property
    def arithmetic(self) -> str:
        """See :class:`engine.choice.Engine`."""
        return f"numba {ARITHMETIC}{' fma' if self._fuses else ''}"

    @property
    def was_in_version_1(self) -> bool:
        """See :class:`engine.choice.Engine`."""
        kind, *_, decay = self.optimizer
        return self.layout.embeds_state and self.layout.is_plain and kind in (SGD, ADAM) and decay == 0

    def is_current(self, networks: bool = True) -> bool:
        """See :meth:`engine.choice.Engine.is_current`."""
        self._looks_at_target = self._looks_at_target or networks
        return self.watch.is_unchanged(networks)

    def forget_target(self) -> None:
        """Forget the target's action values, because the target has changed or may have."""
        self.known[-1:] += 1

    def follow_target(self) -> None:
        """Forget the target's action values if code outside has changed the target. Call this before every kernel."""
        if not self._looks_at_target or not len(self.known):
            return
        self._looks_at_target = False
        if self._was_plain:  # the few values that an update needs are computed again sooner than networks are compared
            self.forget_target()
        elif self._known_then != self.known[-1] or self._target_then.tobytes() != self.target.tobytes():
            self._target_then = self.target.copy()
            self.forget_target()
            self._known_then = int(self.known[-1])

    def copy_target(self, tau: float) -> None:
        """See :meth:`engine.choice.Engine.copy_target`."""
        if self.is_target_apart:
            self.updates.copy_target(self.online, self.target, float(tau))
        else:
            copy_target(self.model, tau)
        self.forget_target()

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """See :meth:`engine.choice.Engine.train`."""
        if gradient_steps == 0:
            return math.nan
        model, memory = self.model, self.model.replay_buffer
        if self._reads_rows:
            positions = memory.draw_minibatches(gradient_steps, batch_size)
            success, fail = memory.success, memory.fail
            rows = success.words, success.floats, fail.words, fail.floats, success.size, positions
            arguments = self.arguments(batch_size, fail.words.shape[1] - _N_DISCRETE_WORDS)
            self.follow_target()
            starts = self.layout.parts[0].starts
            start = 0 if starts is None else int(starts[0])
            total, done = self.updates.train(*rows, start, float(model.gamma), *arguments)
        else:
            batches = self._reader.draw(gradient_steps, batch_size)
            networks, net, known, kept, _, *others = self.arguments(batch_size, batches[-1].shape[1])
            self.follow_target()
            total, done = self.updates.train_batches(batches, batch_size, networks, net, known, kept, *others)
        return self.mean_loss(total, done, gradient_steps)

    @property
    def _reads_rows(self) -> bool:
        """Whether the kernels read the rows of the memory: those of transitions between ``Discrete`` states."""
        model, memory = self.model, self.model.replay_buffer
        return (
            isinstance(memory, SuccessFailReplayBuffer)
            and model._vec_normalize_env is None
            and memory.row.is_discrete
            and memory.use_masking == (memory.fail.words.shape[1] > _N_DISCRETE_WORDS)
        )

    def arguments(self, batch_size: int, n_mask_words: int, trains: bool = True) -> tuple[Any, ...]:
        """
        Collect what the kernels need for updates, as the model's settings are now.

        :param batch_size: Number of transitions in a minibatch
        :param n_mask_words: Number of words of a mask in a transition
        :param trains: Whether there may be an update. Before the first, the optimiser has no state, as in PyTorch
        :return: The arguments of :func:`kernels.updates.train` after ``gamma``
        """
        model = self.model
        norm = model.max_grad_norm
        reads_states = self.layout.embeds_state if self._reads_rows else not self.layout.is_table
        plain = self._is_plain_sgd and batch_size == 1 and norm is None and reads_states
        if plain != self._was_plain:  # the two sum in different orders, so the last bits of kept values differ
            self._was_plain = plain
            self.forget_target()
        if trains and not plain and not self.moments:
            self._take_moments()
        batch, work = (None, None) if plain else self._work_arrays(batch_size, n_mask_words)
        return (
            (self.online, self.target, self.gradient, *(self.moments or (_NOTHING, _NOTHING))),
            self.net,
            self.known,
            self.kept,
            batch,
            COMPILED_LOSSES[model.loss_function],
            bool(model.double_q),
            (self.optimizer[0], float(self._options["lr"]), *self.optimizer[1:]),
            math.inf if norm is None else float(norm),
            self.steps,
            work,
            True if plain else None,
            self.one,
        )

    def mean_loss(self, total: float, done: int, wanted: int) -> float:
        """
        Check the result of :func:`kernels.updates.train`.

        :param total: Sum of the losses
        :param done: Number of updates done
        :param wanted: Number of updates that were to be done; fewer are done if one fails
        :return: Mean loss
        :raises DivergedError: If the sum is NaN or infinite
        :raises IndexError: If a transition does not fit the network
        """
        model = self.model
        if total == -1:
            raise IndexError(
                f"update {model._n_updates + done + 1}: a transition of the replay memory has an observation outside "
                f"{model.observation_space} or an action that is not below {self.layout.n_actions}"
            )
        if done < wanted:
            raise loss_not_finite(model, total, done)
        return float(total / wanted)

    def _work_arrays(self, batch_size: int, n_mask_words: int) -> Any:
        """Return the work arrays for minibatches of a size, which are kept until it changes."""
        key = batch_size, n_mask_words
        if key not in self._work:
            self._work = {key: work_arrays(self.net, batch_size, n_mask_words)}
        return self._work[key]

    def _take_moments(self) -> None:
        """Make the moments of the optimiser flat. Before its first step, initialise them as PyTorch would."""
        optimizer = self.model.policy.optimizer
        names = moment_names(optimizer)
        if counts_steps(optimizer):
            for parameter in self.parameters:
                optimizer.state[parameter].setdefault("step", th.tensor(0.0))
            self.steps = _flat([optimizer.state[parameter]["step"] for parameter in self.parameters])
        moments = [_flat_moment(optimizer, self.parameters, name) for name in names]
        self.moments = [*moments, *[_NOTHING] * (2 - len(moments))]
        self.watch = Watch(self.model)

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """See :meth:`engine.choice.Engine.greedy_actions`."""
        n = len(next(iter(obs.values()))) if isinstance(obs, dict) else len(obs)
        codes, numbers = self.layout.encode(obs, n)
        masks = _NO_MASKS[:n] if action_masks is None and n <= len(_NO_MASKS) else _packed(action_masks, n)
        actions = np.empty(n, np.int64)
        outside = self.networks.greedy_actions(self.online, self.net, codes, numbers, masks, self.one, actions)
        if outside >= 0:
            raise IndexError(f"observation {codes[outside]} is outside {self.model.observation_space}")
        return actions


def room_for_one(net: np.ndarray) -> int:
    """
    Compute the length of a work array for one input.

    :param net: See :mod:`kernels.networks`
    :return: Length that has room for the outputs of all layers, for an input, and for all action values
    """
    from sb3_lecture_dqn.kernels import networks as at

    n_in = int(net[at.FIRST + at.N_IN]) if net[at.N_LAYERS] else 0
    return max(int(net[at.N_LAYERS] * net[at.STRIDE]), n_in, 2 * int(net[at.WIDTH]), int(net[at.N_ACTIONS])) + 8


def work_arrays(net: np.ndarray, batch_size: int, n_mask_words: int) -> Any:
    """
    Make the arrays for minibatches.

    :param net: See :mod:`kernels.networks`
    :param batch_size: Number of transitions in a minibatch
    :param n_mask_words: Number of words of a mask in a transition
    :return: ``batch``, for transitions between observations of one code, and ``work``, see :mod:`kernels.minibatches`
    """
    from sb3_lecture_dqn.kernels import networks as at

    _, n_states, n_actions, n_quantiles, action_row, width, n_layers, stride, n_parts, *_ = map(int, net)
    takes_action, n_in = action_row >= 0, int(net[at.FIRST + at.N_IN])
    columns = (batch_size * (n_actions if takes_action else 1) + 15) & ~15
    x_row, n_outputs = (n_in + 7) & ~7, n_actions * n_quantiles
    n_rows = int(net[at.FIRST + at.WEIGHTS]) // max(width, 1) if n_layers else n_states
    codes, numbers = (np.zeros((batch_size, 1), np.int64) for _ in range(2)), np.zeros((batch_size, 0), np.float32)
    of_states, of_next = codes
    actions, masks = np.zeros(batch_size, np.int64), np.zeros((batch_size, n_mask_words), np.int64)
    rewards, discounts = (np.zeros(batch_size, np.float32) for _ in range(2))
    batch = of_states, numbers, of_next, numbers, actions, rewards, discounts, masks
    big = np.zeros((7, max(n_layers * stride, x_row, 1) * columns), np.float32)
    ints = np.zeros((2, max(batch_size * (n_parts + 1), n_rows)), np.int64)
    q = np.zeros((3, max(batch_size * n_outputs, n_actions)), np.float32)
    values, slopes = (np.zeros(batch_size * n_quantiles, np.float32) for _ in range(2))
    return batch, (big, ints, q, values, slopes, np.zeros((batch_size, 1), np.int64), np.zeros(0, np.int64))


def _packed(action_masks: np.ndarray | None, n: int) -> np.ndarray:
    return np.zeros((n, 0), np.int64) if action_masks is None else pack_masks(action_masks)


def _flat(tensors: list[Any]) -> np.ndarray:
    """
    Make tensors views of one flat array, in their order. Do not change tensors that are such views already.

    :param tensors: float32 tensors on the CPU; the objects stay the same
    :return: float32 array that shares the memory of the tensors
    """
    sizes = [tensor.numel() for tensor in tensors]
    if not is_flat(tensors):
        flat = th.cat([tensor.detach().reshape(-1) for tensor in tensors])
        for tensor, part in zip(tensors, flat.split(sizes), strict=True):
            tensor.data = part.view(tensor.shape)
    first = tensors[0].detach()
    storage = first.untyped_storage()
    return th.empty(0, dtype=th.float32).set_(storage, first.storage_offset(), (sum(sizes),), (1,)).numpy()


def _flat_moment(optimizer: th.optim.Optimizer, parameters: list[th.nn.Parameter], name: str) -> np.ndarray:
    """Return the moments of one name as a flat array. Initialise missing ones with zeros, as PyTorch would."""
    for parameter in parameters:
        if optimizer.state[parameter].get(name) is None:
            optimizer.state[parameter][name] = th.zeros_like(parameter)
    return _flat([optimizer.state[parameter][name] for parameter in parameters])
