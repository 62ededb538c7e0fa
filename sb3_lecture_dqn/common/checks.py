"""Checks of values from users, environments and files, with errors that say what was given and what is allowed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_lecture_dqn.common.text import shown as shown

Observation = np.ndarray | dict[str, np.ndarray]


class UnsupportedSpaceError(ValueError, AssertionError):
    """A space that an algorithm cannot use. It is an ``AssertionError`` too, because SB3 raises that."""


class OtherArithmeticError(ValueError):
    """A run would go on with other rounding than it began with, so not exactly as if it had not been stopped."""


class UnsafeFileError(ValueError):
    """
    A file that is damaged, is of another kind, or cannot be loaded without running code that it names.

    :param message: The reason, which may quote the file; it is made safe to print
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message.replace("\n\t", " ").replace("\n", " "), 4000))


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, integer: bool = False, open_low: bool = False
) -> None:
    """
    Check a numeric argument.

    :param name: The argument's name
    :param value: Its value
    :param low: Lowest value allowed
    :param high: Highest value allowed
    :param integer: Whether it must be a whole number
    :param open_low: Whether ``low`` itself is too low
    :raises ValueError: If it is not a number, is NaN, or is out of range
    """
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    ok = isinstance(value, kinds) and not isinstance(value, bool)
    # NaN fails every comparison.
    if ok and (low < value if open_low else low <= value) and value <= high:
        return
    kind = "an integer" if integer else "a number"
    bound = f"{'above' if open_low else 'at least'} {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
    raise ValueError(f"{name}={value!r} must be {kind} {bound}")


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """
    Check that an argument is one of a few words.

    :param name: The argument's name
    :param value: Its value
    :param choices: The words allowed
    :raises ValueError: If it is another word
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")


def check_switch(name: str, value: Any) -> None:
    """
    Check an argument that is on or off. A text such as ``"False"`` would count as on.

    :param name: The argument's name
    :param value: Its value
    :raises ValueError: If it is neither ``True`` nor ``False``
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r} must be True or False")


def parse_frequency(name: str, frequency: int | tuple[int, str]) -> tuple[int, str]:
    """
    Read a frequency in the idiom of SB3's ``train_freq``.

    :param name: The argument's name, for the message
    :param frequency: A number of environment steps, ``(n, "step")`` or ``(n, "episode")``
    :return: The number and its unit
    :raises ValueError: If it is something else, or below 1
    """
    count, unit = frequency if isinstance(frequency, tuple | list) and len(frequency) == 2 else (frequency, "step")
    if unit not in ("step", "episode"):
        raise ValueError(f"{name}={frequency!r} must be an integer, (n, 'step') or (n, 'episode')")
    check_number(name, count, 1, integer=True)
    return int(count), unit


def as_number(value: Any) -> float | None:
    """
    Convert a value as SB3's arrays do.

    :param value: A value that an environment returned
    :return: The number; ``None`` for text and everything else that is not a number
    """
    kind = getattr(getattr(value, "dtype", None), "kind", "O")
    if isinstance(value, str | bytes | bytearray) or kind not in "biufO" or getattr(value, "shape", ()) != ():
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def check_rewards(rewards: np.ndarray, step: int) -> None:
    """
    Check the rewards of one step of all environments.

    :param rewards: Shape ``(n_envs,)``
    :param step: Number of the environment step, for the message
    :raises ValueError: If a reward is not a number, is NaN, or is infinite
    """
    if rewards.shape == (1,) and type(reward := rewards.item()) is float and math.isfinite(reward):
        return  # the usual case, in a fraction of the time
    if rewards.ndim != 1:
        raise ValueError(f"the rewards at environment step {step} have the shape {rewards.shape}, not (n_envs,)")
    if rewards.dtype.kind == "f" and np.isfinite(rewards).all():
        return
    for i, reward in enumerate(rewards):
        number = as_number(reward)
        if number is None or not math.isfinite(number):
            shown = repr(reward) if number is None else reward
            what = f"environment {i} returned the reward {shown} at environment step {step}"
            raise ValueError(f"{what}, it must be a finite number")


def checked_dones(dones: Any, step: int) -> np.ndarray:
    """
    Check the flags that say which episodes ended.

    :param dones: Shape ``(n_envs,)``
    :param step: Number of the environment step, for the message
    :return: The same as bool
    :raises ValueError: If a flag is not true or false, for example a text
    """
    for i, done in enumerate(dones):
        if as_number(done) not in (0, 1):
            raise ValueError(
                f"environment {i} returned done={done!r} at environment step {step}, it must be True or False"
            )
    return np.array([as_number(done) == 1 for done in dones])


