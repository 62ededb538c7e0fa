"""Embeddings of discrete observations, and the lecture's three networks: Q-table, (state, action) in, state in."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import QNetwork
from torch import nn

from sb3_lecture_dqn.common.checks import UnsupportedSpaceError, check_number
from sb3_lecture_dqn.common.state_numbers import StateNumbers


def hidden_widths(hidden_dim: int) -> list[int]:
    """
    Return the widths of the lecture's embedding and hidden layers.

    :param hidden_dim: h
    :return: ``[2h, 2h, h]``
    :raises ValueError: If h is not an integer of at least 1
    """
    check_number("hidden_dim", hidden_dim, 1, integer=True)
    return [2 * int(hidden_dim), 2 * int(hidden_dim), int(hidden_dim)]


class DiscreteEmbeddingExtractor(BaseFeaturesExtractor):
    """
    Features of any observation: an embedding for every discrete number, then all other parts, flattened.

    It works with the algorithms of SB3 and sb3-contrib::

        PPO("MlpPolicy", "Taxi-v3", policy_kwargs=dict(features_extractor_class=DiscreteEmbeddingExtractor))

    (``"MultiInputPolicy"`` for ``Dict`` observations). The discrete numbers are those of ``Discrete`` spaces, the
    elements of ``MultiDiscrete`` and the bits of ``MultiBinary``. Each number has its own rows in the table
    :attr:`embedding`, one for each of its values, in the order of the space. The features are all embeddings, then all
    ``Box`` parts, each in the order of the space.

    SB3 makes one-hot vectors of ``Discrete`` and ``MultiDiscrete`` observations before a features extractor sees them.
    This extractor finds the position of the 1 and looks up its row, so values and gradients are exactly those of an
    embedding of the number. (In a product of one-hot vector and table, an infinite or NaN row would spread to all
    others.) Integer tensors are taken as the numbers themselves.

    :param observation_space: ``Discrete``, ``MultiDiscrete`` of one dimension, ``MultiBinary``, ``Box``, or a ``Dict``
        of these; for ``Tuple`` and nested spaces see :class:`~sb3_lecture_dqn.TupleToDictWrapper`
    :param embedding_dim: Width of every embedding
    :raises ValueError: If the space is another, has numbers that do not start at 0, as SB3's one-hot vectors need, or
        if ``embedding_dim`` is below 1
    """

    def __init__(self, observation_space: spaces.Space[Any], embedding_dim: int = 32) -> None:
        check_number("embedding_dim", embedding_dim, 1, integer=True)
        parts: Mapping[Any, spaces.Space[Any]] = (
            observation_space.spaces if isinstance(observation_space, spaces.Dict) else {None: observation_space}
        )
        sizes = [size for part in parts.values() for size in _n_values(part)]
        rest = sum(get_flattened_obs_dim(part) for part in parts.values() if isinstance(part, spaces.Box))
        super().__init__(observation_space, len(sizes) * embedding_dim + rest)
        self.parts = parts
        self.embedding = nn.Embedding(sum(sizes), embedding_dim) if sizes else None
        self.register_buffer("_first_rows", th.tensor([0, *sizes[:-1]]).cumsum(0), persistent=False)

    _first_rows: th.Tensor

    def forward(self, observations: PyTorchObs) -> th.Tensor:
        """
        Compute the features.

        :param observations: The result of SB3's ``preprocess_obs``, or integers in place of one-hot vectors
        :return: float32 of shape ``(batch, features_dim)``
        """
        numbers, rest = [], []
        for key, space in self.parts.items():
            part = observations[key] if isinstance(observations, dict) else observations
            part = part.reshape(part.shape[0], -1)
            if isinstance(space, spaces.Box):
                rest.append(part)
            elif isinstance(space, spaces.MultiBinary) or not part.is_floating_point():
                numbers.append(part.long())
            else:
                numbers += [one_hot.argmax(dim=1, keepdim=True) for one_hot in part.split(_n_values(space), dim=1)]
        if self.embedding is not None:
            rows = th.cat(numbers, dim=1) + self._first_rows
            rest.insert(0, self.embedding(rows).flatten(1))
        return th.cat(rest, dim=1)

    def row_labels(self) -> list[str]:
        """
        Describe every row of :attr:`embedding`.

        :return: ``"part[element] = value"`` for every row; without the part if the observation has no named parts, and
            without the element if it is the only one
        """
        labels = []
        for key, space in self.parts.items():
            sizes = _n_values(space)
            for element, size in enumerate(sizes):
                name = ("" if key is None else str(key)) + (f"[{element}]" if len(sizes) > 1 else "")
                labels += [f"{name or 'observation'} = {value}" for value in range(size)]
        return labels


def check_counts_from_zero(space: spaces.Space[Any]) -> None:
    """
    Check that SB3 can make one-hot vectors of observations.

    :param space: Their space
    :raises UnsupportedSpaceError: If its numbers do not start at 0; the message says what to do
    """
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else [space]:
        if isinstance(part, spaces.Discrete | spaces.MultiDiscrete) and np.any(part.start != 0):
            raise UnsupportedSpaceError(
                f"observation space {part} starts at {part.start}: SB3's one-hot vectors count from 0, so shift its "
                "observations with gymnasium.wrappers.TransformObservation (LecturePolicy takes them unchanged)"
            )


def _check_one_dimension(space: spaces.Space[Any]) -> None:
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else [space]:
        if isinstance(part, spaces.MultiDiscrete) and part.nvec.ndim != 1:  # SB3 cannot tell one from a batch of them
            raise UnsupportedSpaceError(f"observation space {part} must have one dimension")


def _n_values(space: spaces.Space[Any]) -> list[int]:
    """Number of values of every discrete number of a space; an empty list for a ``Box``."""
    check_counts_from_zero(space)
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        sizes: list[int] = space.nvec.tolist()
        return sizes
    if isinstance(space, spaces.MultiBinary):
        return [2] * int(np.prod(space.shape))
    if isinstance(space, spaces.Box):
        return []
    raise UnsupportedSpaceError(
        f"observation space {space} must be Discrete, MultiDiscrete of one dimension, MultiBinary, Box or a Dict of "
        "these; sb3_lecture_dqn.TupleToDictWrapper makes such a Dict of Tuple and nested spaces"
    )


def _starting_at_zero(space: spaces.Space[Any]) -> spaces.Space[Any]:
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _starting_at_zero(part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec)
    return space


def state_embedding(observation_space: spaces.Space[Any], embedding_dim: int) -> tuple[nn.Module, int]:
    """
    Make the lecture's first layer: an embedding for ``Discrete`` observations, a feature extractor for all others.

    :param observation_space: Observation space
    :param embedding_dim: Width of every embedding
    :return: The layer, whose input is the result of :func:`to_numbers`, and the width of its output
    """
    if isinstance(observation_space, spaces.Discrete):
        return nn.Embedding(int(observation_space.n), embedding_dim), embedding_dim
    extractor = DiscreteEmbeddingExtractor(_starting_at_zero(observation_space), embedding_dim)
    return extractor, extractor.features_dim


def to_numbers(obs: PyTorchObs, space: spaces.Space[Any]) -> PyTorchObs:
    """
    Convert observations to the input of :func:`state_embedding`: discrete ones to numbers from 0, not one-hot vectors.

    :param obs: Observations of environments or replay buffers
    :param space: Their space
    :return: int64 of shape ``(batch,)`` for ``Discrete`` and ``(batch, k)`` for ``MultiDiscrete``, else the result of
        SB3's ``preprocess_obs`` (each part of a ``Dict``)
    """
    if isinstance(space, spaces.Dict):
        assert isinstance(obs, dict)
        return {key: to_numbers(obs[key], part) for key, part in space.spaces.items()}  # type: ignore[misc]
    assert isinstance(obs, th.Tensor)
    if isinstance(space, spaces.Discrete):
        return obs.long().reshape(-1) - int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return obs.long() - th.as_tensor(space.start, device=obs.device)
    return preprocess_obs(obs, space)


class EmbeddingQNetwork(QNetwork):
    """
    An action-value network that takes discrete observations as numbers, without one-hot encoding.

    :param observation_space: Observation space
    :param action_space: ``Discrete`` action space
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Discrete) -> None:
        # Not QNetwork's constructor, which makes a perceptron on flattened features.
        BasePolicy.__init__(self, observation_space, action_space)
        self.n_actions = int(action_space.n)

    @abstractmethod
    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        Compute the action values.

        :param obs: Observations of environments or replay buffers, with a leading dimension of ``batch`` (each part of
            a ``Dict``)
        :return: float32 of shape ``(batch, n_actions)``
        """

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {"observation_space": self.observation_space, "action_space": self.action_space}


class LectureNetwork(EmbeddingQNetwork):
    """
    The lecture's network: state in, all action values out.

    On ``Discrete`` observations it is
    ``Embedding(n_states, 2h) → Linear(2h, 2h) → PReLU → Linear(2h, h) → PReLU → Linear(h, n_actions)`` with PyTorch's
    default initialisation, and the names in its ``state_dict`` are those of the lecture's files. On all others
    :class:`DiscreteEmbeddingExtractor` with embeddings of width 2h replaces the first layer.

    :param observation_space: Observation space
    :param action_space: ``Discrete`` action space
    :param hidden_dim: h, the width of the last hidden layer
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Discrete, hidden_dim: int = 32
    ) -> None:
        super().__init__(observation_space, action_space)
        self.hidden_dim = hidden_dim
        embedding_dim, first, second = hidden_widths(hidden_dim)
        embedding, n_features = state_embedding(observation_space, embedding_dim)
        self.layers = nn.Sequential(
            embedding,
            nn.Linear(n_features, first),
            nn.PReLU(),
            nn.Linear(first, second),
            nn.PReLU(),
            nn.Linear(second, self.n_actions),
        )

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """See :meth:`EmbeddingQNetwork.forward`."""
        values: th.Tensor = self.layers(to_numbers(obs, self.observation_space))
        return values

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "hidden_dim": self.hidden_dim}


