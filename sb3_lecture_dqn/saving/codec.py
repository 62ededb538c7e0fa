"""Settings of a model as JSON: values that are data, classes by names from a fixed table, and nothing that runs."""

import base64
import math
import pathlib
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.saving.words import CLASSES, POLICY, current_word, word_of_class

#: Most numbers that the arrays of a description may have together, and an observation; one of 8 bytes counts for two
MAX_NUMBERS = 2**24

_TAG = "$"

#: Where something is: the place of what it is in, and its key or number there. ``None``: not in anything
Place = tuple[Any, Any] | None


def path_of(place: Place) -> str:
    """
    Say where something is. There are places of all that is read, and paths only in messages: they are long.

    :param place: The place
    :return: Its keys, the outermost first, such as ``"settings.items[3]"``; of many or long ones, not all
    """
    parts: list[str] = []
    while place is not None:
        place, key = place
        parts.append(f"[{key}]" if isinstance(key, int) else f".{shown(key)}")
    parts.reverse()
    if len(parts) > 20:
        parts[10:-10] = ["..."]
    return "".join(parts).removeprefix(".")


def describe(value: Any, names: Mapping[str, type]) -> Any:
    """
    Turn a value into what JSON can hold.

    :param value: Numbers, text, arrays, spaces, schedules, known classes, and containers of them. Anything else is
        described as code, by its name only
    :param names: More known classes
    :return: For :func:`json.dumps`
    """
    return _describe(value, {kind: name for name, kind in names.items()})


def is_data(value: Any) -> bool:
    """
    Look whether a value can be described as data.

    :param value: Anything
    :return: Whether :func:`restore` gives it back without being told of code
    """
    if type(value) in (bool, int, float, str):
        return True
    try:
        restore(describe(value, {}), {})
    except UnsafeFileError:
        return False
    return True


class CodeInFileError(UnsafeFileError):
    """A file that is whole, and has entries that are code."""


def restore(
    description: Any,
    names: Mapping[str, type],
    given: Mapping[str, Any] | None = None,
    *,
    way_on: str = ", or say trust=True to run what the file says",
) -> Any:
    """
    The inverse of :func:`describe`.

    :param description: From :func:`json.loads`
    :param names: As for :func:`describe`
    :param given: What takes the place of entries that are code, by their last names or by their paths
    :param way_on: What there is to do about code besides giving it, for the message
    :return: An equal value
    :raises CodeInFileError: If entries are code, or classes that a file may not name there; the message names them
    :raises UnsafeFileError: If it is no description
    """
    check_declared(description)
    code = _Code(given or {})
    value = _restore(description, names, None, code)
    if code.found:
        raise CodeInFileError(
            f"{code.listed()}: this is code, and not loaded without being asked for. {code.advice()}{way_on}"
        )
    return value


class _Code:
    """
    The entries of a description that are code.

    :param given: What takes their place, by their last names or by their paths
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.found: list[tuple[Place, str]] = []

    def __call__(self, at: Place, what: str) -> Any:
        """What takes the place of an entry, ``None`` for one that is to be asked for."""
        if self.given and at is not None:
            for name in (at[1], path_of(at)):
                if name in self.given:
                    return self.given[name]
        self.found.append((at, what))
        return None

    def listed(self) -> str:
        """Which entries are code."""
        parts = [f"{path_of(at)} ({what})" for at, what in self.found[:10]]
        return ", ".join(parts) + (f" and {len(self.found) - 10} more" if len(self.found) > 10 else "")

    def advice(self) -> str:
        """What to give for them: them alone, or the settings that they are in."""
        last = [at[1] for at, _ in self.found if at is not None]
        paths = [path_of(at) for at, _ in self.found[:10]]
        alone = [
            shown(at[1]) if at is not None and isinstance(at[1], str) and last.count(at[1]) == 1 else path
            for (at, _), path in zip(self.found[:10], paths, strict=True)
        ]
        whole = list(dict.fromkeys(re.split(r"[.\[]", path)[0] for path in paths))
        ways = [f"custom_objects={{{', '.join(f'{name!r}: ...' for name in way)}}}" for way in (alone, whole)]
        return f"Give it, {ways[0]}" + (f", or all that it is part of, {ways[1]}" if alone != whole else "")


def check_declared(description: Any) -> None:
    """
    Check how many numbers arrays declare together: one of equal numbers takes no room in the file.

    :param description: From :func:`describe`
    :raises UnsafeFileError: If they are more than :data:`MAX_NUMBERS`
    """
    declared, left = 0, [description]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            declared += _n_numbers(item.get("shape")) * _n_words(item.get("dtype"))
            if item.get("kind") == "MultiBinary":
                declared += _n_numbers(item.get("n"))
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
    if declared > MAX_NUMBERS:
        raise UnsafeFileError(f"more numbers are declared in arrays than the {MAX_NUMBERS} that are allowed")


def _n_numbers(shape: Any) -> int:
    """How many numbers a shape has; 0 if it is none, and if there are too many, one more than that."""
    if not _is_shape(shape):
        return 0
    product = 1
    for n in shape:  # the product of them all may take forever
        product = min(product * n, MAX_NUMBERS + 1)
    return product


def _n_words(dtype: Any) -> int:
    """How many times 4 bytes a number has, 1 at least."""
    size = re.search(r"\d{1,9}$", dtype) if isinstance(dtype, str) else None
    return 1 if size is None else max(1, int(size[0]) // 4)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)


# Each of the following pairs is one kind of value, its description first.


def _is_known(dtype: np.dtype) -> bool:
    """Whether numbers are of a kind that PyTorch and every machine have, which long doubles are not."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _array_to(array: np.ndarray) -> dict[str, Any]:
    described: dict[str, Any] = {"dtype": array.dtype.str, "shape": list(array.shape)}
    content = array.tobytes()
    first = content[: array.itemsize]
    # Bounds of spaces are most often all the same. -0.0 equals 0.0, and is not the same.
    if array.size > 1 and content == first * array.size:
        described["all"] = base64.b64encode(first).decode()
    else:
        described["bytes"] = base64.b64encode(content).decode()
    return described


