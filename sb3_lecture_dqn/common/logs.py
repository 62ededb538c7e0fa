"""What a run logs: rewound to a checkpoint when it goes on, and left out when the disk is full."""

import math
import os
import pathlib
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.logger import HumanOutputFormat, Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from sb3_lecture_dqn.common.checks import check_number, shown


@contextmanager
def outliving_full_disks(logger: Logger) -> Iterator[None]:
    """
    Within this context, a log that cannot be written is warned of and given up, so that training goes on without it.

    :param logger: Where the context logs; only its output to the terminal is left when one of its files fails
    """
    try:
        yield
    except OSError as error:
        warnings.warn(f"{logger.dir}: logging stops, and training goes on without it: {error}")
        logger.output_formats = [
            output
            for output in logger.output_formats
            if isinstance(output, HumanOutputFormat) and output.file is sys.stdout
        ]


def log_state(logger: Logger, path: pathlib.Path) -> dict[str, Any] | None:
    """
    How far the event files of TensorBoard have been written.

    So far they are flushed to the disk: after a power cut they are no shorter than a checkpoint says.

    :param logger: The run's logger
    :param path: The checkpoint
    :return: Their lengths in bytes by name, and how many folders above the checkpoint they are. ``None`` if they are
        not in one of the folders above it: a checkpoint has no say over files elsewhere
    """
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            with outliving_full_disks(logger):
                output.writer.flush()
            folder = pathlib.Path(output.writer.get_logdir()).resolve()
            above = list(path.resolve().parents)
            if folder in above[:3]:
                files = _event_files(folder)
                with outliving_full_disks(logger):
                    for file in files:
                        with file.open("r+b") as opened:
                            os.fsync(opened.fileno())
                sizes = {file.name: file.stat().st_size for file in files}
                return {"levels_up": above.index(folder), "sizes": sizes}
    return None


def pending_logs(logger: Logger) -> dict[str, Any]:
    """
    What has been recorded since the log was last written.

    :param logger: The run's logger
    :return: Numbers, and what SB3's logger keeps with them, by name
    """
    return {
        name: {"value": value, "count": logger.name_to_count[name], "excluded": logger.name_to_excluded.get(name)}
        for name, value in logger.name_to_value.items()
        if isinstance(value, int | float | np.number)
    }


def set_pending_logs(logger: Logger, pending: dict[str, Any]) -> None:
    """
    The inverse of :func:`pending_logs`.

    :param logger: The run's logger
    :param pending: What that returned
    :raises ValueError: If it is none
    """
    for name, entry in pending.items():
        check_number(name, entry["value"], -math.inf)
        check_number(f"count of {name}", entry["count"], 0, integer=True)
        excluded: Any = entry["excluded"]
        if not isinstance(excluded, str | tuple | None):
            raise ValueError(f"{name} cannot be kept out of {excluded!r}")
        logger.name_to_value[name] = entry["value"]
        logger.name_to_count[name] = entry["count"]
        logger.name_to_excluded[name] = entry["excluded"]


def log_folder(path: pathlib.Path, state: dict[str, Any] | None) -> pathlib.Path | None:
    """
    Find the logs of a checkpoint's run, wherever both have been moved to.

    :param path: The checkpoint
    :param state: What :func:`log_state` returned
    :return: The folder that has them, ``None`` if there is none
    :raises ValueError: If the state is none
    """
    if state is None:
        return None
    check_number("levels_up", state["levels_up"], 0, 2, integer=True)
    for name, size in state["sizes"].items():
        check_number(f"the length of {name}", size, 0, integer=True)
    folder = path.resolve().parents[state["levels_up"]]
    # A checkpoint may be anywhere, also beside the logs of others.
    return folder if state["sizes"].keys() & {file.name for file in _event_files(folder)} else None


def rewind_logs(folder: pathlib.Path, sizes: dict[str, int]) -> None:
    """
    Cut event files back to what they were, so that nothing that is trained again is shown twice.

    TensorBoard reads files in the order of their names, which begin with the second they were made in and say nothing
    of the order within it: so this returns in a later second than that of the newest, and what is logged next is last.

    :param folder: What :func:`log_folder` returned
    :param sizes: Lengths in bytes, by name
    """
    found = {file.name: file.stat().st_size for file in _event_files(folder)}
    for name, size in found.items():
        if name not in sizes:
            (folder / name).unlink()
        elif size > sizes[name]:
            with (folder / name).open("r+b") as opened:
                opened.truncate(sizes[name])
    newest = max((int(name.split(".")[3]) for name in found if name.split(".")[3].isdigit()), default=0)
    if (too_early := newest + 1 - time.time()) > 0:
        time.sleep(min(too_early, 1))
    if missing := [name for name, size in sizes.items() if found.get(name, -1) < size]:
        warnings.warn(
            f"{folder}: of the logs, {shown(', '.join(missing), 1000)} are not as long as they were; curves have gaps"
        )


def first_log(logger: Logger, root: pathlib.Path) -> str | None:
    """
    Name the logs of a training, which may go on in another event file.

    :param logger: A model's logger
    :param root: A folder of runs
    :return: Path of their oldest event file below it, ``None`` if the logs are elsewhere or not TensorBoard's
    """
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            folder = pathlib.Path(output.writer.get_logdir()).resolve()
            names = [file.name for file in _event_files(folder)] if folder.is_dir() else []
            if names and folder.is_relative_to(root.resolve()):
                return (folder.relative_to(root.resolve()) / min(names)).as_posix()
    return None


def is_log(root: pathlib.Path, name: str) -> bool:
    """
    Look whether a folder of runs has a certain event file; its name, by time and process, tells it from all others.

    :param root: The folder, which need not exist
    :param name: What :func:`first_log` returned
    :return: Whether the file is there
    """
    file = pathlib.PurePath(name)
    if file.is_absolute() or ".." in file.parts:
        return False
    path = root / file
    return path.parent.is_dir() and path in _event_files(path.parent)


def has_logs(folder: pathlib.Path) -> bool:
    """
    Look whether TensorBoard has logged to a folder.

    :param folder: It need not exist
    :return: Whether it has event files
    """
    return folder.is_dir() and bool(_event_files(folder))


def hide_later_events(logger: Logger, step: int) -> None:
    """
    Have TensorBoard leave out what it has read of later steps, as the ``purge_step`` of a ``SummaryWriter`` does.

    :param logger: The run's logger
    :param step: The last step that is to stay
    """
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            start = SessionLog(status=SessionLog.START)
            output.writer._get_file_writer().add_event(Event(step=step + 1, session_log=start))


def _event_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [
        file
        for file in folder.iterdir()
        if file.name.startswith("events.out.tfevents.") and stat.S_ISREG(file.lstat().st_mode)
    ]
