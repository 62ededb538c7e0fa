"""Observations as users have them: brought to the form that a model takes."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_lecture_dqn.common.checks import Observation


def as_model_takes(observation: Any, space: spaces.Space[Any]) -> Observation:
    """
    Bring what an environment observed to the form that a model was trained with.

    A model has seen the ``Tuple`` and nested observations of its environment through :class:`TupleToDictWrapper`; the
    environment itself, and a ``VecEnv`` of such, still give them as they are.

    :param observation: One observation or several: an array, what NumPy makes one of, or a dictionary or tuple of
        such, nested or not; for ``Dict`` spaces also a list of several
    :param space: The model's observation space
    :return: An array, or a dictionary of arrays with the keys of the space
    :raises ValueError: If it is what ``env.reset()`` returned, an observation and an info; or if it has other parts
        than the space
    """
    if not isinstance(space, spaces.Dict):
        if _is_reset_pair(observation):
            raise ValueError(_MIXED_UP)
        return np.asarray(observation)
    if isinstance(observation, list) and observation and all(isinstance(one, dict | tuple) for one in observation):
        each = [as_model_takes(one, space) for one in observation]
        return {key: np.stack([one[key] for one in each]) for key in space.spaces}
    parts = _flat(observation)
    if parts.keys() == space.spaces.keys():
        return {key: np.asarray(parts[key]) for key in space.spaces}
    # Only now: the observation of a Tuple space may be a pair of something and a dictionary too. A reset's has one
    # level more than the observation in it, so that it never has the same parts.
    if _is_reset_pair(observation):
        raise ValueError(_MIXED_UP)
    given = f"the parts {sorted(parts)}" if isinstance(observation, dict | tuple) else f"no parts, {observation!r}"
    raise ValueError(f"observation has {given}; the observation space has {sorted(space.spaces)}")


# SB3's words, by which users find the explanation
_MIXED_UP = (
    "You have passed a tuple to the predict() function instead of a Numpy array or a Dict. You are probably mixing Gym "
    "API with SB3 VecEnv API: `obs, info = env.reset()` (Gym) vs `obs = vec_env.reset()` (SB3 VecEnv). See related "
    "issue https://github.com/DLR-RM/stable-baselines3/issues/1694 and documentation for more information: "
    "https://stable-baselines3.readthedocs.io/en/master/guide/vec_envs.html#vecenv-api-vs-gym-api"
)


def _is_reset_pair(observation: Any) -> bool:
    return isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict)


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """The parts of an observation by the keys that :class:`TupleToDictWrapper` gives them."""
    if isinstance(value, tuple):
        children: list[tuple[Any, Any]] = list(enumerate(value))
    elif isinstance(value, dict):
        children = list(value.items())
    else:
        return {key: value}
    parts: dict[str, Any] = {}
    for name, child in children:
        parts |= _flat(child, f"{key}_{name}" if key else str(name))
    return parts


def batch_of_one(obs: Any) -> Observation:
    """
    Make one observation a batch of one.

    :param obs: An observation: a number, an array, or a dictionary of them
    :return: The same with a leading dimension of 1, of each part of a dictionary
    """
    if isinstance(obs, dict):
        return {key: np.asarray(part)[None] for key, part in obs.items()}
    return np.asarray(obs)[None]
