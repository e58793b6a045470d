"""Walks against the edges of a graph."""

import numpy as np

from gnnfast.kernels.cpu.compile import kernel, prefetch
from gnnfast.kernels.cpu.random import node_key, random_below

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
