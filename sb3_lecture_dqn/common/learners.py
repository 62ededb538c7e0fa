"""Gradient updates of a DQN by two engines with one meaning: plain PyTorch, and compiled loops on the same memory."""

import math
from typing import Any, Protocol

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import PyTorchObs, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch.nn import functional as F

from sb3_lecture_dqn.common.buffers import DISCRETE_ROW, LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.duplicates import why_no_numba
from sb3_lecture_dqn.common.hindsight import sample
from sb3_lecture_dqn.common.maskable import best_allowed, pack_masks, predict_greedily
from sb3_lecture_dqn.common.torch_layers import ActionInNetwork, LectureNetwork, TableNetwork, hidden_widths

LOSSES = {"mse": F.mse_loss, "huber": F.smooth_l1_loss}
ENGINES = ("auto", "torch", "numba")


class Model(Protocol):
    """What a learner reads of the algorithm whose networks it trains."""

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
        :raises ValueError: If a loss is NaN or infinite; the weights are then those before that update
        """

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """
        The actions of highest value.

        :param obs: Observations with a leading dimension of ``n_envs``
        :param action_masks: Which actions are valid, bool of shape ``(n_envs, n_actions)``; ``None``: all
        :return: int64 of shape ``(n_envs,)``
        """

    def is_current(self) -> bool:
        """
        Whether the model still has the parts that this learner was made for.

        :return: ``False`` where a network's memory, the optimiser or its state was replaced, not only changed
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

    def is_current(self) -> bool:
        """See :meth:`Learner.is_current`."""
        return True

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
        :raises ValueError: If the loss is NaN or infinite
        """
        model = self.model
        optimizer = model.policy.optimizer
        batch = sample(model.replay_buffer, batch_size, model._vec_normalize_env)
        loss = self.loss(batch)
        if not math.isfinite(loss_value := loss.item()):
            raise _not_finite(model, loss_value, done)
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
    ``save``, ``predict``, another engine) sees the same numbers.

    :param model: A model of which :func:`why_not_compiled` has nothing to say
    """

    engine = "numba"

    def __init__(self, model: Model) -> None:
        from sb3_lecture_dqn.common import kernels  # numba takes half a second to import

        self.model = model
        self.kernels = kernels
        self.start = int(model.observation_space.start)
        q_net, q_net_target = self._networks = model._networks
        online = list(q_net.parameters())
        layout = _layout(q_net)
        assert layout is not None
        self.layout = layout
        self.online = _flat(online)
        self.target = _flat(list(q_net_target.parameters())) if model.double_dqn else self.online
        self.gradient = np.zeros_like(self.online)
        self.moments = [np.zeros(0, np.float32)] * 2
        self.steps: list[np.ndarray] = []
        options = self._options = model.policy.optimizer.param_groups[0]
        if isinstance(model.policy.optimizer, th.optim.Adam):
            self.optimizer = kernels.ADAM, *map(float, options["betas"]), float(options["eps"])
            names = ["exp_avg", "exp_avg_sq"]
            states = [model.policy.optimizer.state[parameter] for parameter in online]
            for state in states:
                state.setdefault("step", th.tensor(0.0))
            self.steps = [state["step"].numpy() for state in states]
        else:
            self.optimizer = kernels.SGD, float(options["momentum"]), 0.0, 0.0
            names = ["momentum_buffer"] if options["momentum"] else []
        for i, name in enumerate(names):
            self.moments[i] = _flat_moment(model.policy.optimizer, online, name)
        self._plain = layout[0] == kernels.STATE_IN and self.optimizer == (kernels.SGD, 0.0, 0.0, 0.0)
        self._torch_optimizer, self._state = model.policy.optimizer, model.policy.optimizer.state
        self._parameters = online[0], next(q_net_target.parameters())
        self._addresses = self._parameters[0].data_ptr(), self._parameters[1].data_ptr()

    def is_current(self) -> bool:
        """See :meth:`Learner.is_current`."""
        model = self.model
        optimizer = model.policy.optimizer
        online, target = self._parameters
        return (
            optimizer is self._torch_optimizer
            and optimizer.state is self._state
            and model._networks == self._networks
            and (online.data_ptr(), target.data_ptr()) == self._addresses
        )

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """See :meth:`Learner.train`."""
        model, kernels = self.model, self.kernels
        lr = float(self._options["lr"])
        loss_kind = kernels.MSE if model.loss == "mse" else kernels.HUBER  # type: ignore[attr-defined]
        rows = self._minibatches(gradient_steps, batch_size)
        if self._plain and batch_size == 1 and model.max_grad_norm is None:
            total, done = kernels.train_one_by_one(
                *rows, self.start, model.gamma, self.online, self.target, self.layout, loss_kind, model.double_q, lr
            )
        else:
            total, done = kernels.train(
                *rows,
                self.start,
                model.gamma,
                (self.online, self.target, self.gradient, *self.moments),
                self.layout,
                loss_kind,
                model.double_q,
                (self.optimizer[0], lr, *self.optimizer[1:]),
                float(model.max_grad_norm or 0),
                int(self.steps[0]) + 1 if self.steps else 1,
            )
        for step in self.steps:
            step += done
        if done < gradient_steps:
            raise _not_finite(model, total, done)
        return float(total / gradient_steps) if gradient_steps else math.nan

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """See :meth:`Learner.greedy_actions`."""
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
        if isinstance(buffer, SuccessFailReplayBuffer) and buffer.is_discrete and not model._vec_normalize_env:
            success, fail = buffer.success, buffer.fail
            positions = buffer.draw_minibatches(n, batch_size)
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


