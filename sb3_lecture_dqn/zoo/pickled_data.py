"""Reading pickles of numbers, text, arrays and containers without an unpickler. Names in them are not looked up."""

import math
from typing import Any

import numpy as np

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.pickle_machine import Name, PickleMachine, of_type

#: Most bytes of a pickle
MAX_BYTES = 2**26
_MAX_DIMENSIONS = 32
_NUMBERS = {
    f"{kind}{size}" for kind, sizes in {"f": (2, 4, 8), "iu": (1, 2, 4, 8)}.items() for kind in kind for size in sizes
}
_NUMBERS |= {"b1"}


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
        return _DataMachine(content).run()
    except UnsafeFileError:
        raise
    except DAMAGED as error:
        raise UnsafeFileError(f"it is damaged, or no pickle: {shown(repr(error), 300)}") from error


class _DataMachine(PickleMachine):
    """
    Carries out a pickle of data, without calls.

    :param content: The pickle
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._bytes_left = 4 * len(content)  # arrays may share their bytes, but a small file may not fill the memory

    def run(self) -> Any:
        """See :class:`PickleMachine`."""
        return self._finished(super().run(), {}, 0)

    def call(self, function: Name, arguments: tuple[Any, ...]) -> Any:
        """See :class:`PickleMachine`."""
        return {} if function == "collections.OrderedDict" and not arguments else PickledObject(function, arguments)

    def set_state(self, value: Any, state: Any) -> None:
        """See :class:`PickleMachine`."""
        pickled = of_type(PickledObject, value)
        if pickled.state is not None:
            raise UnsafeFileError(f"the state of a {shown(pickled.name, 100)} is set twice")
        pickled.state = state

    def _finished(self, value: Any, done: dict[int, Any], depth: int) -> Any:
        """Make the arrays in a value. A part in many places is converted once, and kept in ``done`` by its ``id``."""
        if depth > 50:
            raise UnsafeFileError("it contains itself, or its parts are nested too deeply")
        if isinstance(value, Name):
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
            _, shape, dtype, is_fortran, content = of_type(tuple, pickled.state)
            return self._array(shape, dtype, content, "F" if is_fortran else "C")
        if function == "numpy._core.multiarray.scalar":
            return self._array((), arguments[0], arguments[1], "C")[()]
        if function == "numpy._core.numeric._frombuffer":  # in pickle's protocol 5
            return self._array(arguments[2], arguments[1], arguments[0], of_type(str, arguments[3]))
        finished = PickledObject(pickled.name, self._finished(arguments, done, depth))
        finished.state = self._finished(pickled.state, done, depth)
        return finished

    def _array(self, shape: Any, dtype: Any, content: Any, order: str) -> np.ndarray:
        pickled = of_type(PickledObject, dtype)
        is_number = pickled.name == "numpy.dtype" and pickled.arguments[0] in _NUMBERS
        if not is_number or (pickled.state or (3, "<"))[1] not in "<|":
            raise UnsafeFileError("it has an array whose entries are not little-endian numbers")
        kind, content = np.dtype(pickled.arguments[0]), of_type(bytes | bytearray, content)
        if not len(of_type(tuple, shape)) <= _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
            raise UnsafeFileError(f"an array has the shape {shown(repr(shape), 100)}")
        if math.prod(shape) * kind.itemsize != len(content):
            raise UnsafeFileError(f"{len(content)} bytes are declared as an array of shape {shape} of {kind}")
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            raise UnsafeFileError("too many of its arrays share their bytes")
        return np.frombuffer(content, kind).reshape(shape, order=order).copy()  # type: ignore[call-overload, no-any-return]