def _array_from(described: dict[str, Any]) -> np.ndarray:
    dtype, shape = np.dtype(str(described["dtype"])), described["shape"]
    if not _is_shape(shape):
        raise UnsafeFileError(f"this is no shape: {shape!r}")
    if not _is_known(dtype):
        raise UnsafeFileError(f"numbers of {dtype} are declared")
    content = base64.b64decode(described["all" if "all" in described else "bytes"], validate=True)
    if dtype.kind == "b" and content.translate(None, b"\0\1"):
        raise UnsafeFileError("there are truth values that are neither 0 nor 1, which NumPy would count as more")
    if "all" in described:
        return np.full(shape, np.frombuffer(content, dtype)[0], dtype)
    return np.frombuffer(content, dtype).reshape(shape).copy()


def _space_to(space: spaces.Space[Any]) -> dict[str, Any] | None:
    if type(space) is spaces.Discrete:
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": np.dtype(space.dtype).str}
    if type(space) is spaces.MultiDiscrete:
        return {"kind": "MultiDiscrete", "nvec": _array_to(space.nvec), "start": _array_to(space.start)}
    if type(space) is spaces.MultiBinary:
        return {"kind": "MultiBinary", "n": list(space.shape), "flat": isinstance(space.n, int | np.integer)}
    if type(space) is spaces.Box and _is_known(space.dtype):
        return {"kind": "Box", "low": _array_to(space.low), "high": _array_to(space.high)}
    if type(space) is spaces.Dict:
        parts = [(key, _space_to(part)) for key, part in space.spaces.items()]
        if all(isinstance(key, str) and part is not None for key, part in parts):
            return {"kind": "Dict", "parts": [list(pair) for pair in parts]}
    return None


def _space_from(described: dict[str, Any]) -> spaces.Space[Any]:
    kind = described["kind"]
    if kind == "Discrete":
        n, start = int(described["n"]), int(described["start"])
        dtype = np.dtype(str(described.get("dtype", "<i8")))
        return spaces.Discrete(n, start=start) if dtype == np.int64 else spaces.Discrete(n, start=start, dtype=dtype)
    if kind == "MultiDiscrete":
        nvec = _array_from(described["nvec"])
        return spaces.MultiDiscrete(nvec, dtype=nvec.dtype.type, start=_array_from(described["start"]))
    if kind == "MultiBinary":
        shape = described["n"]
        if not _is_shape(shape):
            raise UnsafeFileError(f"this is no shape: {shape!r}")
        return spaces.MultiBinary(shape[0] if described["flat"] else shape)
    if kind == "Box":
        low, high = _array_from(described["low"]), _array_from(described["high"])
        return spaces.Box(low, high, dtype=low.dtype.type)
    if kind == "Dict":
        return spaces.Dict([(str(key), _space_from(part)) for key, part in described["parts"]])
    raise UnsafeFileError(f"{kind!r} is no kind of space")


def _schedule_to(schedule: Any) -> dict[str, Any] | None:
    if type(schedule) is FloatSchedule:
        inner = _schedule_to(schedule.value_schedule)
        return None if inner is None else {"kind": "FloatSchedule", "of": inner}
    if f"{type(schedule).__module__}.{type(schedule).__name__}" == "rl_zoo3.utils.SimpleLinearSchedule":
        # The same line, so that models which the RL Zoo trained load like others, and without it.
        schedule = LinearSchedule(schedule.initial_value, 0.0, 1.0)
    if type(schedule) is LinearSchedule:
        numbers = {name: getattr(schedule, name) for name in ("start", "end", "end_fraction")}
    elif type(schedule) is ConstantSchedule:
        numbers = {"val": schedule.val}
    else:
        return None
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers.values()):
        return None
    return {"kind": type(schedule).__name__, **{name: float(number) for name, number in numbers.items()}}


