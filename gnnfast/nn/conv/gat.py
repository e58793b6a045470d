"""Graph attention."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch_geometric.nn
from torch import Tensor
from torch_geometric.typing import OptPairTensor, OptTensor

from gnnfast.graph import Block
from gnnfast.nn.attention import gat_attention
from gnnfast.nn.conv.attention import attends_first
from gnnfast.nn.conv.refuse import refuse_on_block
from gnnfast.nn.linear import linear, materialize
from gnnfast.nn.linear_by_head import linear_by_head


class GATConv(torch_geometric.nn.GATConv):
    """Averages neighbors with softmaxed scores `leaky_relu(a_src W x_u + a_dst W x_v)`; parameters as PyG's `GATConv`.

    Velickovic et al., Graph Attention Networks, 2018, https://arxiv.org/abs/1710.10903.

    On a block the logarithm of the sampler's inclusion weights is added to the scores; a softmax over a sample is
    biased none the less. A node attends to itself once, never by a sampled edge. Edge weights of the graph are not
    used, as in PyG. Blocks have no edge features, and their sources and destinations share one linear map.
    """

    uses_edge_weight = False
    # PyG finds these in the source of the class, by its name alone: ours would hide those of the parent.
    propagate_type: ClassVar = {"x": OptPairTensor, "alpha": Tensor}
    edge_updater_type: ClassVar = {"alpha": OptPairTensor, "edge_attr": OptTensor}

    def forward(
        self, x: Any, edge_index: Any, edge_attr: Any = None, size: Any = None, return_attention_weights: Any = None
    ) -> Any:
        """Runs the layer.

        Args:
            x: Source rows, `(num_src, in_channels)`; without a block all that PyG takes.
            edge_index: A block, or what PyG takes.
            edge_attr: See PyG; not for blocks.
            size: See PyG; not for blocks.
            return_attention_weights: See PyG; not for blocks.

        Returns:
            Destination rows, `(num_dst, heads * out_channels)`, or `(num_dst, out_channels)` if heads are averaged.

        Raises:
            ValueError: If the graph is a block and the layer has `edge_dim` or a pair of `in_channels`, or anything
                is given that is not for blocks.
        """
        if not isinstance(edge_index, Block):
            return super().forward(x, edge_index, edge_attr, size, return_attention_weights)
        refuse_on_block(
            "GATConv",
            edge_attr=edge_attr,
            size=size,
            return_attention_weights=return_attention_weights or None,
            edge_dim=self.edge_dim,
            pair_of_in_channels=None if isinstance(self.in_channels, int) else self.in_channels,
        )
        block = edge_index
        materialize(self.lin, x)
        scores = self._scores(x, block.num_dst)
        dropout = self.dropout if self.training else 0.0
        attention = (*scores, block, self.negative_slope, self.add_self_loops, dropout)
        if attends_first(block, x, self.heads, self.out_channels):
            out = self._transform(gat_attention(x.unsqueeze(1), *attention))
        else:
            rows = linear(x, self.lin.weight).view(-1, self.heads, self.out_channels)
            out = gat_attention(rows, *attention)
            out = out.flatten(1) if self.concat else out.mean(dim=1)
        if self.res is not None:
            out = out + self.res(x[: block.num_dst])
        return out if self.bias is None else out + self.bias

    def _transform(self, x: Tensor) -> Tensor:
        """`W x` of rows `(num_dst, heads, in_channels)`, each head by its part of W."""
        weight = self.lin.weight.view(self.heads, self.out_channels, -1)
        if self.concat:
            return linear_by_head(x, weight).flatten(1)
        mean: Tensor = linear(x.flatten(1), weight.transpose(0, 1).flatten(1)) / self.heads
        return mean

    def _scores(self, x: Tensor, num_dst: int) -> tuple[Tensor, Tensor]:
        """`a_src W x` of all sources and `a_dst W x` of the destinations, `(rows, heads)` each."""
        # a (W x) = (a W) x: two vectors per head instead of a pass over all transformed rows, and one back.
        attention = torch.cat([self.att_src, self.att_dst])
        vectors = torch.einsum("shc,hci->shi", attention, self.lin.weight.view(*attention.shape[1:], -1))
        scores = linear(x, vectors.flatten(0, 1))
        return scores[:, : self.heads], scores[:num_dst, self.heads :]
