"""Reading pickles of numbers, text, arrays and containers without an unpickler. Names in them are not looked up."""

import math
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.torch_file import is_key

#: Most bytes and most instructions of a pickle
MAX_BYTES, MAX_INSTRUCTIONS = 2**26, 10**6
_MAX_DIMENSIONS = 32
_NUMBERS = {
    f"{kind}{size}" for kind, sizes in {"f": (2, 4, 8), "iu": (1, 2, 4, 8)}.items() for kind in kind for size in sizes
}
_NUMBERS |= {"b1"}


class _Name(str):
    """The name of a class or function. It is not looked up."""


class PickledObject:
    """
    A call in a pickle. It is not called.

    :param name: ``"module.name"`` of the class or function
    :param arguments: The arguments of the call
    """

    def __init__(self, name: str, arguments: Any) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None


def read_pickle(content: bytes) -> Any:
    """
    Read a pickle of data, of protocol 3 to 5.

    Runs the instructions of pickle's stack machine that build values, and refuses all others. Calls nothing: a call in
    the pickle becomes a :class:`PickledObject`. NumPy's arrays and numbers are made.

    :param content: The pickle
    :return: Numbers, text, ``None``, arrays of numbers, :class:`PickledObject`, and lists, tuples and dictionaries of
        these
    :raises UnsafeFileError: If the pickle is damaged, too large, or has any other instruction
    """
    if len(content) > MAX_BYTES:
        raise UnsafeFileError(f"it is longer than {MAX_BYTES} bytes")
    try:
        return _Machine(content).run()
    except UnsafeFileError:
        raise
    except DAMAGED as error:
        raise UnsafeFileError(f"it is damaged, or no pickle: {shown(repr(error), 300)}") from error


