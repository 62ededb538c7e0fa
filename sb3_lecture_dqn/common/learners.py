"""Gradient updates of a DQN: the reference in plain PyTorch."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch as th
from torch.nn import functional as F

if TYPE_CHECKING:
    from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN

LOSSES = {"mse": F.mse_loss, "huber": F.smooth_l1_loss}


class TorchLearner:
    """
    Updates by PyTorch's autograd: any network, any optimiser, any replay buffer of SB3. The specification of an update.

    :param model: The algorithm whose networks are trained; its settings are read anew for every update
    """

    def __init__(self, model: "LectureDQN") -> None:
        self.model = model

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """
        Do updates, each on a minibatch of its own.

        :param gradient_steps: Number of updates
        :param batch_size: Transitions in a minibatch
        :return: Mean loss
        :raises ValueError: If a loss is NaN or infinite; the weights are then those before that update
        """
        return float(np.mean([self.update(batch_size) for _ in range(gradient_steps)]))

    def update(self, batch_size: int) -> float:
        """
        One step of the optimiser on ``loss(Q(s, a), y)`` with ``y = r + γ · max_a' Q_target(s', a')``, where the second
        term is left out for a terminal ``s'`` (Mnih et al. 2015).

        With ``double_q`` the online network chooses a' and the target network values it (van Hasselt et al. 2016).

        :param batch_size: Transitions in the minibatch
        :return: Loss before the step
        :raises ValueError: If the loss is NaN or infinite
        """
        model = self.model
        optimizer = model.policy.optimizer
        batch = model.replay_buffer.sample(batch_size, env=model._vec_normalize_env)  # type: ignore[union-attr]
        # n-step buffers of SB3 give gamma**n, each transition its own.
        discounts = model.gamma if batch.discounts is None else batch.discounts

        with th.no_grad():
            next_q_values = model.q_net_target(batch.next_observations)
            if model.double_q:
                next_actions = model.q_net(batch.next_observations).argmax(dim=1, keepdim=True)
                next_values = next_q_values.gather(1, next_actions)
            else:
                next_values = next_q_values.max(dim=1, keepdim=True).values
            targets = batch.rewards + (1 - batch.dones) * discounts * next_values

        values = model.q_net(batch.observations).gather(1, batch.actions.long())
        loss = LOSSES[model.loss](values, targets)
        if not math.isfinite(loss_value := loss.item()):
            raise ValueError(
                f"the loss of update {model._n_updates + 1} (environment step {model.num_timesteps}) is {loss_value}: "
                "lower learning_rate, or set max_grad_norm or loss='huber'"
            )
        optimizer.zero_grad()
        loss.backward()
        if model.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(model.policy.parameters(), model.max_grad_norm)
        optimizer.step()
        return loss_value
