"""Drawn columns as lists of edges."""

from gnnfast.kernels.cpu.compile import kernel, prefetch

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
