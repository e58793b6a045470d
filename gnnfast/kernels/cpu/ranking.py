"""Where the destinations that are right stand among all that there are."""

import numpy as np

from gnnfast.kernels.cpu.compile import kernel


@kernel
def rank_destinations(
    first, last, scores, sources, first_node, known_indptr, known, pair_indptr, pair_dst, out_rank, out_fellows
):
    """Ranks each row's own destinations among all candidates: 1 for the highest score, the middle rank for equals.

    Rows `first` to `last` are filled, so that threads can share the work. The cost follows the candidates times the
    logarithm of the row's pairs: no row is sorted.

    scores        floats (num_rows, num_candidates)   known candidates become -inf
    sources       int64 (num_rows,)                   the node of a row, which is no candidate of its own
    first_node    the node of candidate 0; the others follow
    known_indptr  int64 (num_nodes + 1,)
    known         integers                            by node, the nodes that are no candidates any more
    pair_indptr   int64 (num_rows + 1,)
    pair_dst      int64 (num_pairs,)                  nodes to rank, by row
    out_rank      float64 (num_pairs,)                filled with ranks among all candidates of the row
    out_fellows   float64 (num_pairs,)                filled with how many of the row's other pairs stand before it
    """
    num_candidates = scores.shape[1]
    for i in range(first, last):
        row = scores[i]
        pairs = pair_dst[pair_indptr[i] : pair_indptr[i + 1]]
        source = sources[i]
        for e in range(known_indptr[source], known_indptr[source + 1]):
            candidate = known[e] - first_node
            if 0 <= candidate < num_candidates:
                row[candidate] = -np.inf
        if 0 <= source - first_node < num_candidates:
            row[source - first_node] = -np.inf
        own = np.empty(pairs.size, row.dtype)
        for p in range(pairs.size):
            own[p] = row[pairs[p] - first_node]
        bounds = np.sort(own)
        # Candidates by how many of the bounds they are above, and by how many they are not below.
        above = np.zeros(pairs.size + 1, np.int64)
        reach = np.zeros(pairs.size + 1, np.int64)
        for c in range(num_candidates):
            score = row[c]
            if score >= bounds[0] and score > -np.inf:
                low = _num_below(bounds, score)
                above[low] += 1
                while low < bounds.size and bounds[low] == score:
                    low += 1
                reach[low] += 1
        for p in range(pairs.size - 1, -1, -1):
            above[p] += above[p + 1]
            reach[p] += reach[p + 1]
        for p in range(pairs.size):
            at = _num_below(bounds, own[p])
            # Of those that reach the bound one is the pair itself; what a masked pair ties with is masked.
            ties = max(reach[at + 1] - above[at + 1] - 1, 0)
            out_rank[pair_indptr[i] + p] = 1 + above[at + 1] + 0.5 * ties
            end = at
            while end < bounds.size and bounds[end] == own[p]:
                end += 1
            out_fellows[pair_indptr[i] + p] = bounds.size - end + 0.5 * (end - at - 1)


@kernel
def _num_below(bounds, score):
    """How many of the sorted bounds are below the score."""
    low, high = 0, bounds.size
    while low < high:
        middle = (low + high) // 2
        if bounds[middle] < score:
            low = middle + 1
        else:
            high = middle
    return low
