"""Files of replay memories."""

import ast
import copy
import functools
import json
import math
import os
import pathlib
import sys
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import UnsafeFileError, check_stored, shown
from sb3_lecture_dqn.common.partition import copy_rows
from sb3_lecture_dqn.common.seeding import generator_state
from sb3_lecture_dqn.saving.archive import opened_archive
from sb3_lecture_dqn.saving.codec import decode, encode
from sb3_lecture_dqn.saving.files import MEMORY, Path, check_is_no_other, read_json_member, reading

MEMORY_VERSION = 1
#: Most bytes of an array's header besides the names of its fields
_MAX_HEADER = 2**16

_SB3_BUFFERS = (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer)


def memory_file(path: Path, buffer: Any) -> Path:
    """
    Find a memory's file under the name that it was saved by; the suffix depends on whether the memory is pickled.

    :param path: The name, with or without a suffix, or an open file
    :param buffer: The memory that is to take its content
    :return: The file; without a file, the given name
    """
    if not isinstance(path, str | pathlib.Path) or pathlib.Path(path).is_file():
        return path
    suffixes = ("npz", "pkl") if is_described_memory(buffer) else ("pkl", "npz")
    files = [pathlib.Path(f"{path}.{suffix}") for suffix in suffixes]
    return next((file for file in files if file.is_file()), path)


def is_archive(path: Path) -> bool:
    """
    Look whether a memory's file is an archive of arrays.

    :param path: The file, with or without ``.npz``, or an open one, which is left at its start
    :return: ``False`` for a pickle
    """
    if isinstance(path, str | pathlib.Path) and not any(map(os.path.exists, (path, f"{path}.npz"))):
        return False
    with reading(path, "npz", "memory") as (file, _):
        return zipfile.is_zipfile(file)


def is_described_memory(buffer: BaseBuffer) -> bool:
    """
    Look whether :func:`write_memory` can write all of a memory.

    :param buffer: The memory
    :return: ``False`` for classes of users and for SB3's ``HerReplayBuffer``, which holds infos of any kind
    """
    return type(buffer) in (SuccessFailReplayBuffer, LatestTransitionBuffer, *_SB3_BUFFERS)


