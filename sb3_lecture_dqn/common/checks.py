"""Checks of what a user or an environment hands in, with errors that say what was given and what is allowed."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces

Observation = np.ndarray | dict[str, np.ndarray]


class UnsupportedSpaceError(ValueError, AssertionError):
    """A space that an algorithm cannot use. Also an ``AssertionError``, which is what SB3 raises for one."""


def shown(text: object, limit: int = 100) -> str:
    """
    Make text of a file fit to be shown: a terminal obeys some characters, and a file may have any amount of them.

    :param text: What the file says.
    :param limit: Most characters shown, of which the middle is left out where there are more.
    :return: The text, with escape sequences in place of characters that cannot be printed.
    """
    text = str(text)
    if len(text) > limit:
        text = f"{text[: limit // 2]} ... {text[-(limit // 2) :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class UnsafeFileError(ValueError):
    """
    A file that is damaged, is not what it should be, or cannot be loaded without running code that it names.

    :param message: What is wrong; as it says what is in the file, it is made fit to be shown.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message.replace("\n\t", " ").replace("\n", " "), 4000))


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, integer: bool = False, open_low: bool = False
) -> None:
    """
    Check a numeric argument.

    :param name: The argument's name.
    :param value: What was given.
    :param low: Lowest value allowed.
    :param high: Highest value allowed.
    :param integer: Whether it must be a whole number.
    :param open_low: Whether ``low`` itself is too low.
    :raises ValueError: If it is no number, NaN, or out of range.
    """
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    ok = isinstance(value, kinds) and not isinstance(value, bool)
    # NaN fails every comparison.
    if ok and (low < value if open_low else low <= value) and value <= high:
        return
    kind = "an integer" if integer else "a number"
    bound = f"{'above' if open_low else 'at least'} {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
    raise ValueError(f"{name}={value!r} must be {kind} {bound}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """
    Check an argument that is one of a few words.

    :param name: The argument's name.
    :param value: What was given.
    :param choices: The words allowed.
    :raises ValueError: If it is none of them.
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")


def parse_frequency(name: str, frequency: int | tuple[int, str]) -> tuple[int, str]:
    """
    Read a frequency in the idiom of SB3's ``train_freq``.

    :param name: The argument's name, for the message.
    :param frequency: An int counts environment steps; ``(n, "step")`` and ``(n, "episode")`` say what they count.
    :return: The pair.
    :raises ValueError: If it is neither, or below 1.
    """
    count, unit = frequency if isinstance(frequency, tuple | list) and len(frequency) == 2 else (frequency, "step")
    if unit not in ("step", "episode"):
        raise ValueError(f"{name}={frequency!r} must be an integer, (n, 'step') or (n, 'episode')")
    check_number(name, count, 1, integer=True)
    return int(count), unit


def check_rewards(rewards: np.ndarray, step: int) -> None:
    """
    Check the rewards of one step of all environments.

    :param rewards: Shape ``(n_envs,)``.
    :param step: Number of the environment step, for the message.
    :raises ValueError: If one is NaN or infinite.
    """
    if rewards.size == 1 and math.isfinite(rewards.item()):
        return  # nearly all of training, in a fraction of the time
    finite = np.isfinite(rewards)
    if not finite.all():
        i = int(np.argmin(finite))
        raise ValueError(f"environment {i} returned the reward {rewards[i]} at environment step {step}")


def check_observations(
    obs: Observation, space: spaces.Space[Any], step: int, first_env: int = 0, *, normalized: bool = False
) -> None:
    """
    Check observations of several environments.

    :param obs: With a leading dimension of the number of environments (each part of a Dict).
    :param space: The observation space.
    :param step: Number of the environment step, for the message.
    :param first_env: Number of the first environment, for the message.
    :param normalized: Whether parts of a ``Box`` have been normalised, so that only NaN is outside.
    :raises ValueError: If one is outside the space.
    """
    if type(space) is spaces.Discrete and obs.size == 1 and 0 <= obs.item() - int(space.start) < space.n:  # type: ignore[union-attr]
        return  # nearly all of training, in a fraction of the time
    if isinstance(obs, dict):
        assert isinstance(space, spaces.Dict)
        for key, part in space.spaces.items():  # SB3 lets parts that are not in the space pass, and uses none
            _check_part(obs[key], part, f"{key!r} of the observation", step, first_env, normalized)
    else:
        _check_part(obs, space, "the observation", step, first_env, normalized)


def check_stored(name: str, values: np.ndarray, space: spaces.Space[Any] | None) -> None:
    """
    Check one part of transitions that were stored.

    :param name: What it is: ``"rewards"``, ``"dones"``, ``"timeouts"``, or a part that has a space.
    :param values: With a leading dimension.
    :param space: Its space, if it has one.
    :raises ValueError: If a number is one that no transition can have; the message says which.
    """
    if not values.size:
        return
    if space is not None:
        # Bounds of a Box say nothing of what may be stored: VecFrameStack has them in another order than the numbers.
        at = find_outside(values, space, normalized=True)
        if at is not None:
            raise ValueError(f"{name}: {values[at]} is outside the space {space}")
    elif name == "rewards" and not np.isfinite(values).all():
        raise ValueError("rewards: not all are finite")
    elif name in ("dones", "timeouts") and not ((values == 0) | (values == 1)).all():
        raise ValueError(f"{name}: not all are 0 or 1")


def _check_part(
    obs: np.ndarray, space: spaces.Space[Any], what: str, step: int, first_env: int, normalized: bool
) -> None:
    at = find_outside(obs, space, normalized=normalized)
    if at is not None:
        where = f"[{', '.join(map(str, at[1:]))}]" if len(at) > 1 else ""
        raise ValueError(
            f"{what}{where} of environment {first_env + at[0]} is {obs[at]} at environment step {step}, "
            f"outside its space {space}"
        )


def find_outside(obs: np.ndarray, space: spaces.Space[Any], *, normalized: bool = False) -> tuple[int, ...] | None:
    """
    Find an observation outside its space.

    :param obs: Observations of a space that is no ``Dict``, with a leading dimension.
    :param space: The space.
    :param normalized: Whether a ``Box`` has no bounds, so that only NaN is outside.
    :return: The index of the first number that is, ``None`` if there is none.
    """
    low: Any
    high: Any
    if isinstance(space, spaces.Discrete):
        low, high = space.start, space.start + space.n - 1
        if low <= obs.min() and obs.max() <= high:  # in a fraction of the time
            return None
    elif isinstance(space, spaces.MultiDiscrete):
        low, high = space.start, space.start + space.nvec - 1
    elif isinstance(space, spaces.MultiBinary):
        low, high = 0, 1
    elif isinstance(space, spaces.Box):
        if space.dtype == np.uint8 and space.low.max() == 0 and space.high.min() == 255:
            return None  # no value is outside
        low, high = (-math.inf, math.inf) if normalized else (space.low, space.high)
    else:
        return None
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        with np.errstate(over="ignore"):  # as it is stored: one that is the bound but for rounding is not outside
            obs = obs.astype(space.dtype, copy=False)
    inside = (obs >= low) & (obs <= high)
    return None if inside.all() else tuple(int(index) for index in np.argwhere(~inside)[0])
