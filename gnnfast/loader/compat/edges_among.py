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
        self._free: deque[_Scratch] = deque()
        self._inducer = Inducer(graph, edge_ids=True) if graph.num_nodes > DENSE_LIMIT else None

    def __reduce__(self) -> tuple[type[EdgesAmong], tuple[CSCGraph]]:
        """A copy begins without scratch memory."""
        return type(self), (self.graph,)

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
        # pop and append are atomic. After an error the scratch is dropped: some marks may be set.
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = _Scratch(self.graph.num_nodes)
        marks = chosen, scratch.is_chosen, scratch.local_of
        count = kernels.find_edges_among(indptr, indices, *marks, scratch.edges, scratch.dst)
        if count < 0:
            scratch.make_room(-count)
            count = kernels.find_edges_among(indptr, indices, *marks, scratch.edges, scratch.dst)
        edge_index = self._buffers.empty((2, count), torch.int64)
        edge_ids = self._buffers.empty((count,), torch.int64)
        src, dst = edge_index.numpy()
        kernels.list_edges_among(
            indices, self._edge_ids, *marks, scratch.edges, scratch.dst, src, dst, edge_ids.numpy()
        )
        self._free.append(scratch)
        return edge_index, edge_ids


class _Scratch:
    """What one thread needs besides the result; of `edges` and `dst` only what is found is ever touched."""

    def __init__(self, num_nodes: int):
        self.is_chosen = np.zeros(num_nodes // 8 + 1, np.uint8)
        self.local_of = np.empty(num_nodes, np.int32)
        self.make_room(0)

    def make_room(self, num_edges: int) -> None:
        self.edges, self.dst = np.empty(num_edges, np.int64), np.empty(num_edges, np.int32)
