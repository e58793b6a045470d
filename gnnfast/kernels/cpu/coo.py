"""Columns as lists of edges, the form that PyG takes."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch

_AHEAD = 16


@kernel
def list_edges(indptr, sources, edges, edge_ids, first_dst, out_src, out_dst, out_ids):
    """Writes columns as pairs of local ids, with the caller's number of each edge.

    indptr    int64 (num_dst + 1,)
    sources   integers (num_edges,)                local ids
    edges     int64 (num_edges,)                   positions in `edge_ids`
    edge_ids  int64 (num_graph_edges,) or (0,)     empty: positions are the numbers
    first_dst local id of the first column
    out_src   int64 (num_edges,)                   filled
    out_dst   int64 (num_edges,)                   filled
    out_ids   int64 (num_edges,)                   filled
    """
    for i in range(indptr.size - 1):
        for e in range(indptr[i], indptr[i + 1]):
            out_src[e] = sources[e]
            out_dst[e] = first_dst + i
    if edge_ids.size == 0:
        out_ids[:] = edges
    else:
        for e in range(edges.size):
            if e + _AHEAD < edges.size:
                prefetch(edge_ids, edges[e + _AHEAD])
            out_ids[e] = edge_ids[edges[e]]


@kernel
def count_edges_among(indptr, indices, nodes, is_chosen, local_of):
    """Counts the edges among some nodes, and marks them for `list_edges_among`.

    One bit per node, which fits into the smallest cache where a number would not, answers for most edges.

    indptr     int64 (num_nodes + 1,)
    indices    integers (num_graph_edges,)
    nodes      int64 (num_chosen,)                distinct
    is_chosen  uint8 (num_nodes // 8 + 1,)        all 0; bits of `nodes` are set
    local_of   int32 (num_nodes,)                 positions in `nodes` are filled in for them
    """
    for i in range(nodes.size):
        node = nodes[i]
        is_chosen[node >> 3] |= np.uint8(1 << (node & 7))
        local_of[node] = i
    count = 0
    for i in range(nodes.size):
        _ask_for_column(indptr, indices, nodes, i)
        for e in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            count += (is_chosen[indices[e] >> 3] >> (indices[e] & 7)) & 1
    return count


@kernel
def list_edges_among(indptr, indices, edge_ids, nodes, is_chosen, local_of, out_src, out_dst, out_ids):
    """Writes those edges, column by column, and takes the marks back.

    edge_ids  int64 (num_graph_edges,) or (0,)    empty: positions in `indices` are the numbers
    out_src   int64 (count,)                      filled: local ids
    out_dst   int64 (count,)                      filled: local ids
    out_ids   int64 (count,)                      filled
    The others are those of `count_edges_among`.
    """
    k = 0
    for i in range(nodes.size):
        _ask_for_column(indptr, indices, nodes, i)
        for e in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            source = indices[e]
            if (is_chosen[source >> 3] >> (source & 7)) & 1:
                out_src[k] = local_of[source]
                out_dst[k] = i
                out_ids[k] = e if edge_ids.size == 0 else edge_ids[e]
                k += 1
    for i in range(nodes.size):
        is_chosen[nodes[i] >> 3] = 0


@inline
def _ask_for_column(indptr, indices, nodes, i):
    """Has the columns of nodes soon to come loaded."""
    if i + 2 * _AHEAD < nodes.size:
        prefetch(indptr, nodes[i + 2 * _AHEAD])
    if i + 4 < nodes.size:
        prefetch(indices, indptr[nodes[i + 4]])
