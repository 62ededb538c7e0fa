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
from sb3_lecture_dqn.kernels.kinds import ADAM, SGD, STATE_IN


class CompiledEngine:
    """
    Engine that updates by the loops of :mod:`kernels`, in the memory of the model's PyTorch tensors.

    The parameters of each network become views of one flat array, and so do the moments of the optimiser. The loops
    work on these arrays. Therefore, code that reads or writes the tensors in place (``state_dict``,
    ``load_state_dict``, ``save``, ``predict``, another engine) sees the same numbers. :class:`changes.Watch` notices
    changes that are not made in place.

    :param model: A model for which :func:`known.why_not_compiled` returns ``None``
    """

    name = "numba"

    def __init__(self, model: Any) -> None:
        from sb3_lecture_dqn.kernels import updates as kernels  # imported here, since numba takes half a second

        self.model = model
        self.kernels = kernels
        self.start = int(model.observation_space.start)
        q_net, q_net_target = model._networks
        layout = layout_of(q_net)
        assert layout is not None
        self.layout = layout
        self.parameters = list(q_net.parameters())
        self.online = _flat(self.parameters)
        self.target = self.online if q_net_target is q_net else _flat(list(q_net_target.parameters()))
        #: Addresses of the memory that this engine holds
        self.addresses = {array.ctypes.data for array in (self.online, self.target)}
        self.gradient = np.zeros_like(self.online)
        self.moments: list[np.ndarray] = []
        self.steps = np.zeros(0, np.float32)
        options = self._options = model.policy.optimizer.param_groups[0]
        if isinstance(model.policy.optimizer, th.optim.Adam):
            self.optimizer = ADAM, *map(float, options["betas"]), float(options["eps"])
        else:
            self.optimizer = SGD, float(options["momentum"]), 0.0, 0.0
        self._plain = layout[0] == STATE_IN and self.optimizer == (SGD, 0.0, 0.0, 0.0)
        self.watch = Watch(model)

    def is_current(self, networks: bool = True) -> bool:
        """See :meth:`engine.choice.Engine.is_current`."""
        return self.watch.is_unchanged(networks)

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """See :meth:`engine.choice.Engine.train`."""
        if gradient_steps == 0:
            return math.nan
        model, kernels = self.model, self.kernels
        lr, gamma = float(self._options["lr"]), float(model.gamma)
        loss_kind = COMPILED_LOSSES[model.loss_function]
        rows = self._minibatches(gradient_steps, batch_size)
        if self._plain and batch_size == 1 and model.max_grad_norm is None:
            total, done = kernels.train_one_by_one(
                *rows, self.start, gamma, self.online, self.target, self.layout, loss_kind, bool(model.double_q), lr
            )
        else:
            if not self.moments:
                self._take_moments()
            total, done = kernels.train(
                *rows,
                self.start,
                gamma,
                (self.online, self.target, self.gradient, *self.moments),
                self.layout,
                loss_kind,
                bool(model.double_q),
                (self.optimizer[0], lr, *self.optimizer[1:]),
                math.inf if model.max_grad_norm is None else float(model.max_grad_norm),
                int(self.steps[0]) + 1 if len(self.steps) else 1,
            )
            self.steps += done
        if total == -1:
            raise IndexError(
                f"update {model._n_updates + done + 1}: a transition of the replay memory has an observation outside "
                f"{model.observation_space} or an action that is not below {self.layout[2]}"
            )
        if done < gradient_steps:
            raise loss_not_finite(model, total, done)
        return float(total / gradient_steps)

    def _take_moments(self) -> None:
        """Make the moments of the optimiser flat. Before its first step, initialise them as PyTorch would."""
        optimizer = self.model.policy.optimizer
        names = moment_names(optimizer)
        if isinstance(optimizer, th.optim.Adam):
            for parameter in self.parameters:
                optimizer.state[parameter].setdefault("step", th.tensor(0.0))
            self.steps = _flat([optimizer.state[parameter]["step"] for parameter in self.parameters])
        moments = [_flat_moment(optimizer, self.parameters, name) for name in names]
        self.moments = [*moments, *[np.zeros(0, np.float32)] * (2 - len(moments))]
        self.watch = Watch(self.model)

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """See :meth:`engine.choice.Engine.greedy_actions`."""
        if obs.dtype != np.int64 or obs.ndim != 1:  # convert observations as PyTorch would
            obs = obs.astype(np.int64).reshape(-1)
        if action_masks is not None:
            allowed_actions: np.ndarray = self.kernels.greedy_allowed_actions(
                self.online, self.layout, obs, self.start, action_masks
            )
            return allowed_actions
        actions: np.ndarray = self.kernels.greedy_actions(self.online, self.layout, obs, self.start)
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
