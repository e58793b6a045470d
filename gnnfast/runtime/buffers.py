"""Memory that goes round instead of being freed: fresh pages cost more than what is written to them."""

from __future__ import annotations

import mmap
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

# Below this, malloc hands out memory that it already holds.
_SMALLEST_POOLED = 1 << 16
# From this on, buffers are taken from the system: as large as one of its large pages.
_SMALLEST_MAPPED = 1 << 21


@dataclass
class Reuse:
    """How often pools have leased memory since a moment, and how often it was memory that had come back."""

    leased: int = 0
    again: int = 0


_watching: list[Reuse] = []


@contextmanager
def pooling_from(num_bytes: int) -> Iterator[Reuse]:
    """Has all pools of the process lend memory of this size already, so that checks on small graphs reach them."""
    global _SMALLEST_POOLED
    before, reuse = _SMALLEST_POOLED, Reuse()
    _SMALLEST_POOLED = num_bytes
    _watching.append(reuse)
    try:
        yield reuse
    finally:
        _watching.remove(reuse)
        _SMALLEST_POOLED = before


class BufferPool:
    """Leases CPU memory for tensors and takes it back when the last tensor that views it is gone.

    The lease lives under the tensor's storage, so any view keeps the memory: a row that a user holds on to stays as it
    was. Safe to use from several threads.

    Args:
        max_free_bytes: Memory kept for later; what comes back beyond it is freed.
    """

    def __init__(self, max_free_bytes: int = 1 << 30):
        self.max_free_bytes = max_free_bytes
        self.free_bytes = 0
        self._free: dict[int, list[np.ndarray]] = {}
        # Re-entrant: garbage collection may give a buffer back while this thread takes one.
        self._lock = threading.RLock()

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A contiguous, uninitialized tensor."""
        num_bytes = prod(shape) * dtype.itemsize
        if num_bytes < _SMALLEST_POOLED:
            return torch.empty(tuple(shape), dtype=dtype)
        raw = self._take(pooled_bytes(num_bytes))
        lease = raw[:]
        weakref.finalize(lease, self._give_back, raw).atexit = False
        return torch.from_numpy(lease)[:num_bytes].view(dtype).view(*shape)

    def __reduce__(self) -> tuple[type[BufferPool], tuple[int]]:
        """A copy is a pool of its own: what this one has lent and holds stays here."""
        return type(self), (self.max_free_bytes,)

    def _take(self, num_bytes: int) -> np.ndarray:
        with self._lock:
            free = self._free.get(num_bytes)
            for reuse in _watching:
                reuse.leased += 1
                reuse.again += bool(free)
            if free:
                self.free_bytes -= num_bytes
                return free.pop()
        return _fresh(num_bytes)

    def _give_back(self, raw: np.ndarray) -> None:
        with self._lock:
            if self.free_bytes + raw.nbytes <= self.max_free_bytes:
                self._free.setdefault(raw.nbytes, []).append(raw)
                self.free_bytes += raw.nbytes


def pooled_bytes(num_bytes: int) -> int:
    """What a pool takes for so many bytes, the next of four sizes per doubling: batches differ a little, their buffers
    should not.
    """
    step = 1 << max(num_bytes.bit_length() - 3, 0)
    return (num_bytes + step - 1) // step * step


def _fresh(num_bytes: int) -> np.ndarray:
    """Memory of its own, in large pages where the system has them: freed, it leaves no hole among smaller pieces."""
    if num_bytes < _SMALLEST_MAPPED or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(num_bytes, np.uint8)
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
