"""The edges among chosen nodes, in PyG's form."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import coo as kernels
from gnnfast.runtime.buffers import BufferPool
from gnnfast.sampler.node_map import DENSE_LIMIT
from gnnfast.sampler.subgraph.induce import Inducer


class EdgesAmong:
    """Takes the edges among some nodes out of a graph: what `Inducer` does, without what only blocks need.

    Safe to use from several threads; each holds 4 1/8 bytes per node of the graph.
    """

    def __init__(self, graph: CSCGraph):
        self.graph = graph
        self._edge_ids = np.empty(0, np.int64) if graph.edge_ids is None else graph.edge_ids.numpy()
        self._buffers = BufferPool()
        # (marks, numbers) that no thread uses at the moment.
        self._free: deque[tuple[np.ndarray, np.ndarray]] = deque()
        self._inducer = Inducer(graph, edge_ids=True) if graph.num_nodes > DENSE_LIMIT else None

    def take(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The edges, sorted by destination, and their ids: int64 `(2, num_edges)` and `(num_edges,)`.

        Args:
            nodes: Global ids, int64, distinct; their positions are the local ids.
        """
        if self._inducer is not None:
            block = self._inducer.induce(nodes)
            assert block.edge_ids is not None
            return block.edge_index, block.edge_ids
        indptr, indices, chosen = self.graph.indptr.numpy(), self.graph.indices.numpy(), nodes.numpy()
        # pop and append are atomic. After an error the marks are dropped: some may be set.
        try:
            marks, numbers = self._free.pop()
        except IndexError:
            num_nodes = self.graph.num_nodes
            marks, numbers = np.zeros(num_nodes // 8 + 1, np.uint8), np.empty(num_nodes, np.int32)
        num_edges = kernels.count_edges_among(indptr, indices, chosen, marks, numbers)
        edge_index = self._buffers.empty((2, num_edges), torch.int64)
        edge_ids = self._buffers.empty((num_edges,), torch.int64)
        src, dst = edge_index.numpy()
        kernels.list_edges_among(indptr, indices, self._edge_ids, chosen, marks, numbers, src, dst, edge_ids.numpy())
        self._free.append((marks, numbers))
        return edge_index, edge_ids
