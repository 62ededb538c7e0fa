"""
Checkpoints: the whole state of a training run, in one file that appears whole or not at all.

A checkpoint is a zip archive of parts: :data:`STATE` (settings, counters, generators, environments, callbacks, weights)
as JSON, the numbers of its arrays and tensors one after the other in :data:`ARRAYS`, the replay memory as
:func:`memory_file.write_memory` writes it, and :data:`MANIFEST` with the length and the SHA-256 of each. Nothing of it
is unpickled.
"""

import contextlib
import hashlib
import io
import json
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch as th

from sb3_lecture_dqn.common.checks import UnsafeFileError, check_finite, shown
from sb3_lecture_dqn.saving import version_1
from sb3_lecture_dqn.saving.archive import opened_archive
from sb3_lecture_dqn.saving.codec import ArraysInOrder, CodeInFileError, Take, decode, encode
from sb3_lecture_dqn.saving.files import (
    MANIFEST,
    check_is_no_other,
    parse_json,
    read_json_member,
    reading,
    written_whole,
)
from sb3_lecture_dqn.saving.memory_file import read_memory, write_memory
from sb3_lecture_dqn.saving.model_file import decoded_settings
from sb3_lecture_dqn.saving.weights import with_tensors

#: The version that is written, and the oldest one that is read
CHECKPOINT_VERSION, OLDEST_VERSION = 3, 2

STATE, ARRAYS, MEMORY = "state.json", "arrays.bin", "memory.npz"
# The parts of STATE that hold no settings
_STATES = ("state", "callbacks", "parameters")


@dataclass
class Checkpoint:
    """
    The content of a checkpoint without the replay memory.

    :param settings: Attributes of the model, by name
    :param state: The rest of its state, see :func:`run_state.capture`
    :param callbacks: States of callbacks, for :func:`set_callback_data`
    :param parameters: State dictionaries by name
    :param folder: The folder of the file
    """

    settings: dict[str, Any]
    state: dict[str, Any]
    callbacks: list[dict[str, Any]]
    parameters: dict[str, Any]
    folder: pathlib.Path


class UnreadableCheckpointError(OSError, ValueError):
    """
    The checkpoint is not written, because it could not be read again.

    It is an ``OSError``, so that training warns and goes on, as with a full disk.
    """


