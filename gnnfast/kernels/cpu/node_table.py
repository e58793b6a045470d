"""A hash table from nodes to small numbers, as large as what it holds, for kernels that need one over and over."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline
from gnnfast.kernels.cpu.random import GOLDEN


@inline
def find_slot(keys, mask, node):
    """The slot that holds `node`, or the empty one (-1) where it belongs.

    keys  int64 (>= mask + 1,)   nodes, -1 for an empty slot; only the first mask + 1 are used, a power of two
    """
    # Fibonacci hashing: consecutive nodes, the common case, land in slots far apart.
    slot = np.int64((np.uint64(node) * GOLDEN) >> np.uint64(32)) & mask
    while keys[slot] >= 0 and keys[slot] != node:
        slot = (slot + 1) & mask
    return slot


@inline
def num_slots_for(count):
    """The size of a table that `count` nodes fill to a quarter at most."""
    num_slots = 64
    while num_slots < 4 * count:
        num_slots *= 2
    return num_slots
