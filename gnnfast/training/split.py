"""Convolutions in two: what the rows of the input send, and what each destination makes of all that it hears.

So a layer can be computed for some destinations at a time without doing the work of the sources over again, and sends
along the edges whichever is narrower, its input or its output.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn.models import MLP

from gnnfast.graph import Block
from gnnfast.nn import GATConv, GCNConv, GINConv, SAGEConv
from gnnfast.nn.aggregate import segment_sum, sum_dtype
from gnnfast.nn.attention import gat_attention
from gnnfast.nn.conv.gcn import inverse_root
from gnnfast.nn.linear import linear


@dataclass(frozen=True)
class Columns:
    """Some destinations of a layer and all that they hear.

    Attributes:
        block: From all rows of the layer's input to the destinations, which are not, as elsewhere, the first of them.
        own: The destinations' rows of the input, a slice or int64 `(num_dst,)`.
    """

    block: Block
    own: slice | Tensor


Receive = Callable[[Tensor, tuple[Tensor, ...], Columns], Tensor]


def _send_nothing(x: Tensor) -> tuple[Tensor, ...]:
    return ()


@dataclass(frozen=True)
class SplitConv:
    """A convolution of complete neighborhoods in evaluation mode.

    Attributes:
        receive: `(x, sent, columns)` to the destinations' rows, `(num_dst, out_channels)`.
        send: Some rows of the input to what `receive` needs of them beside themselves.
        hears_inputs: Whether `receive` reads other rows of the input than the destinations' own.
        adds_self: Whether the columns have to hold each destination itself, exactly once.
    """

    receive: Receive
    send: Callable[[Tensor], tuple[Tensor, ...]] = _send_nothing
    hears_inputs: bool = True
    adds_self: bool = False


def split_conv(conv: Any, degrees: Callable[[], tuple[Tensor, Tensor | None]]) -> SplitConv | None:
    """The two halves of a convolution; None if it is of a kind that has none here.

    Args:
        conv: A layer of a `GNN`.
        degrees: `CSCGraph.degree` and `self_loop_weight` of the rows of the input, of which GCN makes its weights.
    """
    if conv._forward_hooks or conv._forward_pre_hooks:
        return None
    if type(conv) is SAGEConv:
        return _split_sage(conv)
    if type(conv) is GCNConv:
        return _split_gcn(conv, *degrees())
    if type(conv) is GINConv:
        return _split_gin(conv)
    if type(conv) is GATConv and conv.edge_dim is None and isinstance(conv.in_channels, int):
        return _split_gat(conv)
    return None


def _narrows(weight: Tensor) -> bool:
    return weight.shape[0] < weight.shape[1]


def _split_sage(conv: SAGEConv) -> SplitConv:
    # The maximum of a linear map is not the linear map of a maximum.
    sends_products = conv.aggr != "max" and _narrows(conv.lin_l.weight)

    def send(x: Tensor) -> tuple[Tensor, ...]:
        if conv.project:
            x = conv.lin(x).relu()
        return (linear(x, conv.lin_l.weight) if sends_products else x,)

    def receive(x: Tensor, sent: tuple[Tensor, ...], columns: Columns) -> Tensor:
        out = conv._aggregate(sent[0] if sent else x, columns.block)
        if not sends_products:
            out = linear(out, conv.lin_l.weight, conv.lin_l.bias)
        elif conv.lin_l.bias is not None:
            out = out + conv.lin_l.bias
        if conv.root_weight:
            out = out + linear(x[columns.own], conv.lin_r.weight, conv.lin_r.bias)
        return F.normalize(out, p=2.0, dim=-1) if conv.normalize else out

    if not sends_products and not conv.project:
        return SplitConv(receive)
    return SplitConv(receive, send, hears_inputs=False)


def _split_gcn(conv: GCNConv, degree: Tensor, self_loop: Tensor | None) -> SplitConv:
    sends_products = _narrows(conv.lin.weight)
    weights = _GCNWeights(conv, degree, self_loop)

    def send(x: Tensor) -> tuple[Tensor, ...]:
        return (linear(x, conv.lin.weight),)

    def receive(x: Tensor, sent: tuple[Tensor, ...], columns: Columns) -> Tensor:
        rows = sent[0] if sent else x
        dtype = sum_dtype(rows.dtype)
        out = segment_sum(rows, columns.block, weights.of_edges(columns, dtype))
        if weights.own is not None:
            out = torch.addcmul(out, rows[columns.own], weights.own[columns.own].unsqueeze(1).to(out.dtype))
        if not sends_products:
            return linear(out, conv.lin.weight, conv.bias)
        return out if conv.bias is None else out + conv.bias

    return SplitConv(receive, send, hears_inputs=False) if sends_products else SplitConv(receive)


class _GCNWeights:
    """GCN's weights, some columns at a time: those of all edges of a large graph would fill half a gigabyte."""

    def __init__(self, conv: GCNConv, degree: Tensor, self_loop: Tensor | None):
        self.key = conv.add_self_loops, conv.improved
        self.drops_loops = conv.add_self_loops and self_loop is not None
        self.scale: Tensor | None = None
        # The convolution's own weights of a graph without edges: those of the nodes themselves, and its checks.
        nodes_only = Block(
            torch.zeros(degree.numel() + 1, dtype=torch.int64),
            torch.empty(0, dtype=torch.int32),
            degree.numel(),
            src_degree=degree,
            self_loop_weight=self_loop,
        )
        self.own = conv._weights(nodes_only, sum_dtype(conv.lin.weight.dtype))[1]
        if conv.normalize:
            if conv.add_self_loops:
                degree = degree + (self_loop if self_loop is not None else 2 if conv.improved else 1)
            self.scale = inverse_root(degree, sum_dtype(conv.lin.weight.dtype))

    def of_edges(self, columns: Columns, dtype: torch.dtype) -> Tensor | None:
        block = columns.block
        if self.scale is None:
            return block.edge_weight
        key = ("gcn columns", self.key, dtype)
        if key not in block.derived:
            scale = self.scale.to(dtype)
            degree = block.indptr.diff()
            weight = torch.repeat_interleave(scale[columns.own], degree, output_size=block.num_edges)
            weight *= scale.index_select(0, block.indices)
            if block.edge_weight is not None:
                weight *= block.edge_weight
            if self.drops_loops:
                own = columns.own
                rows = torch.arange(own.start, own.stop) if isinstance(own, slice) else own
                loops = block.indices == torch.repeat_interleave(rows, degree, output_size=block.num_edges)
                weight.masked_fill_(loops, 0)
            block.derived[key] = weight
        weights: Tensor = block.derived[key]
        return weights


