"""The file of a checkpoint: there as a whole or not at all, and read without executing anything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

# Behind the archive that torch writes: readers of zip files look for its end and pass over what follows.
_TRAILER = b"gnnfast\n"
_TRAILER_BYTES = len(_TRAILER) + hashlib.sha256().digest_size
_CHUNK_BYTES = 1 << 20


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values, and their checksum; `torch.load(path, weights_only=True)` reads them too.

    Raises:
        OSError: If it cannot be written; what was there before is then still there.
    """

    def write(file: BinaryIO) -> None:
        digesting = _Digesting(file)
        torch.save(state, digesting)  # type: ignore[arg-type]
        digesting.end()

    write_whole(path, write)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is damaged, or holds something else than tensors and plain values.
    """
    with path.open("rb") as file:
        _check(path, file)
        file.seek(0)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        # What a file of a stranger's holds may fail in any way.
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise ValueError(f"{path} is not a whole checkpoint: {reason}") from error
    if not isinstance(state, dict) or "model" not in state:
        raise ValueError(f"{path} is not a checkpoint of gnnfast: it holds no model")
    return state


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Puts a file in the place of `path` once all of it is on disk: whoever looks finds the old one or the new one.

    Args:
        path: Of the file.
        write: Is called with the new file.

    Raises:
        OSError: If it cannot be written; it says which file, why, and that the old one is untouched.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        reason = error.strerror or error
        raise OSError(f"cannot write {path}: {reason}; what was in its folder before is untouched") from error


class _Digesting:
    """Passes on what torch writes, and computes its checksum.

    Args:
        file: Where it goes.
    """

    def __init__(self, file: BinaryIO):
        self.file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, chunk: Any) -> int:
        if self.error is None:
            try:
                self.file.write(chunk)
            except OSError as error:
                # Raised inside torch's writer it would come out as a complaint about positions.
                self.error = error
            self.digest.update(chunk)
        return len(chunk)

    def flush(self) -> None:
        """All is flushed at the end."""

    def end(self) -> None:
        if self.error is not None:
            raise self.error
        self.file.write(_TRAILER + self.digest.digest())


def _check(path: Path, file: BinaryIO) -> None:
    """Compares content and checksum before anything is made of the bytes."""
    left = os.fstat(file.fileno()).st_size - _TRAILER_BYTES
    digest = hashlib.sha256()
    while left > 0 and (chunk := file.read(min(_CHUNK_BYTES, left))):
        digest.update(chunk)
        left -= len(chunk)
    trailer = file.read()
    if left != 0 or not trailer.startswith(_TRAILER):
        raise ValueError(f"{path} is not a whole checkpoint: it does not end with a checksum")
    if trailer != _TRAILER + digest.digest():
        raise ValueError(f"{path} is not a whole checkpoint: its content is not what its checksum is of")


def _sync_folder(folder: Path) -> None:
    """Has the folder remember the new name, where the system can be told."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
