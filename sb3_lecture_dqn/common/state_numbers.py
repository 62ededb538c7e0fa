"""Numbers for the states of an observation space whose parts are all discrete."""

import math
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_lecture_dqn.common.checks import Observation, UnsupportedSpaceError

#: Most states of a space with several parts
MAX_STATES = 1_000_000


def discrete_parts(space: spaces.Space[Any]) -> list[tuple[int, int]] | None:
    """
    List the whole numbers that an observation is made of.

    :param space: Observation space
    :return: Number of values and first value of every number; ``None`` if a part of the space is not discrete
    """
    if isinstance(space, spaces.Discrete):
        return [(int(space.n), int(space.start))]
    if isinstance(space, spaces.MultiBinary):
        return [(2, 0)] * math.prod(space.shape)
    if isinstance(space, spaces.MultiDiscrete):
        starts = getattr(space, "start", np.zeros_like(space.nvec))
        return list(zip(space.nvec.ravel().tolist(), starts.ravel().tolist(), strict=True))
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return None
    children = [discrete_parts(child) for child in children_of(space).values()]
    return None if None in children else [part for child in children for part in child or []]


def children_of(space: Any) -> dict[Any, spaces.Space[Any]]:
    """
    Return the parts of a ``Tuple`` or ``Dict``.

    :param space: The space
    :return: The parts by their index or key in an observation
    """
    return dict(space.spaces) if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))


def n_states_of(space: spaces.Space[Any]) -> int | None:
    """
    Count the states of a space.

    :param space: Observation space
    :return: How many different observations there are; ``None`` if a part is not discrete
    """
    parts = discrete_parts(space)
    return None if parts is None else math.prod(size for size, _ in parts)


class StateNumbers:
    """
    Numbers the states of a space from 0 on. The last part counts fastest, as in ``np.ravel_multi_index``.

    :param space: ``Discrete``; or ``MultiDiscrete``, ``MultiBinary`` or a flat ``Dict`` of these, of at most
        ``MAX_STATES`` states
    :raises UnsupportedSpaceError: If the space is another
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.space = space
        #: Whether a state is one number already
        self.is_one = isinstance(space, spaces.Discrete)
        parts = discrete_parts(space)
        if parts is None:
            raise UnsupportedSpaceError(f"observation space {space} must have only discrete parts")
        #: Number of states
        self.n = math.prod(size for size, _ in parts)
        if not self.is_one and self.n > MAX_STATES:
            raise UnsupportedSpaceError(
                f"observation space {space} has {self.n:,} states, there may be {MAX_STATES:,} at most"
            )
        #: Number of values, first value and stride of each part, int64
        self.sizes, self.starts = np.array(parts, np.int64).reshape(-1, 2).T
        self.strides = self.n // np.cumprod(self.sizes) if self.n else self.sizes

    def of(self, obs: Observation) -> np.ndarray:
        """
        Number a batch of observations.

        :param obs: Observations
        :return: int64 of shape ``(n,)``
        :raises IndexError: If a part has a value outside the space
        """
        if self.is_one:
            numbers: np.ndarray = np.asarray(obs, np.int64) - self.starts[0]
            return numbers
        parts = _in_order(obs, self.space)
        columns = [np.reshape(part, (len(part), math.prod(np.shape(part)[1:]))) for part in parts]
        codes = np.concatenate(columns, axis=1) - self.starts
        if ((codes < 0) | (codes >= self.sizes)).any():
            raise IndexError(f"an observation is outside the observation space {self.space}: {obs}")
        joint: np.ndarray = codes.astype(np.int64) @ self.strides
        return joint

    def of_tensors(self, obs: PyTorchObs) -> th.Tensor:
        """
        Number a batch of observations.

        :param obs: Observations, tensors of any dtype
        :return: int64 of shape ``(n,)``
        :raises IndexError: If a part has a value outside the space
        """
        parts = _in_order(obs, self.space)
        codes = th.cat([part.reshape(len(part), -1).long() for part in parts], dim=1)
        starts, sizes, strides = (th.as_tensor(x, device=codes.device) for x in (self.starts, self.sizes, self.strides))
        codes = codes - starts
        if not self.is_one and bool(((codes < 0) | (codes >= sizes)).any()):
            raise IndexError(f"an observation is outside the observation space {self.space}: {obs}")
        return (codes * strides).sum(dim=1)


def _in_order(obs: Any, space: spaces.Space[Any]) -> list[Any]:
    """Return the parts of an observation in the order of the space."""
    return [obs[key] for key in space.spaces] if isinstance(space, spaces.Dict) else [obs]
