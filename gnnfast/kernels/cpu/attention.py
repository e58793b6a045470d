"""Softmax attention over the in-edges of each destination, forward and backward, without a row per edge.

Shared by all kernels: `x` has `heads` rows per source, or one that all heads read. Softmaxed weights are kept with
their sign: a negative weight is one that dropout dropped, and the others count `keep_scale` fold. A destination's own
term (`self_...`) is there unless these arrays have no row; then edges from a node to itself count as absent.
The kernels fill rows `first` to `last` (`kernels/cpu/parallel.py`) and share none, so that results do not depend on the
number of threads. Floats are of one type, float32 or float64: the caller widens half precision. Positions are
unsigned, which spares a test for negative ones at every access.
"""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, inline_unordered, kernel, prefetch
from gnnfast.kernels.cpu.exponential import exponential
from gnnfast.kernels.cpu.random import random_bits

_AHEAD = 4  # edges whose row is asked for before it is needed
_LINE_BYTES = 64
_TILE = 64  # destinations whose rows stay in the cache from their scores to their sums
CHUNK = 1024  # destinations whose part of a gradient is summed at once, on any number of threads
_LANES = 4  # draws of 16 bits in 64


@kernel
def gat(
    first,
    last,
    indptr,
    indices,
    src_score,
    dst_score,
    inclusion_weight,
    negative_slope,
    drop_level,
    keep_scale,
    key,
    x,
    weight,
    self_weight,
    out,
):
    """out[v] = the sum over u -> v of weight[u -> v] x[u], by head, where weight = softmax(leaky_relu(scores)).

    indptr            int64 (num_dst + 1,)
    indices           integers (num_edges,)
    src_score         floats (num_src, heads)
    dst_score         floats (num_dst, heads)
    inclusion_weight  floats (num_edges or 0,)                   factors of the exponentials
    negative_slope    float                                      of leaky_relu
    drop_level        uint64                                     dropped are draws of 16 bits below it
    keep_scale        float                                      factor of the weights that are kept
    key               uint64                                     of these draws
    x                 floats (num_src, heads or 1, channels)     C-contiguous
    weight            floats (num_edges, heads)                  filled
    self_weight       floats (num_dst or 0, heads)               filled
    out               floats (num_dst, heads, channels)          filled
    """
    for start in range(first, last, _TILE):
        tile = (np.uint64(start), np.uint64(min(start + _TILE, last)))
        _gat_scores(tile, indptr, indices, src_score, dst_score, negative_slope, x, weight, self_weight)
        _softmax(tile, indptr, inclusion_weight, weight, self_weight)
        if drop_level > 0:
            _drop(tile, indptr, drop_level, key, weight, self_weight)
        _sum_rows(tile, indptr, indices, keep_scale, x, weight, self_weight, out)


@kernel
def gat_backward(
    first,
    last,
    src_indptr,
    src_indices,
    src_edges,
    src_score,
    dst_score,
    negative_slope,
    keep_scale,
    x,
    weight,
    self_weight,
    g,
    mean,
    edge_gradient,
    self_gradient,
    src_gradient,
    x_gradient,
):
    """The gradients of `gat` for a range of sources, from g, that of its result.

    With p the softmaxed weights, m their dropout factors and z the scores, the gradient of z[u -> v] is
    p (m <g[v], x[u]> - <g[v], out[v]>): the sum over the neighbors that a softmax subtracts is a product with `out`.

    src_indptr     int64 (num_src + 1,)                    the transposed block: out-edges of each source,
    src_indices    integers (num_edges,)                   their destinations
    src_edges      integers (num_edges,)                   and positions in the block
    g              floats (num_dst, heads, channels)       C-contiguous
    mean           floats (num_dst, heads)                 <g[v], out[v]>
    edge_gradient  floats (num_edges, heads)               filled: gradients of the sums of scores
    self_gradient  floats (num_dst or 0, heads)            filled: the same of own terms
    src_gradient   floats (num_src, heads)                 filled: gradient of src_score
    x_gradient     floats (num_src, heads or 1, channels)  filled

    The other arrays as in `gat`.
    """
    num_heads = np.uint64(g.shape[1])
    num_src_edges = np.uint64(src_indices.shape[0])
    for u in range(np.uint64(first), np.uint64(last)):
        x_gradient[u] = 0
        src_gradient[u] = 0
        if u < np.uint64(self_weight.shape[0]):
            for head in range(num_heads):
                p, m = _split(self_weight[u, head], keep_scale)
                _add_scaled(x_gradient, u, head, p * m, g, u)
                gradient = p * (m * _dot(g, u, head, x, u) - mean[u, head])
                gradient *= _slope(src_score[u, head] + dst_score[u, head], negative_slope)
                self_gradient[u, head] = gradient
                src_gradient[u, head] = gradient
        for k in range(np.uint64(src_indptr[u]), np.uint64(src_indptr[u + np.uint64(1)])):
            if k + np.uint64(_AHEAD) < num_src_edges:
                v, e = np.uint64(src_indices[k + np.uint64(_AHEAD)]), np.uint64(src_edges[k + np.uint64(_AHEAD)])
                _prefetch_row(g, v)
                prefetch(mean, v * num_heads)
                prefetch(dst_score, v * num_heads)
                prefetch(weight, e * num_heads)
                prefetch(edge_gradient, e * num_heads)
            v, e = np.uint64(src_indices[k]), np.uint64(src_edges[k])
            for head in range(num_heads):
                p, m = _split(weight[e, head], keep_scale)
                _add_scaled(x_gradient, u, head, p * m, g, v)
                gradient = p * (m * _dot(g, v, head, x, u) - mean[v, head])
                gradient *= _slope(src_score[u, head] + dst_score[v, head], negative_slope)
                edge_gradient[e, head] = gradient
                src_gradient[u, head] += gradient


