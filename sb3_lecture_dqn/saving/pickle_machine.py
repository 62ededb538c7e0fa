"""Pickle's stack machine without an unpickler: the instructions that build data, and no others."""

import pickletools
from collections.abc import Callable
from typing import Any

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown

#: Most instructions of a pickle
MAX_INSTRUCTIONS = 10**7


class Name(str):
    """The dotted name of a class or function. It is not looked up."""


class PickleMachine:
    """
    Carries out the instructions of a pickle that build numbers, text, lists, tuples and dictionaries.

    Subclasses decide what becomes of calls, of states that are set, and of references to other places. Here all of them
    are refused. Nothing that a pickle names is looked up or called.

    :param content: The pickle
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._stack: list[Any] = []
        self._outer_stacks: list[list[Any]] = []  # the stacks below the marks
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """
        Carry out the pickle.

        :return: The value
        :raises UnsafeFileError: If it has another instruction, or more than :data:`MAX_INSTRUCTIONS`
        :raises Exception: One of :data:`archive.DAMAGED`, if it is damaged
        """
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self._content)):
            if number > MAX_INSTRUCTIONS:
                raise UnsafeFileError(f"it has more than {MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                (value,) = self._stack
                return value
            if opcode.name in _VALUES:
                self._stack.append(argument)
            elif opcode.name in _CONSTANTS:
                self._stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _OPERATIONS:
                _OPERATIONS[opcode.name](self, argument)
            elif opcode.name not in ("PROTO", "FRAME"):
                raise UnsafeFileError(f"it has the instruction {opcode.name}, which is not for data")
        raise UnsafeFileError("it has no end")

    def call(self, function: Name, arguments: tuple[Any, ...]) -> Any:
        """
        Return the value of a call.

        :param function: Name of the function
        :param arguments: Its arguments
        """
        raise UnsafeFileError(f"it calls {shown(function)}, which is code")

    def set_state(self, value: Any, state: Any) -> None:
        """
        Set the state of a value.

        :param value: A value that was built
        :param state: Its state
        """
        raise UnsafeFileError("it sets the attributes of an object")

    def refer(self, reference: Any) -> Any:
        """
        Return the value of a reference to another place.

        :param reference: The reference
        """
        raise UnsafeFileError("it refers to another place")

    def use_again(self, value: Any) -> Any:
        """
        Return a value that is used in one more place.

        :param value: The value
        """
        return value

    def _pop_to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer_stacks.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._outer_stacks.append(self._stack)
        self._stack = []

    def _global(self, argument: str) -> None:
        self._stack.append(Name(argument.replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(Name(f"{of_type(str, module)}.{of_type(str, name)}"))

    def _tuple(self, _: Any) -> None:
        items = self._pop_to_mark()
        self._stack.append(tuple(items))

    def _short_tuple(self, n: int) -> None:
        if len(self._stack) < n:
            raise UnsafeFileError("a tuple has too few items")
        self._stack[-n:] = [tuple(self._stack[-n:])]

    def _append(self, items: list[Any]) -> None:
        of_type(list, self._stack[-1]).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        if not all(map(is_key, items[::2])):
            raise UnsafeFileError("it has a key that is neither text nor a small number")
        of_type(dict, self._stack[-1]).update(zip(items[::2], items[1::2], strict=True))

    def _get(self, argument: int) -> None:
        self._stack.append(self.use_again(self._memo[argument]))

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _put(self, argument: int) -> None:
        self._memo[argument] = self._stack[-1]

    def _reduce(self, _: Any) -> None:
        arguments = of_type(tuple, self._stack.pop())
        self._stack.append(self.call(of_type(Name, self._stack.pop()), arguments))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        self.set_state(self._stack[-1], state)

    def _refer(self, _: Any) -> None:
        self._stack.append(self.refer(self._stack.pop()))


def is_key(value: Any) -> bool:
    """
    Look whether a value may be a key of a dictionary in a file.

    :param value: A value from a file
    :return: ``False`` also for large numbers: they can be chosen so that Python looks for each where all others are
    """
    return type(value) is str or (type(value) is int and 0 <= value < 2**31)


def of_type(kind: Any, value: Any) -> Any:
    """
    Check the type of a value.

    :param kind: The type
    :param value: The value
    :return: The value
    :raises UnsafeFileError: If it has another type
    """
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
_OPERATIONS: dict[str, Callable[[PickleMachine, Any], None]] = {
    "MARK": PickleMachine._mark,
    "GLOBAL": PickleMachine._global,
    "STACK_GLOBAL": PickleMachine._stack_global,
    "TUPLE": PickleMachine._tuple,
    "TUPLE1": lambda machine, _: machine._short_tuple(1),
    "TUPLE2": lambda machine, _: machine._short_tuple(2),
    "TUPLE3": lambda machine, _: machine._short_tuple(3),
    "APPEND": lambda machine, _: machine._append([machine._stack.pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._pop_to_mark()),
    "SETITEM": lambda machine, _: machine._set_items([machine._stack.pop(-2), machine._stack.pop()]),
    "SETITEMS": lambda machine, _: machine._set_items(machine._pop_to_mark()),
    "BINGET": PickleMachine._get,
    "LONG_BINGET": PickleMachine._get,
    "MEMOIZE": PickleMachine._memoize,
    "BINPUT": PickleMachine._put,
    "LONG_BINPUT": PickleMachine._put,
    "REDUCE": PickleMachine._reduce,
    "NEWOBJ": PickleMachine._reduce,
    "BUILD": PickleMachine._build,
    "BINPERSID": PickleMachine._refer,
}
