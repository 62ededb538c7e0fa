"""Policies with the lecture's networks, and the policies of SB3's DQN."""

from abc import abstractmethod
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import CnnPolicy, DQNPolicy, MlpPolicy, MultiInputPolicy

from sb3_lecture_dqn.common.checks import UnsupportedSpaceError
from sb3_lecture_dqn.common.masks import MaskablePolicyMixin
from sb3_lecture_dqn.common.state_numbers import MAX_STATES, n_states_of
from sb3_lecture_dqn.common.torch_layers import (
    ActionInNetwork,
    EmbeddingQNetwork,
    LectureNetwork,
    TableNetwork,
    hidden_widths,
)

__all__ = [
    "ActionInPolicy",
    "CnnPolicy",
    "EmbeddingPolicy",
    "LecturePolicy",
    "MlpPolicy",
    "MultiInputPolicy",
    "TablePolicy",
]


class EmbeddingPolicy(MaskablePolicyMixin, DQNPolicy):
    """
    Base class of this module's policies: networks without a features extractor, and SGD as the default optimizer.

    :param observation_space: Observation space
    :param action_space: ``Discrete`` action space
    :param lr_schedule: Learning rate schedule (could be constant)
    :param net_arch: Widths of the embedding and the hidden layers
    :param optimizer_class: The optimizer to use, ``th.optim.SGD`` by default as in the lecture
    :param optimizer_kwargs: Additional keyword arguments, excluding the learning rate, to pass to the optimizer
    """

    action_space: spaces.Discrete
    net_arch: list[int]

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int],
        optimizer_class: type[th.optim.Optimizer] = th.optim.SGD,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=net_arch,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    @abstractmethod
    def make_q_net(self) -> EmbeddingQNetwork:
        """
        Make a Q-network.

        :return: The network, with newly initialized weights, on the policy's device
        """

    def action_values(self, obs: PyTorchObs) -> th.Tensor:
        """See :meth:`MaskablePolicyMixin.action_values`."""
        values: th.Tensor = self.q_net(obs)
        return values

    def set_training_mode(self, mode: bool) -> None:
        """
        Put the network in training or evaluation mode.

        :param mode: Whether it is training
        """
        # SB3 calls this before every rollout, and a walk through all modules takes longer than a training step.
        if mode != self.training:
            super().set_training_mode(mode)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }


class TablePolicy(EmbeddingPolicy):
    """
    Policy with a Q-table, :class:`TableNetwork`.

    :param observation_space: ``Discrete``, ``MultiDiscrete``, ``MultiBinary``, or a ``Dict`` of these, with at most
        ``MAX_STATES`` states
    :param action_space: ``Discrete`` action space
    :param lr_schedule: Learning rate schedule (could be constant)
    :param optimizer_class: The optimizer to use, ``th.optim.SGD`` by default as in the lecture
    :param optimizer_kwargs: Additional keyword arguments, excluding the learning rate, to pass to the optimizer
    :raises ValueError: If a part of the observations is not discrete, or there are more states
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        optimizer_class: type[th.optim.Optimizer] = th.optim.SGD,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        n_states = n_states_of(observation_space)
        if n_states is None or (n_states > MAX_STATES and not isinstance(observation_space, spaces.Discrete)):
            raise UnsupportedSpaceError(
                f"TablePolicy needs a Discrete observation space, or discrete parts with at most {MAX_STATES:,} states "
                f"together, not {observation_space}; LecturePolicy takes any"
            )
        super().__init__(observation_space, action_space, lr_schedule, [], optimizer_class, optimizer_kwargs)

    def make_q_net(self) -> TableNetwork:
        """See :meth:`EmbeddingPolicy.make_q_net`."""
        return TableNetwork(self.observation_space, self.action_space).to(self.device)


class LecturePolicy(EmbeddingPolicy):
    """
    Policy with the lecture's network, :class:`LectureNetwork`.

    It also works with SB3's own ``DQN``: ``DQN(LecturePolicy, "Taxi-v3")``.

    :param observation_space: ``Discrete``, one-dimensional ``MultiDiscrete``, ``MultiBinary``, ``Box``, or a ``Dict``
        of these; see :class:`LectureNetwork`
    :param action_space: ``Discrete`` action space
    :param lr_schedule: Learning rate schedule (could be constant)
    :param hidden_dim: Width of the last hidden layer; every embedding and the first hidden layer are twice as wide
    :param optimizer_class: The optimizer to use, ``th.optim.SGD`` by default as in the lecture
    :param optimizer_kwargs: Additional keyword arguments, excluding the learning rate, to pass to the optimizer
    :raises ValueError: If the observation space is not supported or ``hidden_dim`` is below 1
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        hidden_dim: int = 32,
        optimizer_class: type[th.optim.Optimizer] = th.optim.SGD,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        net_arch = hidden_widths(hidden_dim)
        super().__init__(observation_space, action_space, lr_schedule, net_arch, optimizer_class, optimizer_kwargs)

    @property
    def hidden_dim(self) -> int:
        """Width of the last hidden layer."""
        return self.net_arch[-1]

    def make_q_net(self) -> EmbeddingQNetwork:
        """See :meth:`EmbeddingPolicy.make_q_net`."""
        return LectureNetwork(self.observation_space, self.action_space, self.hidden_dim).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "hidden_dim": self.hidden_dim}


class ActionInPolicy(LecturePolicy):
    """
    Policy with a network that takes a state and an action and returns one value, :class:`ActionInNetwork`.

    Its arguments are those of :class:`LecturePolicy`.

    """

    def make_q_net(self) -> ActionInNetwork:
        """See :meth:`EmbeddingPolicy.make_q_net`."""
        return ActionInNetwork(self.observation_space, self.action_space, self.hidden_dim).to(self.device)
