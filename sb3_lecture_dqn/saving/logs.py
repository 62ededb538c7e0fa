"""Logs of a run: rewound to a checkpoint when the run goes on, and given up when the disk is full."""

import os
import pathlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.logger import HumanOutputFormat, Logger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from sb3_lecture_dqn.common.checks import check_number, shown
from sb3_lecture_dqn.saving.event_files import check_mark, event_files, writers_of

#: The scalar in TensorBoard, at the number of finished episodes, that says that a run diverged
DIVERGED_TAG = "Diverged"


def log_divergence(logger: Logger, n_episodes: int) -> None:
    """
    Write into the run's event files that it diverged.

    :param logger: The run's logger
    :param n_episodes: Number of finished episodes
    """
    with outliving_full_disks(logger):
        for writer in writers_of(logger):
            writer.add_scalar(DIVERGED_TAG, 1.0, n_episodes)
            writer.flush()


@contextmanager
def outliving_full_disks(logger: Logger) -> Iterator[None]:
    """
    Within this context, warn of a log that cannot be written and give it up, so that training goes on without it.

    :param logger: The logger of the context; when a file fails, it keeps only its output to the terminal
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


def log_state(logger: Logger, path: pathlib.Path, mark: str | None) -> dict[str, Any] | None:
    """
    Capture the lengths of a run's event files.

    The files are flushed to the disk: after a power cut they are no shorter than a checkpoint says.

    :param logger: The run's logger
    :param path: The checkpoint
    :param mark: The mark of the run's event files, ``None`` for a run that has not logged yet
    :return: Their lengths in bytes by name, how many folders above the checkpoint they are, and the mark. ``None`` if
        they are in none of the folders above it: a checkpoint has no say over files elsewhere
    """
    for writer in writers_of(logger) if mark is not None else []:
        with outliving_full_disks(logger):
            writer.flush()
        folder = pathlib.Path(writer.get_logdir()).resolve()
        above = list(path.resolve().parents)
        if folder in above[:3]:
            files = event_files(folder, mark)
            with outliving_full_disks(logger):
                for file in files:
                    with file.open("r+b") as opened:
                        os.fsync(opened.fileno())
            sizes = {file.name: file.stat().st_size for file in files}
            return {"levels_up": above.index(folder), "sizes": sizes, "mark": mark}
    return None


def pending_logs(logger: Logger) -> dict[str, Any]:
    """
    Capture the values that have been recorded since the log was last written.

    :param logger: The run's logger
    :return: Numbers, text and arrays, with the counts and exclusions of SB3's logger, by name
    """
    return {
        name: {"value": value, "count": logger.name_to_count[name], "excluded": logger.name_to_excluded.get(name)}
        for name, value in logger.name_to_value.items()
        if _can_be_pending(value)
    }


def _can_be_pending(value: Any) -> bool:
    """Whether a checkpoint can hold a value; NaN and infinity are numbers here."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biuf"
    return type(value) in (bool, int, float, str)


def set_pending_logs(logger: Logger, pending: dict[str, Any]) -> None:
    """
    Record values again; the inverse of :func:`pending_logs`.

    :param logger: The run's logger
    :param pending: What :func:`pending_logs` returned
    :raises ValueError: If a value cannot be logged
    """
    for name, entry in pending.items():
        if not _can_be_pending(entry["value"]):
            raise ValueError(f"{name}={entry['value']!r} cannot be logged")
        check_number(f"count of {name}", entry["count"], 0, integer=True)
        excluded: Any = entry["excluded"]
        if not isinstance(excluded, str | tuple | None):
            raise ValueError(f"{name} cannot be kept out of {excluded!r}")
        logger.name_to_value[name] = entry["value"]
        logger.name_to_count[name] = entry["count"]
        logger.name_to_excluded[name] = entry["excluded"]


