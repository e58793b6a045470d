"""Ego graphs of many seeds, apart from each other: which nodes they have, and which edges."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.neighbor import count_neighbors, sample_neighbors
from gnnfast.kernels.cpu.random import GOLDEN

_AHEAD = 8
# A search in a sorted column costs as much as reading this many edges of it.
_EDGES_PER_SEARCH = 32


@kernel
def draw_egos(indptr, indices, seed_nodes, first_ego, hop_keys, budget, replace, ego_ptr, others):
    """Walks from each seed along drawn in-edges and lists the nodes reached, in the order of their discovery.

    A hop draws for the nodes that the hop before it discovered, as `sample_neighbors` draws.

    indptr      int64 (num_nodes + 1,)
    indices     integers (num_edges,)
    seed_nodes  int64 (num_egos,)
    first_ego   where to begin: what came before is in `ego_ptr` and `others`
    hop_keys    uint64 (depth,)           draws are keyed by (key of the hop, node)
    budget      draws per node and hop; -1 means all in-edges
    ego_ptr     int64 (num_egos + 1,)     filled from first_ego + 1 on; its first entry is 0
    others      int64 (capacity,)         filled: the nodes of ego i without its seed are
                                          others[ego_ptr[i]:ego_ptr[i + 1]]

    Returns the first ego that `others` had no room for, num_egos if all are done.
    """
    keys = np.full(_num_slots_for(0), -1, np.int64)
    frontier = np.empty(1, np.int64)
    offsets = np.empty(2, np.int64)
    spans = np.empty((1, 2), np.int64)
    edges = np.empty(1, np.int64)
    for ego in range(first_ego, seed_nodes.size):
        seed_node = seed_nodes[ego]
        start = ego_ptr[ego]
        last = start
        num_slots = _num_slots_for(0)
        keys[:num_slots] = -1
        keys[_find_slot(keys, num_slots - 1, seed_node)] = seed_node
        frontier[0] = seed_node
        frontier_size = 1
        for hop in range(hop_keys.size):
            if offsets.size <= frontier_size:
                offsets = np.empty(2 * frontier_size, np.int64)
                spans = np.empty((2 * frontier_size, 2), np.int64)
            count_neighbors(indptr, frontier[:frontier_size], budget, replace, offsets[: frontier_size + 1], spans)
            num_drawn = offsets[frontier_size]
            if edges.size < num_drawn:
                edges = np.empty(2 * num_drawn, np.int64)
            sample_neighbors(
                frontier[:frontier_size],
                spans,
                hop_keys[hop],
                budget,
                replace,
                offsets[: frontier_size + 1],
                edges[:num_drawn],
            )
            discovered = last
            for e in range(num_drawn):
                if e + _AHEAD < num_drawn:
                    prefetch(indices, edges[e + _AHEAD])
                node = indices[edges[e]]
                slot = _find_slot(keys, num_slots - 1, node)
                if keys[slot] >= 0:
                    continue
                if last == others.size:
                    return ego
                keys[slot] = node
                others[last] = node
                last += 1
                if 4 * (last - start + 1) > num_slots:
                    num_slots *= 2
                    if keys.size < num_slots:
                        keys = np.empty(num_slots, np.int64)
                    _enter(keys, num_slots, seed_node, others[start:last])
            frontier_size = last - discovered
            if frontier.size < frontier_size:
                frontier = np.empty(2 * frontier_size, np.int64)
            frontier[:frontier_size] = others[discovered:last]
        ego_ptr[ego + 1] = last
    return seed_nodes.size


@inline
def _find_slot(keys, mask, node):
    """The slot that holds `node`, or the empty one (-1) where it belongs; the table is the first mask + 1 slots."""
    # Fibonacci hashing: consecutive nodes, the common case, land in slots far apart.
    slot = np.int64((np.uint64(node) * GOLDEN) >> np.uint64(32)) & mask
    while keys[slot] >= 0 and keys[slot] != node:
        slot = (slot + 1) & mask
    return slot


@inline
def _num_slots_for(count):
    """The size of a table that `count` nodes fill to a quarter at most."""
    num_slots = 64
    while num_slots < 4 * count:
        num_slots *= 2
    return num_slots


@inline
def _enter(keys, num_slots, seed_node, others):
    keys[:num_slots] = -1
    keys[_find_slot(keys, num_slots - 1, seed_node)] = seed_node
    for i in range(others.size):
        keys[_find_slot(keys, num_slots - 1, others[i])] = others[i]


@kernel
def induce_egos(
    indptr,
    indices,
    is_sorted,
    seed_nodes,
    ego_ptr,
    others,
    first_ego,
    seed_ptr,
    seed_indices,
    seed_edges,
    other_ptr,
    other_indices,
    other_edges,
):
    """Finds all edges of the graph inside each ego.

    Seeds have the rows 0, 1, ... in their order, the other nodes the rows after them in theirs; the columns of the
    seeds and those of the others are written to two lists. Columns keep the graph's order.

    indptr         int64 (num_nodes + 1,)
    indices        integers (num_edges,)
    is_sorted      whether the sources of every column ascend, as `are_columns_sorted` says
    seed_nodes     int64 (num_egos,)
    ego_ptr        int64 (num_egos + 1,)         see `draw_egos`
    others         int64 (ego_ptr[-1],)
    first_ego      where to begin: what came before is in the arrays below
    seed_ptr       int64 (num_egos + 1,)         filled from first_ego + 1 on; its first entry is 0
    seed_indices   int32 (capacity,)             filled with rows of sources
    seed_edges     int64 (capacity,) or (0,)     filled with positions in `indices`, unless empty
    other_ptr      int64 (ego_ptr[-1] + 1,)      filled from ego_ptr[first_ego] + 1 on; its first entry is 0
    other_indices  int32 (other_capacity,)       likewise
    other_edges    int64 (other_capacity,) or (0,)

    Returns the first ego that the lists had no room for, num_egos if all are done.
    """
    num_egos = seed_nodes.size
    keys = np.empty(_num_slots_for(0), np.int64)
    rows = np.empty(_num_slots_for(0), np.int32)
    for ego in range(first_ego, num_egos):
        start, last = ego_ptr[ego], ego_ptr[ego + 1]
        num_slots = _num_slots_for(last - start + 1)
        mask = num_slots - 1
        if keys.size < num_slots:
            keys, rows = np.empty(num_slots, np.int64), np.empty(num_slots, np.int32)
        keys[:num_slots] = -1
        slot = _find_slot(keys, mask, seed_nodes[ego])
        keys[slot] = seed_nodes[ego]
        rows[slot] = ego
        for i in range(start, last):
            prefetch(indptr, others[i])
            slot = _find_slot(keys, mask, others[i])
            keys[slot] = others[i]
            rows[slot] = num_egos + i
        ascending = np.empty(0, np.int64)
        search_from = (last - start + 1) * _EDGES_PER_SEARCH
        for i in range(start - 1, last):
            is_seed = i < start
            node = seed_nodes[ego] if is_seed else others[i]
            if i + 2 < last:
                prefetch(indices, indptr[others[i + 2]])
            sources, edges = (seed_indices, seed_edges) if is_seed else (other_indices, other_edges)
            column = ego if is_seed else i
            ptr = seed_ptr if is_seed else other_ptr
            first_edge, last_edge = indptr[node], indptr[node + 1]
            if is_sorted and last_edge - first_edge > search_from:
                if ascending.size == 0:
                    ascending = np.empty(last - start + 1, np.int64)
                    ascending[0] = seed_nodes[ego]
                    ascending[1:] = others[start:last]
                    ascending.sort()
                used = _search_column(
                    indices, first_edge, last_edge, ascending, keys, rows, mask, ptr[column], sources, edges
                )
            else:
                used = _read_column(indices, first_edge, last_edge, keys, rows, mask, ptr[column], sources, edges)
            if used < 0:
                return ego
            ptr[column + 1] = used
    return num_egos


@inline
def _read_column(indices, first_edge, last_edge, keys, rows, mask, used, sources, edges):
    """Appends the edges from inside the ego; returns how many the list has then, -1 if they do not fit."""
    for e in range(first_edge, last_edge):
        node = indices[e]
        slot = _find_slot(keys, mask, node)
        if keys[slot] < 0:
            continue
        if used == sources.size:
            return -1
        sources[used] = rows[slot]
        if edges.size > 0:
            edges[used] = e
        used += 1
    return used


@inline
def _search_column(indices, first_edge, last_edge, ascending, keys, rows, mask, used, sources, edges):
    """As `_read_column`, for a sorted column much longer than the ego."""
    low = first_edge
    for i in range(ascending.size):
        node = ascending[i]
        high = last_edge
        while low < high:
            middle = (low + high) // 2
            if indices[middle] < node:
                low = middle + 1
            else:
                high = middle
        while low < last_edge and indices[low] == node:
            if used == sources.size:
                return -1
            sources[used] = rows[_find_slot(keys, mask, node)]
            if edges.size > 0:
                edges[used] = low
            used += 1
            low += 1
    return used


@kernel
def are_columns_sorted(indptr, indices):
    """Whether the sources of every column ascend.

    indptr   int64 (num_nodes + 1,)
    indices  integers (num_edges,)
    """
    for v in range(indptr.size - 1):
        for e in range(indptr[v] + 1, indptr[v + 1]):
            if indices[e] < indices[e - 1]:
                return False
    return True
