"""Bytes from elsewhere, read without trusting them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gnnfast.runtime.memory import available_memory_bytes


@contextmanager
def reading(path: Path, expected: str = "") -> Iterator[None]:
    """Turns whatever a parser makes of a damaged file into one line that names the file.

    Any exception will do: zipfile, zlib, pickle, torch and pyarrow fail on damaged bytes in more ways than they
    document. What the system says of a file, that it is missing or may not be read, stays as it is.

    Args:
        path: What is read.
        expected: What it should be, as in "is not a whole .npy file"; "cannot be read" by default.

    Raises:
        ValueError: In place of every other exception.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        what = f"is not {expected}" if expected else "cannot be read"
        raise ValueError(f"{path} {what}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an exception says, in one line of bearable length; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return f"{lines[0][:300]}" if lines else type(error).__name__


def check_fits_memory(what: str, num_bytes: int) -> None:
    """Raises ValueError if so many bytes are more than what is free: asking for them may end the process."""
    free_bytes = available_memory_bytes()
    if free_bytes is not None and num_bytes > free_bytes:
        raise ValueError(
            f"{what} would take {num_bytes / 1e9:.4g} GB of memory, but {free_bytes / 1e9:.1f} GB are free"
        )


def check_fits_disk(what: str, num_bytes: int, folder: Path) -> None:
    """Raises ValueError if so many bytes are more than what the disk of a folder has free."""
    free_bytes = shutil.disk_usage(folder).free
    if num_bytes > free_bytes:
        raise ValueError(
            f"{what} would take {num_bytes / 1e9:.4g} GB in {folder}, which has {free_bytes / 1e9:.1f} GB free"
        )
