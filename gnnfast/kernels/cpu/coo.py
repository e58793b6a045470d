"""Columns as lists of edges, the form that PyG takes."""

import numpy as np

from gnnfast.kernels.cpu.compile import kernel, prefetch
from gnnfast.kernels.cpu.induce import ask_for_columns

_AHEAD = 16
_ONE, _THREE, _SEVEN = np.uint64(1), np.uint64(3), np.uint64(7)


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
def find_edges_among(indptr, indices, nodes, is_chosen, local_of, out_edges, out_dst):
    """Finds the edges among some nodes, column by column, and marks the nodes for `list_edges_among`.

    One bit per node, which fits into the smallest cache where a number would not, answers for every edge. Every edge is
    written and the next one over it, unless it was found: nothing to mispredict.

    indptr     int64 (num_nodes + 1,)
    indices    integers (num_graph_edges,)
    nodes      int64 (num_chosen,)                distinct
    is_chosen  uint8 (num_nodes // 8 + 1,)        all 0, or left so by a call without room; bits of `nodes` are set
    local_of   int32 (num_nodes,)                 positions in `nodes` are filled in for them
    out_edges  int64 (room,)                      filled with positions in `indices`
    out_dst    int32 (room,)                      filled with local ids

    Returns the number of edges found, or -room where that is too little.
    """
    room = 1
    for i in range(nodes.size):
        if i + _AHEAD < nodes.size:
            prefetch(indptr, nodes[i + _AHEAD])
            prefetch(local_of, nodes[i + _AHEAD])
        node = nodes[i]
        is_chosen[node >> 3] |= np.uint8(1 << (node & 7))
        local_of[node] = i
        room += indptr[node + 1] - indptr[node]
    if room > out_edges.size:
        return -room
    count = np.uint64(0)
    for i in range(nodes.size):
        ask_for_columns(indptr, indices, nodes, i)
        for e in range(np.uint64(indptr[nodes[i]]), np.uint64(indptr[nodes[i] + 1])):
            # Unsigned: no position is asked whether it counts from the end.
            source = np.uint64(indices[e])
            out_edges[count] = e
            out_dst[count] = i
            count += (np.uint64(is_chosen[source >> _THREE]) >> (source & _SEVEN)) & _ONE
    return np.int64(count)


@kernel
def list_edges_among(indices, edge_ids, nodes, is_chosen, local_of, edges, dst, out_src, out_dst, out_ids):
    """Writes the edges found as pairs of local ids, with the caller's number of each, and takes the marks back.

    edge_ids    int64 (num_graph_edges,) or (0,)    empty: positions in `indices` are the numbers
    edges, dst  as `find_edges_among` left them
    out_src     int64 (num_edges,)                  filled
    out_dst     int64 (num_edges,)                  filled
    out_ids     int64 (num_edges,)                  filled
    The others are those of `find_edges_among`.
    """
    for k in range(out_src.size):
        edge = np.uint64(edges[k])
        out_src[k] = local_of[np.uint64(indices[edge])]
        out_dst[k] = dst[k]
        out_ids[k] = edges[k] if edge_ids.size == 0 else edge_ids[edge]
    for i in range(nodes.size):
        is_chosen[nodes[i] >> 3] = 0
