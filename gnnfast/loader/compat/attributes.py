"""Cutting a PyG `Data` down to the nodes and edges of a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu.gather import gather_rows, gather_values
from gnnfast.runtime.buffers import BufferPool

if TYPE_CHECKING:
    from torch_geometric.data import Data

_EDGES = ("edge_index", "adj_t", "adj")
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Take = Callable[[Tensor], Any]


def homogeneous(data: Any, loader: str) -> Any:
    """`data`, if it is a PyG `Data`.

    Raises:
        TypeError: If it is heterogeneous, nothing of PyG, or has a torch tensor for `adj_t`.
    """
    if hasattr(data, "edge_types"):
        raise TypeError(
            f"gnnfast.loader.{loader} takes one type of nodes and edges: pass data.to_homogeneous(), or use "
            f"torch_geometric.loader.{loader}"
        )
    if not hasattr(data, "_store"):
        raise TypeError(f"gnnfast.loader.{loader} takes a torch_geometric.data.Data, got {type(data).__name__}")
    if isinstance(data._store.get("adj_t"), Tensor):
        raise TypeError(
            f"gnnfast.loader.{loader} takes adj_t as a torch_sparse.SparseTensor, as T.ToSparseTensor() makes it, not "
            f"as a sparse torch tensor; pass edge_index instead where torch_sparse is missing"
        )
    return data


def node_ids_of(nodes: Any, num_nodes: int, name: str) -> tuple[Tensor, bool]:
    """Nodes given as ids or as a mask: their ids, int64, and whether it was a mask.

    Args:
        nodes: Tensor, array or sequence.
        num_nodes: Of the graph.
        name: What the caller calls them, for errors.

    Raises:
        ValueError: If they are no whole numbers, or a mask has not one entry per node.
    """
    ids = whole_numbers(nodes, name)
    if ids.dtype != torch.bool:
        return ids.to(torch.int64), False
    if ids.shape != (num_nodes,):
        raise ValueError(f"{name} as a mask must have one entry per node, {num_nodes}, got {tuple(ids.shape)}")
    return ids.nonzero().view(-1), True


def whole_numbers(values: Any, name: str) -> Tensor:
    """A tensor on the CPU; refuses fractions, which would be cut off."""
    numbers = torch.as_tensor(values).as_subclass(Tensor).cpu()
    # An empty list is floating to torch.
    if numbers.numel() and (numbers.is_floating_point() or numbers.is_complex()):
        raise ValueError(f"{name} must hold whole numbers, got {numbers.dtype}")
    return numbers.to(torch.int64) if numbers.is_floating_point() else numbers


def graph_of(data: Any) -> CSCGraph:
    """The edges of a PyG `Data` without their weights.

    `edge_ids` are columns of `edge_index`, None where those are the positions in `graph.indices`; for `adj_t`, which
    PyG prefers where there are both, positions in it.

    Raises:
        ValueError: If it holds no edges.
    """
    if data._store.get("adj_t") is not None:
        # Values may be of any type, ids say.
        graph = CSCGraph.from_sparse_tensor(data.adj_t.cpu().set_value(None))
        return CSCGraph(graph.indptr, graph.indices, validate=False)
    if data._store.get("edge_index") is None:
        raise ValueError("the PyG data holds neither edge_index nor adj_t")
    edge_index = data.edge_index.as_subclass(Tensor)
    graph = CSCGraph.from_edge_index(edge_index, data.num_nodes, keep_edge_ids=True)
    if bool((edge_index[1, 1:] >= edge_index[1, :-1]).all()):
        # Sorted by destination already: positions are the ids, and need no looking up.
        return CSCGraph(graph.indptr, graph.indices, validate=False)
    return graph


def edges_of(graph: CSCGraph) -> tuple[Tensor, Tensor]:
    """Sources above destinations, int64 `(2, num_edges)`, and what `graph_of` calls the edges."""
    return graph.to_edge_index(), torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids


class Attributes:
    """What a PyG `Data` holds by node and by edge, ready to be cut down; safe to use from several threads.

    Args:
        data: Followed as it changes: `refresh` looks at it anew. Its tensors may be on any device, and so is what is
            cut from them.
    """

    def __init__(self, data: Data):
        self.data: Any = data
        self._buffers = BufferPool()
        self._takes: dict[str, tuple[Any, Take]] = {}
        self._by_node: list[tuple[str, Take]] = []
        self._by_edge: list[tuple[str, Take]] = []
        self.refresh()

    def __reduce__(self) -> tuple[type[Attributes], tuple[Any]]:
        """A copy looks at its data anew: what copies rows are closures over the data's memory."""
        return type(self), (self.data,)

    def refresh(self) -> None:
        """Takes over what was added to the data, changed or deleted since."""
        store = self.data._store
        items = [(key, value) for key, value in store.items() if key not in _EDGES and key != "num_nodes"]
        self._by_node = [(key, self._take(key, value)) for key, value in items if store.is_node_attr(key)]
        self._by_edge = [(key, self._take(key, value)) for key, value in items if store.is_edge_attr(key)]
        self._has_num_nodes = "num_nodes" in store
        self._has_edge_index = "edge_index" in store
        self._has_adj_t = "adj_t" in store
        # Where batches have their edges.
        self.edge_device = torch.device("cpu")
        if self._has_edge_index:
            self.edge_device = store["edge_index"].device
        elif self._has_adj_t:
            self.edge_device = store["adj_t"].device()
        # What is gone from the data must not live on here.
        used = {key for key, _ in self._by_node + self._by_edge}
        self._takes = {key: take for key, take in self._takes.items() if key in used}

    def is_by_node(self, key: str) -> bool:
        """Whether the data has a value per node under this name."""
        return any(key == name for name, _ in self._by_node)

    def check_ids(self, node_ids: Tensor, edge_ids: Tensor | None) -> None:
        """Refuses nodes and edges that the data does not have; what cuts takes them on trust.

        Raises:
            ValueError: If there is one.
        """
        held = [("node", node_ids, self.data.num_nodes)]
        if edge_ids is not None and self._by_edge:
            held.append(("edge", edge_ids, self.data.num_edges))
        for kind, ids, count in held:
            if ids.numel() == 0:
                continue
            low, high = (int(bound) for bound in torch.aminmax(ids))
            if low < 0 or high >= count:
                bad = low if low < 0 else high
                raise ValueError(f"{kind} {bad} was drawn, but the data numbers {kind}s 0 to {count - 1}")

    def cut(self, node_ids: Tensor, edge_index: Tensor, edge_ids: Tensor | None) -> Any:
        """The data of some nodes and edges; everything else as it is. See `fill`."""
        batch = copy.copy(self.data)
        self.fill(batch, node_ids, edge_index, edge_ids)
        return batch

    def fill(self, batch: Any, node_ids: Tensor, edge_index: Tensor, edge_ids: Tensor | None) -> None:
        """Puts what belongs to some nodes and edges into a batch.

        Args:
            node_ids: Global ids, int64, `(num_nodes,)`.
            edge_index: Local ids, int64, `(2, num_edges)`.
            edge_ids: What `graph_of` calls the edges, int64, `(num_edges,)`; without them there is nothing by edge.
        """
        # Past the storage's own setters: they cost more than the rest of a small batch together.
        store = batch._store._mapping
        for key, take in self._by_node:
            store[key] = take(node_ids)
        for key, take in self._by_edge:
            if edge_ids is None:
                store.pop(key, None)
            else:
                store[key] = take(edge_ids)
        if self._has_num_nodes:
            store["num_nodes"] = node_ids.numel()
        if self._has_edge_index:
            store["edge_index"] = edge_index.to(self.edge_device)
        if self._has_adj_t:
            store["adj_t"] = _cut_adj_t(self.data.adj_t, node_ids.numel(), edge_index, edge_ids)

    def _take(self, key: str, value: Any) -> Take:
        known = self._takes.get(key)
        if known is None or known[0] is not value:
            known = value, taker(value, self.data.__cat_dim__(key, value), self._buffers)
            self._takes[key] = known
        return known[1]