def check_outcomes(infos: Sequence[Mapping[str, Any]], dones: np.ndarray, step: int) -> None:
    """
    Check the infos about ended episodes, because SB3 takes means of them.

    :param infos: The infos of one step
    :param dones: Which episodes have ended, bool of shape ``(n_envs,)``
    :param step: Number of the environment step, for the message
    :raises ValueError: If ``is_success`` is not a truth value, a number or ``None``, or ``episode`` lacks the return
        ``r`` or the length ``l`` of ``Monitor``
    """
    for i, info in enumerate(infos):
        success, episode = info.get("is_success"), info.get("episode")
        if dones[i] and success is not None and not is_figure(success):
            raise ValueError(
                f"environment {i} said info['is_success']={success!r} at environment step {step}: it must be True, "
                "False, a number, or None if it is not known"
            )
        if episode is not None and not (
            isinstance(episode, dict) and is_figure(episode.get("r")) and is_figure(episode.get("l"))
        ):
            raise ValueError(
                f"environment {i} said info['episode']={episode!r} at environment step {step}: it must be the 'r' and "
                "'l' of an episode, as Monitor gives them"
            )


def is_figure(value: Any) -> bool:
    """
    Look whether SB3 can take means of a value.

    :param value: A value of an info
    :return: Whether it is a truth value, a number (NaN included), or an array with one of these
    """
    if isinstance(value, np.ndarray):
        return value.size == 1 and value.dtype.kind in "biuf"
    return isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating)


def check_observations(
    obs: Observation, space: spaces.Space[Any], step: int, first_env: int = 0, *, ignore_bounds: bool = False
) -> str | None:
    """
    Check observations of several environments.

    :param obs: With a leading dimension of the number of environments (each part of a Dict)
    :param space: The observation space
    :param step: Number of the environment step, for the message
    :param first_env: Number of the first environment, for the message
    :param ignore_bounds: Whether only NaN counts as outside a ``Box``, because its numbers may have been normalised
    :return: A message about a finite number outside the bounds of its ``Box``, which does not stop SB3; else ``None``
    :raises ValueError: If an observation has another shape, is NaN, is infinite in a bounded ``Box``, or is outside a
        discrete space
    """
    if type(space) is spaces.Discrete and type(obs) is np.ndarray and obs.shape == (1,):
        number = obs.item()
        if type(number) is int and 0 <= number - int(space.start) < space.n:
            return None  # the usual case, in a fraction of the time
    if not isinstance(space, spaces.Dict):
        return _check_part(obs, space, "the observation", step, first_env, ignore_bounds)
    beyond = None
    for key, part in space.spaces.items():  # SB3 ignores parts that are not in the space
        if not isinstance(obs, dict) or key not in obs:
            raise ValueError(f"the observation at environment step {step} has no part {key!r} of its space {space}")
        beyond = _check_part(obs[key], part, f"{key!r} of the observation", step, first_env, ignore_bounds) or beyond
    return beyond


def check_stored(name: str, values: np.ndarray, space: spaces.Space[Any] | None) -> None:
    """
    Check one field of stored transitions.

    :param name: Its name: ``"rewards"``, ``"dones"``, ``"timeouts"``, or a field that has a space
    :param values: Its values, with a leading dimension
    :param space: Its space, ``None`` if it has no space
    :raises ValueError: If no transition can have a value; the message names the value
    """
    if not values.size:
        return
    if space is not None:
        # A stored number may be outside the bounds of its Box: VecFrameStack has its bounds in another order.
        at = find_outside(values, space, ignore_bounds=True)
        if at is not None:
            raise ValueError(f"{name}: {values[at]} is outside the space {space}")
    elif name == "rewards" and not np.isfinite(values).all():
        raise ValueError("rewards: not all are finite")
    elif name in ("dones", "timeouts") and not ((values == 0) | (values == 1)).all():
        raise ValueError(f"{name}: not all are 0 or 1")


def _check_part(
    obs: Any, space: spaces.Space[Any], name: str, step: int, first_env: int, ignore_bounds: bool
) -> str | None:
    shape: Any = space.shape
    if not isinstance(obs, np.ndarray) or obs.dtype.kind not in "biuf":
        kind = obs.dtype if isinstance(obs, np.ndarray) else type(obs).__name__
        raise ValueError(f"{name} at environment step {step} is {kind}, it must be an array of numbers")
    if obs.shape[1:] != shape:
        raise ValueError(
            f"{name} of environment {first_env} has the shape {obs.shape[1:]} at environment step {step}, its space "
            f"{space} has {shape}"
        )
    at = find_outside(obs, space, ignore_bounds=ignore_bounds)
    if at is None:
        return None
    if isinstance(space, spaces.Box):  # a finite number outside its bounds does not stop the training
        unbounded = find_outside(obs, space, ignore_bounds=ignore_bounds, finite=True)
        stops, at = unbounded is not None, unbounded or at
    else:
        stops = True
    where = f"[{', '.join(map(str, at[1:]))}]" if len(at) > 1 else ""
    message = (
        f"{name}{where} of environment {first_env + at[0]} is {obs[at]} at environment step {step}, "
        f"outside its space {space}"
    )
    if stops:
        raise ValueError(message)
    return message


