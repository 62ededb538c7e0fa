"""The PyTorch engine: updates by autograd, for any network, optimiser and memory. It is the reference for updates."""

import math
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.utils import polyak_update

from sb3_lecture_dqn.common.hindsight import sample
from sb3_lecture_dqn.common.masks import predict_greedily
from sb3_lecture_dqn.engine.divergence import loss_not_finite
from sb3_lecture_dqn.engine.known import why_not_compiled


class TorchEngine:
    """
    Engine that supports every model, by PyTorch's autograd. :class:`engine.choice.Engine` documents its methods.

    :param model: The model whose networks are trained; its settings are read at every update
    """

    name = "torch"
    was_in_version_1 = False

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def arithmetic(self) -> str:
        """See :attr:`engine.choice.Engine.arithmetic`. It names the kind of GPU, because each rounds otherwise."""
        device = self.model.device
        if device.type == "cpu":
            return "torch"
        return f"torch on {device.type}" + (f" ({th.cuda.get_device_name(device)})" if device.type == "cuda" else "")

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """See :meth:`engine.choice.Engine.train`."""
        self.model.policy.set_training_mode(True)
        return float(np.mean([self.update(batch_size, done) for done in range(gradient_steps)]))

    def update(self, batch_size: int, done: int = 0) -> float:
        """
        Draw a minibatch and do one step of the optimiser on its loss.

        :param batch_size: Number of transitions in the minibatch
        :param done: Number of updates that this call of :meth:`train` has finished, for the message
        :return: Loss before the step
        :raises DivergedError: If the loss is NaN or infinite
        """
        model = self.model
        optimizer = model.policy.optimizer
        loss = model.compute_loss(sample(model.replay_buffer, batch_size, model._vec_normalize_env))
        loss_value = float(loss.item())
        if not math.isfinite(loss_value):
            raise loss_not_finite(model, loss_value, done)
        optimizer.zero_grad()
        loss.backward()
        if model.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(model.policy.parameters(), model.max_grad_norm)
        optimizer.step()
        return loss_value

    def copy_target(self, tau: float) -> None:
        """See :meth:`engine.choice.Engine.copy_target`."""
        copy_target(self.model, tau)

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """See :meth:`engine.choice.Engine.greedy_actions`."""
        if action_masks is not None:
            return predict_greedily(self.model.policy, self.model._action_values, obs, action_masks)
        actions: np.ndarray = self.model.policy.predict(obs, deterministic=True)[0]
        return actions

    def is_current(self, networks: bool = True) -> bool:
        """See :meth:`engine.choice.Engine.is_current`."""
        model = self.model
        return model.engine == "torch" or (model.engine != "numba" and why_not_compiled(model) is not None)


def copy_target(model: Any, tau: float) -> None:
    """
    Move the target network of a model towards its online network, as SB3 does.

    :param model: The model
    :param tau: Share of the online network, in [0, 1]
    """
    online, target = model._networks
    polyak_update(online.parameters(), target.parameters(), tau)
