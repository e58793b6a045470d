"""Copying rows by id in plain torch."""

import torch
from torch import Tensor


def gather_rows(rows: Tensor, ids: Tensor) -> Tensor:
    """Row ids[i] of `rows` as row i."""
    return rows[ids.long()]


def gather_values(values: Tensor, ids: Tensor) -> Tensor:
    """Value ids[i] as value i."""
    return values[ids.long()]


def gather_rounded(rows: Tensor, ids: Tensor) -> Tensor:
    """Row i of the result is row `ids[i]`, rounded to bfloat16."""
    return rows.index_select(0, ids).to(torch.bfloat16)
