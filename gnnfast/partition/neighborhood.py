"""What partitioners see of a graph: who is linked to whom, how often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import csc
from gnnfast.kernels.cpu.partition import join_parallel_edges


@dataclass(frozen=True)
class Neighborhood:
    """A graph without directions, self-loops and parallel edges.

    Args:
        indptr: int64, `(num_nodes + 1,)`.
        indices: int32 or int64, ascending in each column; every edge stands in the columns of both ends.
        counts: Edges that each stands for, both directions together, int64, like `indices`.
    """

    indptr: np.ndarray
    indices: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, graph: CSCGraph) -> Neighborhood:
        """That of a graph as it is."""
        mirrored = np.empty(graph.num_nodes + 1, np.int64)
        indices = np.empty(2 * graph.num_edges, graph.indices.numpy().dtype)
        csc.mirror_edges(graph.indptr.numpy(), graph.indices.numpy(), mirrored, indices)
        csc.sort_columns(mirrored, indices)
        indptr, counts = np.empty_like(mirrored), np.empty(indices.size, np.int64)
        join_parallel_edges(mirrored, indices, indptr, counts)
        return cls(indptr, indices[: indptr[-1]], counts[: indptr[-1]])

    @property
    def num_nodes(self) -> int:
        return self.indptr.size - 1
