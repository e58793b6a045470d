"""Feature rows as they come in: checked, normalized, made dense."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.sparse_rows import check_sparse_rows
from gnnfast.runtime.reading import check_fits_memory

_ROWS_AT_A_TIME = 1 << 16
_COLUMNS_PER_VALUE = 100  # that sparse features have at most: beyond, their width is an error

# What bag-of-words features may be stored as: half the bytes cost little accuracy.
FEATURE_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def check_finite(name: str, rows: Tensor) -> None:
    """Reads all features once.

    Raises:
        ValueError: If one is NaN or infinite; names its node and column.
    """
    for start in range(0, rows.shape[0], _ROWS_AT_A_TIME):
        chunk = rows[start : start + _ROWS_AT_A_TIME]
        # As models take them: a larger number is infinite in single precision.
        finite = torch.isfinite(chunk.float() if chunk.dtype == torch.float64 else chunk)
        if not bool(finite.all()):
            row, column = (int(place) for place in (~finite).nonzero()[0])
            raise ValueError(
                f"{name}: feature {column} of node {start + row} is {float(chunk[row, column])}, "
                "but features must be finite"
            )


def normalize_rows(rows: Tensor) -> Tensor:
    """Scales each row to sum 1, in place, as PyG's `NormalizeFeatures` does.

    The least value of all is made 0 first; rows of a sum below 1 stay as they are.
    """
    if rows.numel() == 0:
        return rows
    rows -= rows.min()
    for start in range(0, rows.shape[0], _ROWS_AT_A_TIME):
        chunk = rows[start : start + _ROWS_AT_A_TIME]
        chunk /= chunk.sum(dim=1, keepdim=True, dtype=torch.float32).clamp(min=1)
    return rows


def densify(
    name: str,
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    shape: tuple[int, int],
    feature_dtype: str = "float32",
    normalize: bool = False,
) -> Tensor:
    """Compressed sparse rows as a dense tensor, written once, in the type it is kept in.

    Args:
        data, indices, indptr: Values, their columns, and where each row's begin.
        feature_dtype: float32, float16 or bfloat16.
        normalize: Whether to divide each row by its sum, in float32, if that is above 1.

    Raises:
        ValueError: If the arrays do not fit together, a value is not finite or the type is another one.
    """
    if feature_dtype not in FEATURE_DTYPES:
        raise ValueError(f"feature_dtype must be one of {', '.join(FEATURE_DTYPES)}, got {feature_dtype!r}")
    num_rows, num_columns = (int(size) for size in shape)
    check_sparse_rows(f"{name}, sparse features", indptr, indices, num_rows, num_columns, data)
    dtype = FEATURE_DTYPES[feature_dtype]
    if num_columns > _COLUMNS_PER_VALUE * (data.size + 10):
        raise ValueError(f"{name}: sparse features claim {num_columns} columns, but hold {data.size} values in all")
    check_fits_memory(f"{name}: {num_rows} x {num_columns} features", num_rows * num_columns * dtype.itemsize)
    check_finite(name, torch.from_numpy(data.astype(np.float32)[:, None]))
    values = torch.from_numpy(data.astype(np.float32))
    row_of = torch.from_numpy(np.repeat(np.arange(num_rows), np.diff(indptr)))
    if normalize:
        values /= torch.zeros(num_rows).index_add_(0, row_of, values).clamp(min=1)[row_of]
    dense = torch.zeros(num_rows, num_columns, dtype=dtype)
    dense[row_of, torch.from_numpy(indices.astype(np.int64))] = values.to(dense.dtype)
    return dense
