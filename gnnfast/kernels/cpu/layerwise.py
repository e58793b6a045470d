"""Drawing the sources of a whole layer at once: how much each matters, and what its edges weigh.

In-edges are walked destination by destination, each column in the graph's order; `sources` numbers their sources in
that order. A self-loop is exact and plays no part in the draws.
"""

import math

import numpy as np

from gnnfast.kernels.cpu.compile import kernel, prefetch
from gnnfast.kernels.cpu.random import random_unit

_AHEAD = 8
_CLOSE = 1e-12  # how near, relatively, the probabilities' sum comes to what is asked for


@kernel
def sum_squares(indptr, indices, dst_nodes, sources, edge_weight, inverse, out):
    """out[s] = sum of edge_weight**2 * inverse[v] over the edges from source s to destinations v.

    indptr       int64 (num_nodes + 1,)
    indices      int32 or int64 (num_graph_edges,)
    dst_nodes    int64 (num_dst,)
    sources      int32 or int64 (num_edges,)           number of each in-edge's source
    edge_weight  floating (num_graph_edges,) or (0,)   nothing means 1
    inverse      float64 (num_nodes,)
    out          float64 (num_sources,)                filled
    """
    out[:] = 0.0
    weighted = edge_weight.size > 0
    k = 0
    for i in range(dst_nodes.size):
        if i + _AHEAD < dst_nodes.size:
            prefetch(indices, indptr[dst_nodes[i + _AHEAD]])
        node = dst_nodes[i]
        factor = inverse[node]
        for edge in range(indptr[node], indptr[node + 1]):
            if indices[edge] != node:
                a = edge_weight[edge] if weighted else 1.0
                out[sources[k]] += a * a * factor
            k += 1


@kernel
def poisson_probabilities(importance, expected, out):
    """out[s] = min(1, c importance[s]) with a c for which they add up to `expected`, or to all that can be drawn.

    The sum rises with c, in straight pieces that flatten: Newton's method, from the left, ends after finitely many
    steps.

    importance  float64 (num_sources,)   at least 0
    out         float64 (num_sources,)   filled
    """
    total, num_positive = 0.0, 0
    for s in range(importance.size):
        total += importance[s]
        num_positive += importance[s] > 0
    if num_positive <= expected:
        for s in range(importance.size):
            out[s] = 1.0 if importance[s] > 0 else 0.0
        return
    c = expected / total
    while True:
        num_certain, rest = 0, 0.0
        for s in range(importance.size):
            if c * importance[s] >= 1.0:
                num_certain += 1
            else:
                rest += importance[s]
        if num_certain + c * rest >= expected * (1 - _CLOSE):
            break
        c = (expected - num_certain) / rest
    for s in range(importance.size):
        out[s] = min(1.0, c * importance[s])


@kernel
def race_times(layer_key, nodes, importance, out):
    """out[s] = when source s arrives: exponential with rate importance[s], so that the first are a weighted draw.

    Efraimidis and Spirakis, Weighted Random Sampling with a Reservoir, 2006. The time of node u is keyed by draw u of
    the stream `layer_key`.

    nodes       int64 (num_sources,)
    importance  float64 (num_sources,)   0: never
    out         float64 (num_sources,)   filled
    """
    for s in range(nodes.size):
        if importance[s] > 0:
            out[s] = -math.log(random_unit(layer_key, nodes[s])) / importance[s]
        else:
            out[s] = np.inf


@kernel
def keep_drawn(
    indptr,
    indices,
    dst_nodes,
    sources,
    edge_weight,
    source_weight,
    source_scale,
    self_normalize,
    out_indptr,
    out_edges,
    out_weight,
):
    """Keeps the in-edges whose source was drawn, and self-loops, which weigh 1.

    indptr          int64 (num_nodes + 1,)
    indices         int32 or int64 (num_graph_edges,)
    dst_nodes       int64 (num_dst,)
    sources         int32 (num_edges,)                    number of each in-edge's source
    edge_weight     floating (num_graph_edges,) or (0,)   nothing means 1
    source_weight   float64 (num_sources,)                inclusion weight, 0 for a source that was not drawn
    source_scale    float64 (num_sources,)                what messages of a source are multiplied with
    self_normalize  whether each destination's weights are rescaled, such that the sum of |edge_weight * source_scale| *
                    weight over its kept in-edges is the sum of |edge_weight * source_scale| over all of them; of the
                    sizes, since sums of both signs may be next to nothing
    out_indptr      int64 (num_dst + 1,)                  filled
    out_edges       int64 (num_edges,)                    its beginning filled with positions in `indices`
    out_weight      float32 (num_edges,)                  its beginning filled

    Returns the number of destinations that have in-edges from others and keep none of them.
    """
    weighted = edge_weight.size > 0
    num_silent = 0
    out_indptr[0] = 0
    k, end = 0, 0
    for i in range(dst_nodes.size):
        if i + _AHEAD < dst_nodes.size:
            prefetch(indices, indptr[dst_nodes[i + _AHEAD]])
        node = dst_nodes[i]
        start = end
        num_others, num_kept = 0, 0
        full, kept = 0.0, 0.0
        for edge in range(indptr[node], indptr[node + 1]):
            s = sources[k]
            k += 1
            if indices[edge] == node:
                out_edges[end] = edge
                out_weight[end] = 1.0
                end += 1
                continue
            num_others += 1
            message = abs((edge_weight[edge] if weighted else 1.0) * source_scale[s])
            full += message
            if source_weight[s] > 0:
                num_kept += 1
                kept += message * source_weight[s]
                out_edges[end] = edge
                out_weight[end] = source_weight[s]
                end += 1
        if num_others > 0 and num_kept == 0:
            num_silent += 1
        if self_normalize and kept != 0:
            ratio = full / kept
            for e in range(start, end):
                if indices[out_edges[e]] != node:
                    out_weight[e] = out_weight[e] * ratio
        out_indptr[i + 1] = end
    return num_silent
