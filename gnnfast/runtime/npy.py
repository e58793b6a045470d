"""Arrays of numbers from `.npy` files that are believed only as far as they are long."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from gnnfast.runtime.reading import check_fits_memory, reading

_EXPECTED = "a whole .npy file of numbers"


class NpyHeader(NamedTuple):
    """What a `.npy` file says it holds: as many bytes as it has."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def read_npy_header(file: IO[bytes], num_bytes: int) -> NpyHeader:
    """Reads the header, and leaves the file where the numbers begin.

    Args:
        file: Stands at the beginning of the header.
        num_bytes: Length of the whole file.

    Raises:
        ValueError: If the header is damaged, claims more than there is or speaks of something else than numbers.
    """
    version = np.lib.format.read_magic(file)
    readers: dict[Any, Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version[0]}.{version[1]} of the format holds no numbers")
    shape, is_fortran, dtype = readers[version](file)
    if dtype.kind not in "biuf" or not dtype.itemsize:
        raise ValueError(f"it holds {dtype if not dtype.hasobject else 'objects'} where numbers belong")
    header = NpyHeader(tuple(int(size) for size in shape), bool(is_fortran), dtype)
    if min(header.shape, default=0) < 0 or header.num_bytes > num_bytes - file.tell():
        raise ValueError(f"its header claims shape {header.shape} of {dtype}, which is more than the file holds")
    return header


def load_npy(path: Path) -> np.ndarray:
    """A whole array of numbers, in native byte order.

    Raises:
        ValueError: If the file is cut short, claims what it does not hold or does not hold numbers.
    """
    with reading(path, _EXPECTED), path.open("rb") as file:
        header = read_npy_header(file, os.fstat(file.fileno()).st_size)
        check_fits_memory("it", header.num_bytes)
        return read_numbers(file, header)


def map_npy(path: Path, offset: int = 0) -> np.ndarray:
    """Memory-maps an array of numbers, copy-on-write: torch wants writable memory, the file must not change.

    Args:
        path: A `.npy` file, or one that has it inside.
        offset: Where in the file it begins.

    Raises:
        ValueError: As `load_npy`.
    """
    with reading(path, _EXPECTED), path.open("rb") as file:
        file.seek(offset)
        header = read_npy_header(file, os.fstat(file.fileno()).st_size)
        order: Any = "F" if header.is_fortran else "C"
        if not header.num_bytes:
            return np.empty(header.shape, header.dtype, order)
        return np.memmap(path, header.dtype, "c", file.tell(), header.shape, order)


def npy_dtype(path: Path) -> np.dtype:
    """The type of a `.npy` file's numbers, which are not read.

    Raises:
        ValueError: As `load_npy`.
    """
    with reading(path, _EXPECTED), path.open("rb") as file:
        return read_npy_header(file, os.fstat(file.fileno()).st_size).dtype


def read_numbers(file: IO[bytes], header: NpyHeader) -> np.ndarray:
    """The numbers behind a header, in native byte order.

    Raises:
        ValueError: If there are fewer.
    """
    content = bytearray(header.num_bytes)
    view, filled = memoryview(content), 0
    while filled < header.num_bytes:
        count = file.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"it ends after {filled} of {header.num_bytes} bytes")
        filled += count
    numbers = np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")
    return numbers if header.dtype.isnative else numbers.astype(header.dtype.newbyteorder("="))