@kernel
def gat_score_backward(
    first,
    last,
    indptr,
    indices,
    src_score,
    dst_score,
    negative_slope,
    keep_scale,
    x,
    weight,
    self_weight,
    g,
    edge_gradient,
    self_gradient,
):
    """What `gat_backward` gives of edges, for a range of destinations: where x needs no gradient.

    Arrays as in `gat_backward`.
    """
    num_heads = np.uint64(g.shape[1])
    num_edges = np.uint64(indptr[last])
    has_self = self_weight.shape[0] > 0
    for v in range(np.uint64(first), np.uint64(last)):
        begin, end = _edges(indptr, v)
        for e in range(begin, end):
            if e + np.uint64(_AHEAD) < num_edges:
                _prefetch_row(x, np.uint64(indices[e + np.uint64(_AHEAD)]))
            for head in range(num_heads):
                edge_gradient[e, head] = _dot(g, v, head, x, np.uint64(indices[e]))
        for head in range(num_heads):
            mean = weight.dtype.type(0)
            for e in range(begin, end):
                p, m = _split(weight[e, head], keep_scale)
                mean += p * m * edge_gradient[e, head]
            if has_self:
                p, m = _split(self_weight[v, head], keep_scale)
                dot = _dot(g, v, head, x, v)
                mean += p * m * dot
                slope = _slope(src_score[v, head] + dst_score[v, head], negative_slope)
                self_gradient[v, head] = p * (m * dot - mean) * slope
            for e in range(begin, end):
                p, m = _split(weight[e, head], keep_scale)
                slope = _slope(src_score[np.uint64(indices[e]), head] + dst_score[v, head], negative_slope)
                edge_gradient[e, head] = p * (m * edge_gradient[e, head] - mean) * slope


@kernel
def gatv2(
    first,
    last,
    indptr,
    indices,
    asking,
    attention,
    inclusion_weight,
    negative_slope,
    drop_level,
    keep_scale,
    key,
    x,
    weight,
    self_weight,
    out,
):
    """As `gat`, where the score of u -> v is <attention, leaky_relu(x[u] + asking[v])>, by head.

    asking     floats (num_dst, heads, channels)    C-contiguous
    attention  floats (heads, channels)
    x          floats (num_src, heads, channels)    C-contiguous
    """
    for start in range(first, last, _TILE):
        tile = (np.uint64(start), np.uint64(min(start + _TILE, last)))
        _gatv2_scores(tile, indptr, indices, asking, attention, negative_slope, x, weight, self_weight)
        _softmax(tile, indptr, inclusion_weight, weight, self_weight)
        if drop_level > 0:
            _drop(tile, indptr, drop_level, key, weight, self_weight)
        _sum_rows(tile, indptr, indices, keep_scale, x, weight, self_weight, out)


