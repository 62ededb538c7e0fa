"""Conversion of a user's observations to the form that a model takes."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_lecture_dqn.common.checks import Observation, find_outside, shown


def as_model_takes(observation: Any, space: spaces.Space[Any]) -> Observation:
    """
    Convert an observation to the form that a model was trained with.

    A model has seen ``Tuple`` and nested observations through :class:`TupleToDictWrapper`, but the environment itself
    returns them without that wrapper.

    :param observation: One observation or several: an array, a value that NumPy converts to an array, or a dictionary
        or tuple of these, nested or not; for ``Dict`` spaces also a list of several observations
    :param space: The model's observation space
    :return: An array, or a dictionary of arrays with the keys of the space
    :raises ValueError: If the observation is the pair of observation and info that ``env.reset()`` returns, or has
        other parts than the space
    """
    if not isinstance(space, spaces.Dict):
        if _is_reset_pair(observation):
            raise ValueError(_MIXED_UP)
        return np.asarray(observation)
    if isinstance(observation, list) and observation and all(isinstance(item, dict | tuple) for item in observation):
        items = [as_model_takes(item, space) for item in observation]
        return {key: np.stack([item[key] for item in items]) for key in space.spaces}
    parts = _flat(observation)
    if parts.keys() == space.spaces.keys():
        return {key: np.asarray(parts[key]) for key in space.spaces}
    # Checked last, because an observation of a Tuple space may also be a pair with a dictionary. The pair of a reset
    # has one level more than its observation, so its parts are never those of the space.
    if _is_reset_pair(observation):
        raise ValueError(_MIXED_UP)
    parts_text = f"the parts {sorted(parts)}" if isinstance(observation, dict | tuple) else f"no parts, {observation!r}"
    raise ValueError(f"observation has {parts_text}; the observation space has {sorted(space.spaces)}")


# SB3's text, which users can search for
_MIXED_UP = (
    "You have passed a tuple to the predict() function instead of a Numpy array or a Dict. You are probably mixing Gym "
    "API with SB3 VecEnv API: `obs, info = env.reset()` (Gym) vs `obs = vec_env.reset()` (SB3 VecEnv). See related "
    "issue https://github.com/DLR-RM/stable-baselines3/issues/1694 and documentation for more information: "
    "https://stable-baselines3.readthedocs.io/en/master/guide/vec_envs.html#vecenv-api-vs-gym-api"
)


def _is_reset_pair(observation: Any) -> bool:
    return isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict)


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return the parts of an observation by the keys of :class:`TupleToDictWrapper`."""
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


def check_inside(observation: Observation, space: spaces.Space[Any]) -> None:
    """
    Check that discrete observations are in their space. Networks would fail at others, or take the next whole number.

    :param observation: One observation or several, as :func:`as_model_takes` returns them
    :param space: The model's observation space
    :raises ValueError: If a discrete part is outside
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    for key, part in parts.items():
        if isinstance(part, spaces.Box):
            continue
        values = np.atleast_1d(observation[key] if isinstance(observation, dict) else observation)
        if values.size and (place := find_outside(values, part)) is not None:
            name = f"observation[{key!r}]" if key else "observation"
            raise ValueError(f"{name} has {shown(str(values[place]))}, which is not in {part}")


def batch_of_one(obs: Any) -> Observation:
    """
    Make one observation a batch of one.

    :param obs: An observation: a number, an array, or a dictionary of them
    :return: The same with a leading dimension of 1, of each part of a dictionary
    """
    if isinstance(obs, dict):
        return {key: np.asarray(part)[None] for key, part in obs.items()}
    return np.asarray(obs)[None]
