"""
The weights of a model's file, read without its pickles.

``torch.save`` writes the pickle of a state dictionary, for stock Stable-Baselines3, and beside it the numbers of all
tensors as they are. A description says which of these numbers belong to which tensor, so they need not be there twice.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch as th

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.saving.codec import Put, decode, encode
from sb3_lecture_dqn.saving.torch_file import read_storages, read_tensors


def with_tensors(value: Any, convert: Callable[[th.Tensor], th.Tensor]) -> Any:
    """
    Convert the tensors of a state dictionary, and numbers of NumPy to those of Python.

    :param value: Tensors and numbers, in dictionaries, lists and tuples
    :param convert: What makes another tensor of a tensor
    :return: The same with other tensors; the value is left as it is
    """
    if isinstance(value, th.Tensor):
        return convert(value)
    if isinstance(value, np.generic):  # a learning rate that the user has computed
        return value.item()
    if isinstance(value, list | tuple):
        items = [with_tensors(item, convert) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if not isinstance(value, Mapping):
        return value
    converted = {key: with_tensors(item, convert) for key, item in value.items()}
    if not isinstance(value, OrderedDict):
        return converted
    ordered = OrderedDict(converted)
    vars(ordered).update(vars(value))  # the versions of modules
    return ordered


def describe_weights(content: bytes) -> Any:
    """
    Describe what ``torch.save`` has written, and check that :func:`read_weights` reads it.

    :param content: The whole file
    :return: The description, JSON
    :raises UnsafeFileError: If its tensors share numbers, are strided, or leave numbers out; or it holds anything else
    """
    storages: dict[str, th.Tensor] = {}
    description = encode(read_tensors(content, storages), {}, _finder(storages))
    _state({key: memoryview(tensor.view(th.uint8).numpy().data) for key, tensor in storages.items()}, description)
    return description


def read_weights(content: bytes, description: Any) -> Any:
    """
    Read weights.

    :param content: A whole file of ``torch.save``, whose pickle is not looked at
    :param description: What :func:`describe_weights` returned for it
    :return: The state dictionary
    :raises UnsafeFileError: If the two do not fit
    """
    return _state({key: memoryview(numbers) for key, numbers in read_storages(content).items()}, description)


def _state(storages: dict[str, memoryview], description: Any) -> Any:
    numbers = _Storages(storages)
    state = decode(description, {}, take=numbers.take, way_on="")
    numbers.check_all_taken()
    return state


def _finder(storages: dict[str, th.Tensor]) -> Put:
    """Return what finds the numbers of tensors by their addresses, in the memory of all numbers of a file."""
    begins = sorted((tensor.data_ptr(), tensor.nbytes, key) for key, tensor in storages.items())

    def find(content: np.ndarray) -> dict[str, Any]:
        address = content.ctypes.data
        i = bisect_right(begins, address, key=lambda begin: begin[0]) - 1
        begin, n_bytes, key = begins[i] if i >= 0 else (address, 0, "")
        if address + len(content) > begin + n_bytes:
            raise UnsafeFileError("a tensor is strided")
        return {"at": [key, address - begin]}

    return find


class _Storages:
    """The numbers of a file, each of which is taken once."""

    def __init__(self, storages: dict[str, memoryview]) -> None:
        self._storages = storages
        self._n_left = sum(map(len, storages.values()))
        self._taken: list[tuple[str, int, int]] = []

    def take(self, described: dict[str, Any], n_bytes: int) -> memoryview:
        """See :data:`codec.Take`."""
        key, begin = described["at"]
        if type(begin) is not int or begin < 0 or begin + n_bytes > len(self._storages[key]):
            raise UnsafeFileError(f"a tensor of shape {shown(described['shape'])} is declared beyond its numbers")
        self._n_left -= n_bytes
        if self._n_left < 0:
            raise UnsafeFileError("its tensors have the same numbers again and again")
        self._taken.append((key, begin, begin + n_bytes))
        return self._storages[key][begin : begin + n_bytes]

    def check_all_taken(self) -> None:
        """Check that tensors have all numbers, and none in common."""
        ends = dict.fromkeys(self._storages, 0)
        for key, begin, end in sorted(self._taken):
            if begin != ends[key]:
                raise UnsafeFileError("its tensors have numbers in common, or there are numbers of no tensor")
            ends[key] = end
        if self._n_left:
            raise UnsafeFileError(f"it has {self._n_left} bytes of no tensor")
