"""Walks against the edges of a graph."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.random import node_key, random_below, random_unit
from gnnfast.kernels.cpu.relabel import find_slot

_TOGETHER = 32  # walks that take a step at the same time, so that their reads from memory overlap


@kernel
def random_walks(indptr, indices, roots, length, key, out):
    """Walks from each root: every step goes to an in-neighbor of the node, along a uniform in-edge.

    A walk at a node without in-edges stays there. Draws are keyed by (key, position of the root in `roots`, step):
    equal roots take walks of their own.

    indptr   int64 (num_nodes + 1,)
    indices  int32 or int64 (num_edges,)
    roots    int64 (num_roots,)
    length   steps of each walk
    key      uint64
    out      int64 (num_roots, length + 1)   filled with nodes, the root first
    """
    edges = np.empty(_TOGETHER, dtype=np.int64)
    for first in range(0, roots.size, _TOGETHER):
        last = min(first + _TOGETHER, roots.size)
        for walk in range(first, last):
            out[walk, 0] = roots[walk]
            prefetch(indptr, roots[walk])
        for step in range(length):
            for walk in range(first, last):
                node = out[walk, step]
                degree = indptr[node + 1] - indptr[node]
                edges[walk - first] = -1
                if degree > 0:
                    edges[walk - first] = indptr[node] + random_below(node_key(key, walk), step, degree)
                    prefetch(indices, edges[walk - first])
            for walk in range(first, last):
                edge = edges[walk - first]
                node = np.int64(indices[edge]) if edge >= 0 else out[walk, step]
                out[walk, step + 1] = node
                prefetch(indptr, node)


@kernel
def visit_neighborhoods(
    indptr,
    indices,
    degree,
    dst_nodes,
    layer_key,
    fanout,
    num_walks,
    walk_length,
    restart,
    out_indptr,
    out_nodes,
    out_weight,
):
    """Finds the nodes that short walks from each destination, against the edges, visit most often.

    A walk ends after `walk_length` steps, after any step with probability `restart`, and at a node without in-edges. Of
    nodes visited equally often the one comes first that a walk met after fewer steps, or else an earlier walk; ids do
    not matter. The destination itself never counts.

    indptr      int64 (num_nodes + 1,)
    indices     int32 or int64 (num_edges,)
    degree      floating (num_nodes,)         what the weights of a destination add up to; where not positive, the
                                              number of its nodes
    dst_nodes   int64 (num_dst,)
    layer_key   uint64; draws are keyed by (layer_key, node, walk, step)
    fanout      nodes per destination, at least 1
    out_indptr  int64 (num_dst + 1,)          filled
    out_nodes   int64 (size,)                 filled up to out_indptr[-1], most visited first; size is
                                              at least num_dst * min(fanout, num_walks * walk_length)
    out_weight  float32 (size,)               filled likewise: each node's share in the visits, times the degree
    """
    largest = num_walks * walk_length
    at, edges = np.empty(num_walks, np.int64), np.empty(num_walks, np.int64)
    num_slots = 4
    while num_slots < 2 * largest:
        num_slots *= 2
    keys, visits = np.full(num_slots, -1, np.int64), np.zeros(num_slots, np.int64)
    slots = np.empty(largest, np.int64)
    most = np.empty(min(fanout, largest), np.int64)
    out_indptr[0] = 0
    for i in range(dst_nodes.size):
        if i + 1 < dst_nodes.size:
            prefetch(indptr, dst_nodes[i + 1])
        root = dst_nodes[i]
        num_visited = _visit(
            indptr, indices, root, node_key(layer_key, root), walk_length, restart, at, edges, keys, visits, slots
        )
        kept = _most_visited(visits, slots[:num_visited], most)
        first, total = out_indptr[i], 0
        for k in range(kept):
            out_nodes[first + k] = keys[most[k]]
            total += visits[most[k]]
        scale = (degree[root] if degree[root] > 0 else kept) / max(total, 1)
        for k in range(kept):
            out_weight[first + k] = visits[most[k]] * scale
        out_indptr[i + 1] = first + kept
        for k in range(num_visited):
            keys[slots[k]] = -1
            visits[slots[k]] = 0


@inline
def _visit(indptr, indices, root, key, walk_length, restart, at, edges, keys, visits, slots):
    """Takes all walks from a root side by side and counts whom they meet; returns the number of different nodes.

    `slots` holds where they stand in the table, in the order in which they were met.
    """
    num_walking, num_visited = at.size, 0
    # Draws are keyed by the number of the walk, whoever has ended before it.
    walk_of = np.arange(at.size)
    at[:] = root
    for step in range(walk_length):
        num_moving = 0
        for w in range(num_walking):
            degree = indptr[at[w] + 1] - indptr[at[w]]
            if degree > 0:
                draw = 2 * (walk_of[w] * walk_length + step)
                edges[num_moving] = indptr[at[w]] + random_below(key, draw, degree)
                prefetch(indices, edges[num_moving])
                walk_of[num_moving] = walk_of[w]
                num_moving += 1
        num_walking = 0
        for w in range(num_moving):
            node = np.int64(indices[edges[w]])
            if node != root:
                slot = find_slot(keys, node)
                if keys[slot] < 0:
                    keys[slot] = node
                    slots[num_visited] = slot
                    num_visited += 1
                visits[slot] += 1
            if random_unit(key, 2 * (walk_of[w] * walk_length + step) + 1) >= restart:
                at[num_walking] = node
                walk_of[num_walking] = walk_of[w]
                num_walking += 1
                prefetch(indptr, node)
    return num_visited


@inline
def _most_visited(visits, slots, most):
    """Puts the slots of the most visited nodes into `most`, in order, and returns their number."""
    count = 0
    for slot in slots:
        place = count
        while place > 0 and visits[slot] > visits[most[place - 1]]:
            place -= 1
        if place < most.size:
            count = min(count + 1, most.size)
            for k in range(count - 1, place, -1):
                most[k] = most[k - 1]
            most[place] = slot
    return count
