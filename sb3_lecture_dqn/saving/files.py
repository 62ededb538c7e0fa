"""Files that are written whole or not at all, and opened so that every error names the file and the reason."""

import contextlib
import errno
import io
import json
import os
import pathlib
import secrets
import warnings
import zipfile
from collections.abc import Iterator
from typing import IO, Any

from stable_baselines3.common.save_util import open_path

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.codec import CodeInFileError

Path = str | pathlib.Path | io.BufferedIOBase

#: The members by which the files of a model, of a memory and of a checkpoint are known
DESCRIPTION, MEMORY, MANIFEST = "sb3_lecture_dqn.json", "sb3_lecture_dqn_memory.json", "manifest.json"

#: Largest JSON in bytes, and most entries that it may have: a parsed entry needs far more memory than its text
MAX_DESCRIPTION, MAX_ENTRIES = 2**26, 2**20

# What loads a file that was given to the wrong method, by the member that tells its kind
_OTHER_FILES = {
    MANIFEST: "it is a checkpoint of a training run, which {algorithm}.resume(path) goes on with",
    DESCRIPTION: "it is a model, which {algorithm}.load(path) loads",
    MEMORY: "it is a replay memory, which model.load_replay_buffer(path) loads",
}


@contextlib.contextmanager
def written_whole(path: Path, suffix: str) -> Iterator[IO[bytes]]:
    """
    Open a file that appears under its name only when all of it is on the disk.

    The file is written under another name in the same folder, flushed to the disk, and renamed; then the folder is
    flushed. Whatever happens in between, the name has the old file or the new one. Names are as SB3 makes them.

    :param path: The file; folders are made, a name without a suffix gets ``suffix``, and the name of a folder gets
        ``_2``. Or an open file, to which all is written at the end
    :param suffix: Without its dot
    :return: Binary file, to be read and written
    """
    if not isinstance(path, str | pathlib.Path):
        given = open_path(path, "w", suffix=suffix)
        content = io.BytesIO()
        yield content
        # Released also if the file raises: Python 3.13 complains of a view that is left.
        with content.getbuffer() as view:
            given.write(view)
        return
    target = _target(pathlib.Path(path), suffix)
    if target.exists() and not target.is_file():  # a device or a pipe, which has to stay one
        with target.open("w+b") as file:
            yield file
        return
    # The system limits the bytes of a name, and names of files may be as long as the limit.
    beside = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.tmp")
    if target.exists():
        target.open("r+b").close()  # raises if it is protected against writing, so that it stays
    try:
        with beside.open("x+b") as file:
            if target.exists():
                beside.chmod(target.stat().st_mode & 0o777)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush_folder(target.parent)


def flush_folder(folder: pathlib.Path) -> None:
    """
    Flush a folder's names to the disk, if the system can do that.

    :param folder: The folder
    """
    with contextlib.suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _target(path: pathlib.Path, suffix: str) -> pathlib.Path:
    if path.suffix == "":
        path = pathlib.Path(f"{path}.{suffix}")
    if path.is_dir():
        warnings.warn(f"Path '{path}' is a folder. Will save instead to {path}_2")
        path = pathlib.Path(f"{path}_2")
    if not path.parent.exists():
        warnings.warn(f"Path '{path.parent}' does not exist. Will create it.")
        path.parent.mkdir(exist_ok=True, parents=True)
    return path.resolve() if path.is_symlink() else path  # so that a symbolic link stays a link


@contextlib.contextmanager
def reading(path: Path, suffix: str, what: str) -> Iterator[tuple[IO[bytes], int]]:
    """
    Open a file; within the context, every error says which file it is about.

    :param path: The file, with or without its suffix, or an open file, which is left at its start
    :param suffix: Without its dot
    :param what: The kind of content that it must have, for messages
    :return: Binary file and its length in bytes
    :raises UnsafeFileError: If the content is not as it must be
    :raises FileNotFoundError: If there is no such file
    """
    if isinstance(path, str | pathlib.Path) and not any(map(os.path.exists, (path, f"{path}.{suffix}"))):
        # SB3's message would add the suffix a second time.
        name = f"{str(path).removesuffix(f'.{suffix}')}.{suffix}"
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    names = (path, f"{path}.{suffix}") if isinstance(path, str | pathlib.Path) else ()
    found = next((file for file in map(pathlib.Path, names) if file.exists()), None)
    if found is not None and not (found.is_file() or found.is_dir()):
        raise UnsafeFileError(f"path={str(found)!r} is not a regular file")  # opening a pipe may never end
    file = open_path(path, "r", verbose=0, suffix=suffix)
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        yield file, size
    except CodeInFileError as error:
        raise CodeInFileError(f"path={str(path)!r} holds a {what}, and not all of it is data: {error}") from None
    except UnsafeFileError as error:
        raise UnsafeFileError(f"path={str(path)!r} holds no {what}: {error}") from None
    except DAMAGED as error:  # not shown as the cause: it may have text of the file in it
        raise UnsafeFileError(f"path={str(path)!r} holds no {what}, or it is damaged: {error!r}") from None
    finally:
        if file is path:
            file.seek(0)
        else:
            file.close()


def check_is_no_other(archive: zipfile.ZipFile, own: str, algorithm: str = "LectureDQN") -> None:
    """
    Check that an archive is no other kind of file of this package.

    :param archive: The archive
    :param own: The member by which the right kind is known
    :param algorithm: Name of the class that loads it
    :raises UnsafeFileError: If it is of another kind; the message names the kind and the method that loads it
    """
    names = archive.namelist()
    for member, message in _OTHER_FILES.items():
        if member in names and own not in names:
            raise UnsafeFileError(f"it has no {own!r}: {message.format(algorithm=algorithm)}")


def read_json_member(archive: zipfile.ZipFile, name: str, versions: tuple[int, ...]) -> dict[str, Any]:
    """
    Read a member of an archive that is JSON and has a version.

    :param archive: The archive
    :param name: The member
    :param versions: The versions that can be read
    :return: The JSON
    :raises UnsafeFileError: If there is none, or it is too large or of another version
    """
    if name not in archive.namelist():
        raise UnsafeFileError(f"it has no {name!r}")
    if archive.getinfo(name).file_size > MAX_DESCRIPTION:
        raise UnsafeFileError(f"its member {name!r} is too large")
    return checked_json(archive.read(name), versions)


def checked_json(content: bytes, versions: tuple[int, ...]) -> dict[str, Any]:
    """
    Parse JSON that has a version.

    :param content: UTF-8
    :param versions: The versions that can be read
    :return: The JSON
    :raises UnsafeFileError: If it is too large or of another version
    """
    described: dict[str, Any] = parse_json(content)
    version = described.get("version") if isinstance(described, dict) else None
    if type(version) is not int or version not in versions:
        known = " and ".join(map(str, versions))
        raise UnsafeFileError(f"it is of version {shown(repr(version))}, and this package reads version {known}")
    return described


def parse_json(content: bytes) -> Any:
    """
    Parse JSON that is not too large.

    :param content: UTF-8
    :return: Its value
    :raises UnsafeFileError: If it is larger than any that this package writes
    """
    if len(content) > MAX_DESCRIPTION:
        raise UnsafeFileError(f"its description has {len(content)} bytes, and at most {MAX_DESCRIPTION} are allowed")
    if sum(content.count(sign) for sign in (b",", b"[", b"{")) > MAX_ENTRIES:
        raise UnsafeFileError(f"its description has more than {MAX_ENTRIES} entries")
    return json.loads(content.decode())