class TableNetwork(EmbeddingQNetwork):
    """
    A Q-table: one parameter for every state and action, all 0 at first.

    An observation of several parts has the row of its number, see :class:`StateNumbers`.

    :param observation_space: ``Discrete``, ``MultiDiscrete``, ``MultiBinary``, or a ``Dict`` of these
    :param action_space: ``Discrete`` action space
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Discrete) -> None:
        super().__init__(observation_space, action_space)
        self.numbers = StateNumbers(observation_space)
        _check_one_dimension(observation_space)
        table = nn.Embedding(self.numbers.n, self.n_actions)
        nn.init.zeros_(table.weight)
        self.layers = nn.Sequential(table)

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """See :meth:`EmbeddingQNetwork.forward`."""
        values: th.Tensor = self.layers(self.numbers.of_tensors(obs))
        return values


class ActionInNetwork(EmbeddingQNetwork):
    """
    State and action in, one value out: the lecture's first step from a table to a network.

    The embeddings of a state and an action, side by side, go through the lecture's layers to one value. So all action
    values of a state cost ``n_actions`` passes. :class:`LectureNetwork`, the next step, needs one.

    :param observation_space: Observation space, see :class:`LectureNetwork`
    :param action_space: ``Discrete`` action space
    :param hidden_dim: h, the width of the last hidden layer
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Discrete, hidden_dim: int = 32
    ) -> None:
        super().__init__(observation_space, action_space)
        self.hidden_dim = hidden_dim
        embedding_dim, first, second = hidden_widths(hidden_dim)
        self.state_embedding, n_features = state_embedding(observation_space, embedding_dim)
        self.action_embedding = nn.Embedding(self.n_actions, embedding_dim)
        self.layers = nn.Sequential(
            nn.Linear(n_features + embedding_dim, first),
            nn.PReLU(),
            nn.Linear(first, second),
            nn.PReLU(),
            nn.Linear(second, 1),
        )

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """See :meth:`EmbeddingQNetwork.forward`."""
        states = self.state_embedding(to_numbers(obs, self.observation_space))
        pairs = th.cat(
            [
                states.unsqueeze(1).expand(-1, self.n_actions, -1),
                self.action_embedding.weight.expand(states.shape[0], -1, -1),
            ],
            dim=2,
        )
        values: th.Tensor = self.layers(pairs)
        return values.squeeze(2)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "hidden_dim": self.hidden_dim}