def _schedule_from(described: dict[str, Any]) -> Callable[[float], float]:
    kind = described["kind"]
    if kind == "FloatSchedule":
        return FloatSchedule(_schedule_from(described["of"]))
    if kind == "LinearSchedule":
        return LinearSchedule(*(float(described[name]) for name in ("start", "end", "end_fraction")))
    if kind == "ConstantSchedule":
        return ConstantSchedule(float(described["val"]))
    raise UnsafeFileError(f"{kind!r} is no kind of schedule")


def _class_from(name: Any, kinds: Mapping[str, type], at: Place, code: "_Code") -> Any:
    kind = kinds.get(current_word(name))
    if kind is None:
        may = f"only {', '.join(kind.rpartition('.')[2] for kind in kinds)}" if kinds else "none"
        return code(at, f"the class {shown(repr(name))}, where a file may name {may}")
    return kind


def _role(at: Place) -> tuple[Any, ...]:
    """Where something is, as the tables of classes say it; nowhere, where there is no such table."""
    keys: list[Any] = []
    while at is not None and len(keys) < 3:
        at, key = at
        keys.insert(0, key)
    return tuple(keys)


def _tagged(tag: str, **content: Any) -> dict[str, Any]:
    return {_TAG: tag, **content}


class _PlacedError(UnsafeFileError):
    """One that says already where it is."""


_PLAIN = frozenset({type(None), bool, int, str})


def _describe(value: Any, names: Mapping[type, str]) -> Any:
    kind = type(value)
    if kind in _PLAIN or (kind is float and math.isfinite(value)):
        return value
    if kind is float:
        return _tagged("float", value=repr(value))
    if kind is list:
        return [_describe(item, names) for item in value]
    if kind is tuple:
        return _tagged("tuple", items=[_describe(item, names) for item in value])
    if kind is deque:
        return _tagged("deque", maxlen=value.maxlen, items=[_describe(item, names) for item in value])
    if kind in (dict, OrderedDict) and all(type(key) is str for key in value) and _TAG not in value:
        items = {key: _describe(item, names) for key, item in value.items()}
        return items if kind is dict else _tagged("ordered_dict", items=items)
    if isinstance(value, np.ndarray | np.generic) and _is_known(np.asarray(value).dtype):
        return _tagged("array" if kind is np.ndarray else "scalar", **_array_to(np.asarray(value)))
    if isinstance(value, pathlib.PurePath):
        return _tagged("path", value=str(value))
    if kind is TrainFreq:
        return _tagged("train_freq", frequency=value.frequency, unit=value.unit.value)
    if (space := _space_to(value)) is not None:
        return _tagged("space", **space)
    if (schedule := _schedule_to(value)) is not None:
        return _tagged("schedule", **schedule)
    if isinstance(value, type) and value in names:
        return _tagged("name", name=names[value])
    if isinstance(value, type) and (name := word_of_class(value)) is not None:
        return _tagged("class", name=name)
    named = value if hasattr(value, "__qualname__") else kind
    what = f"{getattr(named, '__module__', '?')}.{named.__qualname__}"
    return _tagged("code", what=what if named is value else f"a {what}")


def _restore(described: Any, names: Mapping[str, type], at: Place, code: _Code) -> Any:
    if isinstance(described, list):
        return [_restore(item, names, (at, i), code) for i, item in enumerate(described)]
    if not isinstance(described, dict):
        return described
    tag = described.get(_TAG)
    if _TAG not in described:
        return {key: _restore(item, names, (at, key), code) for key, item in described.items()}
    try:
        if tag == "code":
            return code(at, shown(described["what"]))
        if tag in ("tuple", "deque"):
            items = [_restore(item, names, (at, i), code) for i, item in enumerate(described["items"])]
            return tuple(items) if tag == "tuple" else deque(items, maxlen=described["maxlen"])
        if tag == "ordered_dict":
            return OrderedDict(_restore(dict(described["items"]), names, at, code))
        if tag == "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[described["value"]]
        if tag == "path":
            return pathlib.Path(described["value"])
        if tag == "train_freq":
            return TrainFreq(int(described["frequency"]), TrainFrequencyUnit(described["unit"]))
        if tag == "name":
            return _class_from(described["name"], names if _role(at) == POLICY else {}, at, code)
        if tag == "class":
            return _class_from(described["name"], CLASSES.get(_role(at), {}), at, code)
        readers: dict[Any, Callable[[Any], Any]] = {
            "array": _array_from,
            "scalar": lambda described: _array_from(described)[()],
            "space": _space_from,
            "schedule": _schedule_from,
        }
        return readers[tag](described)
    except _PlacedError:
        raise
    except UnsafeFileError as error:
        raise _PlacedError(f"{path_of(at)}: {shown(error, 1000)}") from error
    except (LookupError, TypeError, ValueError, ArithmeticError, AssertionError, AttributeError) as error:
        raise _PlacedError(f"{path_of(at)}: no {shown(repr(tag))}: {shown(repr(error), 1000)}") from None
