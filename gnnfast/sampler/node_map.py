"""Local numbers of a mini-batch's nodes, given as they appear."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gnnfast.kernels.cpu import induce
from gnnfast.kernels.cpu import relabel as kernels

# Up to here a map from every node to its number is affordable per thread, and several times faster than a hash table.
DENSE_LIMIT = 100_000_000


class NodeMap(Protocol):
    """Numbers nodes 0, 1, 2, ... in the order of their first appearance."""

    count: int

    def start(self, seed_nodes: np.ndarray) -> np.ndarray:
        """Forgets everything and numbers the distinct seeds; returns each seed's number, int64."""

    def add(self, indices: np.ndarray, edges: np.ndarray, out: np.ndarray) -> None:
        """Numbers the sources `indices[edges]` into `out`, int32."""

    def nodes(self) -> np.ndarray:
        """The nodes by number, int64, `(count,)`; valid until the next call of another method."""

    def induce(
        self, indptr: np.ndarray, indices: np.ndarray, out_indptr: np.ndarray, out: np.ndarray, out_edges: np.ndarray
    ) -> None:
        """Lists the edges among numbered nodes; arguments as those of `kernels.cpu.induce.induce_dense`."""


class DenseNodeMap:
    """A table with one entry per node of the graph: 4 bytes each."""

    def __init__(self, num_nodes: int):
        self.count = 0
        self._local_of = np.full(num_nodes, -1, np.int32)
        self._nodes = np.empty(0, np.int64)

    def start(self, seed_nodes: np.ndarray) -> np.ndarray:
        kernels.forget_dense(self.nodes(), self._local_of)
        self._nodes = _at_least(self._nodes, 0, seed_nodes.size)
        rows = np.empty(seed_nodes.size, np.int64)
        self.count = kernels.relabel_seeds_dense(seed_nodes, self._local_of, self._nodes, rows)
        return rows

    def add(self, indices: np.ndarray, edges: np.ndarray, out: np.ndarray) -> None:
        self._nodes = _at_least(self._nodes, self.count, self.count + edges.size)
        self.count = kernels.relabel_dense(indices, edges, self._local_of, self._nodes, self.count, out)

    def nodes(self) -> np.ndarray:
        return self._nodes[: self.count]

    def induce(
        self, indptr: np.ndarray, indices: np.ndarray, out_indptr: np.ndarray, out: np.ndarray, out_edges: np.ndarray
    ) -> None:
        induce.induce_dense(indptr, indices, self.nodes(), self._local_of, out_indptr, out, out_edges)


class HashNodeMap:
    """A hash table as large as the mini-batch, for graphs whose nodes would fill the memory of every thread."""

    def __init__(self) -> None:
        self.count = 0
        self._nodes = np.empty(0, np.int64)
        self._keys = np.empty(0, np.int64)
        self._values = np.empty(0, np.int32)

    def start(self, seed_nodes: np.ndarray) -> np.ndarray:
        self.count = 0
        self._make_room(seed_nodes.size)
        self._keys[:] = -1
        rows = np.empty(seed_nodes.size, np.int64)
        self.count = kernels.relabel_seeds_hashed(seed_nodes, self._keys, self._values, self._nodes, rows)
        return rows

    def add(self, indices: np.ndarray, edges: np.ndarray, out: np.ndarray) -> None:
        self._make_room(edges.size)
        self.count = kernels.relabel_hashed(indices, edges, self._keys, self._values, self._nodes, self.count, out)

    def nodes(self) -> np.ndarray:
        return self._nodes[: self.count]

    def induce(
        self, indptr: np.ndarray, indices: np.ndarray, out_indptr: np.ndarray, out: np.ndarray, out_edges: np.ndarray
    ) -> None:
        induce.induce_hashed(indptr, indices, self.nodes(), self._keys, self._values, out_indptr, out, out_edges)

    def _make_room(self, extra: int) -> None:
        needed = self.count + extra
        self._nodes = _at_least(self._nodes, self.count, needed)
        if self._keys.size < 2 * needed:
            num_slots = 1 << (2 * needed).bit_length()
            self._keys, self._values = np.full(num_slots, -1, np.int64), np.empty(num_slots, np.int32)
            kernels.rehash(self.nodes(), self._keys, self._values)


def _at_least(nodes: np.ndarray, count: int, size: int) -> np.ndarray:
    """`nodes` with room for `size`, keeping the first `count`."""
    if nodes.size >= size:
        return nodes
    grown = np.empty(size + size // 4, np.int64)
    grown[:count] = nodes[:count]
    return grown


class NodeMapPool:
    """Lends each caller a node map of its own: as many exist as threads sample at once."""

    def __init__(self, num_nodes: int, dense: bool | None = None):
        dense = num_nodes <= DENSE_LIMIT if dense is None else dense
        self._arguments = num_nodes, dense
        self._new: Callable[[], NodeMap] = (lambda: DenseNodeMap(num_nodes)) if dense else HashNodeMap
        self._free: deque[NodeMap] = deque()

    def __reduce__(self) -> tuple[type[NodeMapPool], tuple[int, bool]]:
        """A copy begins without maps."""
        return type(self), self._arguments

    @contextmanager
    def lend(self) -> Iterator[NodeMap]:
        # pop and append are atomic. After an error the map is dropped: it may be half filled.
        try:
            node_map = self._free.pop()
        except IndexError:
            node_map = self._new()
        yield node_map
        self._free.append(node_map)


def distinct_nodes(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes once each, in the order in which they first come; and where each of `nodes` stands among these."""
    num_slots = 1 << (2 * nodes.numel() + 1).bit_length()
    keys, values = torch.full((num_slots,), -1), torch.empty(num_slots, dtype=torch.int32)
    distinct, places = torch.empty_like(nodes), torch.empty_like(nodes)
    count = kernels.relabel_seeds_hashed(*(tensor.numpy() for tensor in (nodes, keys, values, distinct, places)))
    return distinct[:count].clone(), places
