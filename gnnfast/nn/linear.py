"""Matrix products near the rate of the processor.

For single precision torch calls MKL, which on processors of other makers than Intel takes half the width of their
vectors: 88 GFLOP/s per core of an AMD EPYC, where oneDNN, which torch brings along for other purposes, has 207. In
bfloat16 torch calls oneDNN, but adds the bias in a pass of its own. Here products on a CPU in these types go straight
to oneDNN; all others, and a torch without it, to `torch.nn.functional.linear`.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor
from torch.nn import functional as F

# oneDNN, and torch in front of it, keep what they generate per shape, for 1024 shapes: of mini-batches, which rarely
# have one twice, hundreds of megabytes. Read when the first product is made.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "32")

# Multiply-adds below which the call costs more than it saves.
_SMALLEST_PRODUCT = 1 << 22
# Of which the gradient of a weight is made at a time: they stay in the cache while oneDNN turns them round.
_ROWS_AT_ONCE = 768


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x weight^T + bias`, as `torch.nn.functional.linear`.

    Args:
        x: `(num_rows, in_channels)`, or more dimensions before the last.
        weight: `(out_channels, in_channels)`.
        bias: `(out_channels,)`.

    Returns:
        `(num_rows, out_channels)`.
    """
    if torch.is_autocast_enabled(x.device.type) and torch.get_autocast_dtype(x.device.type) == torch.bfloat16:
        x, weight = x.to(torch.bfloat16), weight.to(torch.bfloat16)
        bias = None if bias is None else bias.to(torch.bfloat16)
    if not _is_faster_by_onednn(x, weight):
        return F.linear(x, weight, bias)
    out: Tensor = _linear(x, weight, bias)
    return out


class Linear(torch_geometric.nn.Linear):
    """PyG's `Linear` by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def _is_faster_by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.is_cpu
        and x.dim() == 2
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.shape[0] * weight.numel() >= _SMALLEST_PRODUCT
        and _has_onednn()
    )


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


@torch.library.custom_op("gnnfast::linear", mutates_args=())
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _product(x, weight, bias)


@_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _save_for_gradient(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)


def _gradient(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    x_gradient = None if weight is None else linear(g, weight.t())
    weight_gradient = None if x is None else _weight_gradient(g, x)
    bias_gradient = g.sum(0) if ctx.needs_input_grad[2] else None
    return x_gradient, weight_gradient, bias_gradient


_linear.register_autograd(_gradient, setup_context=_save_for_gradient)


@torch.library.custom_op("gnnfast::linear_weight_gradient", mutates_args=())
def _weight_gradient(g: Tensor, x: Tensor) -> Tensor:
    """`g^T x`: in single precision as a sum over pieces of rows, which is twice as fast as all at once."""
    if x.dtype == torch.bfloat16:
        return g.t() @ x
    # oneDNN takes a thousand times as long over rows that do not follow each other.
    g, x = g.contiguous(), x.contiguous()
    out = x.new_zeros(x.shape[1], g.shape[1])
    for x_rows, g_rows in zip(x.split(_ROWS_AT_ONCE), g.split(_ROWS_AT_ONCE), strict=True):
        out += _product(x_rows.t(), g_rows.t())
    return out.t().contiguous()


@_weight_gradient.register_fake
def _(g: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(g.shape[1], x.shape[1])


def _twice(ctx: Any, h: Tensor) -> tuple[Tensor, Tensor]:
    g, x = ctx.saved_tensors
    return x @ h.t(), g @ h


_weight_gradient.register_autograd(_twice, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
