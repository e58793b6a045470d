"""Cutting a graph into parts of about equal size, few edges between them."""

import heapq

import numpy as np

from gnnfast.kernels.cpu.compile import kernel, prefetch


@kernel
def join_parallel_edges(indptr, indices, out_indptr, out_counts):
    """Leaves self-loops out and keeps one edge of each run of equal sources in sorted columns, in place.

    indptr      int64 (num_nodes + 1,)
    indices     integers (num_edges,)     ascending in each column; the first out_indptr[-1] are kept
    out_indptr  int64 (num_nodes + 1,)    filled
    out_counts  int64 (num_edges,)        filled with the lengths of the runs, as far as edges are kept
    """
    kept = 0
    out_indptr[0] = 0
    for v in range(indptr.size - 1):
        e = indptr[v]
        while e < indptr[v + 1]:
            source = indices[e]
            run = e
            while e < indptr[v + 1] and indices[e] == source:
                e += 1
            if source != v:
                indices[kept] = source
                out_counts[kept] = e - run
                kept += 1
        out_indptr[v + 1] = kept


@kernel
def grow_parts(indptr, indices, counts, order, num_parts, part_of):
    """Grows the parts one after the other, each from a seed, by the node that has most of its edges in the part.

    indptr   int64 (num_nodes + 1,)   of an undirected graph without self-loops
    indices  integers (num_edges,)
    counts   int64 (num_edges,)       edges that each stands for
    order    int64 (num_nodes,)       a permutation: which nodes are tried as seeds first
    part_of  int64 (num_nodes,)       filled; the sizes of two parts differ by at most 1
    """
    num_nodes = order.size
    part_of[:] = -1
    num_links = np.zeros(num_nodes, np.int64)  # edges of each node that end in the part that grows
    touched = np.empty(num_nodes, np.int64)
    next_seed = 0
    for part in range(num_parts):
        size = num_nodes // num_parts + (part < num_nodes % num_parts)
        num_touched = 0
        heap = [(0.0, np.int64(0)) for _ in range(0)]
        while size > 0:
            node = -1
            while len(heap) > 0:
                candidate = heapq.heappop(heap)[1]
                # Entries that a later one of the same node replaced come after it, when the node has its part.
                if part_of[candidate] < 0:
                    node = candidate
                    break
            if node < 0:
                while part_of[order[next_seed]] >= 0:
                    next_seed += 1
                node = order[next_seed]
            part_of[node] = part
            size -= 1
            for e in range(indptr[node], indptr[node + 1]):
                u = np.int64(indices[e])
                if part_of[u] < 0:
                    if num_links[u] == 0:
                        touched[num_touched] = u
                        num_touched += 1
                    num_links[u] += counts[e]
                    heapq.heappush(heap, (-num_links[u] / (indptr[u + 1] - indptr[u]), u))
        for i in range(num_touched):
            num_links[touched[i]] = 0


@kernel
def refine_parts(indptr, indices, counts, order, largest, smallest, num_passes, part_of, sizes):
    """Moves nodes to the part that most of their edges end in, as long as the sizes of both parts allow it.

    indptr, indices, counts, order   as in `grow_parts`; nodes are visited in this order
    largest, smallest                bounds on the number of nodes of a part
    part_of                          int64 (num_nodes,)   updated
    sizes                            int64 (num_parts,)   updated

    Returns the edges that are no longer cut, each direction by itself.
    """
    num_links = np.zeros(sizes.size, np.int64)
    touched = np.empty(sizes.size, np.int64)
    saved = 0
    for _ in range(num_passes):
        saved_before = saved
        for i in range(order.size):
            if i + 4 < order.size:
                prefetch(indptr, order[i + 4])
            v = order[i]
            num_touched = 0
            for e in range(indptr[v], indptr[v + 1]):
                part = part_of[indices[e]]
                if num_links[part] == 0:
                    touched[num_touched] = part
                    num_touched += 1
                num_links[part] += counts[e]
            own = part_of[v]
            best = own
            for j in range(num_touched):
                part = touched[j]
                if part == own or sizes[part] >= largest:
                    continue
                gain = num_links[part] - num_links[best]
                # On equal terms the smaller part: it makes room where a move may pay later.
                if gain > 0 or (gain == 0 and sizes[part] + 1 < sizes[best]):
                    best = part
            if best != own and sizes[own] > smallest:
                saved += 2 * (num_links[best] - num_links[own])
                part_of[v] = best
                sizes[own] -= 1
                sizes[best] += 1
            for j in range(num_touched):
                num_links[touched[j]] = 0
        if saved == saved_before:
            break
    return saved


@kernel
def count_cut_edges(indptr, indices, part_of):
    """Edges whose ends are in different parts, and edges that are no self-loops.

    indptr   int64 (num_nodes + 1,)
    indices  integers (num_edges,)
    part_of  int64 (num_nodes,)
    """
    num_cut = 0
    num_proper = 0
    for v in range(indptr.size - 1):
        for e in range(indptr[v], indptr[v + 1]):
            if e + 16 < indices.size:
                prefetch(part_of, indices[e + 16])
            num_proper += indices[e] != v
            num_cut += part_of[indices[e]] != part_of[v]
    return num_cut, num_proper