def log_folder(path: pathlib.Path, state: dict[str, Any] | None) -> pathlib.Path | None:
    """
    Find the logs of a checkpoint's run, also after both have been moved.

    :param path: The checkpoint
    :param state: What :func:`log_state` returned
    :return: Their folder, ``None`` if they are not found
    :raises ValueError: If the state is not valid
    """
    if state is None:
        return None
    check_number("levels_up", state["levels_up"], 0, 2, integer=True)
    for name, size in state["sizes"].items():
        check_number(f"the length of {name}", size, 0, integer=True)
    if "mark" in state:
        check_mark(state["mark"])
    folder = path.resolve().parents[state["levels_up"]]
    # A checkpoint may be anywhere, also beside the logs of others.
    return folder if state["sizes"].keys() & {file.name for file in event_files(folder)} else None


def rewind_logs(folder: pathlib.Path, state: dict[str, Any], own_folder: bool, current: list[pathlib.Path]) -> None:
    """
    Cut a run's event files back to their lengths at a checkpoint, so that steps that are trained again are shown once.

    Files of other runs are left as they are.

    :param folder: What :func:`log_folder` returned
    :param state: What :func:`log_state` returned
    :param own_folder: Whether the folder was made for this run alone. Versions before 2.0 did not mark a run's files:
        in such a folder all files count as the run's, in any other folder a file that was alone
    :param current: The files that the run goes on with
    """
    sizes: dict[str, int] = state["sizes"]
    marked = "mark" in state
    going_on = {file.name for file in current}
    ours = [file for file in event_files(folder, state.get("mark")) if file.name not in going_on]
    if not marked:
        later = [file.name for file in ours if file.name not in sizes]
        ours = [file for file in ours if file.name in sizes] if own_folder or len(sizes) == 1 else []
        if later or not ours:
            doubtful = later if ours else sizes
            warnings.warn(
                f"{folder}: a checkpoint of a version before 2.0 does not say whether {', '.join(doubtful)} belong to "
                "its run, so they stay as they are, and curves may show steps twice; remove them if they do"
            )
    found = {file.name: file.stat().st_size for file in ours}
    for file in ours:
        if file.name not in sizes:
            file.unlink()
        elif found[file.name] > sizes[file.name]:
            with file.open("r+b") as opened:
                opened.truncate(sizes[file.name])
    if (marked or ours) and (missing := [name for name, size in sizes.items() if found.get(name, -1) < size]):
        warnings.warn(
            f"{folder}: of the logs, {shown(', '.join(missing), 1000)} are not as long as they were; curves have gaps"
        )


def first_log(logger: Logger, root: pathlib.Path) -> str | None:
    """
    Name the first event file of a training, which may go on in others.

    :param logger: A model's logger
    :param root: A folder of runs
    :return: Path of the oldest event file below the folder; ``None`` if there is none
    """
    for writer in writers_of(logger):
        folder = pathlib.Path(writer.get_logdir()).resolve()
        names = [file.name for file in event_files(folder)] if folder.is_dir() else []
        if names and folder.is_relative_to(root.resolve()):
            return (folder.relative_to(root.resolve()) / min(names)).as_posix()
    return None


def is_log(root: pathlib.Path, name: str) -> bool:
    """
    Look whether a folder of runs has an event file; its name has the time and the process, so it is known by it.

    :param root: The folder, which need not exist
    :param name: What :func:`first_log` returned
    :return: Whether the file is there
    """
    file = pathlib.PurePath(name)
    if file.is_absolute() or ".." in file.parts:
        return False
    path = root / file
    return path.parent.is_dir() and path in event_files(path.parent)


def has_logs(folder: pathlib.Path, mark: str | None) -> bool:
    """
    Look whether a run has logged to a folder.

    :param folder: It need not exist
    :param mark: The mark of the run's event files, ``None`` if it is not known
    :return: Whether it has such event files
    """
    return folder.is_dir() and bool(event_files(folder, mark))


def hide_later_events(logger: Logger, step: int) -> None:
    """
    Make TensorBoard drop later steps that it has read, as the ``purge_step`` of a ``SummaryWriter`` does.

    :param logger: The run's logger
    :param step: The last step that is to stay
    """
    for writer in writers_of(logger):
        start = SessionLog(status=SessionLog.START)
        writer.file_writer.add_event(Event(step=step + 1, session_log=start))  # type: ignore[attr-defined]