@kernel
def gatv2_backward(
    first,
    last,
    src_indptr,
    src_indices,
    src_edges,
    asking,
    attention,
    negative_slope,
    keep_scale,
    x,
    weight,
    self_weight,
    g,
    mean,
    edge_gradient,
    self_gradient,
    x_gradient,
):
    """The gradients of scores and of x, for a range of sources; arrays as in `gatv2` and `gat_backward`."""
    num_heads = np.uint64(g.shape[1])
    num_src_edges = np.uint64(src_indices.shape[0])
    for u in range(np.uint64(first), np.uint64(last)):
        x_gradient[u] = 0
        if u < np.uint64(self_weight.shape[0]):
            for head in range(num_heads):
                p, m = _split(self_weight[u, head], keep_scale)
                _add_scaled(x_gradient, u, head, p * m, g, u)
                gradient = p * (m * _dot(g, u, head, x, u) - mean[u, head])
                self_gradient[u, head] = gradient
                _add_score_gradient(x_gradient, u, head, gradient, attention, x, u, asking, u, negative_slope)
        for k in range(np.uint64(src_indptr[u]), np.uint64(src_indptr[u + np.uint64(1)])):
            if k + np.uint64(_AHEAD) < num_src_edges:
                v, e = np.uint64(src_indices[k + np.uint64(_AHEAD)]), np.uint64(src_edges[k + np.uint64(_AHEAD)])
                _prefetch_row(g, v)
                _prefetch_row(asking, v)
                prefetch(mean, v * num_heads)
                prefetch(weight, e * num_heads)
                prefetch(edge_gradient, e * num_heads)
            v, e = np.uint64(src_indices[k]), np.uint64(src_edges[k])
            for head in range(num_heads):
                p, m = _split(weight[e, head], keep_scale)
                _add_scaled(x_gradient, u, head, p * m, g, v)
                gradient = p * (m * _dot(g, v, head, x, u) - mean[v, head])
                edge_gradient[e, head] = gradient
                _add_score_gradient(x_gradient, u, head, gradient, attention, x, u, asking, v, negative_slope)


@kernel
def gatv2_asking_backward(
    first,
    last,
    indptr,
    indices,
    asking,
    attention,
    negative_slope,
    x,
    edge_gradient,
    self_gradient,
    asking_gradient,
    attention_gradient,
):
    """The gradients of asking and attention from those of the scores, for chunks `first` to `last` of destinations.

    attention_gradient  floats (chunks, heads, channels)    filled with the sum of each chunk of `CHUNK` destinations
    """
    num_heads = np.uint64(asking.shape[1])
    for chunk in range(first, last):
        attention_gradient[chunk] = 0
        row = np.uint64(chunk)
        for v in range(np.uint64(chunk * CHUNK), np.uint64(min((chunk + 1) * CHUNK, asking.shape[0]))):
            asking_gradient[v] = 0
            for head in range(num_heads):
                if self_gradient.shape[0] > 0:
                    scale = self_gradient[v, head]
                    _add_score_gradient(asking_gradient, v, head, scale, attention, x, v, asking, v, negative_slope)
                    _add_scaled_pair(attention_gradient, row, head, scale, x, v, asking, v, negative_slope)
            for e in range(np.uint64(indptr[v]), np.uint64(indptr[v + np.uint64(1)])):
                if e + np.uint64(_AHEAD) < np.uint64(indices.shape[0]):
                    _prefetch_row(x, np.uint64(indices[e + np.uint64(_AHEAD)]))
                u = np.uint64(indices[e])
                for head in range(num_heads):
                    scale = edge_gradient[e, head]
                    _add_score_gradient(asking_gradient, v, head, scale, attention, x, u, asking, v, negative_slope)
                    _add_scaled_pair(attention_gradient, row, head, scale, x, u, asking, v, negative_slope)


@kernel
def row_dots(first, last, g, x, out):
    """out[v] = the inner product of g[v] and x[v], by head, of (rows, heads, channels)."""
    for v in range(np.uint64(first), np.uint64(last)):
        for head in range(np.uint64(out.shape[1])):
            out[v, head] = _dot(g, v, head, x, v)


@kernel
def sum_by_destination(first, last, indptr, edge_value, self_value, out):
    """out[v] = self_value[v] + the sum of its in-edges' values, by head; self_value (num_dst or 0, heads)."""
    num_heads = np.uint64(out.shape[1])
    for v in range(np.uint64(first), np.uint64(last)):
        for head in range(num_heads):
            out[v, head] = self_value[v, head] if v < np.uint64(self_value.shape[0]) else 0
        for e in range(np.uint64(indptr[v]), np.uint64(indptr[v + np.uint64(1)])):
            for head in range(num_heads):
                out[v, head] += edge_value[e, head]


