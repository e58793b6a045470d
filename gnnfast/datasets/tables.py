"""Numbers from `.npy`, `.csv` and `.parquet` files."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from gnnfast.runtime.memory import available_memory_bytes
from gnnfast.runtime.npy import load_npy
from gnnfast.runtime.reading import check_fits_memory, reading

SUFFIXES = (".npy", ".csv", ".csv.gz", ".parquet")
_LONGEST_LINE = 1 << 20
_MOST_UNPACKED = 1032  # bytes that gzip can make of one


def suffix_of(path: Path) -> str:
    """The one of `SUFFIXES` that the name ends in.

    Raises:
        ValueError: If it ends otherwise.
    """
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise ValueError(f"{path} must be a {', '.join(SUFFIXES)} file")


def read_array(path: Path) -> np.ndarray:
    """What a file of any kind holds; the columns of a table side by side.

    Raises:
        ValueError: As `load_npy` and `read_columns`.
    """
    return load_npy(path) if suffix_of(path) == ".npy" else np.stack(list(read_columns(path).values()), axis=1)


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `.csv` or `.parquet` file, in order; floating with NaN where one has empty fields.

    A `.csv` whose first line is all numbers has no header: its columns are called `f0`, `f1` and so on.

    Raises:
        ValueError: If the file cannot be read or a column does not hold numbers.
    """
    from pyarrow import csv, parquet

    with reading(path):
        if suffix_of(path) == ".parquet":
            _check_parquet(parquet.ParquetFile(path).metadata)
            table = parquet.read_table(path)
        else:
            options = csv.ReadOptions(autogenerate_column_names=not _has_header(path))
            with _open_bytes(path) as file:
                table = csv.read_csv(file, options)
        names = table.column_names
        if len(set(names)) < len(names):
            raise ValueError(f"two of its columns are called {next(name for name in names if names.count(name) > 1)}")
        if table.num_rows == 0:
            raise ValueError("it has no rows")
        return {name: _numbers(path, name, table.column(name)) for name in names}


def _check_parquet(metadata: Any) -> None:
    """Raises ValueError if what the file's own account promises does not fit into memory."""
    num_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    check_fits_memory("it", max(num_bytes, 8 * metadata.num_rows * metadata.num_columns))


class _BoundedText(io.RawIOBase):
    """Text as it is unpacked: a small file that unpacks to more than there is memory ends as an error, not a crash."""

    def __init__(self, file: Any):
        self._file = file
        self._num_bytes = 0
        self._limit = available_memory_bytes() or sys.maxsize

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._file.readinto(buffer)
        self._num_bytes += count
        if self._num_bytes > self._limit:
            raise ValueError(f"it unpacks to more than the {self._limit / 1e9:.1f} GB of free memory")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_bytes(path: Path) -> IO[bytes]:
    """The text of a table, unpacked."""
    import pyarrow

    if path.name.lower().endswith(".gz"):
        return io.BufferedReader(_BoundedText(pyarrow.input_stream(str(path), compression="gzip")), 1 << 20)
    return path.open("rb")


def _first_fields(path: Path) -> list[str]:
    with _open_bytes(path) as file:
        line = file.readline(_LONGEST_LINE)
    if len(line) == _LONGEST_LINE:
        raise ValueError(f"its first line is longer than {_LONGEST_LINE} bytes")
    return line.decode("utf-8-sig").strip().split(",")


def _has_header(path: Path) -> bool:
    fields = _first_fields(path)
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


def whole_numbers(path: object, what: str, values: np.ndarray) -> np.ndarray:
    """The values as int64.

    Raises:
        ValueError: If one is not whole; names its row.
    """
    if values.dtype.kind == "b":
        raise ValueError(f"{path}: {what} must be whole numbers, got true and false")
    if values.dtype.kind == "f":
        # Beyond 2**53 not every whole number is a float: which one was meant is lost.
        wrong = ~(np.abs(values) <= 2**53) | (values != np.floor(values))
    else:
        wrong = values > np.iinfo(np.int64).max if values.dtype == np.uint64 else np.zeros(0, bool)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"{path}: {what} must be whole numbers, but row {row} has {values.reshape(-1)[row]}")
    return values.astype(np.int64)


def single_precision(values: np.ndarray) -> np.ndarray:
    """The values as float32; those beyond its range are infinite, which checks then find."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


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
    with reading(path):
        # A row has two bytes at least, which gzip packs into no less than a thousandth.
        if num_rows is not None and not 0 <= num_rows <= _MOST_UNPACKED * path.stat().st_size:
            raise ValueError(f"it is too short for {num_rows} rows")
        num_columns = len(_first_fields(path))
        names = [str(column) for column in range(num_columns)]
        if num_rows is not None:
            check_fits_memory(
                f"{num_rows} rows of {num_columns} columns", num_rows * num_columns * np.dtype(dtype).itemsize
            )
        blocks = [np.empty((num_rows, num_columns), dtype)] if num_rows is not None else []
        with (
            _open_bytes(path) as file,
            csv.open_csv(
                file,
                csv.ReadOptions(column_names=names, block_size=1 << 24),
                convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, column_type)),
            ) as reader,
        ):
            for batch in reader:
                last = filled + batch.num_rows
                if num_rows is None:
                    blocks.append(np.empty((batch.num_rows, num_columns), dtype))
                elif last > num_rows:
                    raise ValueError(f"more than {num_rows} rows")
                block = blocks[-1] if num_rows is None else blocks[0][filled:last]
                for column in range(num_columns):
                    block[:, column] = _without_gaps(batch.column(column), dtype, filled)
                filled = last
        if num_rows is not None and filled != num_rows:
            raise ValueError(f"{path} has {filled} rows, but {num_rows} belong there")
        return np.concatenate(blocks) if num_rows is None else blocks[0]


def _without_gaps(column: Any, dtype: Any, first_row: int) -> np.ndarray:
    """A column's numbers; empty fields, of which whole numbers have none, are NaN."""
    if column.null_count and np.dtype(dtype).kind != "f":
        row = first_row + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(f"row {row} has an empty field where a whole number belongs")
    numbers: np.ndarray = column.to_numpy(zero_copy_only=False)
    return numbers
