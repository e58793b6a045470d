"""A linear map for each head of rows that hold one vector per head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gnnfast.nn.linear import _is_faster_by_onednn, _product

# Rows of one head whose product stays in the cache until it is copied to its place.
_ROWS_AT_ONCE = 1024


def linear_by_head(x: Tensor, weight: Tensor) -> Tensor:
    """`out[:, h] = x[:, h] weight[h]^T`.

    Args:
        x: `(num_rows, heads, in_channels)`.
        weight: `(heads, out_channels, in_channels)`.

    Returns:
        `(num_rows, heads, out_channels)`.
    """
    is_autocast = x.is_cpu and torch.is_autocast_enabled("cpu")
    if is_autocast or x.dtype != torch.float32 or not _is_faster_by_onednn(x[:, 0], weight[0]):
        return torch.einsum("nhi,hoi->nho", x, weight)
    out: Tensor = _linear_by_head(x, weight)
    return out


@torch.library.custom_op("gnnfast::linear_by_head", mutates_args=())
def _linear_by_head(x: Tensor, weight: Tensor) -> Tensor:
    out = x.new_empty(*x.shape[:2], weight.shape[1])
    weight = weight.contiguous()
    for rows, head in _pieces(x):
        out[rows, head] = _product(x[rows, head].contiguous(), weight[head])
    return out


@_linear_by_head.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:2], weight.shape[1])


def _gradient(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    x_gradient = _linear_by_head(g, weight.transpose(1, 2)) if ctx.needs_input_grad[0] else None
    return x_gradient, _weight_gradient(g, x) if ctx.needs_input_grad[1] else None


_linear_by_head.register_autograd(_gradient, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


@torch.library.custom_op("gnnfast::linear_by_head_weight_gradient", mutates_args=())
def _weight_gradient(g: Tensor, x: Tensor) -> Tensor:
    """`g[:, h]^T x[:, h]` of each head."""
    out = x.new_zeros(x.shape[1], g.shape[2], x.shape[2])
    for rows, head in _pieces(x):
        # Copied to lie close: of a matrix with gaps oneDNN's product is a thousand times slower.
        out[head] += _product(g[rows, head].t().contiguous(), x[rows, head].contiguous().t())
    return out


@_weight_gradient.register_fake
def _(g: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(x.shape[1], g.shape[2], x.shape[2])


def _twice(ctx: Any, h: Tensor) -> tuple[Tensor, Tensor]:
    g, x = ctx.saved_tensors
    return torch.einsum("nhi,hoi->nho", x, h), torch.einsum("nho,hoi->nhi", g, h)


_weight_gradient.register_autograd(_twice, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


def _pieces(x: Tensor) -> Iterator[tuple[slice, int]]:
    for first in range(0, x.shape[0], _ROWS_AT_ONCE):
        for head in range(x.shape[1]):
            yield slice(first, first + _ROWS_AT_ONCE), head
