"""Softmax over the in-edges of each destination, and what the attention convolutions share."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnfast.graph import Block
from gnnfast.nn.aggregate import segment_sum
from gnnfast.nn.dropout import dropout as drop

# Times in multiply-adds of a matrix product in single precision, of an AMD EPYC, on blocks of three hops and widths of
# 128 and 256: of reading a channel of another node's row, of adding it to a row in the cache, of a multiply-add in
# products head by head.
_READ = 30
_ADD = 5
_BY_HEAD = 1.6


def attend(x: Tensor, block: Block, logits: Tensor, self_logits: Tensor | None, dropout: float, concat: bool) -> Tensor:
    """Averages source rows with softmaxed logits, head by head.

    Args:
        x: Transformed sources, `(num_src, heads, channels)`.
        block: Who hears whom; the logarithm of its inclusion weights is added to the logits of its edges.
        logits: By edge, `(num_edges, heads)`.
        self_logits: By destination, `(num_dst, heads)`: each node attends to itself exactly once, and edges from a
            node to itself count as absent. None leaves the edges as they are.
        dropout: Probability that a weight is dropped after the softmax.
        concat: Whether heads come side by side, `(num_dst, heads * channels)`, or averaged, `(num_dst, channels)`.
    """
    if block.inclusion_weight is not None:
        logits = logits + block.inclusion_weight.to(logits.dtype).log().unsqueeze(-1)
    if self_logits is not None:
        logits = logits.masked_fill((block.indices == block.dst_index).unsqueeze(-1), -torch.inf)
    weight, self_weight = segment_softmax(logits, self_logits, block)
    if dropout > 0:
        weight = drop(weight, dropout)
        self_weight = None if self_weight is None else drop(self_weight, dropout)
    out = segment_sum(x, block, weight, self_weight)
    return out.flatten(1) if concat else out.mean(dim=1)


def segment_softmax(logits: Tensor, self_logits: Tensor | None, block: Block) -> tuple[Tensor, Tensor | None]:
    """Softmax over each destination's edges and its own logit, in float32 or wider, as (edge weights, own weights)."""
    dst = block.dst_index
    shape = (block.num_dst, logits.shape[1])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    index = dst.unsqueeze(-1).expand_as(logits)
    with torch.no_grad():
        low = logits.new_full(shape, -torch.inf) if self_logits is None else self_logits.to(logits.dtype)
        high = low.scatter_reduce(0, index, logits, "amax")
    weight = (logits - high.index_select(0, dst)).exp()
    total = logits.new_zeros(shape).index_add(0, dst, weight)
    if self_logits is None:
        return weight / total.index_select(0, dst), None
    self_weight = (self_logits - high).exp()
    total = total + self_weight
    return weight / total.index_select(0, dst), self_weight / total


def attends_first(block: Block, x: Tensor, heads: int, out_channels: int) -> bool:
    """Whether GAT averages rows before it multiplies them with W: cheaper where many sources have few destinations.

    Compares, forward and backward, rows of `in_channels` that all heads read, one product per destination, with a
    product per source and rows of `heads * out_channels`. Off the CPU plain torch makes a message per edge and head of
    what it averages: there the narrower rows, which are the transformed ones in most layers.
    """
    if not x.is_cpu:
        return False
    in_channels, width = x.shape[1], heads * out_channels
    num_edges = block.num_edges + block.num_dst
    products_first = products_last = 1
    edge_first = _READ * in_channels + _ADD * heads * in_channels
    edge_last = (_READ + _ADD) * width
    if torch.is_grad_enabled():
        # The scores need the gradient of every averaged row; x that needs none spares that of the sources' rows alone.
        products_first, products_last = 3, 2 + int(x.requires_grad)
        edge_first += (_READ + _ADD) * heads * in_channels if x.requires_grad else edge_first
        edge_last *= 2
    matrix = in_channels * width
    first = num_edges * edge_first + _BY_HEAD * products_first * block.num_dst * matrix
    last = num_edges * edge_last + products_last * block.num_src * matrix
    return bool(first <= last)
