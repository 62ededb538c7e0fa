"""
One codec for all values that files hold: values as JSON and back, with the numbers of arrays in the JSON or beside it.

Classes are named by words from a fixed table, see :mod:`words`. Nothing that is read runs.
"""

import base64
import math
import pathlib
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from sb3_lecture_dqn.common.checks import Place, UnsafeFileError, path_of, shown
from sb3_lecture_dqn.saving.pickle_machine import is_key
from sb3_lecture_dqn.saving.spaces_and_schedules import (
    is_known,
    parts_of_schedule,
    parts_of_space,
    schedule_of_parts,
    space_of_parts,
)
from sb3_lecture_dqn.saving.torch_file import DTYPES
from sb3_lecture_dqn.saving.words import CLASSES, POLICY, word_of_class

#: Most numbers that arrays without numbers in the file may declare together, and an observation; 8 bytes count twice
MAX_NUMBERS = 2**24

_TAG = "$"
#: From so many items on, a list of numbers becomes an array: as JSON it would soon be more than is read
_LONG_LIST = 100
#: Arrays of at most so many bytes stay in the JSON
_SMALL_ARRAY = 256
_TENSORS = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}


#: Keeps the numbers of an array, given as bytes (uint8); returns more entries for its JSON, by which they are found
Put = Callable[[np.ndarray], dict[str, Any]]
#: Returns the numbers of an array, given its JSON and their length in bytes; raises ``UnsafeFileError`` without so many
Take = Callable[[dict[str, Any], int], Any]


class ArraysInOrder:
    """Numbers in memory, which are taken in the order in which they were put."""

    def __init__(self) -> None:
        self.contents: list[np.ndarray] = []
        self._n_taken = 0

    def put(self, content: np.ndarray) -> dict[str, Any]:
        """See :data:`Put`."""
        self.contents.append(content)
        return {}

    def take(self, described: dict[str, Any], n_bytes: int) -> Any:
        """See :data:`Take`."""
        content = self.contents[self._n_taken]
        self._n_taken += 1
        assert len(content) == n_bytes
        return content


@dataclass
class Encoded:
    """
    A value that is encoded, and stays what it was when the value changes. Two of equal values are equal.

    :param description: JSON
    :param contents: The numbers of its arrays, in their order
    """

    description: Any
    contents: list[bytes]


def encoded(value: Any) -> Encoded:
    """
    Encode a value now, for :func:`encode` to write later.

    :param value: As for :func:`encode`
    :return: The encoded value
    """
    arrays = ArraysInOrder()
    return Encoded(encode(value, {}, arrays.put), [content.tobytes() for content in arrays.contents])


def encode(value: Any, names: Mapping[str, type], put: Put | None = None) -> Any:
    """
    Turn a value into JSON.

    :param value: Numbers, text, arrays, tensors on the CPU, spaces, schedules, known classes, and containers of them.
        Anything else is described as code, by its name only
    :param names: More known classes
    :param put: Keeps the numbers of large arrays and of tensors; ``None``: they go into the JSON
    :return: For :func:`json.dumps`
    """
    return _Encoder({kind: name for name, kind in names.items()}, put).encode(value)


def decode(
    description: Any,
    names: Mapping[str, type],
    replacements: Mapping[str, Any] | None = None,
    *,
    take: Take | None = None,
    way_on: str = ", or say trust=True to run what the file says",
) -> Any:
    """
    Turn JSON into the value; the inverse of :func:`encode`.

    :param description: From :func:`json.loads`
    :param names: As for :func:`encode`
    :param replacements: Values that replace entries that are code, by their last names or by their paths
    :param take: Returns the numbers that are not in the JSON
    :param way_on: How else a user can load code, for the message
    :return: An equal value
    :raises CodeInFileError: If entries are code, or classes that a file may not name there; the message names them
    :raises UnsafeFileError: If it is no description
    """
    code = _Code(replacements or {})
    value = _Decoder(names, code, take).decode(description, None)
    if code.found:
        raise CodeInFileError(
            f"{code.listed()}: this is code, and not loaded without being asked for. {code.advice()}{way_on}"
        )
    return value


def is_data(value: Any) -> bool:
    """
    Look whether a value can be written as data.

    :param value: Anything
    :return: Whether :func:`decode` returns it without replacements
    """
    if type(value) in (bool, int, float, str):
        return True
    try:
        decode(encode(value, {}), {})
    except UnsafeFileError:
        return False
    return True


