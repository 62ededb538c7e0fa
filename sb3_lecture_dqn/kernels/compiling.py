"""
What compiles the loops of this room, with a cache on disk that survives damage and sees every edit.

Numba's cache of a function sees only that function's own file, and loops here call those of other files. So the stamp
of a cached function covers all files of its folder: an edit in any of them has all loops compiled anew.
"""

import contextlib
import functools
import hashlib
import pathlib
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps

_told: set[str] = set()


def _tell_once(what: str, line: str) -> None:
    """Print one line for a process, however many loops are concerned; not a warning, which may be made an error."""
    if what not in _told:
        _told.add(what)
        print(f"sb3_lecture_dqn: {line}", file=sys.stderr)


@functools.cache
def _stamp_of(folder: pathlib.Path) -> str:
    """The checksum of all source files of a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


class _WithChecksum(CompileResultCacheImpl):
    # Numba trusts that machine code is read as it was written: with a block of zeros in it, the process would crash.

    def reduce(self, cres: Any) -> tuple[bytes, bytes]:
        data = dumps(super().reduce(cres))  # type: ignore[no-untyped-call]
        return hashlib.sha256(data).digest(), data

    def rebuild(self, target_context: Any, payload: tuple[bytes, bytes]) -> Any:
        digest, data = payload
        if hashlib.sha256(data).digest() != digest:
            raise ValueError("the checksum is another")
        return super().rebuild(target_context, pickle.loads(data))  # type: ignore[no-untyped-call]


class CheckedCache(FunctionCache):
    """
    Numba's cache of a function, where a file that cannot be read is rebuilt, and one that cannot be written left out.

    Numba flushes nothing to the disk, so that a power cut leaves files that are empty, short or full of zeros; and from
    then on it would raise where the function is first called.

    :param py_func: The function
    :raises RuntimeError: If there is no folder for its files
    """

    _impl_class = _WithChecksum

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)  # type: ignore[no-untyped-call]
        self._cache_file._source_stamp = _stamp_of(pathlib.Path(py_func.__code__.co_filename).parent)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """
        Read what was compiled for a signature.

        :param sig: The signature
        :param target_context: Numba's
        :return: The compiled function; ``None`` if it is not there or damaged, and then it is compiled
        """
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever a damaged file makes of unpickling
            damage = f"numba's cache in {self.cache_path} is damaged ({type(error).__name__}: {error})"
            try:
                # An empty index, so that the files behind it are written anew.
                self.flush()  # type: ignore[no-untyped-call]
                _tell_once("rebuilt", f"{damage} and is rebuilt")
            except OSError as not_writable:
                self.disable()  # type: ignore[no-untyped-call]
                _tell_once("damaged", f"{damage} and is not used, as it cannot be written: {not_writable}")
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """
        Write what was compiled for a signature, or go on without.

        :param sig: The signature
        :param data: The compiled function
        """
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception as error:
            self.disable()  # type: ignore[no-untyped-call]
            _tell_once(
                "not writable", f"numba's cache in {self.cache_path} cannot be written, and is not used: {error}"
            )


# Sums may be reordered, which is what vectorising them takes; NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "nsz"}


def jit(function: Callable[..., Any]) -> Any:
    """
    Compile a function, and keep the result on disk where numba finds a folder that it may write.

    :param function: Takes and returns arrays, numbers and tuples of them. One whose name begins with ``_`` can
        be called by other compiled functions only
    :return: The compiled function
    """
    options: dict[str, Any] = {"fastmath": _FASTMATH, "error_model": "numpy", "nogil": True}
    if function.__name__.startswith("_"):  # Python never calls these, and the code for that takes time to compile.
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    dispatcher = numba.njit(**options)(function)
    with contextlib.suppress(RuntimeError):  # there is no such folder
        # What cache=True does, with a cache that outlives damage.
        dispatcher._cache = CheckedCache(function)
    return dispatcher
