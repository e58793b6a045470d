"""Running a serial kernel on several threads, each on its own range of rows.

A pool of Python threads around kernels that release the interpreter lock, in place of numba's `prange`: it may be
entered from several threads at once (workqueue aborts), it survives a fork (OpenMP does not), idle threads sleep, and
on the rows of a mini-batch it is as fast. No row is shared, so results do not depend on the number of threads.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

_BYTES_PER_RANGE = 1 << 19  # less work than this does not pay for waking a thread


def run_by_column(kernel, num_threads, row_bytes, indptr, *arguments):
    """Calls `kernel(first, last, indptr, *arguments)` on ranges of columns with about equally many edges.

    indptr     int64 (num_columns + 1,)
    row_bytes  bytes that the kernel reads per edge, and writes per column
    """
    num_columns = indptr.size - 1
    num_bytes = (num_columns + indptr[num_columns]) * row_bytes
    num_ranges = max(1, min(num_threads, int(num_bytes) // _BYTES_PER_RANGE))
    if num_ranges == 1:
        kernel(0, num_columns, indptr, *arguments)
        return
    # An edge costs what a column does: cut the line of both together.
    work = np.linspace(0, num_columns + indptr[num_columns], num_ranges + 1)[1:-1]
    cuts = [_find_column(indptr, target) for target in work]
    _run([0, *cuts], [*cuts, num_columns], kernel, indptr, *arguments)


def run_by_range(kernel, num_threads, size, num_bytes, *arguments):
    """Calls `kernel(first, last, *arguments)` on equal ranges of [0, size), by the bytes it moves in all."""
    num_ranges = max(1, min(num_threads, size, num_bytes // _BYTES_PER_RANGE))
    bounds = [size * i // num_ranges for i in range(num_ranges + 1)]
    _run(bounds[:-1], bounds[1:], kernel, *arguments)


def _find_column(indptr, target):
    """The first column v with v + indptr[v] >= target."""
    low, high = 0, indptr.size - 1
    while low < high:
        middle = (low + high) // 2
        if middle + indptr[middle] < target:
            low = middle + 1
        else:
            high = middle
    return low


def _run(firsts, lasts, kernel, *arguments):
    """Runs all ranges, the first one on the calling thread."""
    others = [
        _pool(os.getpid()).submit(kernel, first, last, *arguments)
        for first, last in zip(firsts[1:], lasts[1:], strict=True)
    ]
    kernel(firsts[0], lasts[0], *arguments)
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(process_id):
    """Keyed by process: a forked child inherits the pool object but none of its threads."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="gnnfast-kernel")
