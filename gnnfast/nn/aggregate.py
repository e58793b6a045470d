"""Sums, means and maxima over the in-edges of a block, differentiable.

The operators are torch custom operators, so that `torch.compile` sees them; CPU tensors run the compiled kernels,
others plain torch. The backward pass of a sum is a sum over the transposed block. The compiled kernels share no row
between threads: no atomics, the same bits every time. Plain torch on a GPU adds with atomics: there the last bits may
differ from run to run, forward and backward.

Gradients cannot be differentiated again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnfast.graph import Block
from gnnfast.kernels.cpu import segment as cpu
from gnnfast.kernels.cpu.parallel import run_by_column, run_by_range
from gnnfast.kernels.reference import segment as reference


def segment_sum(x: Tensor, block: Block, weight: Tensor | None = None, self_weight: Tensor | None = None) -> Tensor:
    """Sums each destination's sources: `out[v] = self_weight[v] x[v] + sum over u -> v of weight[u -> v] x[u]`.

    Args:
        x: Source rows, `(num_src, channels)` or `(num_src, heads, channels)`.
        block: Who hears whom.
        weight: `(num_edges,)`, or `(num_edges, heads)` for x with heads; None means 1.
        self_weight: `(num_dst,)` or `(num_dst, heads)`; None means that rows have no own term.

    Returns:
        `(num_dst, channels)` or `(num_dst, heads, channels)`, in the type of x, summed in float32 or wider; 0 where
        nothing arrives. Differentiable in x and both weights.
    """
    # The transpose serves the gradient of x alone: features that need none never build it.
    transpose = block.transpose if torch.is_grad_enabled() and x.requires_grad else (None, None, None)
    out: Tensor = _segment_sum(x, block.indptr, block.indices, weight, self_weight, *transpose)
    return out


def segment_mean(x: Tensor, block: Block, weight: Tensor | None = None) -> Tensor:
    """Averages each destination's sources, with weights divided by their sum; arguments as `segment_sum`'s."""
    return segment_sum(x, block, _shared_mean_weights(block, weight, sum_dtype(x.dtype)))


def sum_beside_own(x: Tensor, block: Block, weight: Tensor | None = None) -> Tensor:
    """`segment_sum` and each destination's own row, side by side: what one product then maps to a layer's output.

    Args:
        x: Source rows, `(num_src, channels)`.
        block: Who hears whom.
        weight: `(num_edges,)`; None means 1.

    Returns:
        `(num_dst, 2 * channels)` in the type of x. Differentiable in x.
    """
    transpose = block.transpose if torch.is_grad_enabled() and x.requires_grad else (None, None, None)
    out: Tensor = _sum_beside_own(x, block.indptr, block.indices, weight, *transpose)
    return out


def mean_beside_own(x: Tensor, block: Block, weight: Tensor | None = None) -> Tensor:
    """`segment_mean` and each destination's own row, side by side; arguments and result as `sum_beside_own`'s."""
    return sum_beside_own(x, block, _shared_mean_weights(block, weight, sum_dtype(x.dtype)))


def segment_max(x: Tensor, block: Block) -> Tensor:
    """Takes the largest source value of each destination, channel by channel; 0 where no edge arrives.

    Args:
        x: Source rows, `(num_src, channels)`.
        block: Who hears whom.

    Returns:
        `(num_dst, channels)`. The gradient of a maximum goes to the first edge that attains it.
    """
    out: Tensor = _segment_max(x, block.indptr, block.indices)[0]
    return out


def mean_weights(block: Block, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Edge weights that turn a sum into a mean: divided by their sum at each destination, `(num_edges,)`."""
    if block.device.type != "cpu" or (weight is not None and weight.requires_grad):
        ones = torch.ones(block.num_edges, dtype=dtype, device=block.device)
        return reference.mean_weights(block.indptr, ones if weight is None else weight.to(dtype))
    out = torch.empty(block.num_edges, dtype=dtype)
    weights = torch.empty(0, dtype=dtype) if weight is None else weight.to(dtype)
    cpu.mean_weights(block.indptr.numpy(), weights.numpy(), out.numpy())
    return out