class CodeInFileError(UnsafeFileError):
    """The file is whole, and has entries that are code."""


class _Code:
    """
    Collects the entries of a description that are code.

    :param replacements: Values that replace them, by their last names or by their paths
    """

    def __init__(self, replacements: Mapping[str, Any]) -> None:
        self.replacements = replacements
        self.found: list[tuple[Place, str]] = []

    def __call__(self, at: Place, what: str) -> Any:
        """Return the replacement of an entry; without one note the entry and return ``None``."""
        if self.replacements and at is not None:
            for name in (at[1], path_of(at)):
                if name in self.replacements:
                    return self.replacements[name]
        self.found.append((at, what))
        return None

    def listed(self) -> str:
        """Name the entries."""
        parts = [f"{path_of(at)} ({what})" for at, what in self.found[:10]]
        return ", ".join(parts) + (f" and {len(self.found) - 10} more" if len(self.found) > 10 else "")

    def advice(self) -> str:
        """Say how to replace them: alone, or with the settings that they are in."""
        last = [at[1] for at, _ in self.found if at is not None]
        paths = [path_of(at) for at, _ in self.found[:10]]
        alone = [
            shown(at[1]) if at is not None and isinstance(at[1], str) and last.count(at[1]) == 1 else path
            for (at, _), path in zip(self.found[:10], paths, strict=True)
        ]
        whole = list(dict.fromkeys(re.split(r"[.\[]", path)[0] for path in paths))
        ways = [f"custom_objects={{{', '.join(f'{name!r}: ...' for name in way)}}}" for way in (alone, whole)]
        return f"Give it, {ways[0]}" + (f", or all that it is part of, {ways[1]}" if alone != whole else "")


def _tagged(tag: str, **content: Any) -> dict[str, Any]:
    return {_TAG: tag, **content}


_PLAIN = frozenset({type(None), bool, int, str})
_ARRAY_KINDS = {bool: "b", int: "iu", float: "f"}  # of arrays that hold such numbers as they are


