"""Numbers from `.npy`, `.csv` and `.parquet` files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".npy", ".csv", ".csv.gz", ".parquet")


def suffix_of(path: Path) -> str:
    """The one of `SUFFIXES` that the name ends in.

    Raises:
        ValueError: If it ends otherwise.
    """
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise ValueError(f"{path} must be a {', '.join(SUFFIXES)} file")


def read_npy(path: Path) -> np.ndarray:
    """A whole array of numbers.

    Raises:
        ValueError: If the file is cut short or does not hold numbers.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a whole .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold an array of numbers")
    return array


def npy_dtype(path: Path) -> np.dtype:
    """The type of a `.npy` file's numbers, without reading them.

    Raises:
        ValueError: If the file is cut short.
    """
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a whole .npy file of numbers: {error}") from error
    return array.dtype


def read_array(path: Path) -> np.ndarray:
    """What a file of any kind holds; the columns of a table side by side.

    Raises:
        ValueError: As `read_npy` and `read_columns`.
    """
    return read_npy(path) if suffix_of(path) == ".npy" else np.stack(list(read_columns(path).values()), axis=1)


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `.csv` or `.parquet` file, in order; floating with NaN where one has empty fields.

    A `.csv` whose first line is all numbers has no header: its columns are called `f0`, `f1` and so on.

    Raises:
        ValueError: If the file cannot be read or a column does not hold numbers.
    """
    import pyarrow
    from pyarrow import csv, parquet

    try:
        if suffix_of(path) == ".parquet":
            table = parquet.read_table(path)
        else:
            table = csv.read_csv(path, csv.ReadOptions(autogenerate_column_names=not _has_header(path)))
    except (pyarrow.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    return {name: _numbers(path, name, table.column(name)) for name in table.column_names}


def _has_header(path: Path) -> bool:
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt") as file:
        fields = file.readline().strip().split(",")
    try:
        for field in fields:
            float(field or "nan")
    except ValueError:
        return True
    return False


def _numbers(path: Path, name: str, column: Any) -> np.ndarray:
    from pyarrow import types

    if types.is_null(column.type):
        return np.full(len(column), np.nan)
    if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)):
        raise ValueError(f"{path}: column {name} must hold numbers, but holds {column.type}")
    numbers: np.ndarray = column.to_numpy()
    return numbers.astype(np.float64) if numbers.dtype == object else numbers


def whole_numbers(path: Path, what: str, values: np.ndarray) -> np.ndarray:
    """The values as int64.

    Raises:
        ValueError: If one is not whole; names its row.
    """
    if values.dtype.kind == "f":
        not_whole = ~np.isfinite(values) | (values != np.floor(values))
        if not_whole.any():
            row = int(np.flatnonzero(not_whole)[0])
            raise ValueError(f"{path}: {what} must be whole numbers, but row {row} has {values[row]}")
    return values.astype(np.int64)