def _shared_mean_weights(block: Block, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`mean_weights`, computed once for all layers that average by the sampler's weights or by none."""
    if weight is not None and weight is not block.inclusion_weight:
        return mean_weights(block, weight, dtype)
    key = ("mean", weight is None, dtype)
    if key not in block.derived:
        block.derived[key] = mean_weights(block, weight, dtype)
    shared: Tensor = block.derived[key]
    return shared


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type that rows of `dtype` are summed in."""
    return dtype if dtype == torch.float64 else torch.float32


@torch.library.custom_op("gnnfast::segment_sum", mutates_args=())
def _segment_sum(
    x: Tensor,
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    self_weight: Tensor | None,
    src_indptr: Tensor | None,
    src_indices: Tensor | None,
    src_edges: Tensor | None,
) -> Tensor:
    """The last three are the transposed block, which the gradient of x walks."""
    return _sum(x, indptr, indices, weight, self_weight)


def _sum(x: Tensor, indptr: Tensor, indices: Tensor, weight: Tensor | None, self_weight: Tensor | None) -> Tensor:
    rows = _by_head(x, weight, self_weight)
    weight, self_weight = (
        None if w is None else w.to(sum_dtype(x.dtype)).reshape(-1, rows.shape[1]) for w in (weight, self_weight)
    )
    if not x.is_cpu:
        wide = rows.to(sum_dtype(x.dtype))
        return (
            reference.segment_sum(indptr, indices, weight, self_weight, wide)
            .view(indptr.numel() - 1, *x.shape[1:])
            .to(x.dtype)
        )
    rows = _computable(rows)
    out = rows.new_empty(indptr.numel() - 1, *rows.shape[1:])
    _sum_into(out, rows, indptr, indices, weight, self_weight)
    return out.reshape(out.shape[0], *x.shape[1:]).to(x.dtype)


def _sum_into(
    out: Tensor,
    rows: Tensor,
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    self_weight: Tensor | None,
    own_part: int = 0,
) -> None:
    """Runs the kernel; rows and out are `(rows, parts, channels)`, of a type it computes with."""
    num_heads = next((w.shape[1] for w in (weight, self_weight) if w is not None), 1)
    empty = torch.empty(0, num_heads, dtype=sum_dtype(rows.dtype))
    weight, self_weight = (empty if w is None else w for w in (weight, self_weight))
    run_by_column(
        cpu.segment_sum,
        torch.get_num_threads(),
        rows[:1, :num_heads].nbytes,
        *_arrays(indptr, indices, weight, self_weight, rows),
        own_part,
        *_arrays(out),
    )


def _computable(rows: Tensor) -> Tensor:
    """Rows in a type that the kernels know: float16 is widened."""
    return rows.float() if rows.dtype == torch.float16 else rows


@_segment_sum.register_fake
def _(x: Tensor, indptr: Tensor, *_: Any) -> Tensor:
    return x.new_empty(indptr.shape[0] - 1, *x.shape[1:])


def _save_for_sum_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, indptr, indices, weight, self_weight, *transpose = inputs
    needs_weight_gradient = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
    ctx.save_for_backward(x if needs_weight_gradient else None, indptr, indices, weight, self_weight, *transpose)


def _sum_gradient(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, indptr, indices, weight, self_weight, src_indptr, src_indices, src_edges = ctx.saved_tensors
    x_gradient = weight_gradient = self_gradient = None
    if ctx.needs_input_grad[0]:
        src_weight = None if weight is None else weight.index_select(0, src_edges)
        x_gradient = _segment_sum_backward(g, src_indptr, src_indices, src_weight, self_weight)
    if ctx.needs_input_grad[3]:
        weight_gradient = _segment_dot(g, x, indptr, indices, weight.shape[1] if weight.dim() == 2 else 1)
        weight_gradient = weight_gradient.view_as(weight).to(weight.dtype)
    if ctx.needs_input_grad[4]:
        products = _by_head(g, weight, self_weight) * _by_head(x[: g.shape[0]], weight, self_weight)
        self_gradient = products.sum(-1).view_as(self_weight).to(self_weight.dtype)
    return x_gradient, None, None, weight_gradient, self_gradient, None, None, None


_segment_sum.register_autograd(_sum_gradient, setup_context=_save_for_sum_gradient)


@torch.library.custom_op("gnnfast::segment_sum_backward", mutates_args=())
def _segment_sum_backward(
    g: Tensor, src_indptr: Tensor, src_indices: Tensor, src_weight: Tensor | None, self_weight: Tensor | None
) -> Tensor:
    return _sum(g, src_indptr, src_indices, src_weight, self_weight)


@_segment_sum_backward.register_fake
def _(g: Tensor, src_indptr: Tensor, *_: Any) -> Tensor:
    return g.new_empty(src_indptr.shape[0] - 1, *g.shape[1:])


@torch.library.custom_op("gnnfast::sum_beside_own", mutates_args=())
def _sum_beside_own(
    x: Tensor,
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    src_indptr: Tensor | None,
    src_indices: Tensor | None,
    src_edges: Tensor | None,
) -> Tensor:
    num_dst, channels = indptr.numel() - 1, x.shape[1]
    if not x.is_cpu:
        return torch.cat([_sum(x, indptr, indices, weight, None), x[:num_dst]], dim=1)
    rows = _computable(x).contiguous()
    out = rows.new_empty(num_dst, 2, channels)
    _sum_into(out, rows.unsqueeze(1), indptr, indices, _column(weight, x.dtype), None)
    return out.view(num_dst, 2 * channels).to(x.dtype)


@_sum_beside_own.register_fake
def _(x: Tensor, indptr: Tensor, *_: Any) -> Tensor:
    return x.new_empty(indptr.shape[0] - 1, 2 * x.shape[1])


def _save_for_beside_own_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    if inputs[3] is not None and ctx.needs_input_grad[3]:
        raise RuntimeError("beside own rows, sums are not differentiable in the weights: use segment_sum")
    ctx.save_for_backward(inputs[3], *inputs[4:])


def _beside_own_gradient(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    weight, src_indptr, src_indices, src_edges = ctx.saved_tensors
    src_weight = None if weight is None else weight.index_select(0, src_edges)
    return _sum_beside_own_backward(g, src_indptr, src_indices, src_weight), None, None, None, None, None, None


_sum_beside_own.register_autograd(_beside_own_gradient, setup_context=_save_for_beside_own_gradient)


@torch.library.custom_op("gnnfast::sum_beside_own_backward", mutates_args=())
def _sum_beside_own_backward(g: Tensor, src_indptr: Tensor, src_indices: Tensor, src_weight: Tensor | None) -> Tensor:
    """The gradient of a source: what its sums pass back, and what its own row does."""
    num_dst, channels = g.shape[0], g.shape[1] // 2
    if not g.is_cpu:
        out = _sum(g[:, :channels], src_indptr, src_indices, src_weight, None)
        out[:num_dst] += g[:, channels:]
        return out
    rows = _computable(g).contiguous().view(num_dst, 2, channels)
    out = rows.new_empty(src_indptr.numel() - 1, 1, channels)
    ones = torch.ones(num_dst, 1, dtype=sum_dtype(g.dtype))
    _sum_into(out, rows, src_indptr, src_indices, _column(src_weight, g.dtype), ones, own_part=1)
    return out.squeeze(1).to(g.dtype)


@_sum_beside_own_backward.register_fake
def _(g: Tensor, src_indptr: Tensor, *_: Any) -> Tensor:
    return g.new_empty(src_indptr.shape[0] - 1, g.shape[1] // 2)


def _column(weight: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if weight is None else weight.to(sum_dtype(dtype)).unsqueeze(1)


@torch.library.custom_op("gnnfast::segment_dot", mutates_args=())
def _segment_dot(g: Tensor, x: Tensor, indptr: Tensor, indices: Tensor, num_heads: int) -> Tensor:
    """Inner products of each edge's rows g[v] and x[u], `(num_edges, num_heads)`, in float32 or wider."""
    g, x = (_split(t, num_heads).to(sum_dtype(t.dtype)) for t in (g, x))
    if not x.is_cpu:
        return reference.segment_dot(indptr, indices, g, x)
    out = x.new_empty(indices.numel(), num_heads)
    run_by_column(cpu.segment_dot, torch.get_num_threads(), 2 * x[:1].nbytes, *_arrays(indptr, indices, g, x, out))
    return out


@_segment_dot.register_fake
def _(g: Tensor, x: Tensor, indptr: Tensor, indices: Tensor, num_heads: int) -> Tensor:
    return x.new_empty(indices.shape[0], num_heads, dtype=sum_dtype(x.dtype))


@torch.library.custom_op("gnnfast::segment_max", mutates_args=())
def _segment_max(x: Tensor, indptr: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The maxima, and the source that has each, -1 for none, in the type of `indices`."""
    if not x.is_cpu:
        return reference.segment_max(indptr, indices, x)
    rows = x.to(sum_dtype(x.dtype)).contiguous()
    out = rows.new_empty(indptr.numel() - 1, x.shape[1])
    source = indices.new_empty(out.shape)
    run_by_column(
        cpu.segment_max, torch.get_num_threads(), 2 * rows[:1].nbytes, *_arrays(indptr, indices, rows, out, source)
    )
    return out.to(x.dtype), source


@_segment_max.register_fake
def _(x: Tensor, indptr: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    shape = (indptr.shape[0] - 1, x.shape[1])
    return x.new_empty(shape), indices.new_empty(shape)


@torch.library.custom_op("gnnfast::segment_max_backward", mutates_args=())
def _segment_max_backward(source: Tensor, g: Tensor, num_src: int) -> Tensor:
    rows = g.to(sum_dtype(g.dtype)).contiguous()
    if not g.is_cpu:
        return reference.segment_max_backward(source, rows, num_src).to(g.dtype)
    out = rows.new_empty(num_src, g.shape[1])
    # Threads share the channels, not the rows: two destinations may have one winner.
    run_by_range(
        cpu.segment_max_backward,
        torch.get_num_threads(),
        g.shape[1],
        rows.nbytes + out.nbytes,
        *_arrays(source, rows, out),
    )
    return out.to(g.dtype)


@_segment_max_backward.register_fake
def _(source: Tensor, g: Tensor, num_src: int) -> Tensor:
    return g.new_empty(num_src, g.shape[1])


def _save_for_max_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.num_src = inputs[0].shape[0]


def _max_gradient(ctx: Any, g: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    (source,) = ctx.saved_tensors
    return _segment_max_backward(source, g, ctx.num_src), None, None


_segment_max.register_autograd(_max_gradient, setup_context=_save_for_max_gradient)


def _refuse_second_gradient(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError(
        "segment_sum, segment_mean and segment_max can be differentiated once, but a gradient of their gradient was "
        "asked for: for second derivatives run the layers on block.edge_index"
    )


for _operator in (_segment_sum_backward, _sum_beside_own_backward, _segment_dot, _segment_max_backward):
    _operator.register_autograd(_refuse_second_gradient)


def _by_head(x: Tensor, weight: Tensor | None, self_weight: Tensor | None) -> Tensor:
    """x as (rows, heads, channels), with as many heads as the weights have."""
    num_heads = next((w.shape[1] for w in (weight, self_weight) if w is not None and w.dim() == 2), 1)
    return _split(x, num_heads)


def _split(x: Tensor, num_heads: int) -> Tensor:
    # Not -1 for the channels: of a mini-batch without rows torch could not tell their number.
    return x.reshape(x.shape[0], num_heads, x.shape[1:].numel() // num_heads).contiguous()


def _arrays(*tensors: Tensor) -> list[Any]:
    """As NumPy's; bfloat16 as bit patterns."""
    return [
        tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
        for tensor in map(Tensor.detach, tensors)
    ]
