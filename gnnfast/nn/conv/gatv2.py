"""Graph attention whose ranking of neighbors depends on who asks."""

from __future__ import annotations

from typing import Any, ClassVar

import torch_geometric.nn
from torch import Tensor
from torch_geometric.typing import OptTensor, PairTensor

from gnnfast.graph import Block
from gnnfast.nn.attention import gatv2_attention
from gnnfast.nn.conv.refuse import refuse_on_block
from gnnfast.nn.linear import linear


class GATv2Conv(torch_geometric.nn.GATv2Conv):
    """Averages neighbors with softmaxed scores `a leaky_relu(W_l x_u + W_r x_v)`; parameters as PyG's `GATv2Conv`.

    Brody et al., How Attentive are Graph Attention Networks?, 2022, https://arxiv.org/abs/2105.14491.

    Inclusion weights, self-loops and edge weights are treated as in `GATConv`.
    """

    uses_edge_weight = False
    # PyG finds these in the source of the class, by its name alone: ours would hide those of the parent.
    propagate_type: ClassVar = {"x": PairTensor, "alpha": Tensor}
    edge_updater_type: ClassVar = {"x": PairTensor, "edge_attr": OptTensor}

    def forward(self, x: Any, edge_index: Any, edge_attr: Any = None, return_attention_weights: Any = None) -> Any:
        """Runs the layer; arguments, result and errors as `GATConv.forward`'s."""
        if not isinstance(edge_index, Block):
            return super().forward(x, edge_index, edge_attr, return_attention_weights)
        refuse_on_block(
            "GATv2Conv",
            edge_attr=edge_attr,
            return_attention_weights=return_attention_weights or None,
            edge_dim=self.edge_dim,
            pair_of_in_channels=None if isinstance(self.in_channels, int) else self.in_channels,
        )
        block, own = edge_index, x[: edge_index.num_dst]
        shape = (-1, self.heads, self.out_channels)
        rows = linear(x, self.lin_l.weight, self.lin_l.bias).view(shape)
        asking = rows[: block.num_dst]
        if not self.share_weights:
            asking = linear(own, self.lin_r.weight, self.lin_r.bias).view(shape)
        dropout = self.dropout if self.training else 0.0
        out = gatv2_attention(rows, asking, self.att[0], block, self.negative_slope, self.add_self_loops, dropout)
        out = out.flatten(1) if self.concat else out.mean(dim=1)
        if self.res is not None:
            out = out + self.res(own)
        return out if self.bias is None else out + self.bias
