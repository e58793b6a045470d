"""The edges of a graph among some of its nodes."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.relabel import find_slot

_NODES_AHEAD = 32
_COLUMNS_AHEAD = 8
_LINES_AHEAD = 8  # of a column: longer ones the processor itself reads ahead
_EDGES_PER_LINE = 16


@kernel
def count_in_edges(indptr, nodes):
    """The number of in-edges of some nodes together."""
    count = 0
    for i in range(nodes.size):
        if i + _NODES_AHEAD < nodes.size:
            prefetch(indptr, nodes[i + _NODES_AHEAD])
        count += indptr[nodes[i] + 1] - indptr[nodes[i]]
    return count


@kernel
def induce_dense(indptr, indices, nodes, local_of, out_indptr, out_indices, out_edges):
    """Lists, for each numbered node, its in-edges from numbered nodes, in the order of its column.

    One pass without a branch: every in-edge is written, and the next one over it if it leads out.

    indptr       int64 (num_nodes + 1,)
    indices      int32 or int64 (num_graph_edges,)
    nodes        int64 (num_kept,)           node by number
    local_of     int32 (num_nodes,)          number by node, -1 for none
    out_indptr   int64 (num_kept + 1,)       filled
    out_indices  int32 (num_in_edges + 1,)   its first out_indptr[-1] places filled with the sources' numbers
    out_edges    int64 (num_in_edges + 1,)   the same with positions in `indices`
    """
    k = 0
    out_indptr[0] = 0
    for i in range(nodes.size):
        ask_for_columns(indptr, indices, nodes, i)
        for e in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            local = local_of[indices[e]]
            out_indices[k] = local
            out_edges[k] = e
            k += local >= 0
        out_indptr[i + 1] = k


@kernel
def induce_hashed(indptr, indices, nodes, keys, values, out_indptr, out_indices, out_edges):
    """As `induce_dense`, with the hash table of `relabel_hashed`."""
    k = 0
    out_indptr[0] = 0
    for i in range(nodes.size):
        ask_for_columns(indptr, indices, nodes, i)
        for e in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            slot = find_slot(keys, np.int64(indices[e]))
            out_indices[k] = values[slot]
            out_edges[k] = e
            k += keys[slot] >= 0
        out_indptr[i + 1] = k


@inline
def ask_for_columns(indptr, indices, nodes, i):
    """Has the columns loaded that are read some nodes after the i-th."""
    if i + _NODES_AHEAD < nodes.size:
        prefetch(indptr, nodes[i + _NODES_AHEAD])
    if i + _COLUMNS_AHEAD < nodes.size:
        node = nodes[i + _COLUMNS_AHEAD]
        first = indptr[node]
        for edge in range(first, min(indptr[node + 1], first + _LINES_AHEAD * _EDGES_PER_LINE), _EDGES_PER_LINE):
            prefetch(indices, edge)