class _Machine:
    """
    Pickle's stack machine, without calls.

    :param content: The pickle
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._stack: list[Any] = []
        self._outer_stacks: list[list[Any]] = []  # the stacks below the marks
        self._memo: dict[int, Any] = {}
        self._bytes_left = 4 * len(content)  # arrays may share their bytes, but a small file may not fill the memory

    def run(self) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self._content)):
            if number > MAX_INSTRUCTIONS:
                raise UnsafeFileError(f"it has more than {MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                (value,) = self._stack
                return self._finished(value, {}, 0)
            if opcode.name in _VALUES:
                self._stack.append(argument)
            elif opcode.name in _CONSTANTS:
                self._stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _OPERATIONS:
                _OPERATIONS[opcode.name](self, argument)
            elif opcode.name not in ("PROTO", "FRAME"):
                raise UnsafeFileError(f"it has the instruction {opcode.name}, which is not for data")
        raise UnsafeFileError("it has no end")

    def _pop_to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer_stacks.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._outer_stacks.append(self._stack)
        self._stack = []

    def _global(self, argument: str) -> None:
        self._stack.append(_Name(argument.replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(_Name(f"{_of(str, module)}.{_of(str, name)}"))

    def _tuple(self, _: Any) -> None:
        items = self._pop_to_mark()
        self._stack.append(tuple(items))

    def _short_tuple(self, n: int) -> None:
        if len(self._stack) < n:
            raise UnsafeFileError("a tuple has too few items")
        self._stack[-n:] = [tuple(self._stack[-n:])]

    def _append(self, items: list[Any]) -> None:
        _of(list, self._stack[-1]).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        if not all(map(is_key, items[::2])):
            raise UnsafeFileError("it has a key that is neither text nor a small number")
        _of(dict, self._stack[-1]).update(zip(items[::2], items[1::2], strict=True))

    def _get(self, argument: int) -> None:
        self._stack.append(self._memo[argument])

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _put(self, argument: int) -> None:
        self._memo[argument] = self._stack[-1]

    def _call(self, _: Any) -> None:
        arguments = _of(tuple, self._stack.pop())
        name = _of(_Name, self._stack.pop())
        is_dict = name == "collections.OrderedDict" and not arguments
        self._stack.append({} if is_dict else PickledObject(name, arguments))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        pickled = _of(PickledObject, self._stack[-1])
        if pickled.state is not None:
            raise UnsafeFileError(f"the state of a {shown(pickled.name, 100)} is set twice")
        pickled.state = state

    def _finished(self, value: Any, done: dict[int, Any], depth: int) -> Any:
        """Make the arrays in a value. A part in many places is converted once, and kept in ``done`` by its ``id``."""
        if depth > 50:
            raise UnsafeFileError("it contains itself, or its parts are nested too deeply")
        if isinstance(value, _Name):
            return PickledObject(value, ())
        if not isinstance(value, dict | list | tuple | PickledObject):
            return value
        if id(value) not in done:
            if isinstance(value, dict):
                done[id(value)] = {key: self._finished(part, done, depth + 1) for key, part in value.items()}
            elif isinstance(value, PickledObject):
                done[id(value)] = self._array_or_object(value, done, depth + 1)
            else:
                done[id(value)] = type(value)([self._finished(part, done, depth + 1) for part in value])
        return done[id(value)]

    def _array_or_object(self, pickled: PickledObject, done: dict[int, Any], depth: int) -> Any:
        function, arguments = pickled.name.replace("numpy.core.", "numpy._core."), pickled.arguments
        if function == "numpy._core.multiarray._reconstruct":
            _, shape, dtype, is_fortran, content = _of(tuple, pickled.state)
            return self._array(shape, dtype, content, "F" if is_fortran else "C")
        if function == "numpy._core.multiarray.scalar":
            return self._array((), arguments[0], arguments[1], "C")[()]
        if function == "numpy._core.numeric._frombuffer":  # in pickle's protocol 5
            return self._array(arguments[2], arguments[1], arguments[0], _of(str, arguments[3]))
        finished = PickledObject(pickled.name, self._finished(arguments, done, depth))
        finished.state = self._finished(pickled.state, done, depth)
        return finished

    def _array(self, shape: Any, dtype: Any, content: Any, order: str) -> np.ndarray:
        pickled = _of(PickledObject, dtype)
        is_number = pickled.name == "numpy.dtype" and pickled.arguments[0] in _NUMBERS
        if not is_number or (pickled.state or (3, "<"))[1] not in "<|":
            raise UnsafeFileError("it has an array whose entries are not little-endian numbers")
        kind, content = np.dtype(pickled.arguments[0]), _of(bytes | bytearray, content)
        if not len(_of(tuple, shape)) <= _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
            raise UnsafeFileError(f"an array has the shape {shown(repr(shape), 100)}")
        if math.prod(shape) * kind.itemsize != len(content):
            raise UnsafeFileError(f"{len(content)} bytes are declared as an array of shape {shape} of {kind}")
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            raise UnsafeFileError("too many of its arrays share their bytes")
        return np.frombuffer(content, kind).reshape(shape, order=order).copy()  # type: ignore[call-overload, no-any-return]


def _of(kind: Any, value: Any) -> Any:
    """Check the type of a value, and return the value."""
    if not isinstance(value, kind):
        expected = getattr(kind, "__name__", kind)
        raise UnsafeFileError(f"it has {getattr(value, 'name', type(value).__name__)} where {expected} is expected")
    return value


_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._short_tuple(1),
    "TUPLE2": lambda machine, _: machine._short_tuple(2),
    "TUPLE3": lambda machine, _: machine._short_tuple(3),
    "APPEND": lambda machine, _: machine._append([machine._stack.pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._pop_to_mark()),
    "SETITEM": lambda machine, _: machine._set_items([machine._stack.pop(-2), machine._stack.pop()]),
    "SETITEMS": lambda machine, _: machine._set_items(machine._pop_to_mark()),
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "MEMOIZE": _Machine._memoize,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "REDUCE": _Machine._call,
    "NEWOBJ": _Machine._call,
    "BUILD": _Machine._build,
}
