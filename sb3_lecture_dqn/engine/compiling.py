"""How kernels are compiled, and how the result is kept on disk."""

from collections.abc import Callable
from typing import Any

import numba


def jit(function: Callable[..., Any]) -> Any:
    """Compile, and keep the result on disk where numba finds a folder that it may write."""
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True}
    if function.__name__ not in ("train", "greedy_actions", "run"):
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(**options)(function)
