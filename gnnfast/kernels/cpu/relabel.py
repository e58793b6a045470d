"""From global ids to local ones, in the order of first appearance."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.gather import gather_values
from gnnfast.kernels.cpu.random import mix

_AHEAD = 128


@kernel
def relabel_seeds_dense(seed_nodes, local_of, nodes, out_rows):
    """Numbers the distinct seeds. See `relabel_dense`; out_rows, int64 (num_seeds,), is each seed's number.

    Returns the number of distinct seeds.
    """
    count = 0
    for i in range(seed_nodes.size):
        if i + _AHEAD < seed_nodes.size:
            prefetch(local_of, seed_nodes[i + _AHEAD])
        node = seed_nodes[i]
        local = local_of[node]
        if local < 0:
            local = count
            local_of[node] = local
            nodes[count] = node
            count += 1
        out_rows[i] = local
    return count


@kernel
def relabel_dense(indices, edges, local_of, nodes, count, out_indices):
    """Numbers the sources of drawn edges, new ones after those that have a number.

    indices      int32 or int64 (num_graph_edges,)   the graph's sources
    edges        int64 (num_edges,)                  positions in `indices`
    local_of     int32 (num_nodes,)                  number by node, -1 for none; updated
    nodes        int64 (>= count + num_edges,)       node by number, the first `count` given; extended
    out_indices  int32 (num_edges,)                  filled with numbers

    Returns the new count.
    """
    gather_values(indices, edges, out_indices)
    for e in range(edges.size):
        if e + _AHEAD < edges.size:
            prefetch(local_of, out_indices[e + _AHEAD])
        # Every node is written behind the last one, and stays there if it is new: nothing to mispredict.
        node = np.uint32(out_indices[e])
        local = local_of[node]
        is_new = local < 0
        local = np.int32(count) if is_new else local
        local_of[node] = local
        nodes[np.uint64(count)] = node
        count += is_new
        out_indices[e] = local
    return count


@kernel
def forget_dense(nodes, local_of):
    """Takes the numbers of `nodes` back: the map is as new."""
    for i in range(nodes.size):
        if i + _AHEAD < nodes.size:
            prefetch(local_of, nodes[i + _AHEAD])
        local_of[nodes[i]] = -1


@inline
def find_slot(keys, node):
    """The slot that holds `node`, or the empty one (-1) where it belongs."""
    mask = keys.size - 1
    slot = np.int64(mix(np.uint64(node))) & mask
    while keys[slot] >= 0 and keys[slot] != node:
        slot = (slot + 1) & mask
    return slot


@kernel
def relabel_seeds_hashed(seed_nodes, keys, values, nodes, out_rows):
    """Numbers the distinct seeds. See `relabel_hashed`; out_rows, int64 (num_seeds,), is each seed's number.

    Returns the number of distinct seeds.
    """
    count = 0
    for i in range(seed_nodes.size):
        node = seed_nodes[i]
        slot = find_slot(keys, node)
        if keys[slot] < 0:
            keys[slot] = node
            values[slot] = count
            nodes[count] = node
            count += 1
        out_rows[i] = values[slot]
    return count


@kernel
def relabel_hashed(indices, edges, keys, values, nodes, count, out_indices):
    """As `relabel_dense`, with a hash table whose size follows the mini-batch, not the graph.

    keys    int64 (num_slots,)   nodes, -1 for an empty slot; num_slots a power of two above count + num_edges
    values  int32 (num_slots,)   their numbers
    """
    for e in range(edges.size):
        if e + _AHEAD < edges.size:
            prefetch(indices, edges[e + _AHEAD])
        node = indices[edges[e]]
        slot = find_slot(keys, node)
        if keys[slot] < 0:
            keys[slot] = node
            values[slot] = count
            nodes[count] = node
            count += 1
        out_indices[e] = values[slot]
    return count


@kernel
def rehash(nodes, keys, values):
    """Enters numbered nodes into an empty table.

    nodes   int64 (count,)       node by number
    keys    int64 (num_slots,)   all -1; filled
    values  int32 (num_slots,)   filled
    """
    for i in range(nodes.size):
        slot = find_slot(keys, nodes[i])
        keys[slot] = nodes[i]
        values[slot] = i
