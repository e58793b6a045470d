"""The whole neighborhood of the seeds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.kernels.cpu.neighbor import count_neighbors, sample_neighbors
from gnnfast.runtime.buffers import BufferPool
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import check_seeds
from gnnfast.sampler.node_map import NodeMap, NodeMapPool
from gnnfast.sampler.subgraph.induce import Inducer


class EgoSampler:
    """Takes all nodes within some hops of the seeds, and all edges among them: nothing is drawn.

    The outputs of a model with at most `depth` layers at the seeds equal those of the full graph. Seeds of one
    mini-batch share their neighborhoods; `ShadowSampler` keeps them apart.

    Args:
        graph: Graph to take neighborhoods from.
        depth: Hops from the seeds, against the direction of the edges.
        edge_ids: Whether blocks carry the ids of their edges: the graph's `edge_ids`, or else positions in `indices`.

    Raises:
        ValueError: If `depth` is not positive.
    """

    law = Law(bias="nodes at the rim lack in-edges from beyond it, which no output at a seed hears", exact=True)

    def __init__(self, graph: CSCGraph, depth: int = 2, edge_ids: bool = False):
        if depth < 1:
            raise ValueError(f"depth must be positive, got {depth}")
        self.graph = graph
        self.depth = depth
        self.edge_ids = edge_ids
        self._inducer = Inducer(graph, edge_ids)
        self._node_maps = NodeMapPool(graph.num_nodes)
        self._buffers = BufferPool()

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Takes out the neighborhood of the seeds.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`; duplicates share one row, `MiniBatch.seed_rows` says which.
            seed: Without effect.

        Returns:
            One block for all layers; the distinct seeds come first, then the other nodes by hop.

        Raises:
            ValueError: If a seed is not a node of the graph.
        """
        check_seeds(seed_nodes, self.graph.num_nodes)
        with self._node_maps.lend() as node_map:
            seed_rows = node_map.start(seed_nodes.numpy())
            num_distinct = node_map.count
            first_new = 0
            for _ in range(self.depth):
                num_before = node_map.count
                self._add_in_neighbors(node_map, first_new)
                first_new = num_before
            node_ids = self._empty(node_map.count, torch.int64)
            np.copyto(node_ids.numpy(), node_map.nodes())
        has_duplicates = num_distinct < seed_nodes.numel()
        block = self._inducer.induce(node_ids)
        return MiniBatch(seed_nodes, node_ids, [block], torch.from_numpy(seed_rows) if has_duplicates else None)

    def _add_in_neighbors(self, node_map: NodeMap, first: int) -> None:
        """Enters all in-neighbors of the nodes from number `first` on."""
        indptr = self.graph.indptr.numpy()
        # A copy: entering nodes may move the node map's array.
        frontier = node_map.nodes()[first:].copy()
        offsets = self._empty(frontier.size + 1, torch.int64).numpy()
        spans = np.empty((frontier.size, 2), np.int64)
        count_neighbors(indptr, frontier, -1, False, offsets, spans)
        edges = self._empty(int(offsets[-1]), torch.int64)
        sample_neighbors(frontier, spans, np.uint64(0), -1, False, offsets, edges.numpy())
        numbers = self._empty(edges.numel(), torch.int32)
        node_map.add(self.graph.indices.numpy(), edges.numpy(), numbers.numpy())

    def _empty(self, size: int, dtype: torch.dtype) -> Tensor:
        return self._buffers.empty((size,), dtype)
