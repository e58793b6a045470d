"""Ending a run at a place where nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A run has ended because it was asked to.

    Args:
        signal_number: What asked.
    """

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """As the shell has it for a process that a signal ends."""
        return 128 + self.signal_number


class StopSignals:
    """SIGTERM and SIGINT, as requests to stop; a second one ends the process at once.

    As a context manager it receives them, in the main thread. One that does not simply never asks to stop.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._is_deferred = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal only asks to stop: whoever finds `received` set raises `Stopped` when it suits."""
        with self._deferring(True):
            yield

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside `deferred`, raises `Stopped` wherever a signal arrives, or here if one has."""
        with self._deferring(False):
            if self.received is not None:
                raise Stopped(self.received)
            yield

    @contextmanager
    def _deferring(self, is_deferred: bool) -> Iterator[None]:
        before, self._is_deferred = self._is_deferred, is_deferred
        try:
            yield
        finally:
            self._is_deferred = before

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for each in self._handlers:
            signal.signal(each, signal.SIG_DFL)
        if not self._is_deferred:
            raise Stopped(number)
