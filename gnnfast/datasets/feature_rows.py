"""Feature rows as they come in: checked, normalized, made dense."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_ROWS_AT_A_TIME = 1 << 16

# What bag-of-words features may be stored as: half the bytes cost little accuracy.
FEATURE_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def check_finite(name: str, rows: Tensor) -> None:
    """Reads all features once.

    Raises:
        ValueError: If one is NaN or infinite; names its node and column.
    """
    for start in range(0, rows.shape[0], _ROWS_AT_A_TIME):
        chunk = rows[start : start + _ROWS_AT_A_TIME]
        finite = torch.isfinite(chunk)
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
    rising = indptr.shape == (num_rows + 1,) and indptr[0] == 0 and bool((indptr[1:] >= indptr[:-1]).all())
    if not rising or data.shape != indices.shape or indptr[-1] != data.size:
        raise ValueError(f"{name}: the sparse features' indptr, indices and data do not fit together")
    if indices.size and not 0 <= indices.min() <= indices.max() < num_columns:
        raise ValueError(f"{name}: sparse features have columns 0 to {num_columns - 1}, but one is out of this range")
    check_finite(name, torch.from_numpy(data.astype(np.float32)[:, None]))
    values = torch.from_numpy(data.astype(np.float32))
    row_of = torch.from_numpy(np.repeat(np.arange(num_rows), np.diff(indptr)))
    if normalize:
        values /= torch.zeros(num_rows).index_add_(0, row_of, values).clamp(min=1)[row_of]
    dense = torch.zeros(num_rows, num_columns, dtype=FEATURE_DTYPES[feature_dtype])
    dense[row_of, torch.from_numpy(indices.astype(np.int64))] = values.to(dense.dtype)
    return dense
