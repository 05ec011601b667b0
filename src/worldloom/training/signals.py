"""Ctrl-C, SIGTERM and a closed terminal: the first asks for a checkpoint, the second ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from worldloom.contract import WorldloomError

# SIGHUP (a closed terminal, a lost connection) is not on Windows; SIGBREAK (Ctrl-Break, a closed window) only there.
_STOP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class InterruptedTrainingError(WorldloomError):
    """Training was stopped by a signal, after a checkpoint. ``exit_code`` is the shell's: 130 for Ctrl-C."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum


class StopSignals:
    """Within the context SIGINT, SIGTERM, SIGHUP and SIGBREAK (where they exist) set :attr:`signum`, and end nothing.

    The second one leaves by ``os._exit``: what is on disk is whole at any instant, so nothing needs tidying. A signal
    that was ignored before stays so (``nohup``). Outside the main thread, where Python allows no handlers, it does
    nothing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            os._exit(128 + signum)
        self.signum = signum
        # os.write, because print may be in the middle of its own work when the signal comes; the terminal may be gone
        with contextlib.suppress(OSError, ValueError):
            stderr = sys.__stderr__.fileno() if sys.__stderr__ else 2
            os.write(stderr, b"\nStopping after this step; again to quit now.\n")

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for name in _STOP:
                signum = getattr(signal, name, None)
                if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:
                    self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}


__all__ = ["InterruptedTrainingError", "StopSignals"]
