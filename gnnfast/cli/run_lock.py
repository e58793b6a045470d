"""One process at a time in a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other commands from training in the folder; the system lets go of it however this process ends.

    Args:
        folder: Of a run.

    Raises:
        ValueError: If another process is at work there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"another process is training in {folder}: wait until it ends, or give this run a folder of its own with "
            "hydra.run.dir=DIR"
        ) from None
    try:
        yield
    finally:
        lock.release()
