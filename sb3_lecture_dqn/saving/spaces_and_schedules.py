"""Spaces and schedules by their kinds and parts, which are values for :mod:`codec`."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_lecture_dqn.common.checks import UnsafeFileError


def is_known(dtype: np.dtype) -> bool:
    """
    Look whether numbers are of a kind that PyTorch and every machine have, which long doubles are not.

    :param dtype: Their dtype
    :return: Whether files may have them
    """
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def parts_of_space(space: Any) -> dict[str, Any] | None:
    """
    Take a space apart.

    :param space: Anything
    :return: Its kind and its parts by name, ``None`` if it is no space of a known kind
    """
    if type(space) is spaces.Discrete:
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": np.dtype(space.dtype).str}
    if type(space) is spaces.MultiDiscrete:
        return {"kind": "MultiDiscrete", "nvec": space.nvec, "start": space.start}
    if type(space) is spaces.MultiBinary:
        return {"kind": "MultiBinary", "n": list(space.shape), "flat": isinstance(space.n, int | np.integer)}
    if type(space) is spaces.Box and is_known(space.dtype):
        return {"kind": "Box", "low": space.low, "high": space.high}
    if type(space) is spaces.Dict and all(map(_is_known_part, space.spaces.items())):
        return {"kind": "Dict", "parts": [list(part) for part in space.spaces.items()]}
    return None


def _is_known_part(part: tuple[Any, Any]) -> bool:
    key, space = part
    return isinstance(key, str) and parts_of_space(space) is not None


def space_of_parts(kind: Any, parts: dict[str, Any]) -> spaces.Space[Any]:
    """
    Put a space together; the inverse of :func:`parts_of_space`.

    :param kind: Its kind
    :param parts: Its parts
    :return: The space
    :raises UnsafeFileError: If the kind is not known
    """
    if kind == "Discrete":
        n, start = int(parts["n"]), int(parts["start"])
        dtype = np.dtype(str(parts.get("dtype", "<i8")))
        return spaces.Discrete(n, start=start) if dtype == np.int64 else spaces.Discrete(n, start=start, dtype=dtype)
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(parts["nvec"], dtype=parts["nvec"].dtype.type, start=parts["start"])
    if kind == "MultiBinary":
        return spaces.MultiBinary(parts["n"][0] if parts["flat"] else parts["n"])
    if kind == "Box":
        return spaces.Box(parts["low"], parts["high"], dtype=parts["low"].dtype.type)
    if kind == "Dict":
        return spaces.Dict([(str(key), part) for key, part in parts["parts"]])
    raise UnsafeFileError(f"{kind!r} is no kind of space")


def parts_of_schedule(schedule: Any) -> dict[str, Any] | None:
    """
    Take a schedule apart.

    :param schedule: Anything
    :return: Its kind and its parts by name, ``None`` if it is no schedule of a known kind, or has no finite numbers
    """
    if f"{type(schedule).__module__}.{type(schedule).__name__}" == "rl_zoo3.utils.SimpleLinearSchedule":
        # The same line, so that models which the RL Zoo trained load like others, and without it.
        schedule = LinearSchedule(schedule.initial_value, 0.0, 1.0)
    if type(schedule) is FloatSchedule:
        parts = {"of": schedule.value_schedule}
        return None if parts_of_schedule(parts["of"]) is None else {"kind": "FloatSchedule", **parts}
    if type(schedule) is LinearSchedule:
        numbers = {name: getattr(schedule, name) for name in ("start", "end", "end_fraction")}
    elif type(schedule) is ConstantSchedule:
        numbers = {"val": schedule.val}
    else:
        return None
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers.values()):
        return None
    return {"kind": type(schedule).__name__, **{name: float(number) for name, number in numbers.items()}}


def schedule_of_parts(kind: Any, parts: dict[str, Any]) -> Any:
    """
    Put a schedule together; the inverse of :func:`parts_of_schedule`.

    :param kind: Its kind
    :param parts: Its parts
    :return: The schedule, a callable
    :raises UnsafeFileError: If the kind is not known
    """
    if kind == "FloatSchedule":
        if not isinstance(parts["of"], ConstantSchedule | LinearSchedule | FloatSchedule):
            raise UnsafeFileError("a FloatSchedule is of no schedule")
        return FloatSchedule(parts["of"])
    if kind == "LinearSchedule":
        return LinearSchedule(*(float(parts[name]) for name in ("start", "end", "end_fraction")))
    if kind == "ConstantSchedule":
        return ConstantSchedule(float(parts["val"]))
    raise UnsafeFileError(f"{kind!r} is no kind of schedule")
