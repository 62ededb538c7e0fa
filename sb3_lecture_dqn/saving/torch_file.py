"""Files of ``torch.save``, read without an unpickler: tensors, numbers and containers come out, nothing else can."""

import io
import math
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch as th

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.saving.archive import DAMAGED, opened_archive, read_members

#: PyTorch's numbers that files may have, by the names of their memory
DTYPES = {
    f"torch {name}Storage": dtype
    for name, dtype in {
        "Double": th.float64,
        "Float": th.float32,
        "Half": th.float16,
        "BFloat16": th.bfloat16,
        "Long": th.int64,
        "Int": th.int32,
        "Short": th.int16,
        "Char": th.int8,
        "Byte": th.uint8,
        "Bool": th.bool,
    }.items()
}
_TENSOR, _DICT = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
# Tensors may be so many times as large as the file, as some share their memory; and may have so many dimensions.
_MAX_VIEWS, _MAX_DIMENSIONS = 4, 64
# Most of a file of torch.save, which has one for every tensor
_MAX_TENSORS = 2**15


class _Name(str):
    """A global that the stream names; it stays a name."""


class _Storage:
    """The flat memory that tensors are views of."""

    def __init__(self, values: th.Tensor) -> None:
        self.values = values


def read_tensors(content: bytes, storages: dict[str, th.Tensor] | None = None) -> Any:
    """
    Read what ``torch.save`` wrote of dictionaries, lists and tuples of dense CPU tensors, numbers and text.

    PyTorch writes these as the program of pickle's small stack machine. This function carries out the instructions that
    build such values and refuses all others. The program may call two functions, which make an ``OrderedDict`` and a
    tensor; they are not looked up by name but carried out here too. So, unlike ``torch.load``, this runs nothing that a
    file names, and takes no more memory than the file is long.

    :param content: The whole file, in the zip format of PyTorch >= 1.6
    :param storages: To be filled with the memory that the tensors are views of, by its names in the file
    :return: The value
    :raises UnsafeFileError: If it is damaged or holds anything else
    """
    with _damage_named():
        program, numbers = _parts_of(content)
        return _run(program, numbers, {} if storages is None else storages, _MAX_VIEWS * len(content))


def read_storages(content: bytes) -> dict[str, bytes]:
    """
    Read the numbers that ``torch.save`` wrote, and ignore the pickle that says which tensors have them.

    :param content: The whole file, in the zip format of PyTorch >= 1.6
    :return: The bytes of each memory of tensors, by its name in the file
    :raises UnsafeFileError: If it is damaged
    """
    with _damage_named():
        return _parts_of(content)[1]


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except UnsafeFileError:
        raise
    except DAMAGED as error:
        raise UnsafeFileError(f"it is damaged, or no file of torch.save: {error!r}") from None


