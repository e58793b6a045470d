"""The columns of a graph that a layer sums over, some destinations at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph
from gnnfast.kernels.cpu import closure as kernels
from gnnfast.kernels.cpu.parallel import run_by_column, run_by_range
from gnnfast.training.split import Columns

# What columns take that are kept: their edges, and weights that layers make for them.
_KEPT_BYTES_PER_EDGE = 8
_KEPT_BYTES = 128 << 20


class LayerColumns:
    """In-edges of a layer's destinations, from the rows of its input.

    Where the destinations are all nodes and so are the sources, edges stay where they are in the graph: nothing is
    copied. Otherwise they are copied chunk by chunk, and kept for the next pass where all of them take little.

    Args:
        graph: Its edge weights come along.
        sources: Global ids of the rows of the layer's input, ascending, int64, `(num_src,)`; None for all nodes.
        destinations: Global ids of the rows of its output, among the sources, ascending, int64, `(num_dst,)`.
        adds_self: Whether each destination hears itself, exactly once; edges then have no weights.
    """

    def __init__(self, graph: CSCGraph, sources: Tensor | None, destinations: Tensor, adds_self: bool):
        self.graph = graph
        self.sources = sources
        self.destinations = destinations
        self.adds_self = adds_self
        self._kept: dict[tuple[int, int], Columns] = {}
        num_bytes = int(self.degree.sum()) * _KEPT_BYTES_PER_EDGE
        self._keeps = num_bytes <= _KEPT_BYTES

    @cached_property
    def degree(self) -> Tensor:
        """Edges of each destination, at most one too many, int64, `(num_dst,)`."""
        degree = self.graph.in_degree
        degree = degree if self._are_all_nodes else degree[self.destinations]
        return degree + 1 if self.adds_self else degree

    @property
    def num_src(self) -> int:
        return self.graph.num_nodes if self.sources is None else self.sources.numel()

    def cut(self, edge_bytes: int, node_bytes: int, chunk_bytes: int, share: slice) -> Iterator[tuple[int, int]]:
        """Ranges of some destinations that take no more than `chunk_bytes`; one that does by itself is a range."""
        bytes_so_far = torch.cumsum(self.degree * edge_bytes + node_bytes, 0)
        first = share.start
        while first < share.stop:
            before = int(bytes_so_far[first - 1]) if first else 0
            last = int(torch.searchsorted(bytes_so_far, before + chunk_bytes, right=True))
            last = min(max(last, first + 1), share.stop)
            yield first, last
            first = last

    def __getitem__(self, destinations: slice) -> Columns:
        """Those of destinations `start` to `stop`."""
        bounds = (destinations.start, destinations.stop)
        if bounds in self._kept:
            return self._kept[bounds]
        columns = self._columns(*bounds)
        if self._keeps:
            self._kept[bounds] = columns
        return columns

    def _columns(self, first: int, last: int) -> Columns:
        nodes = self.destinations[first:last]
        if self._are_all_nodes:
            own: slice | Tensor = slice(first, last)
        else:
            own = nodes if self.sources is None else self._row_of[nodes].long()
        if self._are_all_nodes and not self.adds_self:
            indptr = self.graph.indptr[first : last + 1]
            edges = slice(int(indptr[0]), int(indptr[-1]))
            weight = self.graph.edge_weight
            block = Block(
                indptr - indptr[0],
                self.graph.indices[edges],
                self.num_src,
                edge_weight=None if weight is None else weight[edges],
            )
            return Columns(block, own)
        indptr = self._indptr(nodes)
        indices = self._joined(nodes, indptr, self.graph.indices)
        weight = None
        if self.graph.edge_weight is not None and not self.adds_self:
            weight = self._joined(nodes, indptr, self.graph.edge_weight)
        if self.sources is not None:
            self._run(kernels.take_rows_of, indices.numel(), self._row_of, indices)
        return Columns(Block(indptr, indices, self.num_src, edge_weight=weight), own)

    @property
    def _are_all_nodes(self) -> bool:
        return self.destinations.numel() == self.graph.num_nodes

    @cached_property
    def _row_of(self) -> Tensor:
        """Where each source stands in the layer's input; anything for other nodes."""
        assert self.sources is not None
        row_of = torch.empty(self.graph.num_nodes, dtype=self.graph.indices.dtype)
        row_of[self.sources] = torch.arange(self.sources.numel(), dtype=row_of.dtype)
        return row_of

    def _indptr(self, nodes: Tensor) -> Tensor:
        indptr = torch.zeros(nodes.numel() + 1, dtype=torch.int64)
        if self.adds_self:
            degree = torch.empty_like(nodes)
            arrays = (nodes, self.graph.indptr, self.graph.indices, degree)
            self._run(kernels.count_columns_with_self, nodes.numel(), *arrays)
        else:
            degree = self.graph.in_degree[nodes]
        torch.cumsum(degree, 0, out=indptr[1:])
        return indptr

    def _joined(self, nodes: Tensor, indptr: Tensor, values: Tensor) -> Tensor:
        """The nodes' columns of values, one after another."""
        kernel = kernels.join_columns_with_self if self.adds_self else kernels.join_columns
        out = values.new_empty(int(indptr[-1]))
        arrays = (tensor.numpy() for tensor in (indptr, self.graph.indptr, nodes, values, out))
        run_by_column(kernel, torch.get_num_threads(), 2 * values.element_size(), *arrays)
        return out

    def _run(self, kernel: object, size: int, *tensors: Tensor) -> None:
        num_bytes = 8 * sum(tensor.element_size() for tensor in tensors) * size
        run_by_range(kernel, torch.get_num_threads(), size, num_bytes, *(tensor.numpy() for tensor in tensors))
