"""One layer of message flow: which sources each destination hears."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gnnfast.kernels.cpu import csc as kernels


class Block:
    """A bipartite graph from sources to destinations, where the destinations are the first sources.

    Ids are local: row i of a layer's input belongs to source i, row j of its output to destination j. A full graph is
    a block whose sources are its destinations.

    Args:
        indptr: int64, `(num_dst + 1,)`.
        indices: int32 or int64, `(num_edges,)`; local source of each edge, by destination.
        num_src: Number of sources, at least num_dst.
        src_nodes: Global ids of the sources, int64, `(num_src,)`; None where local ids are the global ones.
        edge_ids: The graph's ids of the edges, int64, `(num_edges,)`.
        edge_weight: The graph's weights of the edges, floating, `(num_edges,)`.
        inclusion_weight: What the sampler multiplies an edge with to make up for those it left out (1 / inclusion
            probability, or degree / fanout), floating, `(num_edges,)`; None means 1 everywhere.
        src_degree: `CSCGraph.degree` of the sources in the *full* graph, floating, `(num_src,)`.
        self_loop_weight: `CSCGraph.self_loop_weight` of the sources, `(num_src,)`; None if the graph has no self-loop.
    """

    def __init__(
        self,
        indptr: Tensor,
        indices: Tensor,
        num_src: int,
        src_nodes: Tensor | None = None,
        edge_ids: Tensor | None = None,
        edge_weight: Tensor | None = None,
        inclusion_weight: Tensor | None = None,
        src_degree: Tensor | None = None,
        self_loop_weight: Tensor | None = None,
    ):
        if num_src < indptr.numel() - 1:
            raise ValueError(f"a block's destinations are its first sources, but {num_src=} < {indptr.numel() - 1}")
        self.indptr = indptr
        self.indices = indices
        self.num_src = num_src
        self.src_nodes = src_nodes
        self.edge_ids = edge_ids
        self.edge_weight = edge_weight
        self.inclusion_weight = inclusion_weight
        self.src_degree = src_degree
        self.self_loop_weight = self_loop_weight
        # What layers compute from the block once and share, say normalized edge weights, by their own keys.
        self.derived: dict[Hashable, Any] = {}

    @property
    def num_dst(self) -> int:
        return self.indptr.numel() - 1

    @property
    def num_edges(self) -> int:
        return self.indices.numel()

    @property
    def dst_nodes(self) -> Tensor | None:
        return None if self.src_nodes is None else self.src_nodes[: self.num_dst]

    @property
    def dst_degree(self) -> Tensor | None:
        return None if self.src_degree is None else self.src_degree[: self.num_dst]

    @property
    def device(self) -> torch.device:
        return self.indices.device

    @cached_property
    def transpose(self) -> tuple[Tensor, Tensor, Tensor]:
        """The block by source, as the backward pass walks it: (indptr, destinations, positions of edges).

        int64 `(num_src + 1,)`; the type of `indices`, `(num_edges,)`; the same, or int64 where it must be, positions in
        `indices`.
        """
        # Of 2**31 and more edges, int32 may hold the nodes but not the positions.
        positions = torch.int64 if self.num_edges > torch.iinfo(torch.int32).max else self.indices.dtype
        if self.device.type != "cpu":
            order = torch.argsort(self.indices, stable=True)
            indptr = torch.zeros(self.num_src + 1, dtype=torch.int64, device=self.device)
            torch.cumsum(torch.bincount(self.indices, minlength=self.num_src), 0, out=indptr[1:])
            return indptr, self.dst_index[order].to(self.indices.dtype), order.to(positions)
        indptr = torch.empty(self.num_src + 1, dtype=torch.int64)
        indices, edges = torch.empty_like(self.indices), torch.empty_like(self.indices, dtype=positions)
        kernels.transpose_csc(self.indptr.numpy(), self.indices.numpy(), indptr.numpy(), indices.numpy(), edges.numpy())
        return indptr, indices, edges

    @cached_property
    def dst_index(self) -> Tensor:
        """Local destination of each edge, int64, `(num_edges,)`."""
        degree = self.indptr[1:] - self.indptr[:-1]
        return torch.repeat_interleave(
            torch.arange(self.num_dst, device=self.device), degree, output_size=self.num_edges
        )

    @cached_property
    def edge_index(self) -> Tensor:
        """Edges in PyG's form, int64 `(2, num_edges)`: local sources above local destinations."""
        return torch.stack([self.indices.long(), self.dst_index])

    @cached_property
    def adj_t(self) -> Any:
        """Edges as `torch_sparse.SparseTensor` of shape `(num_dst, num_src)` (extra `sparse`)."""
        from gnnfast.graph.pyg import sparse_tensor

        return sparse_tensor(self.indptr, self.indices, self.edge_weight, self.num_src)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Block:
        """The block with all its tensors on `device`; itself if they are there already."""
        if self.device == torch.device(device):
            return self

        def move(tensor: Tensor | None) -> Any:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        return Block(
            move(self.indptr),
            move(self.indices),
            self.num_src,
            src_nodes=move(self.src_nodes),
            edge_ids=move(self.edge_ids),
            edge_weight=move(self.edge_weight),
            inclusion_weight=move(self.inclusion_weight),
            src_degree=move(self.src_degree),
            self_loop_weight=move(self.self_loop_weight),
        )

    def __repr__(self) -> str:
        parts = [f"num_src={self.num_src}", f"num_dst={self.num_dst}", f"num_edges={self.num_edges}"]
        optional = ("src_nodes", "edge_ids", "edge_weight", "inclusion_weight", "src_degree", "self_loop_weight")
        parts += [name for name in optional if getattr(self, name) is not None]
        return f"Block({', '.join(parts)})"
