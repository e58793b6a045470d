"""A linear map for each head of rows that hold one vector per head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnfast.nn.linear import _is_faster_by_onednn, _product
from gnnfast.nn.pieces import add_pieces


def linear_by_head(x: Tensor, weight: Tensor) -> Tensor:
    """`out[:, h] = x[:, h] weight[h]^T`.

    Args:
        x: `(num_rows, heads, in_channels)`.
        weight: `(heads, out_channels, in_channels)`.

    Returns:
        `(num_rows, heads, out_channels)`.
    """
    if x.is_cpu and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
    if not _is_faster_by_onednn(x[:, 0], weight[0]) or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return torch.einsum("nhi,hoi->nho", x, weight)
    out: Tensor = _linear_by_head(x, weight)
    return out


@torch.library.custom_op("gnnfast::linear_by_head", mutates_args=())
def _linear_by_head(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution over single pixels, whose groups are the heads: it takes and leaves rows as they stand."""
    num_rows, heads, in_channels = x.shape
    pixels = x.contiguous().view(1, num_rows, 1, heads * in_channels).permute(0, 3, 1, 2)
    kernels = weight.reshape(-1, in_channels, 1, 1)
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(
        pixels, kernels, None, [0, 0], [1, 1], [1, 1], heads, "none", [], ""
    )
    return out.permute(0, 2, 3, 1).reshape(num_rows, heads, -1)


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

    out = x.new_zeros(x.shape[1], g.shape[2], x.shape[2], dtype=torch.float32)

    def add(totals: list[Tensor], rows: slice) -> None:
        for head, total in enumerate(totals[0]):
            # Copied to lie close: of a matrix with gaps oneDNN's product is a thousand times slower.
            total += _product(g[rows, head].t().contiguous(), x[rows, head].contiguous().t())

    add_pieces(add, [out], x.shape[0], x.itemsize)
    return out.to(x.dtype)


@_weight_gradient.register_fake
def _(g: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(x.shape[1], g.shape[2], x.shape[2])


def _twice(ctx: Any, h: Tensor) -> tuple[Tensor, Tensor]:
    g, x = ctx.saved_tensors
    return torch.einsum("nhi,hoi->nho", x, h), torch.einsum("nho,hoi->nhi", g, h)


_weight_gradient.register_autograd(_twice, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