def _split_gin(conv: GINConv) -> SplitConv:
    mlp = conv.nn
    sends_products = isinstance(mlp, MLP) and len(mlp.lins) > 1 and _narrows(mlp.lins[0].weight)

    def receive(x: Tensor, sent: tuple[Tensor, ...], columns: Columns) -> Tensor:
        rows = sent[0] if sent else x
        out = segment_sum(rows, columns.block)
        out = torch.addcmul(out, rows[columns.own], 1 + conv.eps.to(out.dtype))
        if sends_products and mlp.lins[0].bias is not None:
            out = out + mlp.lins[0].bias
        result: Tensor = rest(out)
        return result

    rest = _without_first_product(mlp) if sends_products else mlp
    if not sends_products:
        return SplitConv(receive)
    return SplitConv(receive, lambda x: (linear(x, mlp.lins[0].weight),), hears_inputs=False)


def _without_first_product(mlp: MLP) -> Any:
    """The MLP from its first linear map on; shares all parameters."""
    rest = copy.copy(mlp)
    rest._modules = dict(mlp._modules)
    rest.lins = torch.nn.ModuleList([torch.nn.Identity(), *mlp.lins[1:]])
    return rest


def _split_gat(conv: GATConv) -> SplitConv:
    def send(x: Tensor) -> tuple[Tensor, ...]:
        products = linear(x, conv.lin.weight)
        # Widened once: attention would widen all rows anew for every chunk.
        return products.to(sum_dtype(products.dtype)), *conv._scores(x, x.shape[0])

    def receive(x: Tensor, sent: tuple[Tensor, ...], columns: Columns) -> Tensor:
        products, src_score, dst_score = sent
        rows = products.view(-1, conv.heads, conv.out_channels)
        out = gat_attention(rows, src_score, dst_score[columns.own], columns.block, conv.negative_slope, False)
        out = out.flatten(1) if conv.concat else out.mean(dim=1)
        if conv.res is not None:
            out = out + conv.res(x[columns.own])
        return out if conv.bias is None else out + conv.bias

    return SplitConv(receive, send, hears_inputs=False, adds_self=conv.add_self_loops)