class _Hashed:
    """A file that is written from its beginning to its end, with the checksum of its content."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._n_bytes = 0

    def write(self, content: Any) -> int:
        self._sha256.update(content)
        self._n_bytes += memoryview(content).nbytes
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    @property
    def checksum(self) -> dict[str, Any]:
        return {"bytes": self._n_bytes, "sha256": self._sha256.hexdigest()}


def write_checkpoint(
    path: pathlib.Path,
    algorithm: str,
    settings: Mapping[str, Any],
    state: Mapping[str, Any],
    callbacks: list[dict[str, Any]],
    parameters: Mapping[str, Any],
    memory: Any,
    names: Mapping[str, type],
) -> None:
    """
    Write a checkpoint.

    :param path: Its file; an older file is replaced when the new one is on the disk
    :param algorithm: What SB3 or sb3-contrib calls the algorithm
    :param settings: Attributes of the model, by name
    :param state: Any other values that are data
    :param callbacks: What :func:`callback_data` returned
    :param parameters: State dictionaries by name
    :param memory: A memory for which :func:`is_described_memory` returns ``True``
    :param names: Names of policies
    :raises UnreadableCheckpointError: If :func:`read_checkpoint` could not read it
    """
    arrays = ArraysInOrder()
    described = {
        "settings": encode(dict(settings), names),
        "state": encode(dict(state), {}, arrays.put),
        "callbacks": encode(callbacks, {}, arrays.put),
        "parameters": encode(with_tensors(parameters, _on_cpu), {}, arrays.put),
    }
    content = json.dumps(described, allow_nan=False).encode()
    try:
        _check_state(parse_json(content), arrays.take)
    except UnsafeFileError as error:
        raise UnreadableCheckpointError(
            f"it could not be read again: {error}; its longest part is {_longest(described)}"
        ) from error
    checksums: dict[str, dict[str, Any]] = {}
    with written_whole(path, "zip") as file, zipfile.ZipFile(file, "w") as archive:
        with _part(archive, STATE, checksums) as part:
            part.write(content)
        with _part(archive, ARRAYS, checksums) as part:
            for numbers in arrays.contents:
                part.write(numbers)
        with _part(archive, MEMORY, checksums) as part:
            write_memory(part, memory)  # type: ignore[arg-type] # it is only written to
        manifest = {"version": CHECKPOINT_VERSION, "algorithm": algorithm, "parts": checksums}
        archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest))


def _on_cpu(tensor: th.Tensor) -> th.Tensor:
    return tensor.detach().cpu()


def _longest(described: dict[str, Any]) -> str:
    """Name the entry of :data:`STATE` that takes the most room."""
    groups = [(name, described[name]) for name in ("settings", "state")]
    groups += [(callback["class"], callback["state"]) for callback in described["callbacks"]]
    sizes = [(len(json.dumps(value)), f"{name!r} of {of}") for of, group in groups for name, value in group.items()]
    return max(sizes)[1]


@contextlib.contextmanager
def _part(archive: zipfile.ZipFile, name: str, checksums: dict[str, dict[str, Any]]) -> Iterator[_Hashed]:
    """Open a part for writing, and note its checksum afterwards."""
    # Without the time: zip files take none before 1980, which a clock that was never set shows.
    with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
        part = _Hashed(member)
        yield part
    checksums[name] = part.checksum


def check_whole(path: pathlib.Path) -> None:
    """
    Check that a file is a checkpoint whose bytes are as they were written, and that it can be read.

    :param path: The file
    :raises UnsafeFileError: If it is damaged or cannot be read; the message says why
    """
    with _opened(path) as archive:
        version = _manifest(archive)["version"]
        with _stored_arrays(archive, version) as arrays:
            _check_state(_state_of(archive, version), arrays.take)


def _check_state(described: dict[str, Any], take: Take) -> None:
    """Check that :data:`STATE` can be read. Settings may be code, as a user can replace them."""
    with contextlib.suppress(CodeInFileError):
        decode(described["settings"], {})
    for part in _STATES:
        decode(described[part], {}, take=take)


def _state_of(archive: zipfile.ZipFile, version: int) -> dict[str, Any]:
    described: dict[str, Any] = parse_json(archive.read(STATE))
    return version_1.checkpoint_state(described) if version == 2 else described


def _versions() -> tuple[int, ...]:
    return tuple(range(OLDEST_VERSION, CHECKPOINT_VERSION + 1))


def _arrays_of(version: int) -> str:
    """The name of :data:`ARRAYS`. In version 2, it has the weights alone."""
    return "weights.bin" if version == 2 else ARRAYS


class _StoredArrays:
    """The numbers of :data:`ARRAYS`, read one after the other."""

    def __init__(self, member: IO[bytes], n_bytes: int) -> None:
        self._member = member
        self._n_left = n_bytes

    def take(self, described: dict[str, Any], n_bytes: int) -> bytes:
        """See :data:`codec.Take`."""
        if n_bytes > self._n_left:
            shape = shown(described["shape"])
            raise UnsafeFileError(f"an array of shape {shape} is declared, and there are {self._n_left} bytes left")
        self._n_left -= n_bytes
        return self._member.read(n_bytes)

    def check_all_taken(self) -> None:
        if self._n_left:
            raise UnsafeFileError(f"{self._n_left} bytes more than its arrays have are in {ARRAYS}")


@contextlib.contextmanager
def _stored_arrays(archive: zipfile.ZipFile, version: int) -> Iterator[_StoredArrays]:
    name = _arrays_of(version)
    with archive.open(name) as member:
        yield _StoredArrays(member, archive.getinfo(name).file_size)


def read_checkpoint(
    path: pathlib.Path,
    algorithm: str,
    names: Mapping[str, type],
    custom_objects: Mapping[str, Any] | None,
) -> Checkpoint:
    """
    Read a checkpoint without unpickling.

    :param path: The file
    :param algorithm: What SB3 or sb3-contrib calls the algorithm that it has to be of
    :param names: Names of policies
    :param custom_objects: Replacements of settings of the file, by their names
    :return: All but the memory, which :func:`read_checkpoint_memory` reads
    :raises UnsafeFileError: If it is damaged, no checkpoint of this algorithm, or has settings that are code
    """
    with _opened(path) as archive:
        manifest = _manifest(archive)
        if manifest["algorithm"] != algorithm:
            raise UnsafeFileError(f"it is of a {manifest['algorithm']}, not of a {algorithm}")
        described = _state_of(archive, manifest["version"])
        settings = decoded_settings(described["settings"], names, custom_objects or {}, way_on="")
        with _stored_arrays(archive, manifest["version"]) as arrays:
            state, callbacks, parameters = (decode(described[part], {}, take=arrays.take) for part in _STATES)
            arrays.check_all_taken()
        check_finite(parameters)
        return Checkpoint(settings, state, callbacks, parameters, path.resolve().parent)


def read_checkpoint_memory(path: pathlib.Path, memory: Any) -> Any:
    """
    Read the replay memory of a checkpoint.

    :param path: The file
    :param memory: A memory of the same kind, spaces and settings, of which the file's content takes the place
    :return: The memory with the file's content, which may be another object
    :raises UnsafeFileError: If the file is damaged, or does not fit
    """
    with _opened(path) as archive, archive.open(MEMORY) as member:
        return read_memory(io.BufferedReader(member), memory)  # type: ignore[type-var]


def checkpoint_algorithm(path: pathlib.Path) -> str | None:
    """
    Read of which algorithm a checkpoint is.

    :param path: The file, with or without ``.zip``
    :return: What SB3 or sb3-contrib calls the algorithm; ``None`` if the file is no checkpoint
    :raises UnsafeFileError: If it is damaged
    """
    with reading(path, "zip", "checkpoint") as (file, size), opened_archive(file, size) as archive:
        if MANIFEST not in archive.namelist():
            return None
        return str(read_json_member(archive, MANIFEST, _versions())["algorithm"])


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    with reading(path, "zip", "checkpoint") as (file, size), opened_archive(file, size) as archive:
        check_is_no_other(archive, MANIFEST)
        yield archive


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the manifest, after checking all parts against it."""
    manifest = read_json_member(archive, MANIFEST, _versions())
    names, parts = set(archive.namelist()), manifest["parts"]
    if names != {*parts, MANIFEST} or set(parts) != {STATE, _arrays_of(manifest["version"]), MEMORY}:
        raise UnsafeFileError(f"it has the parts {sorted(names)}, which are not those that were saved")
    for name, checksum in parts.items():
        sha256 = hashlib.sha256()
        with archive.open(name) as member:
            while chunk := member.read(2**20):
                sha256.update(chunk)
        if sha256.hexdigest() != checksum["sha256"]:
            raise UnsafeFileError(f"{name} has changed since it was saved")
    return manifest
