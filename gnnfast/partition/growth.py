"""The built-in partitioner: parts grow one after the other, then exchange nodes at their borders."""

from __future__ import annotations

import math

import numpy as np

from gnnfast.kernels.cpu import partition as kernels
from gnnfast.partition.neighborhood import Neighborhood

_MOST_PASSES = 30


def grow(graph: Neighborhood, num_parts: int, seed: int) -> np.ndarray:
    """Parts of at most 1.1 and at least 0.7 times the average size, up to rounding.

    Greedy growth, part by part, as multilevel partitioners begin with on their coarsest graph; then label propagation
    within bounds, after Ugander and Backstrom, Balanced Label Propagation for Partitioning Massive Graphs, 2013.

    Returns:
        Part of each node, int64, `(num_nodes,)`.
    """
    order = np.random.default_rng(seed).permutation(graph.num_nodes)
    part_of = np.empty(graph.num_nodes, np.int64)
    kernels.grow_parts(graph.indptr, graph.indices, graph.counts, order, num_parts, part_of)
    average = graph.num_nodes / num_parts
    largest, smallest = math.ceil(1.1 * average), max(1, math.floor(0.7 * average))
    sizes = np.bincount(part_of, minlength=num_parts)
    kernels.refine_parts(
        graph.indptr, graph.indices, graph.counts, order, largest, smallest, _MOST_PASSES, part_of, sizes
    )
    return part_of
