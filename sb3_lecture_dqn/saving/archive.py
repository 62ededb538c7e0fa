"""Zip archives, checked before any of them is read."""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown

#: Most members of an archive of this package: reading each takes time, even an empty one
MAX_MEMBERS = 2**12
# The end of an archive, and the two records before it in a large one: signature, then what is read of it
_END, _LOCATOR, _END64 = struct.Struct("<4s4xHHLLH"), struct.Struct("<4s16x"), struct.Struct("<4s20x4Q")
_NAME = 512  # bytes of a member's entry in the directory

#: Exceptions that reading a damaged file raises, or making a model from wrong settings
DAMAGED = (
    zipfile.BadZipFile,
    NotImplementedError,  # a compression or version that zipfile does not know
    EOFError,
    OSError,
    ArithmeticError,
    LookupError,
    MemoryError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
)


def read_members(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """
    Read all of an archive into memory.

    :param archive: From :func:`opened_archive`
    :return: Name and content of every member
    :raises zipfile.BadZipFile: If a member's checksum is wrong
    """
    return {name: archive.read(name) for name in archive.namelist()}


@contextmanager
def opened_archive(file: IO[bytes], size: int, max_members: int = MAX_MEMBERS) -> Iterator[zipfile.ZipFile]:
    """
    Open an archive, and check its directory before any member is read.

    :param file: Its file
    :param size: Length of the file in bytes
    :param max_members: Most members that it may have
    :return: The archive, which takes all of the file
    :raises UnsafeFileError: If there are more members, or bytes before or behind them; if two members have one name; if
        one is compressed, is encrypted or leaves the archive's folder; if all together are larger than the file
    """
    _check_end(file, size, max_members)
    with zipfile.ZipFile(file) as archive:
        _check_members(archive, size)
        yield archive


def _check_end(file: IO[bytes], size: int, max_members: int) -> None:
    """Check the place and the length of the directory: ``zipfile`` would read all of it, wherever it is."""
    if size < _END.size:
        raise UnsafeFileError("it is too short to be an archive")
    file.seek(size - _END.size)
    signature, here, n, length, start, comment = _END.unpack(file.read(_END.size))
    if signature != b"PK\5\6" or comment:
        raise UnsafeFileError("it does not end as an archive does, so it is no archive, or bytes have been added to it")
    end = size - _END.size
    if end >= _LOCATOR.size + _END64.size:
        file.seek(end - _LOCATOR.size)
        if _LOCATOR.unpack(file.read(_LOCATOR.size))[0] == b"PK\6\7":
            end -= _LOCATOR.size + _END64.size
            file.seek(end)
            signature, here, n, length, start = _END64.unpack(file.read(_END64.size))
            if signature != b"PK\6\6":
                raise UnsafeFileError("its end is damaged")
    file.seek(0)
    if here != n or n > max_members or length > n * _NAME:
        raise UnsafeFileError(f"it declares {n} members in {length} bytes, and {max_members} are the most allowed")
    if start + length != end:
        raise UnsafeFileError("there is something before or behind what the archive has")


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    infos = archive.infolist()
    names: set[str] = set()
    for info in infos:
        if info.filename in names:
            raise UnsafeFileError(f"it has more than one member {shown(repr(info.filename))}")
        names.add(info.filename)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise UnsafeFileError(f"its member {shown(repr(info.filename))} is compressed, which `save` never does")
        if info.flag_bits & 0x1:
            raise UnsafeFileError(f"its member {shown(repr(info.filename))} is encrypted")
        parts = info.filename.replace("\\", "/").split("/")
        if info.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or info.is_dir():
            raise UnsafeFileError(f"its member {shown(repr(info.filename))} is no file in the archive's own folder")
    if sum(info.file_size for info in infos) > size:
        raise UnsafeFileError("its members declare more bytes than the file has")
    if min((info.header_offset for info in infos), default=0) != 0:
        raise UnsafeFileError("there is something before its first member")