def make_learner(model: Model, torch_learner_class: type[TorchLearner], announce: bool = False) -> Learner:
    """
    The learner that ``model.engine`` asks for.

    :param model: A model that is set up but for its learner
    :param torch_learner_class: The reference for its updates
    :param announce: Whether to print which one it is
    :return: The compiled one, or the reference
    :raises ValueError: If the compiled one is asked for and does not know the model's configuration
    """
    reason = "engine='torch'" if model.engine == "torch" else why_not_compiled(model)
    if reason is not None and model.engine == "numba":
        raise ValueError(f"engine='numba' cannot be used: {reason}; use engine='auto' or 'torch'")
    if announce:
        print("Using the numba engine" if reason is None else f"Using the torch engine ({reason})")
    return CompiledLearner(model) if reason is None else torch_learner_class(model)


def why_not_compiled(model: Model) -> str | None:
    """
    Why the compiled learner cannot train a model.

    :param model: A model that is set up but for its learner
    :return: The reason, ``None`` if it can
    """
    if (problem := why_no_numba()) is not None:
        return problem
    q_net = model._networks[0]
    if _layout(q_net) is None:
        known = "LecturePolicy, TablePolicy and ActionInPolicy of LectureDQN on Discrete observations"
        return f"it knows {known}, not a network of type {type(q_net).__name__} on {model.observation_space}"
    if model.device.type != "cpu":
        return f"it works on the cpu, not on device {model.device}"
    if any(parameter.dtype != th.float32 for parameter in q_net.parameters()):
        return "it knows float32 parameters only"
    optimizer = model.policy.optimizer
    if type(optimizer) not in (th.optim.SGD, th.optim.Adam):
        return f"it knows the optimisers SGD and Adam, not {type(optimizer).__name__}"
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if len(optimizer.param_groups) != 1 or [*map(id, parameters)] != [*map(id, q_net.parameters())]:
        return "it knows optimisers of all parameters of the network, in one group"
    if not all(parameter.requires_grad for parameter in parameters):
        return "it trains all parameters, and some do not require a gradient"
    for option in ("weight_decay", "dampening", "nesterov", "amsgrad", "maximize"):
        if optimizer.param_groups[0].get(option):
            return f"it does not know the optimiser's option {option}={optimizer.param_groups[0][option]}"
    buffer = model.replay_buffer
    own = isinstance(buffer, SuccessFailReplayBuffer)
    if not isinstance(buffer, ReplayBuffer) or (own and type(buffer) not in _KNOWN_BUFFERS):
        # Of others it takes what they sample; of these it reads the rows, and a subclass may sample in another way.
        return f"it does not know replay buffers of type {type(buffer).__name__}"
    return None


_KNOWN_BUFFERS = (SuccessFailReplayBuffer, LatestTransitionBuffer)


def _layout(network: Any) -> np.ndarray | None:
    """How the compiled loops see a network; ``None`` if they do not know it."""
    # Not isinstance: a subclass may compute something else.
    kinds: dict[type, int] = {TableNetwork: 0, LectureNetwork: 1, ActionInNetwork: 2}
    kind = kinds.get(type(network))
    if kind is None or [type(layer) for layer in network.layers] != _LAYERS[kind]:
        return None
    if not isinstance(network.observation_space, spaces.Discrete):
        return None
    if any(isinstance(layer, th.nn.PReLU) and layer.num_parameters != 1 for layer in network.layers):
        return None
    widths = [0, 0, 0] if kind == 0 else hidden_widths(network.hidden_dim)
    return np.array([kind, int(network.observation_space.n), network.n_actions, *widths])


_HIDDEN_LAYERS = [th.nn.Linear, th.nn.PReLU, th.nn.Linear, th.nn.PReLU, th.nn.Linear]
_LAYERS = [[th.nn.Embedding], [th.nn.Embedding, *_HIDDEN_LAYERS], _HIDDEN_LAYERS]


def _flat(tensors: list[Any]) -> np.ndarray:
    """
    Make tensors views of one flat array, in their order; they are left alone if they are that already.

    :param tensors: float32 tensors on the CPU; parameters stay the same objects
    :return: The array, sharing their memory
    """
    sizes = [tensor.numel() for tensor in tensors]
    starts = np.cumsum([0, *sizes])
    address = tensors[0].data_ptr()
    apart = any(tensor.data_ptr() != address + 4 * start for tensor, start in zip(tensors, starts, strict=False))
    # Tensors that were read from a file may lie end to end and still each have a storage of its own.
    if apart or tensors[0].untyped_storage().nbytes() < 4 * (tensors[0].storage_offset() + int(starts[-1])):
        flat = th.cat([tensor.detach().reshape(-1) for tensor in tensors])
        for tensor, part in zip(tensors, flat.split(sizes), strict=True):
            tensor.data = part.view(tensor.shape)
    storage = tensors[0].detach().untyped_storage()
    offset = tensors[0].storage_offset()
    return th.empty(0, dtype=th.float32).set_(storage, offset, (int(starts[-1]),), (1,)).numpy()


def _flat_moment(optimizer: th.optim.Optimizer, parameters: list[th.nn.Parameter], name: str) -> np.ndarray:
    """One kind of moment of an optimiser, flat; made as torch makes it at the first step where it is not there yet."""
    for parameter in parameters:
        if optimizer.state[parameter].get(name) is None:
            optimizer.state[parameter][name] = th.zeros_like(parameter)
    return _flat([optimizer.state[parameter][name] for parameter in parameters])


def _not_finite(model: Model, loss: float, done: int = 0) -> ValueError:
    return ValueError(
        f"the loss of update {model._n_updates + done + 1} (environment step {model.num_timesteps}) is {loss}: "
        "lower learning_rate, or set max_grad_norm or loss='huber'"
    )
