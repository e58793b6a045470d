"""Drawing GraphSAINT's subgraphs, and the weights that make up for what they leave out."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.random import random_below

_AHEAD = 16
_TOGETHER = 32  # draws made at the same time, so that their reads from memory overlap


@kernel
def draw_nodes(num_nodes, key, out):
    """Fills `out`, int64 (num_draws,), with uniform nodes, drawn with replacement, by `key`, uint64."""
    for draw in range(out.size):
        out[draw] = random_below(key, draw, num_nodes)


@kernel
def draw_edge_ends(indptr, indices, key, out):
    """Draws a uniform node and a uniform in-edge of it, again and again; a node without in-edges comes alone, twice.

    In an undirected graph that draws the edge between u and v with probability proportional to 1 / d_u + 1 / d_v.

    indptr   int64 (num_nodes + 1,)
    indices  int32 or int64 (num_edges,)
    key      uint64
    out      int64 (num_draws, 2)          filled with the node and the edge's source
    """
    num_nodes = indptr.size - 1
    edges = np.empty(_TOGETHER, dtype=np.int64)
    for first in range(0, out.shape[0], _TOGETHER):
        last = min(first + _TOGETHER, out.shape[0])
        for draw in range(first, last):
            out[draw, 0] = random_below(key, 2 * draw, num_nodes)
            prefetch(indptr, out[draw, 0])
        for draw in range(first, last):
            node = out[draw, 0]
            degree = indptr[node + 1] - indptr[node]
            edges[draw - first] = -1
            if degree > 0:
                edges[draw - first] = indptr[node] + random_below(key, 2 * draw + 1, degree)
                prefetch(indices, edges[draw - first])
        for draw in range(first, last):
            edge = edges[draw - first]
            out[draw, 1] = np.int64(indices[edge]) if edge >= 0 else out[draw, 0]


@kernel
def frontier_walk(indptr, indices, frontier, key, out):
    """Walks of which one takes a step at a time, chosen with probability proportional to the in-degree of its node.

    Ribeiro and Towsley, Estimating and Sampling Graphs with Multidimensional Random Walks, 2010,
    https://arxiv.org/abs/1002.1751 (algorithm 1). In-degrees stand at the leaves of a tree of sums, so a step costs the
    logarithm of the frontier's size.

    indptr    int64 (num_nodes + 1,)
    indices   int32 or int64 (num_edges,)
    frontier  int64 (num_walks,)      where walks begin; updated
    key       uint64
    out       int64 (num_steps,)      filled with the nodes that steps lead to

    Returns the number of steps taken: less than asked for only where no walk can go on.
    """
    num_leaves = 1
    while num_leaves < frontier.size:
        num_leaves *= 2
    sums = np.zeros(2 * num_leaves, dtype=np.int64)
    for walk in range(frontier.size):
        if walk + _AHEAD < frontier.size:
            prefetch(indptr, frontier[walk + _AHEAD])
        sums[num_leaves + walk] = indptr[frontier[walk] + 1] - indptr[frontier[walk]]
    for place in range(num_leaves - 1, 0, -1):
        sums[place] = sums[2 * place] + sums[2 * place + 1]
    for step in range(out.size):
        if sums[1] == 0:
            return step
        # A uniform one of all in-edges of the frontier: both the walk and the edge that it takes.
        edge = random_below(key, step, sums[1])
        place = 1
        while place < num_leaves:
            place *= 2
            if edge >= sums[place]:
                edge -= sums[place]
                place += 1
        walk = place - num_leaves
        node = np.int64(indices[indptr[frontier[walk]] + edge])
        change = indptr[node + 1] - indptr[node] - sums[place]
        frontier[walk] = node
        out[step] = node
        while place > 0:
            sums[place] += change
            place //= 2
    return out.size


@kernel
def count_inclusions(nodes, edges, node_count, edge_count):
    """Adds a subgraph to the counts.

    nodes       int64 (num_sampled,)         distinct
    edges       int64 (num_sampled_edges,)   positions in the graph's `indices`, distinct
    node_count  int32 (num_nodes,)           updated
    edge_count  int32 (num_edges,)           updated
    """
    for i in range(nodes.size):
        node_count[nodes[i]] += 1
    for e in range(edges.size):
        if e + _AHEAD < edges.size:
            prefetch(edge_count, edges[e + _AHEAD])
        edge_count[edges[e]] += 1


@kernel
def counted_weights(indptr, edges, dst_count, edge_count, out):
    """How often the destination was there, by how often the edge was; this subgraph counted in.

    indptr      int64 (num_dst + 1,)
    edges       int64 (num_block_edges,)     positions in `edge_count`
    dst_count   int32 (num_dst,)
    edge_count  int32 (num_edges,)
    out         float32 (num_block_edges,)   filled
    """
    for v in range(indptr.size - 1):
        for e in range(indptr[v], indptr[v + 1]):
            if e + _AHEAD < edges.size:
                prefetch(edge_count, edges[e + _AHEAD])
            out[e] = (dst_count[v] + 1.0) / (edge_count[edges[e]] + 1.0)


@kernel
def independent_weights(indptr, indices, draw_probability, joint, num_draws, out):
    """P(v taken) / P(u and v taken) for each edge u -> v, when nodes are taken by independent draws; self-loops 1.

    indptr            int64 (num_dst + 1,)
    indices           integers (num_block_edges,)
    draw_probability  float64 (num_src,)                that one draw takes the node
    joint             float64 (num_block_edges or 0,)   that one draw takes both ends; empty: 0 everywhere
    num_draws         draws made
    out               float32 (num_block_edges,)        filled
    """
    num_src = draw_probability.size
    missed = np.empty(num_src, dtype=np.float64)
    taken = np.empty(num_src, dtype=np.float64)
    for u in range(num_src):
        log_missed = num_draws * np.log1p(-draw_probability[u])
        missed[u] = np.exp(log_missed)
        taken[u] = -np.expm1(log_missed)
    for v in range(indptr.size - 1):
        for e in range(indptr[v], indptr[v + 1]):
            u = indices[e]
            if u == v:
                out[e] = 1.0
                continue
            both = joint[e] if joint.size > 0 else 0.0
            out[e] = taken[v] / _both_taken(
                draw_probability[u], draw_probability[v], both, taken[u], taken[v], missed[u] * missed[v], num_draws
            )


@inline
def _both_taken(p_u, p_v, p_both, taken_u, taken_v, missed_product, num_draws):
    """1 - (1 - p_u)^n - (1 - p_v)^n + (1 - p_u - p_v + p_both)^n, as the independent case and what is added to it.

    The four powers as they stand cancel where probabilities are small.
    """
    if missed_product == 0.0:
        return taken_u * taken_v
    excess = (p_both - p_u * p_v) / ((1.0 - p_u) * (1.0 - p_v))
    # At least -1, where every draw takes one of the two, but for rounding.
    return taken_u * taken_v + missed_product * np.expm1(num_draws * np.log1p(max(excess, -1.0)))


@kernel
def edge_draw_probability(indptr, indices, out):
    """The probability that one draw of `draw_edge_ends` takes a node.

    indptr   int64 (num_nodes + 1,)
    indices  int32 or int64 (num_edges,)
    out      float64 (num_nodes,)          filled
    """
    num_nodes = indptr.size - 1
    out[:] = 1.0
    for v in range(num_nodes):
        for e in range(indptr[v], indptr[v + 1]):
            if e + _AHEAD < indices.size:
                prefetch(out, indices[e + _AHEAD])
            if indices[e] != v:
                out[indices[e]] += 1.0 / (indptr[v + 1] - indptr[v])
    for v in range(num_nodes):
        out[v] = min(out[v] / num_nodes, 1.0)


@kernel
def edge_joint_probability(indptr, indices, transposed_indptr, transposed_indices, in_degree, num_nodes, out):
    """The probability that one draw of `draw_edge_ends` takes both ends of an edge, for each edge of a square block.

    indptr, indices                        the block
    transposed_indptr, transposed_indices  its out-edges by source
    in_degree                              int64 (num_dst,)             in the whole graph
    num_nodes                              of the whole graph
    out                                    float64 (num_block_edges,)   filled; 0 for self-loops
    """
    num_dst = indptr.size - 1
    inwards = np.zeros(num_dst, dtype=np.int64)
    outwards = np.zeros(num_dst, dtype=np.int64)
    for v in range(num_dst):
        first, last = indptr[v], indptr[v + 1]
        for e in range(first, last):
            inwards[indices[e]] += 1
        for e in range(transposed_indptr[v], transposed_indptr[v + 1]):
            outwards[transposed_indices[e]] += 1
        for e in range(first, last):
            u = indices[e]
            chance = inwards[u] / in_degree[v]
            if outwards[u] > 0:
                chance += outwards[u] / in_degree[u]
            out[e] = 0.0 if u == v else chance / num_nodes
        for e in range(first, last):
            inwards[indices[e]] = 0
        for e in range(transposed_indptr[v], transposed_indptr[v + 1]):
            outwards[transposed_indices[e]] = 0


@kernel
def count_sources(indices, out):
    """Fills `out`, int64 (num_nodes,), with the number of edges that leave each node."""
    out[:] = 0
    for e in range(indices.size):
        if e + _AHEAD < indices.size:
            prefetch(out, indices[e + _AHEAD])
        out[indices[e]] += 1


@kernel
def gcn_column_norms(indptr, indices, edge_weight, scale, self_loop, out):
    """The squared norm of each node's column in GCN's operator: how much the node is heard.

    indptr       int64 (num_nodes + 1,)
    indices      int32 or int64 (num_edges,)
    edge_weight  floats (num_edges or 0,)     empty: 1 everywhere
    scale        float64 (num_nodes,)         1 / sqrt(degree, self-loop counted)
    self_loop    float64 (num_nodes,)
    out          float64 (num_nodes,)         filled
    """
    for v in range(indptr.size - 1):
        out[v] = (self_loop[v] * scale[v] * scale[v]) ** 2
    for v in range(indptr.size - 1):
        for e in range(indptr[v], indptr[v + 1]):
            u = indices[e]
            if u != v:
                weight = np.float64(edge_weight[e]) if edge_weight.size > 0 else 1.0
                out[u] += (scale[u] * weight * scale[v]) ** 2
