"""Drawing in-neighbors, uniformly, by keyed random numbers."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.random import mix, node_key, random_below

_AHEAD = 64  # nodes or edges whose memory is asked for before it is needed
_ONE = np.uint64(1)  # unsigned, as positions are: numba then need not ask whether one counts from the end
_BITS = 64
_SCAN_LIMIT = 32  # up to here a linear scan for repeats beats a hash table


@kernel
def count_neighbors(indptr, dst_nodes, fanout, replace, out_indptr, out_spans):
    """Counts the in-edges that `sample_neighbors` will draw for each destination.

    indptr      int64 (num_nodes + 1,)
    dst_nodes   int64 (num_dst,)
    fanout      draws per destination; -1 means all in-edges
    replace     whether a destination may draw an edge again, and so more draws than it has in-edges
    out_indptr  int64 (num_dst + 1,)   filled
    out_spans   int64 (num_dst, 2)     filled with the first in-edge and the number of in-edges of each destination,
                                       which are then read in order instead of all over the graph

    Returns whether every in-edge of every destination will be drawn exactly once.
    """
    complete = True
    most = np.iinfo(np.int64).max if fanout < 0 else fanout
    draws_again = replace and fanout >= 0
    total = 0
    out_indptr[0] = 0
    for i in range(dst_nodes.size):
        if i + _AHEAD < dst_nodes.size:
            prefetch(indptr, dst_nodes[i + _AHEAD])
        node = np.uint64(dst_nodes[i])
        degree = indptr[node + _ONE] - indptr[node]
        out_spans[i, 0], out_spans[i, 1] = indptr[node], degree
        count = fanout * (degree > 0) if draws_again else min(degree, most)
        complete &= count == (0 if draws_again else degree)
        total += count
        out_indptr[i + 1] = total
    return complete


@kernel
def sample_neighbors(dst_nodes, spans, layer_key, fanout, replace, out_indptr, out_edges):
    """Draws in-edges of each destination: all of them where no more than `fanout`, else a uniform subset.

    Floyd's algorithm (Bentley and Floyd, A Sample of Brilliance, 1987): the cost follows the fanout, not the
    in-degree. Serial and without the interpreter lock, so that every loader thread runs its own.

    dst_nodes   int64 (num_dst,)
    spans       int64 (num_dst, 2)             as `count_neighbors` left them
    layer_key   uint64; draws are keyed by (layer_key, node, draw)
    out_indptr  int64 (num_dst + 1,)           as `count_neighbors` left it
    out_edges   int64 (out_indptr[-1],)        filled with positions in the graph's `indices`
    """
    slots = np.empty(0, dtype=np.int64)
    for i in range(dst_nodes.size):
        first_edge, degree = spans[i, 0], spans[i, 1]
        if fanout < 0 or (degree <= fanout and not replace):
            for k in range(degree):
                out_edges[out_indptr[i] + k] = first_edge + k
            continue
        key = node_key(layer_key, np.uint64(dst_nodes[i]))
        if degree <= _BITS and not replace:
            # As below, with the edges drawn so far as bits of one number.
            drawn = np.uint64(0)
            for k in range(fanout):
                bound = degree - fanout + k + 1
                edge = random_below(key, k, bound)
                edge = bound - 1 if (drawn >> np.uint64(edge)) & _ONE else edge
                drawn |= _ONE << np.uint64(edge)
                out_edges[out_indptr[i] + k] = first_edge + edge
            continue
        out = out_edges[out_indptr[i] : out_indptr[i + 1]]
        if replace:
            for k in range(out.size):
                out[k] = first_edge + random_below(key, k, degree)
        else:
            if fanout > _SCAN_LIMIT:
                # Made for the first node that needs it: most graphs hold none, whatever the fanout.
                slots = _empty_table(fanout) if slots.size == 0 else slots
            for k in range(fanout):
                # Draw among the first `bound` edges; a repeat stands for the last of them, which no earlier draw
                # could reach.
                bound = degree - fanout + k + 1
                edge = first_edge + random_below(key, k, bound)
                repeated = _scan(out, k, edge) if fanout <= _SCAN_LIMIT else _is_in_table(slots, edge)
                out[k] = first_edge + bound - 1 if repeated else edge
                if fanout > _SCAN_LIMIT:
                    _add_to_table(slots, out[k])
            if fanout > _SCAN_LIMIT:
                slots[:] = -1


@inline
def _empty_table(num_entries):
    num_slots = 16
    while num_slots < 2 * num_entries:
        num_slots *= 2
    return np.full(num_slots, -1, dtype=np.int64)


@inline
def _scan(drawn, count, edge):
    found = False
    for k in range(count):
        found |= drawn[k] == edge
    return found


@inline
def _is_in_table(slots, edge):
    mask = slots.size - 1
    slot = np.int64(mix(np.uint64(edge))) & mask
    while slots[slot] >= 0:
        if slots[slot] == edge:
            return True
        slot = (slot + 1) & mask
    return False


@inline
def _add_to_table(slots, edge):
    mask = slots.size - 1
    slot = np.int64(mix(np.uint64(edge))) & mask
    while slots[slot] >= 0:
        slot = (slot + 1) & mask
    slots[slot] = edge


@kernel
def inclusion_weights(spans, out_indptr, out_weight):
    """in-degree / number drawn, for each drawn edge: makes up for the in-edges left out.

    spans       int64 (num_dst, 2)             as `count_neighbors` left them
    out_indptr  int64 (num_dst + 1,)           as `count_neighbors` left it
    out_weight  float32 (out_indptr[-1],)      filled
    """
    # Most nodes of most graphs keep all their in-edges: nothing else is done for them.
    out_weight[:] = 1
    for i in range(spans.shape[0]):
        first, last = out_indptr[i], out_indptr[i + 1]
        degree = spans[i, 1]
        if degree != last - first and last > first:
            out_weight[first:last] = degree / (last - first)
