"""Sums, products and maxima over the in-edges of each destination: what a convolution aggregates with.

Features come as (rows, heads, channels), weights as (edges, heads): one head for anything but attention. An empty
`weight` of shape (0, heads) means 1. The kernels fill rows `first` to `last`, so that threads can share the work
(`kernels/cpu/parallel.py`). Sums run in the type of the weights, float32 or float64; rows may also be bfloat16, as
uint16 bit patterns.
"""

import numpy as np

from gnnfast.kernels.cpu.bfloat16 import rounded_to, widened
from gnnfast.kernels.cpu.compile import inline, kernel, prefetch

_AHEAD = 4  # edges whose source row is asked for before it is needed
_BYTES_AHEAD = 1 << 12  # the same by the size of rows, where these may be small
_ONE, _TWO = np.uint64(1), np.uint64(2)
_LINE_BYTES = 64


@kernel
def segment_sum(first, last, indptr, indices, weight, self_weight, x, own_part, out):
    """out[v] = self_weight[v] * x[v] + the sum over in-edges u -> v of weight[u -> v] * x[u].

    Rows may have more parts than the weights have heads: part h of x is summed to part h of `out`, for each head h.

    indptr       int64 (num_dst + 1,)
    indices      integers (num_edges,)
    weight       floats (num_edges or 0, heads)
    self_weight  floats (at most num_dst, heads)      rows beyond it have no own term
    x            rows (num_src, parts, channels)      C-contiguous
    own_part     of x, from which on the own terms are taken, head by head
    out          rows (num_dst, parts, channels)      the first `heads` parts are filled, and where there are as many
                                                      more, these with x[v]
    """
    num_heads, num_channels = weight.shape[1], x.shape[2]
    row_size, num_read = x.shape[1] * num_channels, num_heads * num_channels
    ahead = np.uint64(min(max(_BYTES_AHEAD // max(num_read * x.itemsize, 1), 4), 16))
    end = np.uint64(indptr[last])
    is_weighted = weight.shape[0] > 0
    one = weight.dtype.type(1)
    row = np.empty(num_channels, weight.dtype)
    for v in range(first, last):
        for head in range(num_heads):
            if v < self_weight.shape[0]:
                scale = self_weight[v, head]
                for c in range(num_channels):
                    row[c] = scale * widened(x[v, own_part + head, c])
            else:
                row[:] = 0
            # Two edges at a time: half as often is the sum read and written. Unsigned: no position is asked whether it
            # counts from the end.
            e = np.uint64(indptr[v])
            while e + _ONE < np.uint64(indptr[v + 1]):
                if head == 0:
                    _prefetch_row(x, row_size, num_read, indices, e + ahead, end)
                    _prefetch_row(x, row_size, num_read, indices, e + ahead + _ONE, end)
                u, u2 = np.uint64(indices[e]), np.uint64(indices[e + _ONE])
                scale = weight[e, head] if is_weighted else one
                scale2 = weight[e + _ONE, head] if is_weighted else one
                for c in range(num_channels):
                    row[c] += scale * widened(x[u, head, c]) + scale2 * widened(x[u2, head, c])
                e += _TWO
            if e < np.uint64(indptr[v + 1]):
                if head == 0:
                    _prefetch_row(x, row_size, num_read, indices, e + ahead, end)
                u = np.uint64(indices[e])
                scale = weight[e, head] if is_weighted else one
                for c in range(num_channels):
                    row[c] += scale * widened(x[u, head, c])
            for c in range(num_channels):
                out[v, head, c] = rounded_to(out, row[c])
            if out.shape[1] > num_heads:
                out[v, num_heads + head, :] = x[v, head, :]


@kernel
def segment_dot(first, last, indptr, indices, g, x, out):
    """out[u -> v] = the inner product of g[v] and x[u], by head: the gradient of `segment_sum` for its weights.

    indptr   int64 (num_dst + 1,)
    indices  integers (num_edges,)
    g        floats (num_dst, heads, channels)    C-contiguous
    x        floats (num_src, heads, channels)    C-contiguous
    out      floats (num_edges, heads)            filled for the in-edges of the range
    """
    num_heads, num_channels = x.shape[1], x.shape[2]
    products = np.empty(num_channels, dtype=x.dtype)
    for v in range(first, last):
        for e in range(indptr[v], indptr[v + 1]):
            _prefetch_row(x, num_heads * num_channels, num_heads * num_channels, indices, e + _AHEAD, indptr[last])
            u = indices[e]
            for head in range(num_heads):
                for c in range(num_channels):
                    products[c] = g[v, head, c] * x[u, head, c]
                out[e, head] = _fold(products)


@kernel
def segment_max(first, last, indptr, indices, x, out, out_source):
    """out[v] = the largest x[u] over in-edges u -> v, channel by channel; 0 for a column without edges.

    indptr      int64 (num_dst + 1,)
    indices     integers (num_edges,)
    x           floats (num_src, channels)      C-contiguous
    out         floats (num_dst, channels)      filled; NaN where a source has NaN
    out_source  integers (num_dst, channels)    filled with the u that won, the first of equals; -1 for no edge
    """
    num_channels = x.shape[1]
    for v in range(first, last):
        row, winner = out[v], out_source[v]
        if indptr[v] == indptr[v + 1]:
            row[:] = 0
            winner[:] = -1
            continue
        row[:] = x[indices[indptr[v]]]
        winner[:] = indices[indptr[v]]
        for e in range(indptr[v] + 1, indptr[v + 1]):
            _prefetch_row(x, num_channels, num_channels, indices, e + _AHEAD, indptr[last])
            u = indices[e]
            for c in range(num_channels):
                value = x[u, c]
                wins = (value > row[c]) | ((value != value) & (row[c] == row[c]))
                row[c] = value if wins else row[c]
                winner[c] = u if wins else winner[c]


@kernel
def segment_max_backward(first, last, source, g, out):
    """out[u] = the sum of g[v] over the v that u won, for channels `first` to `last`.

    source  integers (num_dst, channels)    as `segment_max` left it
    g       floats (num_dst, channels)
    out     floats (num_src, channels)      filled
    """
    out[:, first:last] = 0
    for v in range(source.shape[0]):
        for c in range(first, last):
            if source[v, c] >= 0:
                out[source[v, c], c] += g[v, c]


@kernel
def mean_weights(indptr, weight, out):
    """out[u -> v] = weight[u -> v] / sum of the weights into v, so that `segment_sum` gives the weighted mean.

    indptr  int64 (num_dst + 1,)
    weight  floats (num_edges or 0,)
    out     floats (num_edges,)    filled; 0 where the weights into v sum to 0
    """
    for v in range(indptr.size - 1):
        total = np.float64(indptr[v + 1] - indptr[v])
        if weight.size > 0:
            total = 0.0
            for e in range(indptr[v], indptr[v + 1]):
                total += weight[e]
        scale = 1.0 / total if total != 0 else 0.0
        for e in range(indptr[v], indptr[v + 1]):
            out[e] = weight[e] * scale if weight.size > 0 else scale


@inline
def _prefetch_row(x, row_size, num_read, indices, e, num_edges):
    if e < num_edges:
        start = np.int64(indices[e]) * row_size
        for c in range(0, num_read, _LINE_BYTES // x.itemsize):
            prefetch(x, start + c)


@inline
def _fold(values):
    """The sum, by adding the upper half to the lower: vectorized, which the compiler may not do to a running sum."""
    size = values.size
    while size > 8:
        half = (size + 1) // 2
        for c in range(size - half):
            values[c] += values[c + half]
        size = half
    total = values[0]
    for c in range(1, size):
        total += values[c]
    return total