@kernel
def sum_by_source(first, last, indices, edge_value, self_value, out):
    """out[u] = self_value[u] + the sum of its out-edges' values, by head, for sources `first` to `last`.

    Reads all edges, in any number of ranges: cheaper than a transposed block where that is needed for nothing else.
    """
    low, high = np.uint64(first), np.uint64(last)
    num_heads = np.uint64(out.shape[1])
    for u in range(low, high):
        for head in range(num_heads):
            out[u, head] = self_value[u, head] if u < np.uint64(self_value.shape[0]) else 0
    for e in range(np.uint64(indices.shape[0])):
        u = np.uint64(indices[e])
        if low <= u < high:
            for head in range(num_heads):
                out[u, head] += edge_value[e, head]


@inline
def _gat_scores(tile, indptr, indices, src_score, dst_score, negative_slope, x, weight, self_weight):
    """Fills the weights of a tile with scores, -infinity for edges that count as absent."""
    num_heads = np.uint64(weight.shape[1])
    has_self = self_weight.shape[0] > 0
    for v in range(*tile):
        begin, end = _edges(indptr, v)
        for e in range(begin, end):
            if e + np.uint64(_AHEAD) < np.uint64(indices.shape[0]):
                u = np.uint64(indices[e + np.uint64(_AHEAD)])
                prefetch(src_score, u * num_heads)
                _prefetch_row(x, u)
        for head in range(num_heads):
            if has_self:
                self_weight[v, head] = _leaky_relu(src_score[v, head] + dst_score[v, head], negative_slope)
            for e in range(begin, end):
                u = np.uint64(indices[e])
                score = _leaky_relu(src_score[u, head] + dst_score[v, head], negative_slope)
                weight[e, head] = -np.inf if has_self and u == v else score


@inline
def _gatv2_scores(tile, indptr, indices, asking, attention, negative_slope, x, weight, self_weight):
    """As `_gat_scores`."""
    num_heads = np.uint64(weight.shape[1])
    has_self = self_weight.shape[0] > 0
    for v in range(*tile):
        begin, end = _edges(indptr, v)
        if has_self:
            for head in range(num_heads):
                self_weight[v, head] = _gatv2_score(asking, v, x, v, attention, head, negative_slope)
        for e in range(begin, end):
            if e + np.uint64(_AHEAD) < np.uint64(indices.shape[0]):
                _prefetch_row(x, np.uint64(indices[e + np.uint64(_AHEAD)]))
            u = np.uint64(indices[e])
            for head in range(num_heads):
                score = _gatv2_score(asking, v, x, u, attention, head, negative_slope)
                weight[e, head] = -np.inf if has_self and u == v else score


@inline_unordered
def _gatv2_score(asking, v, x, u, attention, head, negative_slope):
    total = x.dtype.type(0)
    for c in range(np.uint64(x.shape[2])):
        total += attention[head, c] * _leaky_relu(x[u, head, c] + asking[v, head, c], negative_slope)
    return total


@inline
def _softmax(tile, indptr, inclusion_weight, weight, self_weight):
    """Replaces the scores of a tile by their softmax."""
    num_heads = np.uint64(weight.shape[1])
    has_self = self_weight.shape[0] > 0
    for v in range(*tile):
        begin, end = _edges(indptr, v)
        for head in range(num_heads):
            _subtract_highest(v, begin, end, head, weight, self_weight)
    _exponentials(weight.reshape(-1), np.uint64(indptr[tile[0]]) * num_heads, np.uint64(indptr[tile[1]]) * num_heads)
    if has_self:
        _exponentials(self_weight.reshape(-1), tile[0] * num_heads, tile[1] * num_heads)
    for v in range(*tile):
        begin, end = _edges(indptr, v)
        for head in range(num_heads):
            total = weight.dtype.type(0)
            if has_self:
                total += self_weight[v, head]
            for e in range(begin, end):
                if inclusion_weight.shape[0] > 0:
                    weight[e, head] *= inclusion_weight[e]
                total += weight[e, head]
            scale = weight.dtype.type(1) / total if total > 0 else total
            for e in range(begin, end):
                weight[e, head] *= scale
            if has_self:
                self_weight[v, head] *= scale


@inline
def _subtract_highest(v, begin, end, head, weight, self_weight):
    has_self = self_weight.shape[0] > 0
    high = self_weight[v, head] if has_self else weight.dtype.type(-np.inf)
    for e in range(begin, end):
        high = max(high, weight[e, head])
    for e in range(begin, end):
        weight[e, head] -= high
    if has_self:
        self_weight[v, head] -= high


