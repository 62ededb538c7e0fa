"""The lecture's network with a quantile head, and the policies of sb3-contrib's QR-DQN."""

from typing import Any

import torch as th
from gymnasium import spaces
from sb3_contrib.qrdqn.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, QRDQNPolicy, QuantileNetwork
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.common.masks import MaskablePolicyMixin
from sb3_lecture_dqn.common.torch_layers import LectureNetwork, hidden_widths

__all__ = ["CnnPolicy", "LectureQuantileNetwork", "LectureQuantilePolicy", "MlpPolicy", "MultiInputPolicy"]


class LectureQuantileNetwork(QuantileNetwork):
    """
    The lecture's network with ``n_quantiles`` outputs per action instead of one.

    :param observation_space: Observation space, as for :class:`LectureNetwork`
    :param action_space: ``Discrete`` action space
    :param n_quantiles: Number of quantiles of the return
    :param hidden_dim: Width of the last hidden layer
    """

    def __init__(
        self,
        observation_space: spaces.Discrete,
        action_space: spaces.Discrete,
        n_quantiles: int = 200,
        hidden_dim: int = 32,
    ) -> None:
        # Skip the constructor of QuantileNetwork, which builds a perceptron on flattened features.
        BasePolicy.__init__(self, observation_space, action_space)
        self.n_quantiles = n_quantiles
        self.hidden_dim = hidden_dim
        outputs = spaces.Discrete(n_quantiles * int(action_space.n))
        self.quantile_net = LectureNetwork(observation_space, outputs, hidden_dim)  # type: ignore[assignment]

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        Compute the quantiles of the return.

        :param obs: Observations of shape ``(batch, ...)``
        :return: float32 of shape ``(batch, n_quantiles, n_actions)``
        """
        outputs: th.Tensor = self.quantile_net(obs)
        return outputs.view(-1, self.n_quantiles, int(self.action_space.n))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "n_quantiles": self.n_quantiles,
            "hidden_dim": self.hidden_dim,
        }


class LectureQuantilePolicy(MaskablePolicyMixin, QRDQNPolicy):
    """
    Policy with the lecture's network and a quantile head, :class:`LectureQuantileNetwork`.

    It also works with sb3-contrib's own ``QRDQN``: ``QRDQN(LectureQuantilePolicy, "Taxi-v3")``.

    :param observation_space: Observation space, as for :class:`LectureNetwork`
    :param action_space: ``Discrete`` action space
    :param lr_schedule: Learning rate schedule (could be constant)
    :param n_quantiles: Number of quantiles of the return
    :param hidden_dim: Width of the last hidden layer; the embedding and the first hidden layer are twice as wide
    :param optimizer_class: The optimizer to use, ``th.optim.Adam`` by default as in sb3-contrib
    :param optimizer_kwargs: Additional keyword arguments, excluding the learning rate, to pass to the optimizer
    :raises ValueError: If the observation space is not supported, or ``n_quantiles`` or ``hidden_dim`` is below 1
    """

    def __init__(
        self,
        observation_space: spaces.Discrete,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        n_quantiles: int = 200,
        hidden_dim: int = 32,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_number("n_quantiles", n_quantiles, 1, integer=True)
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            n_quantiles,
            net_arch=hidden_widths(hidden_dim),
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    @property
    def hidden_dim(self) -> int:
        """Width of the last hidden layer."""
        return self.net_arch[-1]

    def make_quantile_net(self) -> QuantileNetwork:
        """
        Make a quantile network.

        :return: The network, with newly initialized weights, on the policy's device

        """
        network = LectureQuantileNetwork(
            self.observation_space,  # type: ignore[arg-type]
            self.action_space,  # type: ignore[arg-type]
            self.n_quantiles,
            self.hidden_dim,
        )
        return network.to(self.device)

    def action_values(self, obs: PyTorchObs) -> th.Tensor:
        """See :meth:`MaskablePolicyMixin.action_values`."""
        quantiles: th.Tensor = self.quantile_net(obs)
        return quantiles.mean(dim=1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "n_quantiles": self.n_quantiles,
            "hidden_dim": self.hidden_dim,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }
