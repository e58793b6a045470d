"""Subgraphs on chosen nodes, as one square block."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph
from gnnfast.kernels.cpu.gather import gather_values
from gnnfast.kernels.cpu.induce import count_in_edges
from gnnfast.runtime.buffers import BufferPool
from gnnfast.sampler.node_map import NodeMapPool


class Inducer:
    """Takes out of a graph the edges among some nodes. Safe to use from several threads.

    Args:
        graph: The whole graph.
        edge_ids: Whether blocks carry the ids of their edges: the graph's `edge_ids`, or else positions in `indices`.
        normalization: "full": blocks carry the degrees of the full graph; "batch": those inside the block, which GCN
            then normalizes with.

    Raises:
        ValueError: If `normalization` is another word.
    """

    def __init__(self, graph: CSCGraph, edge_ids: bool = False, normalization: str = "full"):
        if normalization not in ("full", "batch"):
            raise ValueError(f"normalization must be 'full' or 'batch', got {normalization!r}")
        self.graph = graph
        self.edge_ids = edge_ids
        self.normalization = normalization
        self._node_maps = NodeMapPool(graph.num_nodes)
        self._buffers = BufferPool()

    def induce(self, nodes: Tensor) -> Block:
        """The block of all edges among the nodes, whose sources are its destinations.

        Args:
            nodes: Global ids, int64, `(num_nodes,)`; their order is that of the rows, a repeated one counts once.

        Returns:
            A block whose columns keep the graph's order of edges.
        """
        return self.induce_with_edges(nodes)[0]

    def induce_with_edges(self, nodes: Tensor) -> tuple[Block, Tensor]:
        """As `induce`, and the edges' positions in the graph's `indices`, int64, `(num_edges,)`."""
        graph = self.graph
        graph_indptr, graph_indices = graph.indptr.numpy(), graph.indices.numpy()
        with self._node_maps.lend() as node_map:
            node_map.start(nodes.numpy())
            if node_map.count < nodes.numel():
                nodes = torch.from_numpy(node_map.nodes().copy())
            indptr = self._empty(nodes.numel() + 1, torch.int64)
            room = count_in_edges(graph_indptr, nodes.numpy()) + 1
            indices, edges = self._empty(room, torch.int32), self._empty(room, torch.int64)
            node_map.induce(graph_indptr, graph_indices, indptr.numpy(), indices.numpy(), edges.numpy())
        num_edges = int(indptr[-1])
        indices, edges = (self._cut(full, num_edges) for full in (indices, edges))
        edge_ids = None
        if self.edge_ids:
            edge_ids = edges if graph.edge_ids is None else self._at(graph.edge_ids, edges)
        block = Block(
            indptr,
            indices,
            num_src=nodes.numel(),
            src_nodes=nodes,
            edge_ids=edge_ids,
            edge_weight=None if graph.edge_weight is None else self._at(graph.edge_weight, edges),
            self_loop_weight=None if graph.self_loop_weight is None else self._at(graph.self_loop_weight, nodes),
        )
        if self.normalization == "full":
            block.src_degree = self._at(graph.degree, nodes)
        else:
            block.src_degree = CSCGraph(indptr, indices, edge_weight=block.edge_weight, validate=False).degree
        return block, edges

    def _cut(self, full: Tensor, size: int) -> Tensor:
        """The first entries, in memory of their size where most of it would lie idle."""
        return full[:size] if 2 * size > full.numel() else self._empty(size, full.dtype).copy_(full[:size])

    def _at(self, values: Tensor, positions: Tensor) -> Tensor:
        out = self._empty(positions.numel(), values.dtype)
        gather_values(values.numpy(), positions.numpy(), out.numpy())
        return out

    def _empty(self, size: int, dtype: torch.dtype) -> Tensor:
        return self._buffers.empty((size,), dtype)