@inline
def _exponentials(values, begin, end):
    for k in range(begin, end):
        values[k] = exponential(values[k])


@inline
def _drop(tile, indptr, drop_level, key, weight, self_weight):
    """Turns the sign of the weights of a tile that are dropped."""
    num_heads = np.uint64(weight.shape[1])
    first_edge, last_edge = np.uint64(indptr[tile[0]]), np.uint64(indptr[tile[1]])
    _turn_signs(weight.reshape(-1), first_edge * num_heads, last_edge * num_heads, np.uint64(0), drop_level, key)
    if self_weight.shape[0] > 0:
        values, after = self_weight.reshape(-1), np.uint64(weight.size)
        _turn_signs(values, tile[0] * num_heads, tile[1] * num_heads, after, drop_level, key)


@inline
def _turn_signs(values, begin, end, after, drop_level, key):
    for k in range(begin, end):
        if _draw(key, after + k) < drop_level:
            values[k] = -values[k]


@inline
def _draw(key, position):
    """16 random bits for each position: four draws share one hash."""
    bits = random_bits(key, np.int64(position // np.uint64(_LANES)))
    return (bits >> (np.uint64(16) * (position % np.uint64(_LANES)))) & np.uint64(0xFFFF)


@inline
def _sum_rows(tile, indptr, indices, keep_scale, x, weight, self_weight, out):
    num_heads, num_channels = np.uint64(out.shape[1]), np.uint64(out.shape[2])
    for v in range(*tile):
        for head in range(num_heads):
            for c in range(num_channels):
                out[v, head, c] = 0
            if self_weight.shape[0] > 0:
                p, m = _split(self_weight[v, head], keep_scale)
                _add_scaled(out, v, head, p * m, x, v)
        begin, end = _edges(indptr, v)
        for e in range(begin, end):
            u = np.uint64(indices[e])
            for head in range(num_heads):
                p, m = _split(weight[e, head], keep_scale)
                _add_scaled(out, v, head, p * m, x, u)


@inline
def _edges(indptr, v):
    return np.uint64(indptr[v]), np.uint64(indptr[v + np.uint64(1)])


@inline
def _add_scaled(out, i, head, scale, x, j):
    """out[i, head] += scale * x[j, head], where either may have one row for all heads."""
    to = head if out.shape[1] > 1 else np.uint64(0)
    row = head if x.shape[1] > 1 else np.uint64(0)
    for c in range(np.uint64(out.shape[2])):
        out[i, to, c] += scale * x[j, row, c]


@inline
def _add_score_gradient(out, i, head, scale, attention, x, u, asking, v, negative_slope):
    """out[i, head] += scale times the gradient of the score of u -> v for x[u, head], and for asking[v, head]."""
    for c in range(np.uint64(out.shape[2])):
        slope = _slope(x[u, head, c] + asking[v, head, c], negative_slope)
        out[i, head, c] += scale * attention[head, c] * slope


@inline
def _add_scaled_pair(out, i, head, scale, x, u, asking, v, negative_slope):
    """out[i, head] += scale * leaky_relu(x[u, head] + asking[v, head])."""
    for c in range(np.uint64(out.shape[2])):
        out[i, head, c] += scale * _leaky_relu(x[u, head, c] + asking[v, head, c], negative_slope)


@inline_unordered
def _dot(g, v, head, x, u):
    """The inner product of g[v, head] and x[u, head], where x may have one row for all heads."""
    row = head if x.shape[1] > 1 else np.uint64(0)
    total = g.dtype.type(0)
    for c in range(np.uint64(g.shape[2])):
        total += g[v, head, c] * x[u, row, c]
    return total


@inline
def _split(weight, keep_scale):
    """The softmaxed weight and the factor of dropout."""
    return abs(weight), keep_scale if weight > 0 else type(keep_scale)(0)


@inline
def _leaky_relu(score, negative_slope):
    return score if score > 0 else score * negative_slope


@inline
def _slope(score, negative_slope):
    return type(negative_slope)(1) if score > 0 else negative_slope


@inline
def _prefetch_row(x, i):
    row_size = np.uint64(x.shape[1] * x.shape[2])
    for c in range(np.uint64(0), row_size, np.uint64(_LINE_BYTES // x.itemsize)):
        prefetch(x, i * row_size + c)
