"""Saying that kernels are being compiled, where they are not found compiled."""

from __future__ import annotations

from collections.abc import Callable

from numba.core import event


def announce_compilation(tell: Callable[[], None]) -> None:
    """Calls `tell` when the first kernel is compiled from source, on whichever thread that is; never if none is."""
    event.register("numba:compile", _FirstCompilation(tell))


class _FirstCompilation(event.Listener):  # type: ignore[misc]
    def __init__(self, tell: Callable[[], None]):
        self.tell: Callable[[], None] | None = tell

    def on_start(self, event: object) -> None:
        kernel = event.data["dispatcher"].py_func  # type: ignore[attr-defined]
        # Functions that were made by exec may have no module.
        if self.tell and (kernel.__module__ or "").startswith("gnnfast.kernels."):
            tell, self.tell = self.tell, None
            tell()

    def on_end(self, event: object) -> None:
        pass
