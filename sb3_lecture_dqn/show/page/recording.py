"""
The recording of a training: a folder with the moments, one small file each, and with what is needed to read them later.

Files are quick to write: nothing is compressed, and nothing waits for the disk. After a power cut the last ones may be
damaged; they are then left out, with a warning.
"""

import json
import os
import pathlib
import re
import warnings
from typing import Any, NamedTuple

import numpy as np

from sb3_lecture_dqn.common.checks import UnsafeFileError, check_number
from sb3_lecture_dqn.common.run_files import MODEL
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.codec import ArraysInOrder, decode, encode
from sb3_lecture_dqn.saving.files import parse_json
from sb3_lecture_dqn.show.page.moment import WHY, Moment

RECORDING_VERSION = 1
_WORLD = "world.bin"
_FILE_NAME = re.compile(r"moment_(\d{12})\.bin")


class Entry(NamedTuple):
    """
    A moment in a recording.

    :param step: Environment steps so far
    :param episode: Episodes that have ended
    :param why: Why it was taken
    """

    step: int
    episode: int
    why: list[str]


class Recording:
    """
    A folder of moments.

    :param folder: It need not exist
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        #: The moments, in the order of time
        self.entries: list[Entry] = []

    @property
    def model_file(self) -> pathlib.Path:
        """The file of the model as it was when the recording began."""
        return self.folder / MODEL

    def exists(self) -> bool:
        """
        Look whether there is a recording.

        :return: Whether the folder has one
        """
        return (self.folder / _WORLD).is_file() and bool(self._files())

    def begin(self, model: Any, world: dict[str, Any]) -> None:
        """
        Begin a recording.

        :param model: The model
        :param world: The description of its environment
        :raises OSError: If a file cannot be written
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.model_file.open("wb") as file:
            model.save(file)
        _write(self.folder / _WORLD, {"version": RECORDING_VERSION, "world": world})

    def add(self, moment: Moment) -> None:
        """
        Add a moment.

        :param moment: The moment; one of the same step is replaced
        :raises OSError: If it cannot be written
        """
        _write(self._file(moment.step), {"version": RECORDING_VERSION, **vars(moment)})
        entry = Entry(moment.step, moment.episode, moment.why)
        self.entries = [other for other in self.entries if other.step != moment.step] + [entry]

    def go_on(self, before: float) -> None:
        """
        Take up a recording.

        :param before: Moments of this step or later are removed: the run was stopped after it, and goes on from there
        """
        self.entries = []
        for step, file in self._files().items():
            if step >= before:
                file.unlink()
                continue
            described, _ = _read(file)
            self.entries.append(Entry(step, described["episode"], list(described["why"])))

    def remove(self, entries: list[Entry]) -> None:
        """
        Remove moments.

        :param entries: Some of :attr:`entries`
        """
        for entry in entries:
            self._file(entry.step).unlink(missing_ok=True)
        self.entries = [entry for entry in self.entries if entry not in entries]

    def world(self) -> dict[str, Any]:
        """
        Read the description of the environment.

        :return: What :meth:`begin` got
        :raises UnsafeFileError: If the file is damaged
        """
        world: dict[str, Any] = _value(self.folder / _WORLD)["world"]
        return world

    def moments(self) -> list[Moment]:
        """
        Read the moments. Of damaged ones, warn.

        :return: The moments, in the order of time
        """
        moments = []
        for file in self._files().values():
            try:
                value = _value(file)
                moments.append(_checked(Moment(**{name: value[name] for name in Moment.__dataclass_fields__})))
            except UnsafeFileError as error:
                warnings.warn(f"a moment is left out: {error}")
        return moments

    def _file(self, step: int) -> pathlib.Path:
        return self.folder / f"moment_{step:012d}.bin"

    def _files(self) -> dict[int, pathlib.Path]:
        paths = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return {int(match[1]): path for path in paths if (match := _FILE_NAME.fullmatch(path.name)) is not None}


def _write(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Write a value: the length of the JSON, the JSON, and the numbers of the arrays one after the other."""
    arrays = ArraysInOrder()
    described = json.dumps(encode(value, {}, arrays.put)).encode()
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for numbers in arrays.contents:
            file.write(numbers.data)
    os.replace(beside, path)


def _read(path: pathlib.Path) -> tuple[dict[str, Any], bytes]:
    """Read the JSON of a file, and the bytes after it."""
    try:
        content = path.read_bytes()
        n = int.from_bytes(content[:8], "little")
        described: dict[str, Any] = parse_json(content[8 : 8 + n])
        if described.get("version") != RECORDING_VERSION:
            raise UnsafeFileError(f"it is of version {described.get('version')}, and this package reads version 1")
        return described, content[8 + n :]
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{path}: {error}") from None
    except (AttributeError, *DAMAGED) as error:
        raise UnsafeFileError(f"{path} is no part of a recording, or it is damaged: {error!r}") from None


def _value(path: pathlib.Path) -> dict[str, Any]:
    described, numbers = _read(path)
    left = memoryview(numbers)

    def take(_: dict[str, Any], n_bytes: int) -> bytes:
        nonlocal left
        if n_bytes > len(left):
            raise UnsafeFileError(f"{path} ends before its arrays do")
        taken, left = bytes(left[:n_bytes]), left[n_bytes:]
        return taken

    try:
        value: dict[str, Any] = decode(described, {}, take=take)
    except UnsafeFileError:
        raise
    except DAMAGED as error:
        raise UnsafeFileError(f"{path} is damaged: {error!r}") from None
    return value


def _checked(moment: Moment) -> Moment:
    """Check the numbers of a moment that do not depend on the model."""
    try:
        for name in ("step", "episode", "n_successes", "n_failures"):
            check_number(name, getattr(moment, name), 0, integer=True)
        check_number("epsilon", moment.epsilon, 0, 1)
        if not (isinstance(moment.why, list) and set(moment.why) <= set(WHY)):
            raise ValueError(f"why={moment.why!r} must be some of {WHY}")
        if moment.drawn not in (None, "last", "sample"):
            raise ValueError(f"drawn={moment.drawn!r}")
        for name in ("successes", "sample", "drawn_rows"):
            rows = getattr(moment, name)
            if not (isinstance(rows, np.ndarray) and rows.dtype == np.int64 and rows.ndim == 2 and rows.shape[1] >= 4):
                raise ValueError(f"{name} has no rows of transitions")
        if not (moment.held is None or (isinstance(moment.held, np.ndarray) and moment.held.dtype == np.uint8)):
            raise ValueError("held has no bits")
    except (ValueError, TypeError) as error:
        raise UnsafeFileError(f"moment at step {moment.step}: {error}") from None
    return moment
