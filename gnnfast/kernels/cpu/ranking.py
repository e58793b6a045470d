"""Where the destinations that are right stand among all that there are."""

import numpy as np

from gnnfast.kernels.cpu.compile import kernel


@kernel
def rank_destinations(
    first, last, scores, sources, first_node, known_indptr, known, pair_indptr, pair_dst, out_rank, out_fellows
):
    """Ranks each row's own destinations among all candidates: 1 for the highest score, the middle rank for equals.

    Rows `first` to `last` are filled, so that threads can share the work. Each pair is compared with all candidates:
    that takes vector instructions, where sorting a row, or searching for each candidate among the pairs, does not.

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
        for p in range(pairs.size):
            score = row[pairs[p] - first_node]
            above = level = 0
            for c in range(num_candidates):
                above += not (row[c] <= score)  # so that NaN ranks last
                level += row[c] == score
            # One of those level is the pair itself; what a pair that is known is level with is known.
            ties = level - 1 if score > -np.inf else 0
            out_rank[pair_indptr[i] + p] = 1 + above + 0.5 * ties
            above = level = 0
            for other in pairs:
                above += not (row[other - first_node] <= score)
                level += row[other - first_node] == score
            out_fellows[pair_indptr[i] + p] = above + 0.5 * (level - 1)
