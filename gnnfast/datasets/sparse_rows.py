"""Compressed sparse rows as files hold them, checked before anything is made of them."""

from __future__ import annotations

import numpy as np


def check_sparse_rows(
    what: str, indptr: np.ndarray, indices: np.ndarray, num_rows: int, num_columns: int, data: np.ndarray | None = None
) -> None:
    """Raises ValueError unless the arrays describe `num_rows` rows of entries in `num_columns` columns.

    Args:
        what: File and part that the message names.
        indptr: Where each row's entries begin, and where the last one's end.
        indices: The entries' columns.
        data: Their values.
    """
    given = {"indptr": indptr, "indices": indices} | ({} if data is None else {"data": data})
    for name, array in given.items():
        kinds = "iu" if name != "data" else "biuf"
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in kinds:
            described = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else repr(type(array))
            kind = "numbers" if name == "data" else "whole numbers"
            raise ValueError(f"{what}: {name} must be one row of {kind}, got {described}")
    rises = indptr.size == num_rows + 1 and indptr[0] == 0 and bool((indptr[1:] >= indptr[:-1]).all())
    if not rises or indptr[-1] != indices.size or (data is not None and data.size != indices.size):
        raise ValueError(f"{what}: indptr, indices and data do not fit together, or not to {num_rows} rows")
    low, high = (int(indices.min()), int(indices.max())) if indices.size else (0, -1)
    if low < 0 or high >= num_columns:
        wrong = low if low < 0 else high
        raise ValueError(f"{what}: columns are numbered 0 to {num_columns - 1}, but one is {wrong}")
