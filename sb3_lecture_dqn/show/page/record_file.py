"""
A file of records, each of JSON and arrays, which is only appended to.

Before each record stand its lengths and a checksum, so that a damaged one is found.
"""

import json
import math
import pathlib
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.files import parse_json

#: Types of the arrays
_DTYPES = {dtype: np.dtype(dtype) for dtype in ("<f2", "<f4", "<f8", "<i4", "<i8", "|u1", "|b1")}
#: Lengths of both texts and of the numbers; then a checksum of all but itself
_LENGTHS, _CHECKSUM = struct.Struct("<QQQ"), struct.Struct("<I")
_HEADER_SIZE = _LENGTHS.size + _CHECKSUM.size


class Record(NamedTuple):
    """
    A record that was read.

    :param described: Its JSON
    :param common: The part of its JSON that is mostly that of the record before
    :param arrays: Its arrays by name, read-only
    :param end: Where it ends in the file, in bytes
    """

    described: dict[str, Any]
    common: Any
    arrays: dict[str, np.ndarray]
    end: int


class RecordFile:
    """
    Appends records to a file.

    :param path: It need not exist
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._common: tuple[Any, Any] = None, None  # of the last record, and its text
        self._text = b""

    def cut(self, end: int) -> None:
        """
        Cut the file.

        :param end: Bytes that stay
        :raises OSError: If the file cannot be changed
        """
        if self.path.exists():
            with self.path.open("r+b") as file:
                file.truncate(end)

    def append(self, described: dict[str, Any], common: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """
        Append a record.

        :param described: JSON
        :param common: More JSON. It takes less time if it is that of the record before
        :param arrays: Arrays of known types
        :raises OSError: If it cannot be written; the file then ends as before
        """
        layout = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
        if self._common != (common, layout):
            self._common, self._text = (common, layout), json.dumps([common, layout]).encode()
        text = json.dumps(described).encode()
        numbers: list[Any] = [np.ascontiguousarray(array) for array in arrays.values()]
        lengths = _LENGTHS.pack(len(text), len(self._text), sum(array.nbytes for array in numbers))
        checksum = 0
        for content in (lengths, text, self._text, *numbers):
            checksum = zlib.crc32(content, checksum)
        with self.path.open("ab") as file:
            begin = file.tell()
            try:
                for content in (lengths, _CHECKSUM.pack(checksum), text, self._text, *numbers):
                    file.write(content)
                file.flush()
            except OSError:
                file.raw.close()  # so that nothing is written after the cut
                self.cut(begin)
                raise


def read_records(path: pathlib.Path, note_damage: Callable[[str], None]) -> Iterator[Record]:
    """
    Read records, up to the end of the file or to where it cannot be known where the next begins.

    :param path: The file
    :param note_damage: Called for each record that is left out, with the reason
    :return: The records
    :raises OSError: If the file cannot be read
    """
    content = path.read_bytes()
    view, begin = memoryview(content), 0
    while begin < len(content):
        lengths = view[begin : begin + _LENGTHS.size]
        n_text, n_common, n_numbers = _LENGTHS.unpack(lengths) if len(lengths) == _LENGTHS.size else (0, 0, 0)
        of_text = begin + _HEADER_SIZE
        of_common = of_text + n_text
        of_numbers = of_common + n_common
        end = of_numbers + n_numbers
        if n_text == 0 or end > len(content):
            return note_damage("the file ends within it")
        try:
            checksum = zlib.crc32(view[of_text:end], zlib.crc32(lengths))
            if (checksum,) != _CHECKSUM.unpack_from(content, begin + _LENGTHS.size):
                raise UnsafeFileError("its checksum is wrong")
            described, (common, layout) = map(parse_json, (content[of_text:of_common], content[of_common:of_numbers]))
            yield Record(described, common, _arrays(layout, view[of_numbers:end]), end)
        except DAMAGED as error:
            note_damage(str(error) if isinstance(error, UnsafeFileError) else repr(error))
        begin = end


def _arrays(layout: list[Any], numbers: memoryview) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    at = 0
    for name, kind, shape in layout:
        if not all(type(n) is int and n >= 0 for n in shape):
            raise UnsafeFileError(f"an array of shape {shown(shape)} is declared")
        dtype, count = _DTYPES[kind], math.prod(shape)
        arrays[name] = np.frombuffer(numbers, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    if at != len(numbers):
        raise UnsafeFileError("its arrays have another length")
    return arrays
