"""
The compiler decorators of this package, :func:`entry` and :func:`jit`. Their cache on disk survives damaged files and
detects edits.

Numba's own cache detects only edits in the file of a function, but functions here call functions of other files. So the
cache uses a checksum of all files in the folder: after an edit in any of them, all functions are compiled again.
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
from numba.core.registry import cpu_target
from numba.core.runtime import nrt
from numba.core.serialize import dumps

_printed: set[str] = set()


def _print_once(event: str, line: str) -> None:
    """Print a line once per process. It is not a warning, since users may turn warnings into errors."""
    if event not in _printed:
        _printed.add(event)
        print(f"sb3_lecture_dqn: {line}", file=sys.stderr)


@functools.cache
def _stamp_of(folder: pathlib.Path) -> str:
    """Compute the checksum of all source files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


class _WithChecksum(CompileResultCacheImpl):
    # Numba does not check the machine code that it reads; a damaged file would crash the process.

    def reduce(self, cres: Any) -> tuple[bytes, bytes]:
        data = dumps(super().reduce(cres))  # type: ignore[no-untyped-call]
        return hashlib.sha256(data).digest(), data

    def rebuild(self, target_context: Any, payload: tuple[bytes, bytes]) -> Any:
        digest, data = payload
        if hashlib.sha256(data).digest() != digest:
            raise ValueError("the checksum does not match")
        return super().rebuild(target_context, pickle.loads(data))  # type: ignore[no-untyped-call]


class CheckedCache(FunctionCache):
    """
    Numba's cache for a function, which rebuilds files that cannot be read, and does without files that cannot be
    written.

    Numba does not flush its files to the disk. A power cut can leave files that are empty, short or full of zeros, and
    numba would then raise an error at the first call of the function.

    :param py_func: The function
    :raises RuntimeError: If there is no folder for the cache
    """

    _impl_class = _WithChecksum
    #: Whether to say that the function is being compiled, because that takes seconds
    announces = False

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)  # type: ignore[no-untyped-call]
        self._cache_file._source_stamp = _stamp_of(pathlib.Path(py_func.__code__.co_filename).parent)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """
        Read the compiled function for a signature.

        :param sig: The signature
        :param target_context: Numba's target context
        :return: The compiled function; ``None`` if it is missing or damaged, so that numba compiles it
        """
        # Numba would import all that it needs to compile, among it SciPy; compiled code needs only its memory manager.
        nrt.rtsys.initialize(target_context)
        try:
            compiled = self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]
            if compiled is not None:
                return compiled
        except Exception as error:  # of any kind, since unpickling a damaged file can raise anything
            damage = f"numba's cache in {self.cache_path} is damaged ({type(error).__name__}: {error})"
            try:
                # Write an empty index, so that numba writes all files again.
                self.flush()  # type: ignore[no-untyped-call]
                _print_once("rebuilt", f"{damage} and is rebuilt")
            except OSError as not_writable:
                self.disable()  # type: ignore[no-untyped-call]
                _print_once("damaged", f"{damage} and is not used, as it cannot be written: {not_writable}")
        if self.announces:
            _print_once("compiling", "compiling the training loop, once; this takes some seconds")
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """
        Write the compiled function for a signature. If that fails, disable the cache.

        :param sig: The signature
        :param data: The compiled function
        """
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception as error:
            self.disable()  # type: ignore[no-untyped-call]
            _print_once(
                "not writable", f"numba's cache in {self.cache_path} cannot be written, and is not used: {error}"
            )


def fuses() -> bool:
    """
    Look whether compiled code multiplies and adds in one instruction, which rounds once and not twice.

    :return: Whether it does on this processor
    """
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return "+fma" in features.split(",") or not triple.startswith("x86")


def jit(function: Callable[..., Any]) -> Any:
    """
    Compile a function that only compiled functions call, and cache the result on disk.

    Python cannot call it, since its wrapper would take time to compile. It does not count references, so it
    must not make arrays other than views; callers keep its arguments alive.

    :param function: A function of arrays, numbers, vectors of :mod:`simd`, and tuples of them
    :return: The compiled function
    """
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)


def entry(function: Callable[..., Any]) -> Any:
    """
    Compile a function that Python calls, at its first call, and cache the result on disk.

    :param function: A function of arrays, numbers, and tuples of them
    :return: The compiled function
    """
    return _compiled(function)


def slow_entry(function: Callable[..., Any]) -> Any:
    """
    Do the same as :func:`entry`, and print a line when the function is compiled, because that takes seconds.

    :param function: A function of arrays, numbers, and tuples of them
    :return: The compiled function
    """
    dispatcher = _compiled(function)
    dispatcher._cache.announces = True
    return dispatcher


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    # No fast math: a function gives the same bits wherever it is inlined.
    dispatcher = numba.njit(error_model="numpy", nogil=True, **options)(function)
    with contextlib.suppress(RuntimeError):  # numba finds no writable folder
        # The same as numba's option cache=True, but with our class of cache.
        dispatcher._cache = CheckedCache(function)
    return dispatcher
