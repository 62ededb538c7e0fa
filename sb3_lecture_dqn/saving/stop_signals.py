"""Ctrl-C and SIGTERM wait until a step is finished."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """
    Within this context, note the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts as always.

    Outside the main thread, where Python cannot handle signals, nothing is changed.
    """

    def __init__(self) -> None:
        #: The number of the signal, 0 if there was none
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # Ignored, as in a job in the background; or handled by a program in C, which could not be put back.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def stop(self) -> None:
        """
        Stop as the signal asks for.

        :raises KeyboardInterrupt: After Ctrl-C
        :raises SystemExit: After SIGTERM, with the exit code that shells give for it
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.received)


@contextlib.contextmanager
def holding_back_ctrl_c() -> Iterator[None]:
    """
    Within this context, hold back Ctrl-C, so that it does not interrupt what must be done together.

    :raises KeyboardInterrupt: At the end of the context, if Ctrl-C was pressed in it
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    received: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received:
            handler(signal.SIGINT, received[0])
