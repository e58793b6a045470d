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


def _open_text(path: Path) -> Any:
    return gzip.open(path, "rt") if path.name.lower().endswith(".gz") else path.open()


def _has_header(path: Path) -> bool:
    with _open_text(path) as file:
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
    if values.dtype.kind == "b":
        raise ValueError(f"{path}: {what} must be whole numbers, got true and false")
    if values.dtype.kind == "f":
        not_whole = ~np.isfinite(values) | (values != np.floor(values))
        if not_whole.any():
            row = int(np.flatnonzero(not_whole)[0])
            raise ValueError(f"{path}: {what} must be whole numbers, but row {row} has {values[row]}")
    return values.astype(np.int64)


def read_csv_matrix(path: Path, dtype: Any, num_rows: int | None = None) -> np.ndarray:
    """A `.csv` or `.csv.gz` without header as a matrix; block by block, so that the text is never in memory whole.

    Args:
        dtype: int64 or float32; empty fields are NaN in the latter.
        num_rows: How many there must be; saves memory where it is known.

    Raises:
        ValueError: If the file cannot be read or has another number of rows.
    """
    import pyarrow
    from pyarrow import csv

    column_type = pyarrow.from_numpy_dtype(dtype)
    filled = 0
    try:
        with _open_text(path) as file:
            num_columns = file.readline().count(",") + 1
        names = [str(column) for column in range(num_columns)]
        blocks = [np.empty((num_rows, num_columns), dtype)] if num_rows is not None else []
        reader = csv.open_csv(
            path,
            csv.ReadOptions(column_names=names, block_size=1 << 24),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, column_type)),
        )
        for batch in reader:
            last = filled + batch.num_rows
            if num_rows is None:
                blocks.append(np.empty((batch.num_rows, num_columns), dtype))
            elif last > num_rows:
                raise ValueError(f"more than {num_rows} rows")
            block = blocks[-1] if num_rows is None else blocks[0][filled:last]
            for column in range(num_columns):
                block[:, column] = batch.column(column).to_numpy(zero_copy_only=False)
            filled = last
    except (pyarrow.ArrowException, OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if num_rows is not None and filled != num_rows:
        raise ValueError(f"{path} has {filled} rows, but {num_rows} belong there")
    return np.concatenate(blocks) if num_rows is None else blocks[0]
