"""Whether graph attention averages rows before or after the linear transformation: both give the same mean."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnfast.graph import Block

# Times in multiply-adds of a matrix product in single precision, of an AMD EPYC, on blocks of three hops and widths of
# 128 and 256: of reading a channel of another node's row, of adding it to a row in the cache, of a multiply-add in
# products head by head.
_READ = 30
_ADD = 5
_BY_HEAD = 1.6


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
