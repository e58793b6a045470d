"""Drawing in-edges with unequal probabilities.

A probability p is a *share* here: a whole number of `WHOLE`-ths. Shares of a column add up exactly, and draws are whole
numbers too, so that probabilities are what they are said to be to the last bit.
"""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.random import node_key, random_below

WHOLE = 2**44  # the share of an edge that is always drawn
LARGEST_FANOUT = 2**18  # as many whole shares fit into int64

_AHEAD = 16
_ONE = np.int64(WHOLE)


@kernel
def sum_shares(indptr, weights, fanout, out_sums):
    """Divides `fanout` draws among the in-edges of each node, proportionally to their weights.

    p_e = min(1, weight_e / tau), where tau makes them add up to the fanout: of all probabilities with that sum, those
    that give the estimated sum of weights the smallest variance (Cohen et al., Efficient Stream Sampling for
    Variance-Optimal Estimation of Subset Sums, 2011, https://arxiv.org/abs/0803.0473). A node with no more than
    `fanout` in-edges of positive weight gets them all; those of weight 0 get nothing.

    indptr    int64 (num_nodes + 1,)
    weights   floating (num_edges,)   finite, at least 0
    fanout    1 to LARGEST_FANOUT
    out_sums  int64 (num_edges,)      filled: the shares of the column's edges up to this one, added up
    """
    # A weight this close to tau counts as at least tau: what is rounded then never makes a share more than whole.
    tolerance = fanout * 2.0**-50 + 2.0**-43
    for node in range(indptr.size - 1):
        column = weights[indptr[node] : indptr[node + 1]]
        sums = out_sums[indptr[node] : indptr[node + 1]]
        tau, rest, num_certain = _threshold(column, fanout, tolerance)
        certain, run, given = 0, 0.0, np.int64(0)
        for e in range(column.size):
            weight = np.float64(column[e])
            if weight > 0 and weight >= tau:
                certain += 1
            elif num_certain < fanout and weight > 0:
                run += weight
                given = np.int64(np.floor((fanout - num_certain) * (run / rest) * WHOLE + 0.5))
            sums[e] = certain * _ONE + given


@inline
def _threshold(column, fanout, tolerance):
    """(weight from which on edges are always drawn, sum of the weights below it, number of edges from it on)."""
    num_positive, rest = 0, 0.0
    for e in range(column.size):
        num_positive += column[e] > 0
        rest += column[e]
    if num_positive <= fanout:
        return 0.0, 0.0, fanout
    num_certain = 0
    tau = np.inf
    while num_certain < fanout:
        lower = rest / (fanout - num_certain) * (1 - tolerance)
        count, below = 0, 0.0
        for e in range(column.size):
            if column[e] >= lower:
                count += 1
            else:
                below += column[e]
        tau, rest = lower, below
        if count == num_certain:
            break
        num_certain = count
    return tau, rest, num_certain


@kernel
def count_shares(indptr, sums, dst_nodes, out_indptr):
    """Counts the in-edges that `sample_shares` will draw for each destination.

    indptr      int64 (num_nodes + 1,)
    sums        int64 (num_edges,)     as `sum_shares` left them
    dst_nodes   int64 (num_dst,)
    out_indptr  int64 (num_dst + 1,)   filled

    Returns whether every in-edge of every destination will be drawn.
    """
    complete = True
    out_indptr[0] = 0
    for i in range(dst_nodes.size):
        first, last = _column(indptr, sums, dst_nodes, i)
        count = sums[last - 1] // _ONE if last > first else 0
        complete = complete and count == last - first
        out_indptr[i + 1] = out_indptr[i] + count
    return complete


