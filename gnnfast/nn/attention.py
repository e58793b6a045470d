"""Softmax attention over the in-edges of a block, differentiable, without a row per edge.

The operators are torch custom operators, so that `torch.compile` sees them; they run compiled kernels for the CPU.
Tensors elsewhere go to plain torch. Scores and their gradients are arrays of edges x heads; rows of sources are read
where they stand. The gradient for the sources walks the transposed block: no atomics, the same bits every time, for
any number of threads. Rows of half precision are widened, softmax and sums are in float32 or wider.

Gradients cannot be differentiated again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gnnfast.graph import Block
from gnnfast.kernels.cpu import attention as cpu
from gnnfast.kernels.cpu.parallel import run_by_column, run_by_range
from gnnfast.kernels.reference import attention as reference

_LEVELS = 1 << 16


def gat_attention(
    x: Tensor,
    src_score: Tensor,
    dst_score: Tensor,
    block: Block,
    negative_slope: float = 0.2,
    add_self_loops: bool = True,
    dropout: float = 0.0,
) -> Tensor:
    """Averages source rows, head by head, with `softmax(leaky_relu(src_score[u] + dst_score[v]))` over u -> v.

    Args:
        x: Source rows, `(num_src, heads, channels)`, or `(num_src, 1, channels)` for rows that all heads read.
        src_score: `(num_src, heads)`.
        dst_score: `(num_dst, heads)`.
        block: Who hears whom. Its inclusion weights multiply the exponentials of the scores.
        negative_slope: Of `leaky_relu`.
        add_self_loops: Whether each node attends to itself, exactly once: edges from a node to itself count as absent.
        dropout: Probability that a weight is dropped after the softmax. Follows `torch.manual_seed`.

    Returns:
        `(num_dst, heads, channels)`, in the type of x; 0 where nothing arrives. Differentiable in x and both scores.
    """
    drop_level, key = _draw_key(dropout)
    if not x.is_cpu:
        score = src_score.index_select(0, block.indices) + dst_score.index_select(0, block.dst_index)
        score = F.leaky_relu(score, negative_slope)
        self_score = None
        if add_self_loops:
            self_score = F.leaky_relu(src_score[: block.num_dst] + dst_score, negative_slope)
        return _reference(x, score, self_score, block, drop_level, key)
    transpose = block.transpose if torch.is_grad_enabled() and x.requires_grad else (None, None, None)
    out: Tensor = _gat(
        x,
        src_score,
        dst_score,
        block.indptr,
        block.indices,
        block.inclusion_weight,
        add_self_loops,
        negative_slope,
        drop_level,
        key,
        *transpose,
    )[0]
    return out


def gatv2_attention(
    x: Tensor,
    asking: Tensor,
    attention: Tensor,
    block: Block,
    negative_slope: float = 0.2,
    add_self_loops: bool = True,
    dropout: float = 0.0,
) -> Tensor:
    """As `gat_attention`, with `softmax(<attention, leaky_relu(x[u] + asking[v])>)` over u -> v.

    Args:
        x: Source rows, `(num_src, heads, channels)`.
        asking: Destination rows, `(num_dst, heads, channels)`.
        attention: `(heads, channels)`.
        block: See `gat_attention`, as the other arguments and the result.
        negative_slope: Of `leaky_relu`.
        add_self_loops: Whether each node attends to itself.
        dropout: Probability that a weight is dropped.

    Returns:
        `(num_dst, heads, channels)`, in the type of x. Differentiable in x, asking and attention.
    """
    drop_level, key = _draw_key(dropout)
    if not x.is_cpu:
        pairs = x.index_select(0, block.indices) + asking.index_select(0, block.dst_index)
        score = (F.leaky_relu(pairs, negative_slope) * attention).sum(-1)
        self_score = None
        if add_self_loops:
            self_score = (F.leaky_relu(x[: block.num_dst] + asking, negative_slope) * attention).sum(-1)
        return _reference(x, score, self_score, block, drop_level, key)
    needs_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (x, asking, attention))
    out: Tensor = _gatv2(
        x,
        asking,
        attention,
        block.indptr,
        block.indices,
        block.inclusion_weight,
        add_self_loops,
        negative_slope,
        drop_level,
        key,
        *(block.transpose if needs_gradient else (None, None, None)),
    )[0]
    return out


def _draw_key(dropout: float) -> tuple[int, int]:
    """The number of 65536 equal chances that drop a weight, and the key of the draws, from torch's generator."""
    drop_level = round(dropout * _LEVELS)
    return drop_level, int(torch.empty((), dtype=torch.int64).random_()) if drop_level > 0 else 0


