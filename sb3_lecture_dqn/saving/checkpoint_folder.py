"""Folders of checkpoints."""

import pathlib
import re
import warnings

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.saving.checkpoint_file import check_whole
from sb3_lecture_dqn.saving.files import flush_folder

_FILE_NAME = re.compile(r"checkpoint_(\d+)_steps\.zip")


_UNFINISHED = re.compile(r"\.checkpoint_\d+_steps\.zip\.[0-9a-f]+\.tmp")


# Folders of checkpoints
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
    :return: The environment steps that each of them was made after
    """
    paths = folder.iterdir() if folder.is_dir() else ()
    return {path: int(match[1]) for path in paths if (match := _FILE_NAME.fullmatch(path.name)) is not None}


def newest_whole(path: str | pathlib.Path) -> pathlib.Path:
    """
    Find the checkpoint to go on from, and warn of newer ones that cannot be read.

    :param path: A checkpoint, a folder of them, or the folder of a run with such a folder ``checkpoints``
    :return: The file
    :raises UnsafeFileError: If none is whole
    :raises FileNotFoundError: If there is none
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
        except (UnsafeFileError, FileNotFoundError) as error:  # or one that its run has removed meanwhile
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"a newer checkpoint is passed over: {problem}")
        return candidate
    raise UnsafeFileError(f"path={str(path)!r}: no checkpoint is whole: {'; '.join(problems)}")


def remove_later(folder: pathlib.Path, n_steps: int) -> None:
    """
    Remove the checkpoints of a future that was given up, when there is one of the new way on the disk.

    There are some when a run has gone on from an older one than its newest, which would not be its newest otherwise.

    :param folder: The run's folder of checkpoints
    :param n_steps: Environment steps of the run's newest; those of later steps are removed, with a warning
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
    Remove what a process that was killed while writing a checkpoint has left.

    :param folder: The folder of a run's checkpoints
    """
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)
