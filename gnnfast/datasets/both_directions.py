"""Columns with each edge once, and with its reverse, at the memory of the result and of what it comes from."""

from __future__ import annotations

import numpy as np
import torch

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu.csc import merge_parallel_edges
from gnnfast.kernels.cpu.generate import mirror_edges, sort_columns


def merged_graph(indptr: np.ndarray, indices: np.ndarray) -> CSCGraph:
    """The graph of these columns, sorted in place, parallel edges being one."""
    sort_columns(indptr, indices)
    merged = np.empty_like(indptr)
    merge_parallel_edges(indptr, indices, np.empty(0, np.float32), merged)
    # Cut, not copied: what the few merged edges took stays allocated.
    return CSCGraph(torch.from_numpy(merged), torch.from_numpy(indices)[: merged[-1]], validate=False)


def undirected_graph(indptr: np.ndarray, indices: np.ndarray) -> CSCGraph:
    """Each edge in both directions, once; unlike `CSCGraph.to_undirected`, for billions of edges, and no weights."""
    both_indptr, both_indices = np.empty_like(indptr), np.empty(2 * indices.size, indices.dtype)
    mirror_edges(indptr, indices, both_indptr, both_indices)
    return merged_graph(both_indptr, both_indices)
