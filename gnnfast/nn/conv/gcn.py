"""The graph convolution of Kipf and Welling, normalized with the degrees of the full graph."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
import torch_geometric.nn
from torch import Tensor
from torch_geometric.typing import OptTensor

from gnnfast.graph import Block
from gnnfast.kernels.cpu.gcn_norm import gcn_norm
from gnnfast.kernels.reference import gcn_norm as reference
from gnnfast.nn.aggregate import segment_sum, sum_dtype
from gnnfast.nn.conv.order import aggregates_first
from gnnfast.nn.conv.refuse import refuse_on_block
from gnnfast.nn.linear import linear, materialize


class GCNConv(torch_geometric.nn.GCNConv):
    """`x'_v = sum of W x_u w_uv / sqrt(d_u d_v) over u -> v and v itself`, with the parameters of PyG's `GCNConv`.

    Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017,
    https://arxiv.org/abs/1609.02907.

    On a block d are the degrees of the *full* graph, messages are multiplied with the inclusion weights of the sampler,
    and a node's own term is never sampled. So a sampled layer is unbiased, and a layer over all neighbors of a few
    nodes equals the layer over the full graph. A node has one self-loop, as in PyG: the last one listed, or one of
    weight 1.

    Args:
        *args: As PyG's.
        normalization: "full", or "batch" for PyG's behaviour on mini-batches: in training degrees are counted on the
            block, whose inclusion weights are ignored. In evaluation mode "batch" is "full" on blocks that carry the
            degrees of the full graph: outputs then do not depend on how the nodes are cut into blocks. Without a
            block, and on that of a whole graph, there is no difference.
        **kwargs: As PyG's. `improved` gives added self-loops weight 2 on all blocks; PyG forgets it on an `edge_index`
            without edge weights.
    """

    uses_edge_weight = True
    # PyG finds these in the source of the class, by its name alone: ours would hide those of the parent.
    propagate_type: ClassVar = {"x": Tensor, "edge_weight": OptTensor}

    def __init__(self, *args: Any, normalization: str = "full", **kwargs: Any):
        if normalization not in ("full", "batch"):
            raise ValueError(f"normalization must be 'full' or 'batch', got {normalization!r}")
        super().__init__(*args, **kwargs)
        self.normalization = normalization

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Tensor | None = None, relu: bool = False) -> Tensor:
        """Runs the layer.

        Args:
            x: Source rows, `(num_src, in_channels)`.
            edge_index: A block, or what PyG takes.
            edge_weight: `(num_edges,)`; not for blocks, which bring theirs.
            relu: Whether negative outputs become 0; for blocks only.

        Returns:
            Destination rows, `(num_dst, out_channels)`.

        Raises:
            ValueError: If the graph is a block and `edge_weight` is given, or the block's self-loops do not fit
                `improved` and `add_self_loops`.
        """
        if not isinstance(edge_index, Block):
            out: Tensor = super().forward(x, edge_index, edge_weight)
            return out
        refuse_on_block("GCNConv", edge_weight=edge_weight)
        weight, self_weight = self._weights(edge_index, sum_dtype(x.dtype))
        materialize(self.lin, x)
        if aggregates_first(edge_index, x, self.out_channels):
            return linear(segment_sum(x, edge_index, weight, self_weight), self.lin.weight, self.bias, relu)
        out = segment_sum(linear(x, self.lin.weight), edge_index, weight, self_weight)
        out = out if self.bias is None else out + self.bias
        return out.relu() if relu else out

    def _weights(self, block: Block, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """What each edge's message and each destination's own row are multiplied with."""
        key = ("gcn", self.normalize, self.add_self_loops, self.improved, self._counts_on_block, dtype)
        if key not in block.derived:
            block.derived[key] = self._normalize(block, dtype) if self.normalize else (_product(block), None)
        weights: tuple[Tensor | None, Tensor | None] = block.derived[key]
        return weights

    def _normalize(self, block: Block, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        degree, self_loop, inclusion_weight = self._degrees(block, dtype)
        if self_loop is not None and (self.improved or not self.add_self_loops):
            raise ValueError(
                "on a block whose graph has self-loops GCNConv needs add_self_loops=True and improved=False; "
                "a self-loop that is there keeps its weight"
            )
        if self.add_self_loops:
            if self_loop is None:
                self_loop = torch.full_like(degree, 2.0 if self.improved else 1.0)
            degree = degree + self_loop
        scale = inverse_root(degree, dtype)
        weight = scale_edges(block, inclusion_weight, scale, self.add_self_loops)
        if self_loop is None:
            return weight, None
        return weight, self_loop[: block.num_dst].to(dtype) * scale[: block.num_dst].square()

    def _degrees(self, block: Block, dtype: torch.dtype) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Degrees of the sources without self-loops, self-loop weights, and the inclusion weights that fit them."""
        if block.src_degree is not None and not self._counts_on_block:
            return block.src_degree, block.self_loop_weight, block.inclusion_weight
        if self.normalization == "full" and block.num_src > block.num_dst:
            warnings.warn(
                "the block has no src_degree: GCN is normalized with those of the batch, which biases samples",
                stacklevel=2,
            )
        counted = reference.count_degrees(block.indptr, block.indices, block.edge_weight, block.num_src, dtype)
        return *counted, None

    @property
    def _counts_on_block(self) -> bool:
        return self.normalization == "batch" and self.training


def inverse_root(degree: Tensor, dtype: torch.dtype) -> Tensor:
    """`degree ** -0.5`, 0 for a node without edges, `(num_nodes,)`."""
    scale = degree.to(dtype).pow(-0.5)
    return scale.masked_fill_(scale == torch.inf, 0)


def scale_edges(block: Block, inclusion_weight: Tensor | None, scale: Tensor, drop_self_loops: bool) -> Tensor:
    indptr, indices, edge_weight = block.indptr, block.indices, block.edge_weight
    if not scale.is_cpu:
        return reference.gcn_norm(indptr, indices, edge_weight, inclusion_weight, scale, drop_self_loops)
    out = scale.new_empty(block.num_edges)
    empty = scale.new_empty(0)
    weights = (empty if weight is None else weight for weight in (edge_weight, inclusion_weight))
    tensors = (indptr, indices, *weights, scale)
    gcn_norm(*(tensor.numpy() for tensor in tensors), drop_self_loops, out.numpy())
    return out


def _product(block: Block) -> Tensor | None:
    if block.edge_weight is None or block.inclusion_weight is None:
        return block.inclusion_weight if block.edge_weight is None else block.edge_weight
    return block.edge_weight * block.inclusion_weight
