"""Ctrl-C and SIGTERM wait until a step is finished."""

import signal
import threading
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


class HeldCtrlC:
    """
    Within this context, Ctrl-C can be held back, so that it does not interrupt what must be done together.

    The object itself is the inner context that holds it back; it costs little to enter again and again::

        with HeldCtrlC() as held:
            while True:
                with held:
                    ...  # Ctrl-C waits for the end of this block
                ...  # Ctrl-C interrupts at once
    """

    def __init__(self) -> None:
        self._handler: Any = None
        self._holds = False
        self._received = False
        self._depth = 0

    def __enter__(self) -> "HeldCtrlC":
        self._depth += 1
        if self._depth > 1:
            self._holds = True
        elif threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth > 0:
            self._holds = False
        elif self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if self._received and not self._holds:
            self._received = False
            self._handler(signal.SIGINT, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._holds:
            self._received = True
        else:
            self._handler(number, frame)