def taker(value: Any, dim: int, buffers: BufferPool) -> Take:
    """What copies the rows of some ids: our kernels where memory is plain, else the owner's own selection."""
    if isinstance(value, np.ndarray):
        return lambda ids: torch.from_numpy(np.take(value, ids.numpy(), axis=dim))
    if not isinstance(value, Tensor):
        if isinstance(value, list | tuple):
            return lambda ids: [value[i] for i in ids.tolist()]
        return lambda ids: value[ids]
    is_plain = type(value) is Tensor and value.layout == torch.strided and value.device.type == "cpu"
    if not is_plain or dim not in (0, -value.dim()) or not value.is_contiguous() or value.requires_grad:
        return lambda ids: value.index_select(dim, ids.to(value.device))
    if value.dim() == 1 and value.itemsize in _WORDS:
        word = _WORDS[value.itemsize]
        values = value.view(word).numpy()

        def take_values(ids: Tensor) -> Tensor:
            out = buffers.empty(ids.shape, word)
            gather_values(values, ids.numpy(), out.numpy())
            return out.view(value.dtype)

        return take_values
    shape, word = value.shape[1:], _row_word(value)
    if value.numel() == 0:
        return lambda ids: value.index_select(0, ids)
    rows = value.view(value.shape[0], -1).view(torch.int8).view(word).numpy()

    def take_rows(ids: Tensor) -> Tensor:
        out = buffers.empty((ids.numel(), rows.shape[1]), word)
        gather_rows(rows, ids.numpy(), out.numpy())
        return out.view(value.dtype).view(-1, *shape)

    return take_rows


def _row_word(value: Tensor) -> torch.dtype:
    """The widest of 4, 2 and 1 bytes that rows, and where they begin, are multiples of."""
    bytes_per_row = prod(value.shape[1:]) * value.itemsize
    first = value.storage_offset() * value.itemsize
    return _WORDS[next(size for size in (4, 2, 1) if bytes_per_row % size == 0 and first % size == 0)]


def _cut_adj_t(adj_t: Any, num_nodes: int, edge_index: Tensor, edge_ids: Tensor | None) -> Any:
    from torch_sparse import SparseTensor

    value = adj_t.storage.value()
    if value is not None:
        value = None if edge_ids is None else value.index_select(0, edge_ids.to(value.device))
    col, row = edge_index.to(adj_t.device())
    return SparseTensor(
        row=row,
        col=col,
        value=value,
        sparse_sizes=(num_nodes, num_nodes),
        is_sorted=False,
        trust_data=True,
    )
