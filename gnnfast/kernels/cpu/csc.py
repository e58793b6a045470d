"""Building, turning round and summing CSC columns."""

import numpy as np

from gnnfast.kernels.cpu.compile import kernel, prefetch


@kernel
def edges_to_csc(src, dst, indptr, indices, edge_positions):
    """Sorts edges by destination; edges of one column keep their order (a counting sort).

    src, dst        integers (num_edges,)
    indptr          int64 (num_nodes + 1,)          filled
    indices         integers (num_edges,)           filled with sources
    edge_positions  int64 (num_edges,) or (0,)      filled with each edge's position in src, unless empty
    """
    indptr[:] = 0
    for e in range(dst.size):
        indptr[dst[e] + 1] += 1
    for v in range(indptr.size - 1):
        indptr[v + 1] += indptr[v]
    next_slot = indptr[:-1].copy()
    for e in range(dst.size):
        slot = next_slot[dst[e]]
        next_slot[dst[e]] = slot + 1
        indices[slot] = src[e]
        if edge_positions.size > 0:
            edge_positions[slot] = e


@kernel
def transpose_csc(indptr, indices, out_indptr, out_indices, out_edges):
    """Turns columns of in-edges into columns of out-edges, each in ascending order of destination.

    indptr       int64 (num_dst + 1,)
    indices      integers (num_edges,)          sources, below num_src
    out_indptr   int64 (num_src + 1,)           filled
    out_indices  integers (num_edges,)          filled with destinations
    out_edges    integers (num_edges,) or (0,)  filled with positions in `indices`, unless empty
    """
    num_dst = indptr.size - 1
    num_edges = indptr[num_dst]
    out_indptr[:] = 0
    for e in range(num_edges):
        out_indptr[indices[e] + 1] += 1
    for u in range(out_indptr.size - 1):
        out_indptr[u + 1] += out_indptr[u]
    next_slot = out_indptr[:-1].copy()
    for v in range(num_dst):
        for e in range(indptr[v], indptr[v + 1]):
            if e + 16 < num_edges:
                prefetch(next_slot, indices[e + 16])
            slot = next_slot[indices[e]]
            next_slot[indices[e]] = slot + 1
            out_indices[slot] = v
            if out_edges.size > 0:
                out_edges[slot] = e


@kernel
def mirror_edges(indptr, indices, out_indptr, out_indices):
    """Adds to every edge its reverse; parallel edges stay.

    indptr       int64 (num_nodes + 1,)
    indices      integers (num_edges,)
    out_indptr   int64 (num_nodes + 1,)      filled
    out_indices  integers (2 * num_edges,)   filled; a column's own edges come mixed with the reversed ones
    """
    num_nodes = indptr.size - 1
    num_edges = indptr[num_nodes]
    out_indptr[0] = 0
    for v in range(num_nodes):
        out_indptr[v + 1] = indptr[v + 1] - indptr[v]
    for e in range(num_edges):
        out_indptr[indices[e] + 1] += 1
    for v in range(num_nodes):
        out_indptr[v + 1] += out_indptr[v]
    next_slot = out_indptr[:-1].copy()
    for v in range(num_nodes):
        for e in range(indptr[v], indptr[v + 1]):
            if e + 16 < num_edges:
                prefetch(next_slot, indices[e + 16])
            u = indices[e]
            out_indices[next_slot[v]] = u
            next_slot[v] += 1
            out_indices[next_slot[u]] = v
            next_slot[u] += 1


@kernel
def sort_columns(indptr, indices):
    """Puts each column's sources in ascending order, in place."""
    for v in range(indptr.size - 1):
        indices[indptr[v] : indptr[v + 1]].sort()


@kernel
def merge_parallel_edges(indptr, indices, weights, out_indptr):
    """Keeps one edge of each run of equal sources in sorted columns, in place, with the mean of the run's weights.

    indptr      int64 (num_nodes + 1,)
    indices     integers (num_edges,)               ascending in each column; the first out_indptr[-1] are kept
    weights     floats (num_edges,) or (0,)         likewise, unless empty
    out_indptr  int64 (num_nodes + 1,)              filled
    """
    kept = 0
    out_indptr[0] = 0
    for v in range(indptr.size - 1):
        e = indptr[v]
        while e < indptr[v + 1]:
            source = indices[e]
            run = 0
            total = 0.0
            while e < indptr[v + 1] and indices[e] == source:
                if weights.size > 0:
                    total += weights[e]
                run += 1
                e += 1
            indices[kept] = source
            if weights.size > 0:
                weights[kept] = total / run
            kept += 1
        out_indptr[v + 1] = kept


@kernel
def sum_columns(indptr, indices, weights, out_degree, out_self_loop):
    """Weighted in-degrees without self-loops, and the weight of each node's last self-loop.

    indptr         int64 (num_nodes + 1,)
    indices        integers (num_edges,)
    weights        floats (num_edges,) or (0,)   empty: every edge weighs 1
    out_degree     floats (num_nodes,)           filled
    out_self_loop  floats (num_nodes,)           filled; 1 for a node without a self-loop

    Returns the number of self-loops.
    """
    num_loops = 0
    for v in range(indptr.size - 1):
        total = 0.0
        loop = 1.0
        for e in range(indptr[v], indptr[v + 1]):
            weight = np.float64(weights[e]) if weights.size > 0 else 1.0
            if indices[e] == v:
                loop = weight
                num_loops += 1
            else:
                total += weight
        out_degree[v] = total
        out_self_loop[v] = loop
    return num_loops
