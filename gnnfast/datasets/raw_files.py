"""Raw files: where they are looked for, how they are fetched, how archives are opened without trusting them."""

from __future__ import annotations

import io
import logging
import os
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


def open_npz(path: Path, member: str) -> Any:
    """Opens a `.npz` file, or the one named `member` inside a `.zip`, in memory; objects are never unpickled.

    Raises:
        ValueError: If the file is not whole or the archive has no such member.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = archive.read(member)
        return np.load(io.BytesIO(content), allow_pickle=False)
    except KeyError as error:
        raise ValueError(f"{path} holds no {member}") from error
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise ValueError(f"{path} is not a whole {path.suffix} file: {error}") from error


def extract_zip(path: Path, folder: Path) -> None:
    """Unpacks an archive into `folder`.

    Raises:
        ValueError: If the file is not a whole archive, or an entry would land outside `folder`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = folder.resolve()
            for name in archive.namelist():
                if not (inside / name).resolve().is_relative_to(inside):
                    raise ValueError(f"{path} holds {name!r}, which points outside of {folder}")
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole .zip file: {error}") from error
