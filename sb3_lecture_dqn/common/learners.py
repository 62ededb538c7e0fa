"""Gradient updates of a DQN by two engines with one meaning: plain PyTorch, and compiled loops on the same memory."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np
import torch as th
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import PyTorchObs, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lecture_dqn.common.buffers import DISCRETE_ROW, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.changes import Watch
from sb3_lecture_dqn.common.compilable import LOSSES, is_flat, layout_of, moment_names, why_not_compiled
from sb3_lecture_dqn.common.divergence import loss_not_finite
from sb3_lecture_dqn.common.duplicates import why_no_numba
from sb3_lecture_dqn.common.hindsight import sample
from sb3_lecture_dqn.common.maskable import best_allowed, pack_masks, predict_greedily

ENGINES = ("auto", "torch", "numba")


class Model(Protocol):
    """What a learner reads of the algorithm whose networks it trains."""

    torch_learner_class: ClassVar[type["TorchLearner"]]
    policy: Any
    replay_buffer: ReplayBuffer | None
    observation_space: Any
    device: th.device
    gamma: float
    max_grad_norm: Any
    double_dqn: bool
    double_q: bool
    engine: str
    num_timesteps: int
    _n_updates: int
    _vec_normalize_env: VecNormalize | None

    @property
    def _networks(self) -> tuple[Any, Any]: ...

    def _action_values(self, obs: PyTorchObs) -> th.Tensor: ...


class Learner(Protocol):
    """Trains the networks of a model, and answers what they would do."""

    engine: str

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """
        Do updates, each on a minibatch of its own.

        :param gradient_steps: Number of updates
        :param batch_size: Transitions in a minibatch
        :return: Mean loss
        :raises DivergedError: If a loss is NaN or infinite; the weights are then those before that update
        """

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """
        The actions of highest value.

        :param obs: Observations with a leading dimension of ``n_envs``
        :param action_masks: Which actions are valid, bool of shape ``(n_envs, n_actions)``; ``None``: all
        :return: int64 of shape ``(n_envs,)``
        """

    def is_current(self, networks: bool = True) -> bool:
        """
        Whether this still is the learner that the model asks for, and what it was made for is as it was.

        :param networks: Whether the networks or their optimiser may have been changed
        :return: ``False`` where another is to be made
        """


class TorchLearner:
    """
    Updates by PyTorch's autograd: any network, any optimiser, any replay buffer of SB3. The specification of an update.

    :param model: The algorithm whose networks are trained; its settings are read anew for every update
    """

    engine = "torch"

    def __init__(self, model: Model) -> None:
        self.model = model

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """See :meth:`Learner.train`."""
        self.model.policy.set_training_mode(True)
        return float(np.mean([self.update(batch_size, done) for done in range(gradient_steps)]))

    def is_current(self, networks: bool = True) -> bool:
        """See :meth:`Learner.is_current`."""
        model = self.model
        if type(self) is not model.torch_learner_class:
            return False
        return model.engine == "torch" or (model.engine != "numba" and _why_not(model) is not None)

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """See :meth:`Learner.greedy_actions`."""
        if action_masks is not None:
            return predict_greedily(self.model.policy, self.model._action_values, obs, action_masks)
        actions: np.ndarray = self.model.policy.predict(obs, deterministic=True)[0]
        return actions

    def update(self, batch_size: int, done: int = 0) -> float:
        """
        One step of the optimiser on the :meth:`loss` of a minibatch.

        :param batch_size: Transitions in the minibatch
        :param done: Updates that this call of :meth:`train` has done before, for the message
        :return: Loss before the step
        :raises DivergedError: If the loss is NaN or infinite
        """
        model = self.model
        optimizer = model.policy.optimizer
        batch = sample(model.replay_buffer, batch_size, model._vec_normalize_env)
        loss = self.loss(batch)
        if not math.isfinite(loss_value := loss.item()):
            raise loss_not_finite(model, loss_value, done)
        optimizer.zero_grad()
        loss.backward()
        if model.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(model.policy.parameters(), model.max_grad_norm)
        optimizer.step()
        return loss_value

    def loss(self, batch: ReplayBufferSamples) -> th.Tensor:
        """
        ``loss(Q(s, a), y)`` with ``y = r + γ · max_a' Q_target(s', a')``, where the second term is left out for a
        terminal ``s'`` (Mnih et al. 2015).

        With ``double_q`` the online network chooses a' and the target network values it (van Hasselt et al. 2016). With
        masks, a' is one of the valid actions.

        :param batch: A minibatch
        :return: A scalar
        """
        online, target = self.model._networks
        with th.no_grad():
            next_q_values = target(batch.next_observations)
            choosing = online(batch.next_observations) if self.model.double_q else next_q_values
            next_values = next_q_values.gather(1, best_allowed(choosing, _masks(batch))[:, None])
            targets = batch.rewards + (1 - batch.dones) * self._discounts(batch) * next_values

        values = online(batch.observations).gather(1, batch.actions.long())
        return LOSSES[self.model.loss](values, targets)  # type: ignore[attr-defined]

    def _discounts(self, batch: ReplayBufferSamples) -> float | th.Tensor:
        # n-step buffers of SB3 give gamma**n, each transition its own.
        return self.model.gamma if batch.discounts is None else batch.discounts


class QuantileLearner(TorchLearner):
    """
    The same for QR-DQN (Dabney et al. 2018): the network gives quantiles of the return, and the value is their mean.

    :param model: The algorithm whose networks are trained; its settings are read anew for every update
    """

    def loss(self, batch: ReplayBufferSamples) -> th.Tensor:
        """
        The quantile Huber loss between the quantiles of ``Z(s, a)`` and ``r + γ · Z_target(s', a')``, where a' is the
        action of highest mean, with masks the valid one; as in sb3-contrib.

        :param batch: A minibatch
        :return: A scalar
        """
        online, target = self.model._networks
        with th.no_grad():
            next_quantiles = target(batch.next_observations)
            choosing = online(batch.next_observations) if self.model.double_q else next_quantiles
            next_actions = best_allowed(choosing.mean(dim=1), _masks(batch))[:, None]
            targets = batch.rewards + (1 - batch.dones) * self._discounts(batch) * _of(next_quantiles, next_actions)

        quantiles = _of(online(batch.observations), batch.actions.long())
        return quantile_huber_loss(quantiles, targets, sum_over_quantiles=True)


def _masks(batch: ReplayBufferSamples) -> th.Tensor | None:
    """Which actions are valid in the next states, ``None`` if the memory does not store it."""
    return getattr(batch, "next_action_masks", None)


def _of(quantiles: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """From (batch, n_quantiles, n_actions) those of one action each, shape (batch, n_quantiles)."""
    return quantiles.gather(2, actions[:, None].expand(-1, quantiles.shape[1], 1)).squeeze(2)


class CompiledLearner:
    """
    Updates by the loops of :mod:`kernels`, on the memory of the model's own PyTorch objects.

    The parameters of each network become views of one flat array, in which the loops work, and so do the moments of
    the optimiser. So whatever reads or writes the torch objects in place (``state_dict``, ``load_state_dict``,
    ``save``, ``predict``, another engine) sees the same numbers. What is not changed in place, :class:`changes.Watch`
    sees.

    :param model: A model of which :func:`compilable.why_not_compiled` has nothing to say
    """

    engine = "numba"

    def __init__(self, model: Model) -> None:
        from sb3_lecture_dqn.common import kernels  # numba takes half a second to import

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
        #: Where the memory is that this learner holds
        self.addresses = {array.ctypes.data for array in (self.online, self.target)}
        self.gradient = np.zeros_like(self.online)
        self.moments: list[np.ndarray] = []
        self.steps = np.zeros(0, np.float32)
        options = self._options = model.policy.optimizer.param_groups[0]
        if isinstance(model.policy.optimizer, th.optim.Adam):
            self.optimizer = kernels.ADAM, *map(float, options["betas"]), float(options["eps"])
        else:
            self.optimizer = kernels.SGD, float(options["momentum"]), 0.0, 0.0
        self._plain = layout[0] == kernels.STATE_IN and self.optimizer == (kernels.SGD, 0.0, 0.0, 0.0)
        self.watch = Watch(model)

    def is_current(self, networks: bool = True) -> bool:
        """See :meth:`Learner.is_current`."""
        return self.watch.is_unchanged(networks)

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """See :meth:`Learner.train`."""
        if gradient_steps == 0:
            return math.nan
        model, kernels = self.model, self.kernels
        lr, gamma = float(self._options["lr"]), float(model.gamma)
        loss_kind = kernels.MSE if model.loss == "mse" else kernels.HUBER  # type: ignore[attr-defined]
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
                f"update {model._n_updates + done + 1}: a transition of the replay memory has an observation or an "
                f"action that is not in {model.observation_space} or below {self.layout[2]}"
            )
        if done < gradient_steps:
            raise loss_not_finite(model, total, done)
        return float(total / gradient_steps)

    def _take_moments(self) -> None:
        """Make what the optimiser remembers flat, and before its first step as PyTorch makes it then."""
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
        """See :meth:`Learner.greedy_actions`."""
        if obs.dtype != np.int64 or obs.ndim != 1:  # what PyTorch makes of them
            obs = obs.astype(np.int64).reshape(-1)
        if action_masks is not None:
            allowed: np.ndarray = self.kernels.greedy_allowed_actions(
                self.online, self.layout, obs, self.start, action_masks
            )
            return allowed
        actions: np.ndarray = self.kernels.greedy_actions(self.online, self.layout, obs, self.start)
        return actions

    def _minibatches(self, n: int, batch_size: int) -> tuple[Any, ...]:
        """The rows of two partitions, the size of the first, and the positions drawn."""
        model, buffer = self.model, self.model.replay_buffer
        own = buffer if isinstance(buffer, SuccessFailReplayBuffer) and not model._vec_normalize_env else None
        if own is not None and own.is_discrete and own.use_masking == (own.fail.words.shape[1] > 4):
            success, fail = own.success, own.fail
            positions = own.draw_minibatches(n, batch_size)
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
                # The loop counts the next value by (1 - done) * gamma; here it has to be (1 - done) * discount.
                row["dones"] = 1 - (1 - row["dones"]) * batch.discounts.numpy()[:, 0] / model.gamma
            if (allowed := _masks(batch)) is not None:
                masks.append(pack_masks(allowed.numpy()))
        words = rows.view(np.int64).reshape(-1, 4)
        if masks:  # behind the rest of a row, as in the memory
            words = np.hstack([words, np.concatenate(masks)])
        floats = words.view(np.float32)
        return words, floats, words, floats, len(words), np.arange(len(words)).reshape(n, batch_size)


def make_learner(model: Model, say: Callable[[str], None] = lambda line: None) -> Learner:
    """
    The learner that ``model.engine`` asks for.

    :param model: A model that is set up but for its learner
    :param say: Told in one line which it is, and why not the compiled one
    :return: The compiled one, or the model's ``torch_learner_class``
    :raises ValueError: If the compiled one is asked for and does not know the model's configuration
    """
    reason = "engine='torch'" if model.engine == "torch" else _why_not(model)
    if reason is not None and model.engine == "numba":
        raise ValueError(f"engine='numba' cannot be used: {reason}; use engine='auto' or 'torch'")
    say("Using the numba engine" if reason is None else f"Using the torch engine ({reason})")
    return CompiledLearner(model) if reason is None else model.torch_learner_class(model)


def _why_not(model: Model) -> str | None:
    return why_not_compiled(model, model.torch_learner_class, TorchLearner) or why_no_numba()


def _flat(tensors: list[Any]) -> np.ndarray:
    """
    Make tensors views of one flat array, in their order; they are left alone if they are that already.

    :param tensors: float32 tensors on the CPU; parameters stay the same objects
    :return: The array, sharing their memory
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
    """One kind of moment of an optimiser, flat; made as torch makes it at the first step where it is not there yet."""
    for parameter in parameters:
        if optimizer.state[parameter].get(name) is None:
            optimizer.state[parameter][name] = th.zeros_like(parameter)
    return _flat([optimizer.state[parameter][name] for parameter in parameters])
