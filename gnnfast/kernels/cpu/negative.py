"""Drawing pairs of nodes that are no edges."""

from gnnfast.kernels.cpu.alias import draw_alias
from gnnfast.kernels.cpu.compile import inline, kernel
from gnnfast.kernels.cpu.random import node_key, random_below

ATTEMPTS = 32  # draws until one is no edge; nodes connected with half the graph need more once in four billion times


@kernel
def draw_negatives(
    edges, num_negatives, key, src_range, dst_range, accept, alias, avoid_edges, indptr, sorted_indices, out
):
    """Draws pairs for each edge.

    Draws are keyed by (key, both ends of the edge, number of the negative, attempt): where the edge stands among
    `edges` changes nothing, and an edge that comes twice gets the same negatives.

    edges           int64 (2, num_edges)       u above v
    num_negatives   of each edge
    key             uint64
    src_range       first and last + 1 of the nodes that sources are drawn from; (0, 0): every source is the edge's u
    dst_range       the same of the destinations; never empty
    accept, alias   the alias table that destinations are drawn from, or empty: all of the range alike
    avoid_edges     whether to draw again, `ATTEMPTS` times, where a pair is a node twice, the edge itself, or an edge
                    of the graph in either direction; then the next node of `dst_range` that fits is taken, and where
                    none does, the last one drawn
    indptr          int64 (num_nodes + 1,)
    sorted_indices  int32 or int64 (num_graph_edges,)    each column ascending; read only to avoid edges
    out             int64 (2, num_edges * num_negatives)   filled, the negatives of an edge beside each other
    """
    num_dst = dst_range[1] - dst_range[0]
    for e in range(edges.shape[1]):
        u, v = edges[0, e], edges[1, e]
        edge_key = node_key(node_key(key, u), v)
        for k in range(num_negatives):
            src, dst = u, v
            fits = False
            for attempt in range(ATTEMPTS if avoid_edges else 1):
                draw = 2 * (k * ATTEMPTS + attempt)
                if src_range[1] > src_range[0]:
                    src = src_range[0] + random_below(edge_key, draw, src_range[1] - src_range[0])
                if accept.size > 0:
                    # An alias draw takes two numbers of a stream of its own.
                    dst = dst_range[0] + draw_alias(accept, alias, node_key(edge_key, 1), draw // 2)
                else:
                    dst = dst_range[0] + random_below(edge_key, draw + 1, num_dst)
                fits = not avoid_edges or _is_no_edge(indptr, sorted_indices, src, dst, u, v)
                if fits:
                    break
            if not fits:
                for step in range(1, num_dst):
                    candidate = dst_range[0] + (dst - dst_range[0] + step) % num_dst
                    if _is_no_edge(indptr, sorted_indices, src, candidate, u, v):
                        dst = candidate
                        break
            out[0, e * num_negatives + k] = src
            out[1, e * num_negatives + k] = dst


@inline
def _is_no_edge(indptr, sorted_indices, src, dst, u, v):
    if src == dst or (src == u and dst == v) or (src == v and dst == u):
        return False
    return not (_hears(indptr, sorted_indices, dst, src) or _hears(indptr, sorted_indices, src, dst))


@inline
def _hears(indptr, sorted_indices, node, other):
    """Whether there is an edge from `other` to `node`."""
    low, high = indptr[node], indptr[node + 1]
    while low < high:
        middle = (low + high) // 2
        if sorted_indices[middle] < other:
            low = middle + 1
        else:
            high = middle
    return low < indptr[node + 1] and sorted_indices[low] == other