class _Encoder:
    def __init__(self, names: Mapping[type, str], put: Put | None) -> None:
        self.names = names
        self.put = put

    def encode(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN or (kind is float and math.isfinite(value)):
            return value
        if kind is float:
            return _tagged("float", value=repr(value))
        if kind is list:
            return self._list(value)
        if kind is tuple:
            return _tagged("tuple", items=self._list(list(value)))
        if kind is deque:
            return _tagged("deque", maxlen=value.maxlen, items=self._list(list(value)))
        if kind is dict:
            if all(type(key) is str for key in value) and _TAG not in value:
                return {key: self.encode(item) for key, item in value.items()}
            return _tagged("dict", keys=self._list(list(value)), values=self._list(list(value.values())))
        if kind is OrderedDict:
            return _tagged("ordered_dict", items=self.encode(dict(value)))
        if isinstance(value, np.ndarray | np.generic) and is_known(np.asarray(value).dtype):
            return self._array("array" if kind is np.ndarray else "scalar", np.asarray(value))
        if isinstance(value, th.Tensor) and _is_plain(value):
            name = str(value.dtype).removeprefix("torch.")
            numbers = self._content(_bytes_of(value), value.element_size())
            return _tagged("tensor", dtype=name, shape=list(value.shape), **numbers)
        if kind is Encoded:
            for content in value.contents:
                assert self.put is not None
                self.put(np.frombuffer(content, np.uint8))
            return value.description
        return self._other(value)

    def _list(self, items: list[Any]) -> Any:
        if len(items) >= _LONG_LIST and len(kinds := set(map(type, items))) == 1:
            (kind,) = kinds
            if kind in _ARRAY_KINDS and (array := np.array(items)).dtype.kind in _ARRAY_KINDS[kind]:
                return self._array("numbers", array)
            if issubclass(kind, np.number | np.bool_) and is_known(np.dtype(kind)):
                return self._array("scalars", np.array(items))
        return [self.encode(item) for item in items]

    def _array(self, tag: str, array: np.ndarray) -> dict[str, Any]:
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        in_json = content.nbytes <= _SMALL_ARRAY
        numbers = _in_json(content, array.itemsize) if in_json else self._content(content, array.itemsize)
        return _tagged(tag, dtype=array.dtype.str, shape=list(array.shape), **numbers)

    def _content(self, content: np.ndarray, itemsize: int) -> dict[str, Any]:
        return _in_json(content, itemsize) if self.put is None or not len(content) else self.put(content)

    def _other(self, value: Any) -> dict[str, Any]:
        if isinstance(value, pathlib.PurePath):
            return _tagged("path", value=str(value))
        if type(value) is TrainFreq:
            return _tagged("train_freq", frequency=value.frequency, unit=value.unit.value)
        for tag, parts in (("space", parts_of_space(value)), ("schedule", parts_of_schedule(value))):
            if parts is not None:
                return _tagged(tag, **{name: self.encode(part) for name, part in parts.items()})
        if isinstance(value, type) and value in self.names:
            return _tagged("name", name=self.names[value])
        if isinstance(value, type) and (name := word_of_class(value)) is not None:
            return _tagged("class", name=name)
        named = value if hasattr(value, "__qualname__") else type(value)
        what = f"{getattr(named, '__module__', '?')}.{named.__qualname__}"
        return _tagged("code", what=what if named is value else f"a {what}")


def _is_plain(tensor: th.Tensor) -> bool:
    """Whether a tensor is numbers on the CPU and no more."""
    on_cpu = tensor.device.type == "cpu" and tensor.layout == th.strided
    return on_cpu and not tensor.requires_grad and tensor.dtype in _TENSORS.values()


def _bytes_of(tensor: th.Tensor) -> np.ndarray:
    flat = tensor.reshape(-1).contiguous()
    content: np.ndarray = flat.as_strided(flat.shape, (1,)).view(th.uint8).numpy()  # one number may have any stride
    return content


def _in_json(content: np.ndarray, itemsize: int) -> dict[str, Any]:
    numbers = content.tobytes()
    first = numbers[:itemsize]
    # Bounds of spaces are most often all the same. -0.0 equals 0.0, and is not the same.
    if len(numbers) > itemsize and numbers == first * (len(numbers) // itemsize):
        return {"all": base64.b64encode(first).decode()}
    return {"bytes": base64.b64encode(numbers).decode()}


class _PlacedError(UnsafeFileError):
    """The message says already where the error is."""


class _Decoder:
    def __init__(self, names: Mapping[str, type], code: _Code, take: Take | None) -> None:
        self.names = names
        self.code = code
        self.take = take
        self.n_left = MAX_NUMBERS

    def decode(self, described: Any, at: Place) -> Any:
        if isinstance(described, list):
            return [self.decode(item, (at, i)) for i, item in enumerate(described)]
        if not isinstance(described, dict):
            return described
        if _TAG not in described:
            return {key: self.decode(item, (at, key)) for key, item in described.items()}
        tag = described[_TAG]
        try:
            return self._tagged(tag, described, at)
        except _PlacedError:
            raise
        except UnsafeFileError as error:
            raise _PlacedError(f"{path_of(at)}: {shown(error, 1000)}") from error
        except (LookupError, TypeError, ValueError, ArithmeticError, AssertionError, AttributeError) as error:
            raise _PlacedError(f"{path_of(at)}: no {shown(repr(tag))}: {shown(repr(error), 1000)}") from None

    def _tagged(self, tag: Any, described: dict[str, Any], at: Place) -> Any:  # noqa: C901 (one kind after the other)
        if tag == "code":
            return self.code(at, shown(described["what"]))
        if tag in ("tuple", "deque"):
            items = self.decode(described["items"], at)
            return tuple(items) if tag == "tuple" else deque(items, maxlen=described["maxlen"])
        if tag == "dict":
            return self._dict(described, at)
        if tag == "ordered_dict":
            return OrderedDict(self.decode(dict(described["items"]), at))
        if tag == "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[described["value"]]
        if tag == "array":
            return self._array(described)
        if tag == "scalar":
            return self._array(described)[()]
        if tag in ("numbers", "scalars"):
            return self._array(described).tolist() if tag == "numbers" else list(self._array(described))
        if tag == "tensor":
            return self._tensor(described)
        if tag == "path":
            return pathlib.Path(described["value"])
        if tag == "train_freq":
            return TrainFreq(int(described["frequency"]), TrainFrequencyUnit(described["unit"]))
        if tag == "space":
            return space_of_parts(described["kind"], self._parts(described, at))
        if tag == "schedule":
            return schedule_of_parts(described["kind"], self._parts(described, at))
        if tag == "name":
            return self._class(described["name"], self.names if _role(at) == POLICY else {}, at)
        if tag == "class":
            return self._class(described["name"], CLASSES.get(_role(at), {}), at)
        raise UnsafeFileError(f"{shown(repr(tag))} is no kind of value")

    def _dict(self, described: dict[str, Any], at: Place) -> dict[Any, Any]:
        keys, values = self.decode(described["keys"], (at, "keys")), described["values"]
        unusual = [hash(key) for key in keys if not is_key(key)]
        if len(unusual) > 1000 and max(Counter(unusual).values()) > 100:
            raise UnsafeFileError("its keys are chosen so that Python looks for each where all others are")
        if not isinstance(values, list):
            return dict(zip(keys, self.decode(values, at), strict=True))
        return {key: self.decode(value, (at, key)) for key, value in zip(keys, values, strict=True)}

    def _array(self, described: dict[str, Any]) -> np.ndarray:
        dtype = np.dtype(str(described["dtype"]))
        if not is_known(dtype):
            raise UnsafeFileError(f"numbers of {dtype} are declared")
        content = self._content(described, dtype.itemsize, dtype.kind == "b")
        return np.frombuffer(content, dtype).reshape(described["shape"]).copy()

    def _tensor(self, described: dict[str, Any]) -> th.Tensor:
        dtype, shape = _TENSORS[described["dtype"]], described["shape"]
        content = self._content(described, dtype.itemsize, dtype == th.bool)
        if not len(content):
            return th.empty(shape, dtype=dtype)
        return th.frombuffer(bytearray(content), dtype=dtype).reshape(shape)

    def _content(self, described: dict[str, Any], itemsize: int, are_truth_values: bool) -> Any:
        """Return the numbers of an array as bytes, which are as many as its shape declares."""
        n_numbers = _n_numbers(described["shape"])
        if "all" in described:
            self._declare(n_numbers * max(1, itemsize // 4))
            content = base64.b64decode(described["all"], validate=True)
            content = content * n_numbers if len(content) == itemsize else content
        elif "bytes" in described or not n_numbers:
            content = base64.b64decode(described.get("bytes", ""), validate=True)
        elif self.take is not None:
            content = self.take(described, n_numbers * itemsize)
        else:
            raise UnsafeFileError("there are no numbers of an array")
        if len(content) != n_numbers * itemsize:
            shape = shown(described["shape"])
            raise UnsafeFileError(f"an array of shape {shape} is declared, and there are {len(content)} bytes")
        if are_truth_values and bytes(content).translate(None, b"\0\1"):
            raise UnsafeFileError("there are truth values that are neither 0 nor 1, which NumPy would count as more")
        return content

    def _declare(self, n_numbers: int) -> None:
        """Count numbers that take no room in the file."""
        self.n_left -= n_numbers
        if self.n_left < 0:
            raise UnsafeFileError(f"more numbers are declared in arrays than the {MAX_NUMBERS} that are allowed")

    def _parts(self, described: dict[str, Any], at: Place) -> dict[str, Any]:
        if described["kind"] == "MultiBinary":
            self._declare(_n_numbers(described["n"]))
        return {name: self.decode(part, (at, name)) for name, part in described.items() if name not in (_TAG, "kind")}

    def _class(self, name: Any, kinds: Mapping[str, type], at: Place) -> Any:
        kind = kinds.get(name)
        if kind is None:
            may = f"only {', '.join(kind.rpartition('.')[2] for kind in kinds)}" if kinds else "none"
            return self.code(at, f"the class {shown(repr(name))}, where a file may name {may}")
        return kind


def _n_numbers(shape: Any) -> int:
    """Count the numbers of a shape; many are as good as more, as the product of them all may take forever."""
    if not (isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)):
        raise UnsafeFileError(f"this is no shape: {shown(repr(shape))}")
    product = 1
    for n in shape:
        product = min(product * n, 2**60)
    return product


def _role(at: Place) -> tuple[Any, ...]:
    """Return the last keys of a place, by which the tables of classes have it."""
    keys: list[Any] = []
    while at is not None and len(keys) < 3:
        at, key = at
        keys.insert(0, key)
    return tuple(keys)
