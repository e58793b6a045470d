"""Keeping in-neighbors by one random number per node, shared by all destinations: layer-neighbor sampling.

A candidate is an in-neighbor of a destination, known by its number among all of them.
"""

import math

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.random import node_key, random_unit

_AHEAD = 16
_CLOSE = 1e-9  # how near, relatively, a scale comes to solving its equation


@kernel
def expected_draws(indptr, dst_nodes, fanout):
    """Sum of min(fanout, in-degree) over the destinations, and their largest in-degree; fanout -1 means all."""
    total, largest = 0, 0
    for i in range(dst_nodes.size):
        if i + _AHEAD < dst_nodes.size:
            prefetch(indptr, dst_nodes[i + _AHEAD])
        degree = indptr[dst_nodes[i] + 1] - indptr[dst_nodes[i]]
        total += degree if fanout < 0 else min(fanout, degree)
        largest = max(largest, degree)
    return total, largest


@kernel
def keep_evenly(indptr, indices, dst_nodes, layer_key, fanout, first, out_indptr, out_edges, out_weight):
    """Destination s keeps the in-neighbors whose number is at most p_s = min(1, fanout / in-degree): LABOR-0.

    The number of node u is draw u of the stream `layer_key`. Stops before a destination that might not fit into what
    is left of `out_edges`: the caller makes room and goes on.

    indptr      int64 (num_nodes + 1,)
    indices     int32 or int64 (num_graph_edges,)
    dst_nodes   int64 (num_dst,)
    layer_key   uint64
    fanout      number kept on average; -1 means all in-edges
    first       the destination to go on with; `out_indptr[: first + 1]` stands already, unless it is 0
    out_indptr  int64 (num_dst + 1,)    filled
    out_edges   int64 (room,)           filled with positions in `indices`, ascending for each destination
    out_weight  float32 (room,)         filled with 1 / p_s

    Returns the number of destinations that are done.
    """
    if first == 0:
        out_indptr[0] = 0
    for i in range(first, dst_nodes.size):
        if i + _AHEAD < dst_nodes.size:
            prefetch(indptr, dst_nodes[i + _AHEAD])
        if i + _AHEAD // 2 < dst_nodes.size:
            prefetch(indices, indptr[dst_nodes[i + _AHEAD // 2]])
        node = dst_nodes[i]
        first_edge, last_edge = indptr[node], indptr[node + 1]
        degree = last_edge - first_edge
        start = out_indptr[i]
        if start + degree > out_edges.size:
            return i
        end = start
        if fanout < 0 or degree <= fanout:
            weight = 1.0
            for edge in range(first_edge, last_edge):
                out_edges[end] = edge
                end += 1
        else:
            probability = fanout / degree
            weight = degree / fanout
            for edge in range(first_edge, last_edge):
                # Written always, kept by moving on: cheaper than a branch that nobody can guess.
                out_edges[end] = edge
                end += random_unit(layer_key, indices[edge]) <= probability
        for e in range(start, end):
            out_weight[e] = weight
        out_indptr[i + 1] = end
    return dst_nodes.size


@kernel
def draw_units(layer_key, nodes, out):
    """out[u] = the number of nodes[u], draw nodes[u] of the stream `layer_key`; float64 (num_candidates,)."""
    for u in range(nodes.size):
        out[u] = random_unit(layer_key, nodes[u])


@kernel
def draw_turned_units(first_key, second_key, angle, nodes, out):
    """Uniform numbers that turn from those of one key, at angle 0, to those of another, at pi / 2.

    Phi(cos(angle) n_1 + sin(angle) n_2), with standard normal n_1 and n_2 of a node by the method of Box and Muller.

    first_key, second_key  uint64
    nodes                  int64 (num_candidates,)
    out                    float64 (num_candidates,)   filled
    """
    cosine, sine = math.cos(angle), math.sin(angle)
    for u in range(nodes.size):
        normal = cosine * _normal(first_key, nodes[u]) + sine * _normal(second_key, nodes[u])
        out[u] = 0.5 * math.erfc(-normal / math.sqrt(2.0))


@inline
def _normal(layer_key, node):
    key = node_key(layer_key, node)
    radius = math.sqrt(-2.0 * math.log(random_unit(key, 0)))
    return radius * math.cos(2.0 * math.pi * random_unit(key, 1))


@kernel
def even_scales(indptr, fanout, out_scale):
    """out_scale[s] = fanout / in-degree: what importance 1 is multiplied with; float64 (num_dst,)."""
    for i in range(out_scale.size):
        degree = indptr[i + 1] - indptr[i]
        out_scale[i] = 1.0 if fanout < 0 or degree == 0 else fanout / degree


@kernel
def solve_scales(indptr, candidates, importance, fanout, out_scale):
    """c_s of each destination, such that p_us = min(1, c_s pi_u) has the variance of `fanout` uniform draws.

    Solves sum over u of 1 / min(1, c_s pi_u) = in-degree**2 / fanout. With t = 1 / c_s the left side is the sum of
    max(1, t / pi_u): rising, convex and made of straight pieces, so that Newton's method, from the right, ends after
    finitely many steps. Destinations with no more than `fanout` in-edges keep all: c_s = 1 / min pi_u.

    indptr      int64 (num_dst + 1,)
    candidates  int32 (num_edges,)           source of each in-edge
    importance  float64 (num_candidates,)    pi, positive
    out_scale   float64 (num_dst,)           filled
    """
    for i in range(out_scale.size):
        first, last = indptr[i], indptr[i + 1]
        degree = last - first
        if fanout < 0 or degree <= fanout:
            smallest = 1.0 if degree == 0 else np.inf
            for e in range(first, last):
                smallest = min(smallest, importance[candidates[e]])
            out_scale[i] = 1.0 / smallest
            continue
        wanted = degree * degree / fanout
        t = np.inf
        while True:
            num_certain, slope = 0, 0.0
            for e in range(first, last):
                pi = importance[candidates[e]]
                if pi >= t:
                    num_certain += 1
                else:
                    slope += 1.0 / pi
            if num_certain + t * slope <= wanted * (1 + _CLOSE):
                break
            t = (wanted - num_certain) / slope
        out_scale[i] = 1.0 / t


@kernel
def raise_importance(indptr, candidates, scale, importance, largest):
    """pi_u <- pi_u * max of c_s over the destinations s of u: brings sources down to as few as possible.

    indptr      int64 (num_dst + 1,)
    candidates  int32 (num_edges,)
    scale       float64 (num_dst,)           c
    importance  float64 (num_candidates,)    pi, updated
    largest     float64 (num_candidates,)    overwritten

    Returns the expected number of distinct sources before: the sum of min(1, pi_u max c_s).
    """
    largest[:] = 0.0
    for i in range(scale.size):
        for e in range(indptr[i], indptr[i + 1]):
            u = candidates[e]
            largest[u] = max(largest[u], scale[i])
    expected = 0.0
    for u in range(importance.size):
        importance[u] *= largest[u]
        expected += min(1.0, importance[u])
    return expected


@kernel
def probabilities(indptr, candidates, importance, scale, fanout, out):
    """out[e] = min(1, c_s pi_u) of in-edge e, u -> s; 1 where s has no more than `fanout`; float64 (num_edges,)."""
    for i in range(scale.size):
        first, last = indptr[i], indptr[i + 1]
        keeps_all = fanout < 0 or last - first <= fanout
        for e in range(first, last):
            out[e] = 1.0 if keeps_all else min(1.0, scale[i] * importance[candidates[e]])


@kernel
def keep_likely(indptr, edges, candidates, units, probability, out_indptr, out_edges, out_weight):
    """Keeps the in-edges u -> s where u's number is at most p_us.

    indptr       int64 (num_dst + 1,)
    edges        int64 (num_edges,)            positions in the graph's `indices`
    candidates   int32 (num_edges,)
    units        float64 (num_candidates,)
    probability  float64 (num_edges,)
    out_indptr   int64 (num_dst + 1,)          filled
    out_edges    int64 (num_edges,)            its beginning filled
    out_weight   float32 (num_edges,)          its beginning filled with 1 / p_us
    """
    end = 0
    out_indptr[0] = 0
    for i in range(indptr.size - 1):
        for e in range(indptr[i], indptr[i + 1]):
            out_edges[end] = edges[e]
            out_weight[end] = 1.0 / probability[e]
            end += units[candidates[e]] <= probability[e]
        out_indptr[i + 1] = end
