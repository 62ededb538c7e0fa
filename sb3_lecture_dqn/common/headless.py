"""Rendering pictures on machines without a screen."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


@contextmanager
def without_screen() -> Iterator[None]:
    """
    Within this context, pygame starts without looking for a screen if there is none.

    Environments of gymnasium start it to render pictures. On Linux, it would print that ``XDG_RUNTIME_DIR`` is not set.
    """
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in _SCREENS):
        yield
        return
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    try:
        yield
    finally:
        del os.environ["SDL_VIDEODRIVER"]