def _parts_of(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the pickle, and the numbers by their names."""
    with opened_archive(io.BytesIO(content), len(content), _MAX_TENSORS) as archive:
        members = read_members(archive)
    (program,) = (name for name in members if name.endswith("/data.pkl"))
    folder = program.removesuffix("data.pkl")
    if members.get(folder + "byteorder", b"little") != b"little":
        raise UnsafeFileError("its numbers are not in little-endian order")
    data = folder + "data/"
    numbers = {name.removeprefix(data): member for name, member in members.items() if name.startswith(data)}
    return members[program], numbers


def _run(  # noqa: C901 (one by one)
    program: bytes, numbers: dict[str, bytes], storages: dict[str, th.Tensor], max_bytes: int
) -> Any:
    """Carry out the instructions of a pickle that build data, with tensors of so many bytes at most."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # what is under each mark
    memo: dict[int, Any] = {}
    n_shared = 0

    def pop_to_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, below.pop()
        return items

    argument: Any
    for opcode, argument, _ in pickletools.genops(program):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            (value,) = stack
            return value
        if name == "GLOBAL":
            stack.append(_Name(argument))
        elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"):
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            item = memo[argument]
            # Containers of shared containers would be far larger than the file for whoever walks through them.
            if isinstance(item, _CONTAINERS):
                n_shared += len(item)
                flat = isinstance(item, tuple) and not any(isinstance(part, _CONTAINERS) for part in item)
                if not flat or n_shared > len(program):
                    raise UnsafeFileError("it has a container in several places")
            stack.append(item)
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name == "TUPLE":
            items = pop_to_mark()
            stack.append(tuple(items))
        elif name in _TUPLES:
            n = _TUPLES[name]
            if len(stack) < n:
                raise UnsafeFileError("a tuple has too few items")
            stack[-n:] = [tuple(stack[-n:])]
        elif name == "APPEND":
            item = stack.pop()
            _of_type(list, stack[-1]).append(item)
        elif name == "APPENDS":
            items = pop_to_mark()
            _of_type(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = pop_to_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            if not all(map(is_key, items[::2])):
                raise UnsafeFileError("it has a key that is no text and no small number")
            _of_type(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop(), storages, numbers))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_call(stack.pop(), arguments))
        elif name == "BUILD":  # state_dict() notes the versions of modules so
            state = stack.pop()
            if not isinstance(stack[-1], OrderedDict) or set(_of_type(dict, state)) != {"_metadata"}:
                raise UnsafeFileError("it sets the attributes of an object")
            stack[-1]._metadata = _versions(_of_type(dict, state["_metadata"]))  # type: ignore[attr-defined]
        else:
            raise UnsafeFileError(f"it has the instruction {name}, which no tensors need")
        if name in ("REDUCE", "BINGET", "LONG_BINGET") and isinstance(stack[-1], th.Tensor):
            max_bytes -= stack[-1].nbytes
            if max_bytes < 0:
                raise UnsafeFileError("its tensors have the same numbers again and again")
    raise UnsafeFileError("it has no end")


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_CONTAINERS = (dict, list, tuple)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def is_key(value: Any) -> bool:
    """
    Look whether a value may be a key of a dictionary in a file.

    :param value: A value from a file
    :return: ``False`` also for large numbers: they can be chosen so that Python looks for each where all others are
    """
    return type(value) is str or (type(value) is int and 0 <= value < 2**31)


def _versions(metadata: dict[Any, Any]) -> dict[Any, Any]:
    """The versions of modules: PyTorch takes other entries for its own switches."""
    return {
        name: {"version": module["version"]}
        for name, module in metadata.items()
        if isinstance(module, dict) and type(module.get("version")) is int
    }


def _of_type(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise UnsafeFileError(f"there is {type(value).__name__} where {kind.__name__} is expected")
    return value


def _storage(identity: Any, storages: dict[str, th.Tensor], numbers: dict[str, bytes]) -> _Storage:
    kind, dtype_name, key, _, length = _of_type(tuple, identity)
    if kind != "storage" or not isinstance(dtype_name, _Name) or dtype_name not in DTYPES:
        what = dtype_name if isinstance(dtype_name, str) else type(dtype_name).__name__
        raise UnsafeFileError(f"it refers to {what}, which is no memory of tensors")
    dtype = DTYPES[dtype_name]
    if _of_type(str, key) not in storages:
        content = numbers[key]
        if len(content) != _of_type(int, length) * dtype.itemsize:
            raise UnsafeFileError(f"{length} numbers of {dtype} are declared, and there are {len(content)} bytes")
        storages[key] = th.frombuffer(bytearray(content), dtype=dtype) if content else th.empty(0, dtype=dtype)
    if storages[key].dtype != dtype:
        raise UnsafeFileError(f"numbers of {storages[key].dtype} are declared as {dtype}")
    return _Storage(storages[key])


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name):
        raise UnsafeFileError(f"it calls what is no function but {type(function).__name__}")
    if function == _DICT and arguments == ():
        return OrderedDict()
    if function != _TENSOR:
        raise UnsafeFileError(f"it calls {'.'.join(function.split())}, which is code and no tensor")
    storage, offset, size, stride = _of_type(tuple, arguments)[:4]
    values = _of_type(_Storage, storage).values
    if not len(_of_type(tuple, size)) == len(_of_type(tuple, stride)) <= _MAX_DIMENSIONS:
        raise UnsafeFileError(f"a tensor has {len(size)} dimensions and {len(stride)} strides")
    if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)):
        raise UnsafeFileError("a tensor's shape, strides or offset are no numbers from 0 on")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if 0 not in size else -1
    # A stride of 0 would let a few numbers stand for any amount of them.
    if last >= len(values) or math.prod(size) > len(values):
        raise UnsafeFileError(f"a tensor of shape {size} is declared, and there are {len(values)} numbers")
    return th.as_strided(values, size, stride, offset)
