"""Copying rows by id: the bytes that feeding a model comes down to."""

import numpy as np

from gnnfast.kernels.cpu.bfloat16 import rounded_to
from gnnfast.kernels.cpu.compile import copy_past_caches, finish_copies, inline, kernel, prefetch

_BYTES_AHEAD = 1 << 13  # of rows that are asked for before they are needed
_WORDS_PER_LINE = 16  # of 4 bytes, in a cache line of 64
# What is larger than a share of the last cache, in rows of several lines, is written past the caches: a line that is
# not read before it is written saves a third of the traffic.
_STREAMED_BYTES = 1 << 22
_STREAMED_ROW_BYTES = 1 << 8


@kernel
def gather_rows(rows, ids, out):
    """out[i] = rows[ids[i]], as plain 4-, 2- or 1-byte words.

    rows  words (num_rows, num_words)    C-contiguous, in RAM or memory-mapped
    ids   integers (num_ids,)
    out   words (num_ids, num_words)
    """
    num_words = rows.shape[1]
    row_bytes = num_words * rows.itemsize
    streams = (
        ids.size * row_bytes >= _STREAMED_BYTES
        and row_bytes >= _STREAMED_ROW_BYTES
        and row_bytes % 16 == 0
        and out.ctypes.data % 16 == 0
    )
    ahead = _rows_ahead(row_bytes)
    for i in range(ids.size):
        if i + ahead < ids.size:
            start = ids[i + ahead] * num_words
            for word in range(0, num_words, _WORDS_PER_LINE):
                prefetch(rows, start + word)
        source = ids[i]
        if streams:
            copy_past_caches(rows, source * num_words, out, i * num_words, num_words)
        else:
            for word in range(num_words):
                out[i, word] = rows[source, word]
    if streams:
        finish_copies()


@kernel
def gather_rounded(rows, ids, out):
    """out[i] = rows[ids[i]], rounded to bfloat16.

    rows  float32 (num_rows, num_columns)    C-contiguous
    ids   integers (num_ids,)
    out   uint16 (num_ids, num_columns)      filled with bit patterns
    """
    num_columns = rows.shape[1]
    ahead = _rows_ahead(num_columns * rows.itemsize)
    for i in range(ids.size):
        if i + ahead < ids.size:
            start = ids[i + ahead] * num_columns
            for column in range(0, num_columns, _WORDS_PER_LINE):
                prefetch(rows, start + column)
        source = np.uint64(ids[i])
        for column in range(num_columns):
            out[i, column] = rounded_to(out, rows[source, column])


@inline
def _rows_ahead(row_bytes):
    return min(max(_BYTES_AHEAD // max(row_bytes, 1), 4), 32)


@kernel
def gather_values(values, ids, out):
    """out[i] = values[ids[i]], one value each.

    values  anything (num_values,)
    ids     integers (num_ids,)
    out     like values (num_ids,)
    """
    for i in range(ids.size):
        if i + 128 < ids.size:
            prefetch(values, ids[i + 128])
        out[i] = values[np.uint64(ids[i])]