def changed_by_cast(array: np.ndarray, space: spaces.Space[Any]) -> np.ndarray | None:
    """
    Find numbers that a space cannot store.

    A space of integers cannot store fractions and large numbers, and a space of floats cannot store numbers that would
    become infinite.

    :param array: Numbers
    :param space: The space
    :return: bool of the array's shape, ``None`` if the types exclude such numbers
    """
    dtype = np.dtype(space.dtype)
    if np.can_cast(array.dtype, dtype):
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        stored = array.astype(dtype)
    changed = np.isfinite(array) & ~np.isfinite(stored) if dtype.kind == "f" else stored != array
    return np.asarray(changed)


def find_outside(
    obs: np.ndarray, space: spaces.Space[Any], *, ignore_bounds: bool = False, finite: bool = False
) -> tuple[int, ...] | None:
    """
    Find an observation outside its space.

    :param obs: Observations with a leading dimension
    :param space: Their space, which is not a ``Dict``
    :param ignore_bounds: Whether only NaN counts as outside a ``Box``
    :param finite: Whether all finite numbers count as inside; in a ``Box`` of integers, all whole numbers
    :return: The index of the first number outside, ``None`` if there is none
    """
    low: Any
    high: Any
    if isinstance(space, spaces.Discrete):
        low, high = space.start, space.start + space.n - 1
        if obs.dtype.kind in "iu" and low <= obs.min() and obs.max() <= high:  # a fast path
            return None
    elif isinstance(space, spaces.MultiDiscrete):
        if obs.dtype.kind == "i" and ((obs >= space.start) & (obs - space.start < space.nvec)).all():  # a fast path
            return None
        low, high = space.start, space.start + space.nvec - 1
    elif isinstance(space, spaces.MultiBinary):
        low, high = 0, 1
    elif isinstance(space, spaces.Box):
        if space.dtype == obs.dtype == np.uint8 and space.low.max() == 0 and space.high.min() == 255:
            return None  # every uint8 is inside
        low, high = (-math.inf, math.inf) if ignore_bounds else (space.low, space.high)
        if obs.dtype == space.dtype and ((obs >= low) & (obs <= high)).all():  # a fast path
            return None
    else:
        return None
    stored = obs
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        with np.errstate(over="ignore"):  # compare as stored, so that rounding does not put a bound outside
            stored = obs.astype(space.dtype, copy=False)
    inside = (stored >= low) & (stored <= high)
    if finite:
        inside |= np.isfinite(stored)
    if (changed := changed_by_cast(obs, space)) is not None:
        inside &= ~changed
    return None if inside.all() else tuple(int(index) for index in np.argwhere(~inside)[0])


#: Where a value is: the place of the container that has it, and its key or index there. ``None``: in no container
Place = tuple[Any, Any] | None


def path_of(place: Place) -> str:
    """
    Write a place as a path, for messages only: paths are long, and every value that is read has a place.

    :param place: The place
    :return: Its keys, the outermost first, such as ``"settings.items[3]"``; shortened if there are many
    """
    parts: list[str] = []
    while place is not None:
        place, key = place
        parts.append(f"[{key}]" if isinstance(key, int) else f".{shown(key)}")
    parts.reverse()
    if len(parts) > 20:
        parts[10:-10] = ["..."]
    return "".join(parts).removeprefix(".")


def check_finite(value: Any) -> None:
    """
    Check that all weights are finite.

    :param value: Tensors, in containers
    :raises UnsafeFileError: If a tensor has a number that is NaN or infinite; the message names the tensor
    """
    left: list[tuple[Place, Any]] = [(None, value)]
    seen = {id(value)}
    while left:
        at, value = left.pop()
        if isinstance(value, th.Tensor):
            # If the sum is finite, so are its parts; it is several times faster. Sums of large numbers overflow.
            if value.is_floating_point() and not (math.isfinite(value.sum()) or value.isfinite().all()):
                raise UnsafeFileError(f"{path_of(at)} has weights that are NaN or infinite")
        elif isinstance(value, dict | list | tuple):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if id(item) not in seen:
                    seen.add(id(item))
                    left.append(((at, key), item))
