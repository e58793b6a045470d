"""Matrix products near the rate of the processor.

For single precision torch calls MKL, which on processors of other makers than Intel takes half the width of their
vectors: 88 GFLOP/s per core of an AMD EPYC, where oneDNN, which torch brings along for other purposes, has 207. In
bfloat16 torch calls oneDNN, but adds the bias in a pass of its own. Here products on a CPU in these types go straight
to oneDNN; all others, and a torch without it, to `torch.nn.functional.linear`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parameter import is_lazy as is_uninitialized_parameter

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
    if x.is_cpu and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if not _is_faster_by_onednn(x, weight):
        return F.linear(x, weight, bias)
    out: Tensor = _linear(x, weight, bias)
    return out


def materialize(layer: torch_geometric.nn.Linear, x: Tensor) -> None:
    """Gives a layer that was made without its number of inputs (-1) the one of x, as calling it would."""
    if is_uninitialized_parameter(layer.weight):
        layer.initialize_parameters(layer, (x,))


class Linear(torch_geometric.nn.Linear):
    """PyG's `Linear` by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def _is_faster_by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.is_cpu
        and x.dim() == 2
        and x.dtype == weight.dtype
        and x.shape[1] == weight.shape[1]
        and x.shape[0] * weight.numel() >= _SMALLEST_PRODUCT
        and bool(torch.backends.mkldnn.enabled)
        and _has_onednn(x.dtype)
    )


@cache
def _has_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and multiplies this type on this processor."""
    operators = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(operators, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return hasattr(operators, "_is_mkldnn_bf16_supported") and bool(operators._is_mkldnn_bf16_supported())
    return dtype == torch.float32


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
