"""Files of ``torch.save``, read without an unpickler: tensors, numbers and containers come out, nothing else can."""

import io
import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.saving.archive import DAMAGED, opened_archive, read_members
from sb3_lecture_dqn.saving.pickle_machine import Name, PickleMachine, of_type

#: PyTorch's numbers that files may have, by the names of their memory
DTYPES = {
    f"torch.{name}Storage": dtype
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
_TENSOR, _DICT = "torch._utils._rebuild_tensor_v2", "collections.OrderedDict"
# Tensors may be so many times as large as the file, as some share their memory; and may have so many dimensions.
_MAX_VIEWS, _MAX_DIMENSIONS = 4, 64
# Most of a file of torch.save, which has one for every tensor
_MAX_TENSORS = 2**15


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
        machine = _TorchMachine(program, numbers, {} if storages is None else storages, _MAX_VIEWS * len(content))
        return machine.run()


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


class _TorchMachine(PickleMachine):
    """
    Carries out a pickle of ``torch.save``.

    :param program: The pickle
    :param numbers: The numbers of the file by their names
    :param storages: To be filled with the memory that the tensors are views of
    :param max_bytes: Most bytes of all tensors together
    """

    def __init__(
        self, program: bytes, numbers: dict[str, bytes], storages: dict[str, th.Tensor], max_bytes: int
    ) -> None:
        super().__init__(program)
        self._numbers, self._storages, self._max_bytes = numbers, storages, max_bytes
        self._max_shared = len(program)

    def call(self, function: Name, arguments: tuple[Any, ...]) -> Any:
        """See :class:`PickleMachine`."""
        if function == _DICT and arguments == ():
            return OrderedDict()
        if function != _TENSOR:
            return super().call(function, arguments)
        return self._counted(_tensor(*arguments[:4]))

    def set_state(self, value: Any, state: Any) -> None:
        """See :class:`PickleMachine`; ``state_dict()`` notes the versions of modules so."""
        if not isinstance(value, OrderedDict) or set(of_type(dict, state)) != {"_metadata"}:
            super().set_state(value, state)
        value._metadata = _versions(of_type(dict, state["_metadata"]))

    def refer(self, reference: Any) -> Any:
        """See :class:`PickleMachine`; tensors refer to their numbers."""
        return _storage(reference, self._storages, self._numbers)

    def use_again(self, value: Any) -> Any:
        """See :class:`PickleMachine`. Containers of shared containers could be far larger than the file."""
        if isinstance(value, _CONTAINERS):
            self._max_shared -= len(value)
            flat = isinstance(value, tuple) and not any(isinstance(part, _CONTAINERS) for part in value)
            if not flat or self._max_shared < 0:
                raise UnsafeFileError("it has a container in several places")
        return self._counted(value)

    def _counted(self, value: Any) -> Any:
        if isinstance(value, th.Tensor):
            self._max_bytes -= value.nbytes
            if self._max_bytes < 0:
                raise UnsafeFileError("its tensors have the same numbers again and again")
        return value


_CONTAINERS = (dict, list, tuple)


def _versions(metadata: dict[Any, Any]) -> dict[Any, Any]:
    """The versions of modules: PyTorch takes other entries for its own switches."""
    return {
        name: {"version": module["version"]}
        for name, module in metadata.items()
        if isinstance(module, dict) and type(module.get("version")) is int
    }


def _storage(identity: Any, storages: dict[str, th.Tensor], numbers: dict[str, bytes]) -> _Storage:
    kind, dtype_name, key, _, length = of_type(tuple, identity)
    if kind != "storage" or not isinstance(dtype_name, Name) or dtype_name not in DTYPES:
        what = dtype_name if isinstance(dtype_name, str) else type(dtype_name).__name__
        raise UnsafeFileError(f"it refers to {what}, which is no memory of tensors")
    dtype = DTYPES[dtype_name]
    if of_type(str, key) not in storages:
        content = numbers[key]
        if len(content) != of_type(int, length) * dtype.itemsize:
            raise UnsafeFileError(f"{length} numbers of {dtype} are declared, and there are {len(content)} bytes")
        storages[key] = th.frombuffer(bytearray(content), dtype=dtype) if content else th.empty(0, dtype=dtype)
    if storages[key].dtype != dtype:
        raise UnsafeFileError(f"numbers of {storages[key].dtype} are declared as {dtype}")
    return _Storage(storages[key])


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> th.Tensor:
    values = of_type(_Storage, storage).values
    if not len(of_type(tuple, size)) == len(of_type(tuple, stride)) <= _MAX_DIMENSIONS:
        raise UnsafeFileError(f"a tensor has {len(size)} dimensions and {len(stride)} strides")
    if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)):
        raise UnsafeFileError("a tensor's shape, strides or offset are no numbers from 0 on")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if 0 not in size else -1
    # A stride of 0 would let a few numbers stand for any amount of them.
    if last >= len(values) or math.prod(size) > len(values):
        raise UnsafeFileError(f"a tensor of shape {size} is declared, and there are {len(values)} numbers")
    return th.as_strided(values, size, stride, offset)
