"""Results kept on disk between runs, under a name that says all they were computed from."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gnnfast.runtime.reading import first_line

logger = logging.getLogger(__name__)

_CHECKSUM_BYTES = 16
_CHUNK_BYTES = 1 << 20

Input = np.ndarray | str | int | float | bool | None


def cached_arrays(
    name: str,
    inputs: Mapping[str, Input],
    compute: Callable[[], dict[str, np.ndarray]],
    folder: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """What `compute` returns, read from disk where it was computed from equal inputs before.

    The file is named by a digest of the inputs, arrays with all their content, so that it never answers for others. A
    file that cannot be read, or whose content is not what was written, is computed anew, with a warning; where nothing
    can be written, nothing is kept, and a warning says so.

    Args:
        name: Of the result: the beginning of the file's name.
        inputs: All that the result depends on, a version of the code that makes it included.
        compute: Makes the result: arrays of numbers, by name.
        folder: Where files are kept; None means `gnnfast` in the user's cache folder.
    """
    digest = _digest(inputs)
    try:
        path = (user_cache_dir() if folder is None else Path(folder)) / f"{name}-{digest}.npz"
    except (OSError, RuntimeError) as error:
        _warn_once(f"{name} is not kept for later runs: {error}")
        return compute()
    kept = _read(path, digest)
    if kept is None:
        kept = compute()
        _write(path, kept, digest)
    return kept


def _read(path: Path, digest: str) -> dict[str, np.ndarray] | None:
    try:
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size - _CHECKSUM_BYTES
            # Before anything is made of the bytes: numpy and zipfile fail in many ways, and drop arrays silently.
            if num_bytes < 0 or _checksum(file, num_bytes, digest) != file.read():
                raise ValueError("its content is not what was written")
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:
        logger.warning("%s cannot be used and is made anew: %s", path, first_line(error))
        return None


def _write(path: Path, arrays: dict[str, np.ndarray], digest: str) -> None:
    """Writes beside the file and moves over it: other processes see the whole file or none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
        try:
            with os.fdopen(handle, "w+b") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                num_bytes = file.seek(0, os.SEEK_END)
                file.seek(0)
                checksum = _checksum(file, num_bytes, digest)
                # Readers of zip files look for the end of the archive and pass over what is behind it.
                file.write(checksum)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        _warn_once(f"{path.name} is not kept for later runs: {error}")


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def _checksum(file: BinaryIO, num_bytes: int, digest: str) -> bytes:
    """Of the file's next bytes and of what they answer for, should the file have been renamed."""
    checksum = hashlib.blake2b(digest_size=_CHECKSUM_BYTES, key=digest.encode())
    for first in range(0, num_bytes, _CHUNK_BYTES):
        checksum.update(file.read(min(_CHUNK_BYTES, num_bytes - first)))
    return checksum.digest()


def _digest(inputs: Mapping[str, Input]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(inputs.items()):
        if isinstance(value, np.ndarray):
            digest.update(f"{name!r}: {value.dtype.str}{value.shape};".encode())
            digest.update(np.ascontiguousarray(value).view(np.uint8).data)
        else:
            digest.update(f"{name!r}: {type(value).__name__} {value!r};".encode())
    return digest.hexdigest()


def user_cache_dir() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not base.is_absolute():
        raise FileNotFoundError(f"{base} depends on the working folder: the user has no home")
    return base / "gnnfast"
