"""Rows by global id, from wherever they are kept."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnfast.kernels.cpu.gather import gather_rounded, gather_rows
from gnnfast.runtime.npy import load_npy, map_npy

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_NPY_DTYPES = (np.float32, np.float16, np.float64, np.uint16)


class FeatureStore:
    """Feature rows in RAM or in a memory-mapped `.npy` file.

    Args:
        rows: float32, float16, bfloat16 or float64, `(num_rows, num_features)`.

    Raises:
        ValueError: If the shape or the type is another one.
    """

    def __init__(self, rows: Tensor):
        if rows.dim() != 2 or rows.dtype not in _DTYPES:
            raise ValueError(
                "features must be float32, float16, bfloat16 or float64 of shape (num_nodes, num_features), "
                f"got {str(rows.dtype).removeprefix('torch.')} of shape {tuple(rows.shape)}"
            )
        rows = rows.contiguous()
        # Half-precision rows cut out of a flat tensor may begin between two words.
        self.rows = rows if rows.storage_offset() * rows.element_size() % 4 == 0 else rows.clone()
        self._words = _as_words(self.rows)

    @classmethod
    def from_npy(cls, path: str | Path, memory_map: bool = True) -> FeatureStore:
        """Opens a `.npy` file; memory-mapped, only the rows that are read come into RAM.

        uint16 files hold bfloat16 bit patterns, as `save` writes them: NumPy has no such type.

        Raises:
            ValueError: If the file is not a readable `.npy` array of two dimensions, or of another type.
        """
        path = Path(path)
        array = map_npy(path) if memory_map else load_npy(path)
        if array.dtype not in _NPY_DTYPES:
            raise ValueError(
                f"{path} must hold float32, float16, float64 or uint16 (bfloat16), in native byte order, "
                f"got {array.dtype}"
            )
        if memory_map and not array.flags.c_contiguous:
            warnings.warn(
                f"{path} is stored column by column and was read into RAM as a whole: save it with rows contiguous",
                stacklevel=2,
            )
        rows = torch.from_numpy(array.view(np.int16) if array.dtype == np.uint16 else array)
        return cls(rows.view(torch.bfloat16) if array.dtype == np.uint16 else rows)

    def save(self, path: str | Path) -> None:
        """Writes the rows to a `.npy` file; bfloat16 as uint16 bit patterns."""
        if self.dtype == torch.bfloat16:
            np.save(path, self.rows.view(torch.int16).numpy().view(np.uint16))
        else:
            np.save(path, self.rows.numpy())

    @property
    def num_rows(self) -> int:
        return self.rows.shape[0]

    @property
    def num_features(self) -> int:
        return self.rows.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.rows.dtype

    def gather(self, ids: Tensor, out: Tensor | None = None) -> Tensor:
        """Copies rows, outside the interpreter lock and on one thread: loader threads each run their own.

        Args:
            ids: Rows to copy, integers, `(num_ids,)`, each in [0, num_rows): not checked here.
            out: Where to, `(num_ids, num_features)`, contiguous, of the store's dtype or what the rows are to be
                converted to; fresh memory of the store's dtype by default.
        """
        if out is None:
            out = torch.empty(ids.numel(), self.num_features, dtype=self.dtype)
        if out.dtype == self.dtype:
            gather_rows(self._words, ids.numpy(), _as_words(out))
        elif (self.dtype, out.dtype) == (torch.float32, torch.bfloat16):
            gather_rounded(self.rows.numpy(), ids.numpy(), out.view(torch.uint16).numpy())
        else:
            out.copy_(self.gather(ids))
        return out

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"FeatureStore({self.num_rows} x {self.num_features}, {dtype})"


def _as_words(rows: Tensor) -> np.ndarray:
    """Rows as 4-byte words, or 2-byte ones where those do not come out even."""
    row_bytes = rows.shape[1] * rows.element_size()
    words = torch.int32 if row_bytes % 4 == 0 else torch.int16
    if rows.numel() == 0:  # its strides may be any
        return torch.empty(rows.shape[0], row_bytes // words.itemsize, dtype=words).numpy()
    return rows.view(words).numpy()
