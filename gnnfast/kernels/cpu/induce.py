"""The edges of a graph among some of its nodes."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.relabel import find_slot

_AHEAD = 16


@kernel
def count_induced_dense(indptr, indices, nodes, local_of, out_indptr):
    """Counts, for each numbered node, its in-edges from numbered nodes.

    indptr      int64 (num_nodes + 1,)
    indices     int32 or int64 (num_graph_edges,)
    nodes       int64 (num_kept,)           node by number
    local_of    int32 (num_nodes,)          number by node, -1 for none
    out_indptr  int64 (num_kept + 1,)       filled
    """
    out_indptr[0] = 0
    for i in range(nodes.size):
        _ask_for_column(indptr, indices, nodes, i)
        count = 0
        last = indptr[nodes[i] + 1]
        for e in range(indptr[nodes[i]], last):
            if e + _AHEAD < last:
                prefetch(local_of, indices[e + _AHEAD])
            count += local_of[indices[e]] >= 0
        out_indptr[i + 1] = out_indptr[i] + count


@kernel
def fill_induced_dense(indptr, indices, nodes, local_of, out_indptr, out_indices, out_edges):
    """Lists those in-edges in the order of their columns; other arguments as `count_induced_dense`'s.

    out_indices  int32 (out_indptr[-1],)   filled with the sources' numbers
    out_edges    int64 (out_indptr[-1],)   filled with positions in `indices`
    """
    for i in range(nodes.size):
        _ask_for_column(indptr, indices, nodes, i)
        k = out_indptr[i]
        for e in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            local = local_of[indices[e]]
            if local >= 0:
                out_indices[k] = local
                out_edges[k] = e
                k += 1


@kernel
def count_induced_hashed(indptr, indices, nodes, keys, out_indptr):
    """As `count_induced_dense`, with the hash table of `relabel_hashed`."""
    out_indptr[0] = 0
    for i in range(nodes.size):
        count = 0
        for e in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            count += keys[find_slot(keys, np.int64(indices[e]))] >= 0
        out_indptr[i + 1] = out_indptr[i] + count


@kernel
def fill_induced_hashed(indptr, indices, nodes, keys, values, out_indptr, out_indices, out_edges):
    """As `fill_induced_dense`, with the hash table of `relabel_hashed`."""
    for i in range(nodes.size):
        k = out_indptr[i]
        for e in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            slot = find_slot(keys, np.int64(indices[e]))
            if keys[slot] >= 0:
                out_indices[k] = values[slot]
                out_edges[k] = e
                k += 1


@inline
def _ask_for_column(indptr, indices, nodes, i):
    """Has the columns of nodes soon to come loaded."""
    if i + 2 * _AHEAD < nodes.size:
        prefetch(indptr, nodes[i + 2 * _AHEAD])
    if i + 4 < nodes.size:
        prefetch(indices, indptr[nodes[i + 4]])