@kernel
def sample_shares(indptr, sums, dst_nodes, layer_key, out_indptr, out_edges, out_weight):
    """Draws distinct in-edges of each destination, each with its share as probability, always as many.

    Deville's systematic sampling, which is the pivotal method along the column (Chauvet, On a Characterization of
    Ordered Pivotal Sampling, 2012, https://arxiv.org/abs/1211.5442): the shares stand side by side on a line, every
    unit of the line draws one point, and an edge that reaches into two units has its second chance in the latter unless
    the former drew it. The cost follows the fanout and the logarithm of the in-degree.

    indptr      int64 (num_nodes + 1,)
    sums        int64 (num_edges,)         as `sum_shares` left them
    dst_nodes   int64 (num_dst,)
    layer_key   uint64; draws are keyed by (layer_key, node, draw)
    out_indptr  int64 (num_dst + 1,)       as `count_shares` left it
    out_edges   int64 (out_indptr[-1],)    filled with positions in the graph's `indices`
    out_weight  float32 (out_indptr[-1],)  filled with 1 / probability
    """
    for i in range(dst_nodes.size):
        first, last = _column(indptr, sums, dst_nodes, i)
        key = node_key(layer_key, dst_nodes[i])
        crossing, drawn = first, np.int64(-1)  # the edge that stands where this unit begins; the latest drawn
        for unit in range(out_indptr[i + 1] - out_indptr[i]):
            start = unit * _ONE
            before = sums[crossing - 1] if crossing > first else np.int64(0)
            behind, ahead = start - before, np.int64(0)  # of the crossing edge: share left and right of the start
            if behind > 0:
                ahead = sums[crossing] - start
            if drawn != crossing and ahead > 0 and random_below(key, 2 * unit, _ONE - behind) < ahead:
                drawn = crossing
            else:
                point = start + ahead + random_below(key, 2 * unit + 1, _ONE - ahead)
                drawn = _first_above(sums, crossing, last, point)
            crossing = _first_above(sums, drawn, last, start + _ONE)
            out = out_indptr[i] + unit
            out_edges[out] = drawn
            out_weight[out] = WHOLE / _share(sums, first, drawn)


@kernel
def count_independent(indptr, sums, dst_nodes, fanout, out_indptr):
    """As `count_shares` for `sample_independent`: `fanout` for every destination with something to draw."""
    out_indptr[0] = 0
    for i in range(dst_nodes.size):
        first, last = _column(indptr, sums, dst_nodes, i)
        out_indptr[i + 1] = out_indptr[i] + (fanout if last > first and sums[last - 1] > 0 else 0)


@kernel
def sample_independent(indptr, sums, dst_nodes, layer_key, out_indptr, out_edges, out_weight):
    """Draws in-edges of each destination again and again, proportionally to their weights.

    As `sample_shares`, with `sums` made for a fanout of 1; out_weight is 1 / (probability x number of draws).
    """
    for i in range(dst_nodes.size):
        first, last = _column(indptr, sums, dst_nodes, i)
        key = node_key(layer_key, dst_nodes[i])
        fanout = out_indptr[i + 1] - out_indptr[i]
        for k in range(fanout):
            edge = _first_above(sums, first, last, random_below(key, k, _ONE))
            out_edges[out_indptr[i] + k] = edge
            out_weight[out_indptr[i] + k] = WHOLE / (np.float64(_share(sums, first, edge)) * fanout)


@kernel
def list_shares(indptr, sums, nodes, out_shares):
    """The shares of the in-edges of nodes, node by node, float64, as probabilities.

    out_shares  float64 (sum of in-degrees,)   filled
    """
    count = 0
    for i in range(nodes.size):
        first, last = indptr[nodes[i]], indptr[nodes[i] + 1]
        for edge in range(first, last):
            out_shares[count] = _share(sums, first, edge) / WHOLE
            count += 1


@inline
def _column(indptr, sums, dst_nodes, i):
    """Where the column of destination i begins and ends; asks for the memory of those that follow."""
    if i + _AHEAD < dst_nodes.size:
        prefetch(indptr, dst_nodes[i + _AHEAD])
    if i + _AHEAD // 2 < dst_nodes.size:
        prefetch(sums, indptr[dst_nodes[i + _AHEAD // 2] + 1] - 1)
    return indptr[dst_nodes[i]], indptr[dst_nodes[i] + 1]


@inline
def _share(sums, first, edge):
    return sums[edge] - sums[edge - 1] if edge > first else sums[edge]


@inline
def _first_above(sums, low, high, point):
    """The first of the edges from `low` to before `high` whose sum is above the point; `high` where there is none."""
    while low < high:
        middle = (low + high) // 2
        if sums[middle] > point:
            high = middle
        else:
            low = middle + 1
    return low
