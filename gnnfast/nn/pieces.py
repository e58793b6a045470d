"""Sums over rows, made piece by piece: a piece stays in the cache while it is turned round and multiplied.

Each piece is too small to gain from several threads; several threads have pieces of their own instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from threading import Barrier

import torch
from torch import Tensor

# Rows in single precision, of some hundred channels.
_ROWS_AT_ONCE = 768
# Partial sums, whatever the number of threads: the same bits for any.
_SHARES = 8


def add_pieces(
    add: Callable[[list[Tensor], slice], None], totals: list[Tensor], num_rows: int, item_bytes: int
) -> None:
    """Adds to totals what `add` adds to them for some rows, for all of them.

    Args:
        add: Called as `add(totals, rows)`, on several threads at once, with totals for itself that begin as zeros;
            records no gradients.
        totals: Zeros.
        num_rows: How many rows there are.
        item_bytes: Of a value of theirs.
    """
    size = _ROWS_AT_ONCE * 4 // item_bytes
    num_pieces = -(-num_rows // size)
    num_shares = min(_SHARES, num_pieces)
    if num_shares <= 1:
        _add_share(add, size, totals, 0, num_rows)
        return
    bounds = [min(num_pieces * i // num_shares * size, num_rows) for i in range(num_shares + 1)]
    parts = [totals, *([torch.zeros_like(total) for total in totals] for _ in bounds[2:])]
    shares = partial(_add_share, add, size), parts, bounds[:-1], bounds[1:]
    num_threads = torch.get_num_threads()
    list(map(*shares) if num_threads == 1 else _workers(os.getpid(), min(num_threads, _SHARES)).map(*shares))
    for part in parts[1:]:
        torch._foreach_add_(totals, part)


@torch.no_grad()
def _add_share(
    add: Callable[[list[Tensor], slice], None], size: int, totals: list[Tensor], first: int, last: int
) -> None:
    for start in range(first, last, size):
        add(totals, slice(start, min(start + size, last)))


@lru_cache(maxsize=1)
def _workers(process_id: int, num_threads: int) -> ThreadPoolExecutor:
    """Threads on each of which torch computes alone. Keyed by process: a forked child inherits none of them."""
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="gnnfast-pieces")
    torch_threads = torch.get_num_threads()
    # A task each, none over before all have begun: so every thread is there, and has one.
    begun = Barrier(num_threads)
    list(pool.map(_compute_alone, [begun] * num_threads))
    # The number is of a thread, but the last one set is what later threads start with.
    torch.set_num_threads(torch_threads)
    return pool


def _compute_alone(begun: Barrier) -> None:
    # Read first: the first reading takes the number of the whole process over.
    torch.get_num_threads()
    torch.set_num_threads(1)
    begun.wait()
