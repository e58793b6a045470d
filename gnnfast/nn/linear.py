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

from gnnfast.nn.pieces import add_pieces

# Multiply-adds below which the call costs more than it saves.
_SMALLEST_PRODUCT = 1 << 22


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """`x weight^T + bias`, as `torch.nn.functional.linear`.

    Args:
        x: `(num_rows, in_channels)`, or more dimensions before the last.
        weight: `(out_channels, in_channels)`.
        bias: `(out_channels,)`.
        relu: Whether negative values become 0: cheaper, forward and backward, than in a pass of its own.

    Returns:
        `(num_rows, out_channels)`.
    """
    if x.is_cpu and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if not _is_faster_by_onednn(x, weight):
        out = F.linear(x, weight, bias)
        return out.relu() if relu else out
    product: Tensor = _linear(x, weight, bias, relu)
    return product


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


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    return out


@torch.library.custom_op("gnnfast::linear", mutates_args=())
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return _product(x, weight, bias, relu)


@_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _save_for_gradient(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, bool], output: Tensor) -> None:
    x, weight, _, relu = inputs
    x_saved, weight_saved = x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None
    ctx.save_for_backward(x_saved, weight_saved, output if relu else None)


def _gradient(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, out = ctx.saved_tensors
    if torch.is_grad_enabled():
        gradients = _gradients_to_differentiate(g, x, weight, out)
    else:
        gradients = _linear_backward(g, x, weight, out)
    needed = ctx.needs_input_grad[:3]
    return *(gradient if need else None for gradient, need in zip(gradients, needed, strict=True)), None


_linear.register_autograd(_gradient, setup_context=_save_for_gradient)


@torch.library.custom_op("gnnfast::linear_backward", mutates_args=())
def _linear_backward(
    g: Tensor, x: Tensor | None, weight: Tensor | None, out: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, without rows where what they are made of is not given.

    Args:
        g: That of the output, `(num_rows, out_channels)`.
        x: For the gradient of the weight, `(num_rows, in_channels)`.
        weight: For that of x, `(out_channels, in_channels)`.
        out: The output, where negative values became 0.
    """
    # oneDNN takes a thousand times as long over rows that do not follow each other.
    g = g.contiguous()
    x = None if x is None else x.contiguous()
    num_rows, out_channels = g.shape
    x_gradient = g.new_empty(0) if weight is None else g.new_empty(num_rows, weight.shape[1])
    columns = None if weight is None else weight.t()

    def add(totals: list[Tensor], rows: slice) -> None:
        piece = g[rows] if out is None else torch.ops.aten.threshold_backward(g[rows], out[rows], 0)
        if columns is not None:
            x_gradient[rows] = _product(piece, columns)
        if x is not None:
            # torch's own product in bfloat16 is oneDNN's, and turns pieces round more quickly.
            totals[0].add_(piece.t() @ x[rows] if is_half else _product(x[rows].t(), piece.t()))
        totals[1].add_(piece.sum(0))

    is_half = g.dtype == torch.bfloat16
    in_channels = 0 if x is None else x.shape[1]
    # As the products come: adding them up turned round would take a sixth of the time of a product.
    shape = (out_channels, in_channels) if is_half else (in_channels, out_channels)
    totals = [g.new_zeros(shape, dtype=torch.float32), g.new_zeros(out_channels, dtype=torch.float32)]
    add_pieces(add, totals, num_rows, g.itemsize)
    weight_gradient = totals[0] if is_half else totals[0].t()
    return x_gradient, weight_gradient.to(g.dtype).contiguous(), totals[1].to(g.dtype)


@_linear_backward.register_fake
def _(g: Tensor, x: Tensor | None, weight: Tensor | None, out: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return (
        g.new_empty(0) if weight is None else g.new_empty(g.shape[0], weight.shape[1]),
        g.new_empty(g.shape[1], 0 if x is None else x.shape[1]),
        g.new_empty(g.shape[1]),
    )


def _gradients_to_differentiate(
    g: Tensor, x: Tensor | None, weight: Tensor | None, out: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The same by operations that have gradients themselves."""
    g = g if out is None else g * (out > 0)
    return None if weight is None else g @ weight, None if x is None else g.t() @ x, g.sum(0)