def _reference(x: Tensor, score: Tensor, self_score: Tensor | None, block: Block, drop_level: int, key: int) -> Tensor:
    dtype = _sum_dtype(x, score)
    out = reference.attend(
        block.indptr,
        block.indices,
        score.to(dtype),
        None if self_score is None else self_score.to(dtype),
        None if block.inclusion_weight is None else block.inclusion_weight.to(dtype),
        drop_level,
        key,
        x.to(dtype),
    )
    return out.to(x.dtype)


@torch.library.custom_op("gnnfast::gat", mutates_args=())
def _gat(
    x: Tensor,
    src_score: Tensor,
    dst_score: Tensor,
    indptr: Tensor,
    indices: Tensor,
    inclusion_weight: Tensor | None,
    add_self_loops: bool,
    negative_slope: float,
    drop_level: int,
    key: int,
    src_indptr: Tensor | None,
    src_indices: Tensor | None,
    src_edges: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows, and the weights of edges and of own terms, negative where dropped.

    The last three arguments are the transposed block, which the gradient of x walks.
    """
    rows, src_score, dst_score = _widened(x, src_score, dst_score)
    num_dst, num_heads = dst_score.shape
    weight = rows.new_empty(indices.numel(), num_heads)
    self_weight = rows.new_empty(num_dst if add_self_loops else 0, num_heads)
    inclusion = rows.new_empty(0) if inclusion_weight is None else inclusion_weight.to(rows.dtype)
    out = rows.new_empty(num_dst, num_heads, x.shape[2])
    slope, scale = _scalars(rows, negative_slope, _keep_scale(drop_level))
    run_by_column(
        cpu.gat,
        torch.get_num_threads(),
        rows[:1].nbytes,
        *_arrays(indptr, indices, src_score, dst_score, inclusion),
        slope,
        np.uint64(drop_level),
        scale,
        np.uint64(key),
        *_arrays(rows, weight, self_weight, out),
    )
    return out.to(x.dtype), weight, self_weight


@_gat.register_fake
def _(
    x: Tensor, src_score: Tensor, dst_score: Tensor, indptr: Tensor, indices: Tensor, _: Any, has_self: bool, *__: Any
) -> tuple[Tensor, Tensor, Tensor]:
    num_dst, num_heads = dst_score.shape
    dtype = _sum_dtype(x, src_score, dst_score)
    return (
        x.new_empty(num_dst, num_heads, x.shape[2]),
        x.new_empty(indices.shape[0], num_heads, dtype=dtype),
        x.new_empty(num_dst if has_self else 0, num_heads, dtype=dtype),
    )


def _save_for_gat_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, src_score, dst_score, indptr, indices, _, _, negative_slope, drop_level, _, *transpose = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, src_score, dst_score, *output, indptr, indices, *transpose)
    ctx.negative_slope, ctx.keep_scale = negative_slope, _keep_scale(drop_level)


def _gat_gradient(ctx: Any, g: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    x_gradient = src_gradient = dst_gradient = None
    if g is not None:
        x, src_score, dst_score, *arrays = ctx.saved_tensors
        x_gradient, src_gradient, dst_gradient = _gat_backward(
            g, x, src_score, dst_score, *arrays, ctx.negative_slope, ctx.keep_scale
        )
    return (x_gradient if ctx.needs_input_grad[0] else None, src_gradient, dst_gradient, *[None] * 10)


_gat.register_autograd(_gat_gradient, setup_context=_save_for_gat_gradient)


@torch.library.custom_op("gnnfast::gat_backward", mutates_args=())
def _gat_backward(
    g: Tensor,
    x: Tensor,
    src_score: Tensor,
    dst_score: Tensor,
    out: Tensor,
    weight: Tensor,
    self_weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    src_indptr: Tensor | None,
    src_indices: Tensor | None,
    src_edges: Tensor | None,
    negative_slope: float,
    keep_scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (without rows if there is no transposed block), src_score and dst_score."""
    types = x.dtype, src_score.dtype, dst_score.dtype
    g, x, src_score, dst_score = _widened(g, x, src_score, dst_score)
    slope, scale = _scalars(x, negative_slope, keep_scale)
    num_threads, row_bytes = torch.get_num_threads(), g[:1].nbytes
    edge_gradient, self_gradient = torch.empty_like(weight), torch.empty_like(self_weight)
    src_gradient, dst_gradient = torch.empty_like(src_score), torch.empty_like(dst_score)
    shared = [*_arrays(src_score, dst_score), slope, scale, *_arrays(x, weight, self_weight, g)]
    if src_indptr is None or src_indices is None or src_edges is None:
        x_gradient = x.new_empty(0, *x.shape[1:])
        run_by_column(
            cpu.gat_score_backward,
            num_threads,
            row_bytes,
            *_arrays(indptr, indices),
            *shared,
            *_arrays(edge_gradient, self_gradient),
        )
        run_by_range(
            cpu.sum_by_source,
            num_threads,
            len(src_score),
            edge_gradient.nbytes,
            *_arrays(indices, edge_gradient, self_gradient, src_gradient),
        )
    else:
        x_gradient = torch.empty_like(x)
        run_by_column(
            cpu.gat_backward,
            num_threads,
            row_bytes,
            *_arrays(src_indptr, src_indices, src_edges),
            *shared,
            *_arrays(_row_dots(g, out), edge_gradient, self_gradient, src_gradient, x_gradient),
        )
    run_by_column(
        cpu.sum_by_destination,
        num_threads,
        edge_gradient[:1].nbytes,
        *_arrays(indptr, edge_gradient, self_gradient, dst_gradient),
    )
    gradients = (x_gradient, src_gradient, dst_gradient)
    x_gradient, src_gradient, dst_gradient = (t.to(dtype) for t, dtype in zip(gradients, types, strict=True))
    return x_gradient, src_gradient, dst_gradient


@_gat_backward.register_fake
def _(g: Tensor, x: Tensor, src_score: Tensor, dst_score: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    has_transpose = rest[5] is not None
    x_gradient = x.new_empty(x.shape) if has_transpose else x.new_empty(0, *x.shape[1:])
    return x_gradient, torch.empty_like(src_score), torch.empty_like(dst_score)


@torch.library.custom_op("gnnfast::gatv2", mutates_args=())
def _gatv2(
    x: Tensor,
    asking: Tensor,
    attention: Tensor,
    indptr: Tensor,
    indices: Tensor,
    inclusion_weight: Tensor | None,
    add_self_loops: bool,
    negative_slope: float,
    drop_level: int,
    key: int,
    src_indptr: Tensor | None,
    src_indices: Tensor | None,
    src_edges: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `_gat`; the transposed block serves all gradients."""
    rows, asking, attention = _widened(x, asking, attention)
    weight = rows.new_empty(indices.numel(), x.shape[1])
    self_weight = rows.new_empty(len(asking) if add_self_loops else 0, x.shape[1])
    inclusion = rows.new_empty(0) if inclusion_weight is None else inclusion_weight.to(rows.dtype)
    out = torch.empty_like(asking)
    slope, scale = _scalars(rows, negative_slope, _keep_scale(drop_level))
    run_by_column(
        cpu.gatv2,
        torch.get_num_threads(),
        rows[:1].nbytes,
        *_arrays(indptr, indices, asking, attention, inclusion),
        slope,
        np.uint64(drop_level),
        scale,
        np.uint64(key),
        *_arrays(rows, weight, self_weight, out),
    )
    return out.to(x.dtype), weight, self_weight


@_gatv2.register_fake
def _(
    x: Tensor, asking: Tensor, attention: Tensor, indptr: Tensor, indices: Tensor, _: Any, has_self: bool, *__: Any
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = _sum_dtype(x, asking, attention)
    return (
        x.new_empty(asking.shape),
        x.new_empty(indices.shape[0], x.shape[1], dtype=dtype),
        x.new_empty(asking.shape[0] if has_self else 0, x.shape[1], dtype=dtype),
    )


def _gatv2_gradient(ctx: Any, g: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    gradients: tuple[Tensor | None, ...] = (None, None, None)
    if g is not None:
        gradients = _gatv2_backward(g, *ctx.saved_tensors, ctx.negative_slope, ctx.keep_scale)
    return (*gradients, *[None] * 10)


_gatv2.register_autograd(_gatv2_gradient, setup_context=_save_for_gat_gradient)


@torch.library.custom_op("gnnfast::gatv2_backward", mutates_args=())
def _gatv2_backward(
    g: Tensor,
    x: Tensor,
    asking: Tensor,
    attention: Tensor,
    out: Tensor,
    weight: Tensor,
    self_weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    src_indptr: Tensor,
    src_indices: Tensor,
    src_edges: Tensor,
    negative_slope: float,
    keep_scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, asking and attention."""
    types = x.dtype, asking.dtype, attention.dtype
    g, x, asking, attention = _widened(g, x, asking, attention)
    slope, scale = _scalars(x, negative_slope, keep_scale)
    num_threads, row_bytes = torch.get_num_threads(), x[:1].nbytes
    edge_gradient, self_gradient = torch.empty_like(weight), torch.empty_like(self_weight)
    x_gradient, asking_gradient = torch.empty_like(x), torch.empty_like(asking)
    run_by_column(
        cpu.gatv2_backward,
        num_threads,
        2 * row_bytes,
        *_arrays(src_indptr, src_indices, src_edges, asking, attention),
        slope,
        scale,
        *_arrays(x, weight, self_weight, g, _row_dots(g, out), edge_gradient, self_gradient, x_gradient),
    )
    chunks = x.new_empty(-(-len(asking) // cpu.CHUNK), *attention.shape)
    run_by_range(
        cpu.gatv2_asking_backward,
        num_threads,
        len(chunks),
        len(indices) * row_bytes,
        *_arrays(indptr, indices, asking, attention),
        slope,
        *_arrays(x, edge_gradient, self_gradient, asking_gradient, chunks),
    )
    attention_gradient = torch.zeros_like(attention)
    for chunk in chunks:
        attention_gradient += chunk
    gradients = (x_gradient, asking_gradient, attention_gradient)
    x_gradient, asking_gradient, attention_gradient = (t.to(dtype) for t, dtype in zip(gradients, types, strict=True))
    return x_gradient, asking_gradient, attention_gradient


@_gatv2_backward.register_fake
def _(g: Tensor, x: Tensor, asking: Tensor, attention: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), asking.new_empty(asking.shape), torch.empty_like(attention)


def _refuse_second_gradient(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError(
        "attention on a block can be differentiated once, but a gradient of its gradient was asked for: for second "
        "derivatives run the layers on block.edge_index"
    )


for _operator in (_gat_backward, _gatv2_backward):
    _operator.register_autograd(_refuse_second_gradient)


def _row_dots(g: Tensor, x: Tensor) -> Tensor:
    """The inner products of equal rows, `(rows, heads)`."""
    g, x = _widened(g, x)
    out = g.new_empty(g.shape[:2])
    run_by_range(cpu.row_dots, torch.get_num_threads(), len(g), 2 * g.nbytes, *_arrays(g, x, out))
    return out


def _keep_scale(drop_level: int) -> float:
    return _LEVELS / (_LEVELS - drop_level) if drop_level < _LEVELS else 0.0


def _sum_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def _widened(*tensors: Tensor) -> list[Tensor]:
    """All in one type, float32 or wider, and contiguous."""
    dtype = _sum_dtype(*tensors)
    return [tensor.to(dtype).contiguous() for tensor in tensors]


def _scalars(like: Tensor, *values: float) -> list[Any]:
    return [np.float64(value) if like.dtype == torch.float64 else np.float32(value) for value in values]


def _arrays(*tensors: Tensor) -> list[Any]:
    return [tensor.detach().numpy() for tensor in tensors]
