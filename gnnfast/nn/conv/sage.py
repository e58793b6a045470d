"""GraphSAGE's convolution."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch_geometric.nn
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.typing import OptPairTensor

from gnnfast.graph import Block
from gnnfast.nn.aggregate import mean_beside_own, segment_max, segment_mean, segment_sum, sum_beside_own
from gnnfast.nn.conv.order import aggregates_first
from gnnfast.nn.conv.refuse import refuse_on_block
from gnnfast.nn.linear import linear, materialize

_BESIDE_OWN = {"mean": mean_beside_own, "sum": sum_beside_own, "add": sum_beside_own}


class SAGEConv(torch_geometric.nn.SAGEConv):
    """`x'_v = W_1 aggregate(x_u for u -> v) + W_2 x_v`, with the constructor and the parameters of PyG's `SAGEConv`.

    Hamilton et al., Inductive Representation Learning on Large Graphs, 2017, https://arxiv.org/abs/1706.02216.

    On a block `aggr` is one of "mean", "max", "sum" and "add". The sum multiplies with the inclusion weights of the
    sampler and so is unbiased; the mean divides by their sum; the maximum ignores them. Edge weights of the graph are
    not used, as in PyG.
    """

    uses_edge_weight = False
    # PyG finds these in the source of the class, by its name alone: ours would hide those of the parent.
    propagate_type: ClassVar = {"x": OptPairTensor}

    def forward(self, x: Any, edge_index: Any, size: Any = None, relu: bool = False) -> Tensor:
        """Runs the layer.

        Args:
            x: Source rows, `(num_src, in_channels)`; without a block all that PyG takes.
            edge_index: A block, or what PyG takes.
            size: See PyG; not for blocks.
            relu: Whether negative outputs become 0; for blocks only.

        Returns:
            Destination rows, `(num_dst, out_channels)`.

        Raises:
            ValueError: If the graph is a block and `aggr` is none of the above or `size` is given.
        """
        if not isinstance(edge_index, Block):
            out: Tensor = super().forward(x, edge_index, size)
            return out
        refuse_on_block("SAGEConv", size=size)
        if self.normalize:
            out = F.normalize(self._on_block(x, edge_index, False), p=2.0, dim=-1)
            return out.relu() if relu else out
        return self._on_block(x, edge_index, relu)

    def _on_block(self, x: Tensor, block: Block, relu: bool) -> Tensor:
        if self.aggr not in ("mean", "max", "sum", "add"):
            raise ValueError(f"on blocks SAGEConv aggregates by 'mean', 'max' or 'sum', got aggr={self.aggr!r}")
        own = x[: block.num_dst]
        for layer in (self.lin_l, self.lin_r) if self.root_weight else (self.lin_l,):
            materialize(layer, x)
        if self.project:
            x = linear(x, self.lin.weight, self.lin.bias, relu=True)
        weight, bias = self.lin_l.weight, self.lin_l.bias
        if self.aggr != "max" and not aggregates_first(block, x, self.out_channels):
            out = self._aggregate(linear(x, weight), block)
            out = out if bias is None else out + bias
        elif self.aggr in _BESIDE_OWN and self.root_weight and not self.project:
            # One product for both terms.
            both = torch.cat([weight, self.lin_r.weight], dim=1)
            return linear(_BESIDE_OWN[self.aggr](x, block, block.inclusion_weight), both, bias, relu)
        else:
            out = linear(self._aggregate(x, block), weight, bias)
        out = out + linear(own, self.lin_r.weight) if self.root_weight else out
        return out.relu() if relu else out

    def _aggregate(self, x: Tensor, block: Block) -> Tensor:
        if self.aggr == "mean":
            return segment_mean(x, block, block.inclusion_weight)
        if self.aggr in ("sum", "add"):
            return segment_sum(x, block, block.inclusion_weight)
        return segment_max(x, block)
