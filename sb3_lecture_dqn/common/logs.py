"""What a run logs: rewound to a checkpoint when it goes on, and left out when the disk is full."""

import pathlib
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.logger import HumanOutputFormat, Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.event_pb2 import Event, SessionLog


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
                sizes = {file.name: file.stat().st_size for file in _event_files(folder)}
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
    """
    for name, entry in pending.items():
        logger.name_to_value[name] = entry["value"]
        logger.name_to_count[name] = entry["count"]
        logger.name_to_excluded[name] = entry["excluded"]


def rewind_logs(path: pathlib.Path, state: dict[str, Any]) -> None:
    """
    Cut event files back to what they were, so that nothing that is trained again is shown twice.

    :param path: The checkpoint, in the folder of the run or below
    :param state: What :func:`log_state` returned
    """
    folder, sizes = path.resolve().parents[min(int(state["levels_up"]), 2)], state["sizes"]
    for file in _event_files(folder):
        if file.name not in sizes:
            file.unlink()
        elif file.stat().st_size > sizes[file.name]:
            with file.open("r+b") as opened:
                opened.truncate(sizes[file.name])
    missing = [name for name, size in sizes.items() if not (folder / name).is_file() or _size(folder / name) < size]
    if missing:
        warnings.warn(f"{folder}: of the logs, {', '.join(missing)} are not as long as they were; curves have gaps")


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


def _size(file: pathlib.Path) -> int:
    return file.stat().st_size


def _event_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [
        file
        for file in folder.iterdir()
        if file.name.startswith("events.out.tfevents.") and stat.S_ISREG(file.lstat().st_mode)
    ]
