"""The convolution of graph isomorphism networks."""

from __future__ import annotations

from typing import Any, ClassVar

import torch_geometric.nn
from torch import Tensor
from torch_geometric.typing import OptPairTensor

from gnnfast.graph import Block
from gnnfast.nn.aggregate import segment_sum
from gnnfast.nn.conv.refuse import refuse_on_block


class GINConv(torch_geometric.nn.GINConv):
    """`x'_v = nn((1 + eps) x_v + sum of x_u over u -> v)`, with the constructor and the parameters of PyG's `GINConv`.

    Xu et al., How Powerful are Graph Neural Networks?, 2019, https://arxiv.org/abs/1810.00826.

    On a block messages are multiplied with the inclusion weights of the sampler, which keeps the sum unbiased. Edge
    weights of the graph are not used, as in PyG.
    """

    uses_edge_weight = False
    # PyG finds these in the source of the class, by its name alone: ours would hide those of the parent.
    propagate_type: ClassVar = {"x": OptPairTensor}

    def forward(self, x: Any, edge_index: Any, size: Any = None) -> Tensor:
        """Runs the layer.

        Args:
            x: Source rows, `(num_src, in_channels)`; without a block all that PyG takes.
            edge_index: A block, or what PyG takes.
            size: See PyG; not for blocks.

        Returns:
            Destination rows, `(num_dst, out_channels)`.

        Raises:
            ValueError: If the graph is a block and `size` is given.
        """
        if not isinstance(edge_index, Block):
            out: Tensor = super().forward(x, edge_index, size)
            return out
        refuse_on_block("GINConv", size=size)
        self_weight = (1 + self.eps).expand(edge_index.num_dst)
        out = self.nn(segment_sum(x, edge_index, edge_index.inclusion_weight, self_weight))
        return out