def write_memory(file: IO[bytes], buffer: Any) -> None:
    """
    Write a memory as arrays.

    :param file: The file
    :param buffer: A memory for which :func:`is_described_memory` returns ``True``
    """
    described: dict[str, Any] = {"version": MEMORY_VERSION, "buffer": _kind(buffer)}
    if isinstance(buffer, SuccessFailReplayBuffer):
        arrays = {name: part.rows[: part.size] for name, part in _partitions(buffer).items()}
        described["rng"] = generator_state(buffer.rng)
    else:
        # The memory-efficient variant has the last next observation one further.
        n_rows = buffer.buffer_size if buffer.full else min(buffer.pos + 1, buffer.buffer_size)
        arrays = {name: array[:n_rows] for name, array in _sb3_arrays(buffer).items()}
        described |= {"pos": int(buffer.pos), "full": bool(buffer.full)}
    described["arrays"] = list(arrays)
    with zipfile.ZipFile(file, "w") as archive:
        # Without the time, see `checkpoint_file`.
        archive.writestr(zipfile.ZipInfo(MEMORY), json.dumps(encode(described, {})))
        for i, array in enumerate(arrays.values()):
            with archive.open(zipfile.ZipInfo(f"{i}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_memory(path: Path, buffer: Any) -> Any:
    """
    Read what :func:`write_memory` wrote, in chunks, so that it takes no more memory than the transitions do.

    :param path: The file, with or without ``.npz``, or an open one
    :param buffer: A memory of the same kind, spaces and settings, of which the file's content takes the place
    :return: The memory with the file's content, which may be another object
    :raises UnsafeFileError: If the file is damaged, or does not fit; the memory is left as it was
    """
    with reading(path, "npz", f"memory for this model, a {type(buffer).__name__}") as (file, size):
        if not zipfile.is_zipfile(file):
            raise UnsafeFileError(
                "it is no file of arrays. If it is a pickle of Stable-Baselines3's, it can run anything: say "
                "trust=True if you trust where it comes from"
            )
        with opened_archive(file, size) as archive:
            check_is_no_other(archive, MEMORY)
            names = archive.namelist()
            described = decode(read_json_member(archive, MEMORY, (MEMORY_VERSION,)), {}, way_on="")
            if described["buffer"] != _kind(buffer):
                raise UnsafeFileError(f"it is of a {shown(described['buffer'])}")
            if others := set(names) - {MEMORY, *(f"{i}.npy" for i in range(len(described["arrays"])))}:
                raise UnsafeFileError(
                    f"it has the members {', '.join(shown(repr(name)) for name in sorted(others)[:10])} besides"
                )
            if isinstance(buffer, SuccessFailReplayBuffer):
                return _read_partitions(archive, described, buffer)
            return _read_sb3_arrays(archive, described, buffer)


def _kind(buffer: Any) -> str:
    # A switch that may change between saving and loading selects its class or `LatestTransitionBuffer`.
    return "SuccessFailReplayBuffer" if isinstance(buffer, SuccessFailReplayBuffer) else type(buffer).__name__


def _partitions(buffer: SuccessFailReplayBuffer) -> dict[str, Any]:
    return {"success": buffer.success, "fail": buffer.fail}


def _sb3_arrays(buffer: Any) -> dict[str, np.ndarray]:
    arrays = {}
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        value = getattr(buffer, name, None)
        if isinstance(value, dict):
            arrays.update({f"{name}/{part}": array for part, array in value.items()})
        elif value is not None:
            arrays[name] = value
    return arrays


class _StoredRows:
    """The array of a ``.npy`` member, read slice by slice, first to last."""

    def __init__(
        self,
        archive: zipfile.ZipFile,
        at: int,
        dtype: np.dtype,
        check: Callable[..., None],
        n_filled: int = sys.maxsize,
    ) -> None:
        name = f"{at}.npy"
        self.dtype = dtype
        self.n_filled = n_filled
        self._check = check
        self._member = archive.open(name)
        major, _ = np.lib.format.read_magic(self._member)
        n_bytes = int.from_bytes(self._member.read(2 if major == 1 else 4), "little")
        if n_bytes > _MAX_HEADER + len(str(dtype.descr)):
            raise UnsafeFileError(f"{name} has a header of {n_bytes} bytes")
        text = self._member.read(n_bytes).decode("utf8" if major >= 3 else "latin1")
        if not text.rstrip("\n").isprintable():  # Python would show parts of it in a warning
            raise UnsafeFileError(f"{name} has a header that is no text")
        try:
            header = ast.literal_eval(text)
        except SyntaxError as error:
            raise UnsafeFileError(f"{name} has a header that is not valid: {error}") from error
        self._stored = np.lib.format.descr_to_dtype(header["descr"])
        self.shape = tuple(header["shape"])
        self.ndim = len(self.shape)
        if _fields(self._stored) != _fields(dtype) or header["fortran_order"]:
            raise UnsafeFileError(f"{name} has rows of {self._stored}, and those of this memory are {dtype}")
        self._row = self._stored.itemsize * math.prod(self.shape[1:])
        if not all(type(n) is int and n >= 0 for n in self.shape) or self.ndim < 1:
            raise UnsafeFileError(f"{name} has the shape {self.shape}")
        if len(self) * self._row != archive.getinfo(name).file_size - self._member.tell():
            raise UnsafeFileError(f"{name} declares an array of shape {self.shape}, and its bytes are not as many")
        self._next = 0

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: slice, /) -> np.ndarray:
        start, stop, _ = index.indices(len(self))
        assert start == self._next
        self._next = stop
        content = self._member.read((stop - start) * self._row)
        stored = np.frombuffer(content, self._stored).reshape(stop - start, *self.shape[1:])
        if stop == len(self):
            self._member.read(1)  # at the end `zipfile` compares the checksum
        rows = stored
        if self.dtype.names is not None and stored.dtype != self.dtype:  # in another order
            rows = np.zeros(stored.shape, self.dtype)
            for name in _fields(self.dtype):
                rows[name] = stored[name]
        self._check(rows[: max(0, self.n_filled - start)])
        return rows


def _fields(dtype: np.dtype) -> dict[str, np.dtype]:
    """Return the fields of a record, without filling bytes."""
    if dtype.names is None:
        return {"": dtype}
    return {name: dtype[name] for name in sorted(dtype.names) if name != "_filler"}


def _read_partitions(archive: zipfile.ZipFile, described: dict[str, Any], buffer: SuccessFailReplayBuffer) -> Any:
    state: dict[str, Any] = {"rng": described["rng"]}
    for name, part in _partitions(buffer).items():
        at = described["arrays"].index(name)
        state[name] = _StoredRows(archive, at, part.rows.dtype, buffer.row.check)
    buffer.set_state(state)
    return buffer


def _read_sb3_arrays(archive: zipfile.ZipFile, described: dict[str, Any], buffer: Any) -> Any:
    buffer_arrays = _sb3_arrays(buffer)
    if sorted(described["arrays"]) != sorted(buffer_arrays):
        raise UnsafeFileError(f"it has the arrays {shown(described['arrays'])}, and this memory {list(buffer_arrays)}")
    pos, full = int(described["pos"]), bool(described["full"])
    n_rows = buffer.buffer_size if full else min(pos + 1, buffer.buffer_size)
    if not 0 <= pos < buffer.buffer_size:
        raise UnsafeFileError(f"it has {pos} rows, and this memory {buffer.buffer_size} at most")
    stored: dict[str, _StoredRows] = {}
    for i, name in enumerate(described["arrays"]):
        check = functools.partial(check_stored, name, space=_space_of(buffer, name))
        # Row `pos` is filled next: it has zeros, which may be no state, except for the last next observation.
        has_next = buffer.optimize_memory_usage and name == "observations" and pos > 0
        n_filled = n_rows if full else min(pos + has_next, n_rows)
        stored[name] = rows = _StoredRows(archive, i, buffer_arrays[name].dtype, check, n_filled)
        shape = n_rows, *buffer_arrays[name].shape[1:]
        if full and rows.shape[1:] == shape[1:] and rows.shape != shape:
            n = buffer.n_envs
            raise UnsafeFileError(
                f"it is full, of a model with buffer_size={rows.shape[0] * n}, and this memory has {n_rows * n}: load "
                "the model with the buffer_size of the file"
            )
        if rows.shape != shape:
            raise UnsafeFileError(f"{name} has the shape {rows.shape}, and {shape} is expected")
    filled = copy.copy(buffer)
    # Pages that nobody has written to take no memory. (`zeros_like` writes to all.)
    arrays = {name: np.zeros(array.shape, array.dtype) for name, array in buffer_arrays.items()}
    for name, rows in stored.items():
        copy_rows(rows, arrays[name])
        arrays[name][rows.n_filled : n_rows] = 0
    for name, array in arrays.items():
        field, _, part = name.partition("/")
        if part:
            setattr(filled, field, {**getattr(filled, field), part: array})
        else:
            setattr(filled, field, array)
    filled.pos, filled.full = pos, full
    return filled


def _space_of(buffer: Any, name: str) -> spaces.Space[Any] | None:
    field, _, part = name.partition("/")
    if field == "actions":
        return buffer.action_space if isinstance(buffer.action_space, spaces.Discrete) else None
    if not field.endswith("observations"):
        return None
    space: spaces.Space[Any] = buffer.observation_space[part] if part else buffer.observation_space
    return space
