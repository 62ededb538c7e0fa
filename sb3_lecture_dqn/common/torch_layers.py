"""The lecture's networks: a Q-table, (state, action) in and one value out, state in and all action values out."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import QNetwork
from torch import nn


def hidden_widths(hidden_dim: int) -> list[int]:
    """
    The widths of the lecture's embedding and hidden layers.

    :param hidden_dim: h
    :return: ``[2h, 2h, h]``
    :raises ValueError: If h is not an integer of at least 1
    """
    if not isinstance(hidden_dim, int | np.integer) or isinstance(hidden_dim, bool) or hidden_dim < 1:
        raise ValueError(f"hidden_dim={hidden_dim!r} must be an integer of at least 1")
    return [2 * int(hidden_dim), 2 * int(hidden_dim), int(hidden_dim)]


class DiscreteQNetwork(QNetwork):
    """
    An action-value network that takes the number of a state as it is, without one-hot encoding.

    :param observation_space: ``Discrete`` observation space
    :param action_space: ``Discrete`` action space
    """

    observation_space: spaces.Discrete

    def __init__(self, observation_space: spaces.Discrete, action_space: spaces.Discrete) -> None:
        # Past QNetwork's own constructor, which builds a perceptron on flattened features.
        BasePolicy.__init__(self, observation_space, action_space)
        self.n_states = int(observation_space.n)
        self.n_actions = int(action_space.n)

    def state_index(self, obs: PyTorchObs) -> th.Tensor:
        """
        Rows of the embedding that observations stand for.

        :param obs: Observations, integers of shape ``(batch,)`` or ``(batch, 1)``
        :return: int64 of shape ``(batch,)``, in ``[0, n_states)``
        """
        assert isinstance(obs, th.Tensor)
        return obs.long().reshape(-1) - int(self.observation_space.start)

    @abstractmethod
    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        The action values.

        :param obs: Observations, integers of shape ``(batch,)`` or ``(batch, 1)``
        :return: float32 of shape ``(batch, n_actions)``
        """

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {"observation_space": self.observation_space, "action_space": self.action_space}


class LectureNetwork(DiscreteQNetwork):
    """
    The lecture's network: state in, all action values out.

    ``Embedding(n_states, 2h) → Linear(2h, 2h) → PReLU → Linear(2h, h) → PReLU → Linear(h, n_actions)`` with PyTorch's
    default initialisation. The names in its ``state_dict`` are those of the lecture's files.

    :param observation_space: ``Discrete`` observation space
    :param action_space: ``Discrete`` action space
    :param hidden_dim: h, the width of the last hidden layer
    """

    def __init__(self, observation_space: spaces.Discrete, action_space: spaces.Discrete, hidden_dim: int = 32) -> None:
        super().__init__(observation_space, action_space)
        self.hidden_dim = hidden_dim
        embedding, first, second = hidden_widths(hidden_dim)
        self.layers = nn.Sequential(
            nn.Embedding(self.n_states, embedding),
            nn.Linear(embedding, first),
            nn.PReLU(),
            nn.Linear(first, second),
            nn.PReLU(),
            nn.Linear(second, self.n_actions),
        )

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """See :meth:`DiscreteQNetwork.forward`."""
        values: th.Tensor = self.layers(self.state_index(obs))
        return values

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "hidden_dim": self.hidden_dim}


class TableNetwork(DiscreteQNetwork):
    """
    A Q-table: one free value for every state and action, all 0 at first.

    :param observation_space: ``Discrete`` observation space
    :param action_space: ``Discrete`` action space
    """

    def __init__(self, observation_space: spaces.Discrete, action_space: spaces.Discrete) -> None:
        super().__init__(observation_space, action_space)
        table = nn.Embedding(self.n_states, self.n_actions)
        nn.init.zeros_(table.weight)
        self.layers = nn.Sequential(table)

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """See :meth:`DiscreteQNetwork.forward`."""
        values: th.Tensor = self.layers(self.state_index(obs))
        return values


class ActionInNetwork(DiscreteQNetwork):
    """
    State and action in, one value out: the step from a table to a network that the lecture takes first.

    A state's and an action's embedding, side by side, go through the lecture's layers to one value. All action values
    of a state thus cost ``n_actions`` passes, which is why the next step is :class:`LectureNetwork`.

    :param observation_space: ``Discrete`` observation space
    :param action_space: ``Discrete`` action space
    :param hidden_dim: h, the width of the last hidden layer
    """

    def __init__(self, observation_space: spaces.Discrete, action_space: spaces.Discrete, hidden_dim: int = 32) -> None:
        super().__init__(observation_space, action_space)
        self.hidden_dim = hidden_dim
        embedding, first, second = hidden_widths(hidden_dim)
        self.state_embedding = nn.Embedding(self.n_states, embedding)
        self.action_embedding = nn.Embedding(self.n_actions, embedding)
        self.layers = nn.Sequential(
            nn.Linear(2 * embedding, first),
            nn.PReLU(),
            nn.Linear(first, second),
            nn.PReLU(),
            nn.Linear(second, 1),
        )

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """See :meth:`DiscreteQNetwork.forward`."""
        states = self.state_embedding(self.state_index(obs))
        pairs = th.cat(
            [
                states.unsqueeze(1).expand(-1, self.n_actions, -1),
                self.action_embedding.weight.expand(len(states), -1, -1),
            ],
            dim=2,
        )
        values: th.Tensor = self.layers(pairs)
        return values.squeeze(2)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "hidden_dim": self.hidden_dim}
