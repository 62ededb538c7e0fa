"""
TensorBoard's event files: which run they belong to, and in which order they are read.

TensorBoard reads the files of a folder in the order of their names, which begin with the second of their making. After
a clock has gone back, or on another machine, a run's next file could be read before its last. And the names do not say
which run writes them. So every run writes to files that are named here: later than all others in the folder, and with
the run's own mark at the end.
"""

import contextlib
import os
import pathlib
import re
import socket
import stat
import time
import uuid
import weakref
from typing import IO

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.writer import SummaryWriter

_PREFIX = "events.out.tfevents."
_MARK = re.compile(r"[0-9a-f]{12}")
_SECOND = re.compile(re.escape(_PREFIX) + r"(\d{10})\.")
_LAST_SECOND = 9_999_999_999  # that has ten digits: names of more would not sort by number


class EventFile:
    """
    Writes an event file of a given name; TensorBoard's ``EventFileWriter`` takes the name from the clock.

    It replaces the ``EventFileWriter`` of a ``SummaryWriter``, and writes at once rather than in a thread, so that an
    error of the disk is raised where it happens.

    :param path: The file, which must not exist
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        file = path.open("xb")
        self._records = RecordWriter(file)
        weakref.finalize(self, _close, file)  # some loggers are never closed
        source = SourceMetadata(writer=__name__)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2", source_metadata=source))

    def get_logdir(self) -> str:
        """
        Say where the file is.

        :return: Its folder
        """
        return str(self.path.parent)

    def add_event(self, event: Event) -> None:
        """
        Write an event.

        :param event: The event
        """
        self._records.write(event.SerializeToString())
        self._records.flush()

    def flush(self) -> None:
        """Write events that an error of the disk has kept back."""
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        self._records.close()


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # it has been raised before
        file.close()


def new_mark() -> str:
    """
    Make the mark of a new run.

    :return: Twelve hexadecimal digits that no other run has
    """
    return uuid.uuid4().hex[:12]


def check_mark(mark: str) -> None:
    """
    Check the mark in a file.

    :param mark: The mark
    :raises ValueError: If it is no mark
    """
    if not isinstance(mark, str) or _MARK.fullmatch(mark) is None:
        raise ValueError(f"{mark!r} is no mark of a run's event files")


def event_files(folder: pathlib.Path, mark: str | None = None) -> list[pathlib.Path]:
    """
    List event files.

    :param folder: Their folder
    :param mark: The mark of a run, ``None`` for all files
    :return: The files, in the order in which TensorBoard reads them
    """
    ours = "" if mark is None else f".{mark}"
    names = (file for file in folder.iterdir() if file.name.startswith(_PREFIX) and file.name.endswith(ours))
    return sorted(file for file in names if stat.S_ISREG(file.lstat().st_mode))


def writers_of(logger: Logger) -> list[SummaryWriter]:
    """
    Find the writers of a logger that write to TensorBoard.

    :param logger: The logger
    :return: The open writers
    """
    outputs = [output for output in logger.output_formats if isinstance(output, TensorBoardOutputFormat)]
    return [output.writer for output in outputs if output.writer.file_writer is not None]


def write_as_last(logger: Logger, mark: str) -> list[pathlib.Path]:
    """
    Let a logger write to files of a run, which TensorBoard reads after all event files in the folder.

    A file of this run that is being written is kept. A file that TensorBoard made is closed, and removed if no event
    has been written to it.

    :param logger: The logger
    :param mark: The mark of the run
    :return: The files that it writes to
    """
    files: list[pathlib.Path] = []
    for writer in writers_of(logger):
        assert writer.file_writer is not None
        now = writer.file_writer.event_writer
        folder = pathlib.Path(writer.get_logdir())
        if isinstance(now, EventFile) and now.path.name.endswith(f".{mark}"):
            files.append(now.path)
            continue
        now.close()
        made = getattr(now, "_file_name", None)
        if made is not None and _has_only_its_header(pathlib.Path(made)):
            pathlib.Path(made).unlink()
        new = _new_file(folder, mark)
        files.append(new.path)
        writer.file_writer.event_writer = new  # it has the same methods
    return files


def _new_file(folder: pathlib.Path, mark: str) -> EventFile:
    seconds = [int(match[1]) for file in event_files(folder) if (match := _SECOND.match(file.name)) is not None]
    newest = max((second for second in seconds if second < _LAST_SECOND), default=0)
    second = max(int(time.time()), newest + 1)
    while True:
        name = f"{_PREFIX}{second:010d}.{socket.gethostname()}.{os.getpid()}.0.{mark}"
        with contextlib.suppress(FileExistsError):  # another thread has been faster
            return EventFile(folder / name)
        second += 1


def _has_only_its_header(path: pathlib.Path) -> bool:
    """Whether an event file has no event but the first, which every file has."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return os.fstat(file.fileno()).st_size == length + 16
    except OSError:  # it is not where it was made
        return False
