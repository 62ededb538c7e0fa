"""
Checkpoints: all that a training run is, in one file that appears whole or not at all.

A checkpoint is a zip archive of parts: :data:`STATE` (settings, counters, generators, environments, callbacks) as
JSON, the numbers of :data:`WEIGHTS` and optimizer one after the other, the replay memory as
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

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.saving.codec import check_declared, describe, restore
from sb3_lecture_dqn.saving.files import (
    MANIFEST,
    MAX_DESCRIPTION,
    check_is_no_other,
    parse_json,
    reading,
    written_whole,
)
from sb3_lecture_dqn.saving.memory_file import read_memory, write_memory
from sb3_lecture_dqn.saving.model_file import restored_settings
from sb3_lecture_dqn.saving.torch_file import opened_archive
from sb3_lecture_dqn.saving.weights import flatten, unflatten
from sb3_lecture_dqn.saving.weights_checks import check_finite

CHECKPOINT_VERSION = 2


STATE, WEIGHTS, MEMORY = "state.json", "weights.bin", "memory.npz"


@dataclass
class Checkpoint:
    """
    What a checkpoint holds, but for the memory.

    :param settings: Attributes of the model, by name
    :param state: The rest of its state, see :func:`run_state.capture`
    :param callbacks: States of callbacks, for :func:`set_callback_data`
    :param parameters: State dictionaries by name
    """

    settings: dict[str, Any]
    state: dict[str, Any]
    callbacks: list[dict[str, Any]]
    parameters: dict[str, Any]


class UnreadableCheckpointError(OSError, ValueError):
    """
    What would be written could not be read again.

    It is an ``OSError`` as that of a full disk is one: a training that has checkpoints goes on without more of them.
    """


class _Hashed:
    """A file to be written once, from its beginning to its end, with the checksum of what was written."""

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

    :param path: Its file; what was there before is replaced when the new one is on the disk
    :param algorithm: What SB3 or sb3-contrib calls the algorithm
    :param settings: Attributes of the model, by name
    :param state: Any other values that can be described
    :param callbacks: What :func:`callback_data` returned
    :param parameters: State dictionaries by name
    :param memory: A memory that :func:`save_util.is_described_memory`
    :param names: Names of policies
    :raises UnreadableCheckpointError: If it is more than :func:`read_checkpoint` reads
    """
    tree, weights = flatten(dict(parameters))
    described = {
        "settings": describe(dict(settings), names),
        "state": describe(dict(state), {}),
        "callbacks": callbacks,
        "weights": tree,
    }
    content = json.dumps(described, allow_nan=False).encode()
    try:
        _check_state(content)
    except UnsafeFileError as error:
        raise UnreadableCheckpointError(
            f"it could not be read again: {error}; its longest part is {_longest(described)}"
        ) from error
    checksums: dict[str, dict[str, Any]] = {}
    with written_whole(path, "zip") as file, zipfile.ZipFile(file, "w") as archive:
        with _part(archive, STATE, checksums) as part:
            part.write(content)
        with _part(archive, WEIGHTS, checksums) as part:
            part.write(weights)
        with _part(archive, MEMORY, checksums) as part:
            write_memory(part, memory)  # type: ignore[arg-type] # it is only written to
        manifest = {"version": CHECKPOINT_VERSION, "algorithm": algorithm, "parts": checksums}
        archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest))


def _longest(described: dict[str, Any]) -> str:
    """What of :data:`STATE` takes the most room."""
    groups = [(name, described[name]) for name in ("settings", "state")]
    groups += [(callback["class"], callback["state"]) for callback in described["callbacks"]]
    sizes = [(len(json.dumps(value)), f"{name!r} of {of}") for of, group in groups for name, value in group.items()]
    return max(sizes)[1]


@contextlib.contextmanager
def _part(archive: zipfile.ZipFile, name: str, checksums: dict[str, dict[str, Any]]) -> Iterator[_Hashed]:
    """Open a part to be written; its checksum is among the others afterwards."""
    # Without the time, of which a zip file takes none before 1980: a clock that has not been set is there.
    with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
        part = _Hashed(member)
        yield part
    checksums[name] = part.checksum


def check_whole(path: pathlib.Path) -> None:
    """
    Check that a file is a checkpoint of which every byte is as it was written, and no more than is read.

    :param path: The file
    :raises UnsafeFileError: If it is not; the message says why
    """
    with _opened(path) as archive:
        _manifest(archive)
        _check_state(archive.read(STATE))


def _check_state(content: bytes) -> None:
    """Check that :data:`STATE` can be read, but for settings that are code: something else can take their place."""
    described = parse_json(content)
    check_declared(described["settings"])
    for part in ("state", "callbacks"):
        restore(described[part], {})


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
    :param custom_objects: What takes the place of settings of the file, by their names
    :return: All but the memory, for which see :func:`read_checkpoint_memory`
    :raises UnsafeFileError: If it is damaged, of something else, or has settings that are code
    """
    with _opened(path) as archive:
        manifest = _manifest(archive)
        if manifest["algorithm"] != algorithm:
            raise UnsafeFileError(f"it is of a {manifest['algorithm']}, not of a {algorithm}")
        described = parse_json(archive.read(STATE))
        settings = restored_settings(described["settings"], names, custom_objects or {}, way_on="")
        state, callbacks = restore(described["state"], {}), restore(described["callbacks"], {})
        parameters = unflatten(described["weights"], archive.read(WEIGHTS))
        check_finite(parameters)
        return Checkpoint(settings, state, callbacks, parameters)


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


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    with reading(path, "zip", "checkpoint") as (file, size), opened_archive(file, size) as archive:
        check_is_no_other(archive, MANIFEST)
        yield archive


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    """The manifest of an archive in which all is as it says."""
    names = set(archive.namelist())
    if MANIFEST not in names or archive.getinfo(MANIFEST).file_size > MAX_DESCRIPTION:
        raise UnsafeFileError(f"it has no {MANIFEST!r}")
    manifest: dict[str, Any] = parse_json(archive.read(MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("version") != CHECKPOINT_VERSION:
        found = manifest.get("version") if isinstance(manifest, dict) else None
        raise UnsafeFileError(f"it is of version {found!r}, and this package reads version {CHECKPOINT_VERSION}")
    parts = manifest["parts"]
    if names != {*parts, MANIFEST} or set(parts) != {STATE, WEIGHTS, MEMORY}:
        raise UnsafeFileError(f"it has the parts {sorted(names)}, which are not those that were saved")
    for name, checksum in parts.items():
        sha256 = hashlib.sha256()
        with archive.open(name) as member:
            while chunk := member.read(2**20):
                sha256.update(chunk)
        if sha256.hexdigest() != checksum["sha256"]:
            raise UnsafeFileError(f"{name} is not what was saved")
    return manifest
