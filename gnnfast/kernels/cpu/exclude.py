"""Taking edges out of a block."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel
from gnnfast.kernels.cpu.random import mix, node_key


@kernel
def enter_pairs(pairs, slots):
    """Enters pairs of nodes into an empty hash table.

    pairs  int64 (2, num_pairs)
    slots  int64 (num_slots,)     all -1; filled with positions in `pairs`; num_slots a power of two above num_pairs
    """
    for i in range(pairs.shape[1]):
        slot = _find(pairs, slots, pairs[0, i], pairs[1, i])
        if slots[slot] < 0:
            slots[slot] = i


@kernel
def keep_others(indptr, indices, src_nodes, pairs, slots, out_indptr, out_edges):
    """Lists the edges of a block that are none of the pairs, in either direction.

    indptr      int64 (num_dst + 1,)
    indices     int32 or int64 (num_edges,)   local sources
    src_nodes   int64 (num_src,)              global ids
    pairs       int64 (2, num_pairs)          global ids
    slots       int64 (num_slots,)            as `enter_pairs` left them
    out_indptr  int64 (num_dst + 1,)          filled
    out_edges   int64 (num_edges,)            filled up to out_indptr[-1] with positions in `indices`
    """
    count = 0
    out_indptr[0] = 0
    for i in range(indptr.size - 1):
        dst = src_nodes[i]
        for e in range(indptr[i], indptr[i + 1]):
            src = src_nodes[indices[e]]
            is_pair = slots[_find(pairs, slots, src, dst)] >= 0 or slots[_find(pairs, slots, dst, src)] >= 0
            if not is_pair:
                out_edges[count] = e
                count += 1
        out_indptr[i + 1] = count


@inline
def _find(pairs, slots, src, dst):
    """The slot of the pair, or the empty one where it belongs."""
    mask = slots.size - 1
    slot = np.int64(node_key(mix(np.uint64(src)), dst)) & mask
    while slots[slot] >= 0 and not (pairs[0, slots[slot]] == src and pairs[1, slots[slot]] == dst):
        slot = (slot + 1) & mask
    return slot
