"""The compiled engine: gradient updates by compiled loops that work in the memory of PyTorch's tensors."""

import math
from typing import Any

import numpy as np
import torch as th

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.masks import pack_masks
from sb3_lecture_dqn.common.transition_row import DISCRETE_ROW
from sb3_lecture_dqn.engine.changes import Watch
from sb3_lecture_dqn.engine.divergence import loss_not_finite
from sb3_lecture_dqn.engine.known import COMPILED_LOSSES, is_flat, layout_of, moment_names
from sb3_lecture_dqn.engine.torch_engine import copy_target
from sb3_lecture_dqn.kernels.kinds import ACTION_IN, ADAM, ARITHMETIC, SGD

#: Largest table of the target's action values that is kept, in numbers
_MAX_KEPT = 2**24
_NOTHING = np.zeros(0, np.float32)
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
        self.start = int(model.observation_space.start)
        q_net, q_net_target = model._networks
        net = layout_of(q_net)
        assert net is not None
        self.net = net
        self.parameters = list(q_net.parameters())
        self.online = _flat(self.parameters)
        self.target = self.online if q_net_target is q_net else _flat(list(q_net_target.parameters()))
        #: Addresses of the memory that this engine holds
        self.addresses = {array.ctypes.data for array in (self.online, self.target)}
        n_states, n_actions = int(net[1]), int(net[2])
        #: Whether the target network has memory of its own
        self.is_target_apart = not np.may_share_memory(self.online, self.target)
        keeps = self.is_target_apart and n_states * n_actions <= _MAX_KEPT
        # `kept` has the target's action values of state s if known[s] equals the last number of `known`.
        self.known = np.zeros(n_states + 1 if keeps else 0, np.int64)
        self.kept = np.zeros(n_states * n_actions if keeps else 0, np.float32)
        self.forget_target()
        self.gradient = np.zeros_like(self.online)
        self.moments: list[np.ndarray] = []
        self.steps = np.zeros(0, np.float32)
        options = self._options = model.policy.optimizer.param_groups[0]
        if isinstance(model.policy.optimizer, th.optim.Adam):
            self.optimizer = ADAM, *map(float, options["betas"]), float(options["eps"])
        else:
            self.optimizer = SGD, float(options["momentum"]), 0.0, 0.0
        self._is_plain_sgd = self.optimizer == (SGD, 0.0, 0.0, 0.0)
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
        rows = self._minibatches(gradient_steps, batch_size)
        arguments = self.arguments(batch_size, rows[0].shape[1] - _N_DISCRETE_WORDS)
        self.follow_target()
        total, done = self.updates.train(*rows, self.start, float(self.model.gamma), *arguments)
        return self.mean_loss(total, done, gradient_steps)

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
        plain = self._is_plain_sgd and batch_size == 1 and norm is None
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
                f"{model.observation_space} or an action that is not below {self.net[2]}"
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
        if isinstance(optimizer, th.optim.Adam):
            for parameter in self.parameters:
                optimizer.state[parameter].setdefault("step", th.tensor(0.0))
            self.steps = _flat([optimizer.state[parameter]["step"] for parameter in self.parameters])
        moments = [_flat_moment(optimizer, self.parameters, name) for name in names]
        self.moments = [*moments, *[_NOTHING] * (2 - len(moments))]
        self.watch = Watch(self.model)

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """See :meth:`engine.choice.Engine.greedy_actions`."""
        if obs.dtype != np.int64 or obs.ndim != 1:  # convert observations as PyTorch would
            obs = obs.astype(np.int64).reshape(-1)
        masks = np.zeros((len(obs), 0), np.int64) if action_masks is None else pack_masks(action_masks)
        actions = np.empty(len(obs), np.int64)
        outside = self.networks.greedy_actions(self.online, self.net, obs, self.start, masks, self.one, actions)
        if outside >= 0:
            raise IndexError(f"observation {obs[outside]} is outside the observation space")
        return actions

    def _minibatches(self, n: int, batch_size: int) -> tuple[Any, ...]:
        """
        Draw minibatches.

        :param n: Number of minibatches
        :param batch_size: Number of transitions in each
        :return: First arguments of the kernel ``train``: the rows of two partitions, as int64 and as float32 words, the
            size of the first partition, and the drawn positions, int64 of shape ``(n, batch_size)``
        """
        model, buffer = self.model, self.model.replay_buffer
        memory = buffer if isinstance(buffer, SuccessFailReplayBuffer) and not model._vec_normalize_env else None
        if memory is not None and memory.row.is_discrete and memory.use_masking == (memory.fail.words.shape[1] > 4):
            success, fail = memory.success, memory.fail
            positions = memory.draw_minibatches(n, batch_size)
            return success.words, success.floats, fail.words, fail.floats, success.size, positions
        assert buffer is not None
        rows, masks = np.zeros((n, batch_size), DISCRETE_ROW), []
        for row in rows:
            batch = buffer.sample(batch_size, env=model._vec_normalize_env)
            row["observations"] = batch.observations.numpy()
            row["next_observations"] = batch.next_observations.numpy()
            row["actions"] = batch.actions.numpy()
            row["rewards"] = batch.rewards.numpy()[:, 0]
            row["dones"] = batch.dones.numpy()[:, 0]
            if batch.discounts is not None and model.gamma > 0:
                # The loop multiplies the next value by (1 - done) * gamma; choose "done" so that this is the discount.
                row["dones"] = 1 - (1 - row["dones"]) * batch.discounts.numpy()[:, 0] / model.gamma
            if (next_masks := getattr(batch, "next_action_masks", None)) is not None:
                masks.append(pack_masks(next_masks.numpy()))
        words = rows.view(np.int64).reshape(-1, 4)
        if masks:  # masks are the last words of a row, as in SuccessFailReplayBuffer
            words = np.hstack([words, np.concatenate(masks)])
        floats = words.view(np.float32)
        return words, floats, words, floats, len(words), np.arange(len(words)).reshape(n, batch_size)


def room_for_one(net: np.ndarray) -> int:
    """
    Compute the length of a work array for one input.

    :param net: See :mod:`kernels.networks`
    :return: Length that has room for the outputs of all layers, for an input, and for all action values
    """
    _, _, n_actions, width, n_layers, stride, *_ = map(int, net)
    return max(n_layers * stride, 2 * width, n_actions) + 8


def work_arrays(net: np.ndarray, batch_size: int, n_mask_words: int) -> Any:
    """
    Make the work arrays for minibatches.

    :param net: See :mod:`kernels.networks`
    :param batch_size: Number of transitions in a minibatch
    :param n_mask_words: Number of words of a mask in a transition
    :return: ``batch`` and ``work`` of :func:`kernels.updates.train`
    """
    kind, n_states, n_actions, _, n_layers, stride, _, n_in, *_ = map(int, net)
    n_inputs = batch_size * (n_actions if kind == ACTION_IN else 1)
    columns, x_row = (n_inputs + 15) & ~15, (n_in + 7) & ~7
    integers = [np.zeros(batch_size, np.int64) for _ in range(3)]
    floats = [np.zeros(batch_size, np.float32) for _ in range(3)]
    masks, values = np.zeros((batch_size, n_mask_words), np.int64), np.zeros(batch_size, np.float32)
    big = np.zeros((7, max(n_layers * stride, x_row, 1) * columns), np.float32)
    ints = np.zeros((4, max(2 * batch_size, n_inputs, n_states + n_actions)), np.int64)
    q = np.zeros((2, batch_size * n_actions), np.float32)
    return (*integers, *floats, masks, values), (big, ints, q)


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
