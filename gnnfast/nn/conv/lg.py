"""The light convolution: neighbors are summed and normalized, and nothing else."""

from __future__ import annotations

from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor

from gnnfast.graph import Block
from gnnfast.kernels.reference import gcn_norm as reference
from gnnfast.nn.aggregate import segment_sum, sum_dtype
from gnnfast.nn.conv.gcn import scale_edges
from gnnfast.nn.conv.refuse import refuse_on_block


class LGConv(torch_geometric.nn.LGConv):
    """`x'_v = sum of w_uv x_u / sqrt(d_u d_v) over u -> v`, without weights and without the node's own row.

    He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, 2020,
    https://arxiv.org/abs/2002.02126. On a block d are the degrees of the full graph, and messages are multiplied with
    the inclusion weights of the sampler: sampled layers are unbiased.
    """

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Tensor | None = None) -> Tensor:
        """Runs the layer on a block, or on what PyG takes; `(num_dst, channels)`.

        Raises:
            ValueError: If a block's graph has self-loops, or edge weights come beside a block.
        """
        if not isinstance(edge_index, Block):
            out: Tensor = super().forward(x, edge_index, edge_weight)
            return out
        refuse_on_block("LGConv", edge_weight=edge_weight)
        return segment_sum(x, edge_index, self._weights(edge_index, sum_dtype(x.dtype)))

    def _weights(self, block: Block, dtype: torch.dtype) -> Tensor:
        key = ("lg", dtype)
        if key not in block.derived:
            if block.self_loop_weight is not None:
                raise ValueError("LGConv sums over neighbors only, but the graph has self-loops: remove them first")
            degree = block.src_degree
            if degree is None:
                indptr, indices, weight = block.indptr, block.indices, block.edge_weight
                degree = reference.count_degrees(indptr, indices, weight, block.num_src, dtype)[0]
            scale = degree.to(dtype).pow(-0.5)
            scale.masked_fill_(scale == torch.inf, 0)
            block.derived[key] = scale_edges(block, block.inclusion_weight, scale, drop_self_loops=False)
        weights: Tensor = block.derived[key]
        return weights
