"""Raw files: where they are looked for, how they are fetched, how archives are opened without trusting them."""

from __future__ import annotations

import io
import logging
import os
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gnnfast.runtime.npy import read_npy_header, read_numbers
from gnnfast.runtime.reading import check_fits_disk, check_fits_memory, reading

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 20


def data_root(root: str | Path | None) -> Path:
    """The folder of all data sets: `root`, else the environment's `GNNFAST_DATA`, else `data`."""
    return Path(root or os.environ.get("GNNFAST_DATA") or "data").expanduser()


def find(candidates: Sequence[Path]) -> Path | None:
    """The first candidate that exists."""
    return next((path for path in candidates if path.exists()), None)


def find_or_download(candidates: Sequence[Path], url: str) -> Path:
    """The first candidate that exists; if none does, `url` is downloaded to the first.

    Raises:
        FileNotFoundError: If the file is nowhere and cannot be downloaded; names the candidates and the address.
    """
    found = find(candidates)
    if found is not None:
        return found
    target = candidates[0].parent / url.rpartition("/")[2]
    try:
        download(url, target)
    except OSError as error:
        looked_at = ", ".join(str(path.absolute()) for path in candidates)
        raise FileNotFoundError(
            f"{target.name} was expected at one of {looked_at}; downloading it failed ({error}). "
            f"Get it from {url} and put it at one of these places, or point dataset.root or GNNFAST_DATA at its folder"
        ) from error
    return target


def download(url: str, target: Path) -> None:
    """Fetches `url`; `target` appears only once it is whole.

    Raises:
        OSError: If the server cannot be reached, the transfer breaks off or the disk has no room.
    """
    with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as response:
        num_bytes = int(response.headers.get("Content-Length") or 0)
        logger.info("Downloading %s (%.1f MB) to %s", url, num_bytes / 1e6, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(target.parent).free
        if num_bytes > free_bytes:
            raise OSError(f"{target.parent} has {free_bytes / 1e9:.1f} GB free, {url} takes {num_bytes / 1e9:.1f} GB")
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as file:
                shutil.copyfileobj(response, file, 1 << 20)
            if num_bytes and partial.stat().st_size != num_bytes:
                raise OSError(f"{url} broke off after {partial.stat().st_size} of {num_bytes} bytes")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Only one process at a time is in this block for a folder; the others wait, and find what the first has made.

    The folder itself is locked: no file is left behind, and the lock ends with its process. Where the system cannot do
    that, nobody waits.
    """
    handle = _locked(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _locked(folder: Path) -> int | None:
    """A handle that holds the folder's lock until it is closed; None where there is no such lock."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        os.close(handle)
        return None
    return handle


def read_npz(path: Path, names: Sequence[str], member: str) -> dict[str, np.ndarray]:
    """Arrays of numbers from a `.npz` file, or from the one named `member` inside a `.zip`.

    Raises:
        ValueError: If the file is not whole, lacks one of the arrays, or one does not fit into memory.
    """
    with reading(path, f"a whole {path.suffix} file"), zipfile.ZipFile(path) as archive:
        if path.suffix != ".zip":
            return _arrays(path, names, archive)
        if member not in archive.namelist():
            raise ValueError(f"{path} holds no {member}")
        with zipfile.ZipFile(io.BytesIO(read_member(archive, member))) as inner:
            return _arrays(path, names, inner)


def _arrays(path: Path, names: Sequence[str], archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    missing = sorted(set(names) - {file.removesuffix(".npy") for file in archive.namelist()})
    if missing:
        raise ValueError(f"{path} has no array {', '.join(missing)}")
    arrays = {}
    for name in names:
        entry = archive.getinfo(f"{name}.npy")
        with archive.open(entry) as file:
            header = read_npy_header(file, entry.file_size)
            check_fits_memory(f"array {name}", header.num_bytes)
            arrays[name] = read_numbers(file, header)
            # What is behind the numbers is read too: the archive's checksum is compared at its end.
            file.read()
    return arrays


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of an archive's entry, which never comes to more than the archive says.

    Raises:
        ValueError: If that does not fit into memory.
    """
    check_fits_memory(f"{name} unpacked", archive.getinfo(name).file_size)
    return archive.read(name)


def extract_zip(path: Path, folder: Path) -> None:
    """Unpacks an archive into `folder`.

    Raises:
        ValueError: If the file is not a whole archive, an entry would land outside `folder`, or the disk has no room.
    """
    with reading(path, "a whole .zip file"), zipfile.ZipFile(path) as archive:
        inside = folder.resolve()
        for name in archive.namelist():
            if not (inside / name).resolve().is_relative_to(inside):
                raise ValueError(f"{path} holds {name!r}, which points outside of {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        check_fits_disk("it", sum(entry.file_size for entry in archive.infolist()), folder)
        archive.extractall(folder)
