"""Folders of checkpoints."""

import pathlib
import re
import warnings

from filelock import FileLock, Timeout

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.saving.checkpoint_file import check_whole
from sb3_lecture_dqn.saving.files import flush_folder

_FILE_NAME = re.compile(r"checkpoint_(\d+)_steps\.zip")

_UNFINISHED = re.compile(r"\.checkpoint_\d+_steps\.zip\.[0-9a-f]+\.tmp")

_LOCK = ".lock"
#: Seconds to wait for another process that may be about to end, as one that saves its last checkpoint after Ctrl-C
PATIENCE = 5.0


def checkpoint_path(folder: pathlib.Path, n_steps: int) -> pathlib.Path:
    """
    Name a checkpoint.

    :param folder: The folder of a run's checkpoints
    :param n_steps: Environment steps taken
    :return: ``<folder>/checkpoint_<n_steps>_steps.zip``
    """
    return folder / f"checkpoint_{n_steps}_steps.zip"


def checkpoints_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """
    List the checkpoints of a run.

    :param folder: Their folder, which need not exist
    :return: Their files, the newest first
    """
    steps = checkpoint_steps(folder)
    return sorted(steps, key=lambda path: steps[path], reverse=True)


def checkpoint_steps(folder: pathlib.Path) -> dict[pathlib.Path, int]:
    """
    Read from their names when checkpoints were made.

    :param folder: Their folder, which need not exist
    :return: For each file, the environment steps before it
    """
    paths = folder.iterdir() if folder.is_dir() else ()
    return {
        path: int(match[1])
        for path in paths
        if (match := _FILE_NAME.fullmatch(path.name)) is not None and path.is_file()
    }


def newest_whole(path: str | pathlib.Path) -> pathlib.Path:
    """
    Find the newest checkpoint that can be read, and warn of newer checkpoints that cannot.

    :param path: A checkpoint, a folder of them, or the folder of a run with such a folder ``checkpoints``
    :return: The file
    :raises UnsafeFileError: If no checkpoint is whole
    :raises FileNotFoundError: If there is no checkpoint
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        if not path.exists() and path.suffix == "":
            path = path.with_name(f"{path.name}.zip")
        if not path.exists():
            raise FileNotFoundError(f"path={str(path)!r}: there is no such checkpoint")
        check_whole(path)
        return path
    candidates = checkpoints_in(path) or checkpoints_in(path / "checkpoints")
    if not candidates:
        raise FileNotFoundError(f"path={str(path)!r}: there is no checkpoint in this folder")
    problems = []
    for candidate in candidates:
        try:
            check_whole(candidate)
        except (UnsafeFileError, OSError) as error:  # it may be protected, or its run has removed it meanwhile
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"a newer checkpoint is passed over: {problem}")
        return candidate
    raise UnsafeFileError(f"path={str(path)!r}: no checkpoint is whole: {'; '.join(problems)}")


def claim(folder: pathlib.Path) -> FileLock:
    """
    Keep other processes from training into a folder of checkpoints.

    :param folder: The folder
    :return: The lock, to be released when training ends. It ends with this process at the latest. Where its file cannot
        be written, it is not locked
    :raises ValueError: If another process trains into this folder
    """
    lock = FileLock(folder / _LOCK, timeout=PATIENCE, is_singleton=True)  # this process may have it more than once
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder}: another process trains and saves its checkpoints there: wait for its end, or "
            f"choose another folder (if there is no such process, remove {lock.lock_file})"
        ) from None
    except (OSError, NotImplementedError):
        pass
    return lock


def check_is_free(folder: pathlib.Path) -> None:
    """
    Check that no other process trains into a folder of checkpoints.

    :param folder: The folder
    :raises ValueError: If one does
    """
    if (folder / _LOCK).exists():
        claim(folder).release()


def remove_later(folder: pathlib.Path, n_steps: int) -> None:
    """
    Remove the later checkpoints of an abandoned run.

    After resuming from an older checkpoint, they would be taken for the newest. They are removed once the first new
    checkpoint is on the disk.

    :param folder: The run's folder of checkpoints
    :param n_steps: Environment steps of the new checkpoint; those of more steps are removed, with a warning
    """
    later = [path for path, steps in checkpoint_steps(folder).items() if steps > n_steps]
    for path in later:
        path.unlink(missing_ok=True)
    if later:
        flush_folder(folder)
        names = ", ".join(sorted(path.name for path in later))
        warnings.warn(f"{folder}: the run has gone on from an older checkpoint, so {names} are removed")


def remove_unfinished(folder: pathlib.Path) -> None:
    """
    Remove unfinished files of processes that were killed while they wrote a checkpoint.

    :param folder: The folder of a run's checkpoints
    """
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)
