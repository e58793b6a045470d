"""The symmetric normalization of GCN."""

from gnnfast.kernels.cpu.compile import kernel, prefetch

_AHEAD = 16


@kernel
def gcn_norm(indptr, indices, edge_weight, inclusion_weight, scale, drop_self_loops, out):
    """out[u -> v] = scale[u] * edge_weight * inclusion_weight * scale[v], and 0 for dropped self-loops.

    indptr            int64 (num_dst + 1,)
    indices           integers (num_edges,)
    edge_weight       floats (num_edges or 0,)    empty: 1 everywhere
    inclusion_weight  floats (num_edges or 0,)    empty: 1 everywhere
    scale             floats (num_src,)           1 / sqrt(degree)
    drop_self_loops   whether an edge from a node to itself counts 0
    out               floats (num_edges,)         filled
    """
    num_edges = indices.size
    for v in range(indptr.size - 1):
        for e in range(indptr[v], indptr[v + 1]):
            if e + _AHEAD < num_edges:
                prefetch(scale, indices[e + _AHEAD])
            u = indices[e]
            weight = scale[u] * scale[v]
            if edge_weight.size > 0:
                weight *= edge_weight[e]
            if inclusion_weight.size > 0:
                weight *= inclusion_weight[e]
            out[e] = 0 if drop_self_loops and u == v else weight
