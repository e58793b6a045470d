"""The graph every sampler walks: in-neighbors by node, in compressed columns."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnfast.graph.block import Block
from gnnfast.kernels.cpu import csc as kernels
from gnnfast.kernels.cpu.relabel import relabel_seeds_hashed

if TYPE_CHECKING:
    from torch_geometric.data import Data

NO_WEIGHTS = torch.empty(0)


class CSCGraph:
    """A directed graph as compressed sparse columns: edge u -> v stands in column v.

    Args:
        indptr: int64, `(num_nodes + 1,)`; the in-neighbors of v are `indices[indptr[v]:indptr[v + 1]]`.
        indices: int32 or int64, `(num_edges,)`; source of each edge.
        edge_ids: int64, `(num_edges,)`; the caller's number of each edge, say its column in `edge_index`.
        edge_weight: Floating, `(num_edges,)`.
        validate: Whether to read all edges once and check that every source is a node.

    Raises:
        ValueError: If the arrays do not fit together or a source is outside the graph.
    """

    def __init__(
        self,
        indptr: Tensor,
        indices: Tensor,
        edge_ids: Tensor | None = None,
        edge_weight: Tensor | None = None,
        validate: bool = True,
    ):
        if indptr.dtype != torch.int64 or indptr.dim() != 1 or indptr.numel() == 0:
            raise ValueError(f"indptr must be int64 of shape (num_nodes + 1,), got {_describe(indptr)}")
        if indices.dtype not in (torch.int32, torch.int64) or indices.dim() != 1:
            raise ValueError(f"indices must be int32 or int64 of shape (num_edges,), got {_describe(indices)}")
        first, last = int(indptr[0]), int(indptr[-1])
        if first != 0 or last != indices.numel():
            raise ValueError(
                f"indptr runs from {first} to {last} but indices holds {indices.numel()} edges: "
                "were they built from the same edge list?"
            )
        for name, values in (("edge_ids", edge_ids), ("edge_weight", edge_weight)):
            if values is not None and values.shape != indices.shape:
                raise ValueError(f"{name} must have one entry per edge, {indices.numel()}, got {_describe(values)}")
        if edge_weight is not None and not edge_weight.is_floating_point():
            raise ValueError(f"edge_weight must be floating, got {edge_weight.dtype}")
        if edge_weight is not None and edge_weight.dtype != torch.float64:
            edge_weight = edge_weight.float()  # half-precision weights are read in single precision
        if validate:
            if bool((indptr[1:] < indptr[:-1]).any()):
                raise ValueError("indptr must never decrease")
            _check_ids("indices", indices, indptr.numel() - 1)
        self.indptr = indptr
        self.indices = indices
        self.edge_ids = edge_ids
        self.edge_weight = edge_weight

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: int | None = None,
        edge_weight: Tensor | None = None,
        keep_edge_ids: bool = False,
    ) -> CSCGraph:
        """Sorts edges by destination; parallel edges stay, in their order.

        Args:
            edge_index: Integers, `(2, num_edges)`: row 0 sources, row 1 destinations.
            num_nodes: Defaults to the largest id plus 1.
            edge_weight: Floating, `(num_edges,)`.
            keep_edge_ids: Whether to remember each edge's column in `edge_index` as `edge_ids`.

        Raises:
            ValueError: If a shape is off or an id is negative or not below `num_nodes`.
        """
        is_numbered = not (edge_index.is_floating_point() or edge_index.is_complex() or edge_index.dtype == torch.bool)
        if edge_index.dim() != 2 or edge_index.shape[0] != 2 or not is_numbered:
            raise ValueError(f"edge_index must be integers of shape (2, num_edges), got {_describe(edge_index)}")
        if edge_index.dtype not in (torch.int32, torch.int64):  # of others torch knows no extremes
            edge_index = edge_index.long()
        num_edges = edge_index.shape[1]
        if num_nodes is None:
            num_nodes = int(edge_index.max()) + 1 if num_edges else 0
        _check_ids("edge_index", edge_index, num_nodes)
        if edge_weight is not None and edge_weight.shape != (num_edges,):
            raise ValueError(f"edge_weight must have one entry per edge, {num_edges}, got {_describe(edge_weight)}")
        indptr = torch.empty(num_nodes + 1, dtype=torch.int64)
        indices = torch.empty(num_edges, dtype=index_dtype(num_nodes))
        keep_positions = keep_edge_ids or edge_weight is not None
        positions = torch.empty(num_edges if keep_positions else 0, dtype=torch.int64)
        src, dst = edge_index.cpu().contiguous()
        kernels.edges_to_csc(src.numpy(), dst.numpy(), indptr.numpy(), indices.numpy(), positions.numpy())
        return cls(
            indptr,
            indices,
            edge_ids=positions if keep_edge_ids else None,
            edge_weight=None if edge_weight is None else edge_weight[positions],
            validate=False,
        )

    @classmethod
    def from_pyg(cls, data: Data, keep_edge_ids: bool = False) -> CSCGraph:
        """The graph of a PyG `Data`: its `edge_index` or `adj_t`, and its `edge_weight`."""
        from gnnfast.graph.pyg import graph_from_pyg

        return graph_from_pyg(data, keep_edge_ids)

    @classmethod
    def from_sparse_tensor(cls, adj_t: Any) -> CSCGraph:
        """The graph of a `torch_sparse.SparseTensor`, or of a sparse torch tensor, in PyG's orientation.

        Args:
            adj_t: The transposed adjacency: rows are destinations.

        Raises:
            ValueError: If it is not square.
        """
        if isinstance(adj_t, Tensor):
            csr = adj_t.to_sparse_csr()
            sizes, parts = csr.shape, (csr.crow_indices(), csr.col_indices(), csr.values())
        else:
            sizes, parts = adj_t.sparse_sizes(), adj_t.csr()
        num_nodes, num_columns = sizes
        if num_nodes != num_columns:
            raise ValueError(f"adj_t must be square, got {num_nodes} x {num_columns}: was it built without its sizes?")
        indptr, indices, value = parts
        # Its sizes are what someone said: its columns may be others.
        return cls(indptr, indices.to(index_dtype(num_nodes)), edge_weight=value)

    @property
    def num_nodes(self) -> int:
        return self.indptr.numel() - 1

    @property
    def num_edges(self) -> int:
        return self.indices.numel()

    @cached_property
    def in_degree(self) -> Tensor:
        """Number of in-edges by node, int64, `(num_nodes,)`."""
        return self.indptr[1:] - self.indptr[:-1]

    @property
    def degree(self) -> Tensor:
        """Sum of in-edge weights by node, self-loops left out, floating, `(num_nodes,)`: what GCN normalizes with."""
        return self._column_sums[0]

    @property
    def self_loop_weight(self) -> Tensor | None:
        """Weight of each node's self-loop, the last if there are several, and 1 where there is none, `(num_nodes,)`.

        None if the graph has no self-loop at all.
        """
        return self._column_sums[1]

    @cached_property
    def _column_sums(self) -> tuple[Tensor, Tensor | None]:
        weights = NO_WEIGHTS if self.edge_weight is None else self.edge_weight
        dtype = weights.dtype if weights.dtype == torch.float64 else torch.float32
        degree, self_loop = torch.empty(2, self.num_nodes, dtype=dtype)
        num_loops = kernels.sum_columns(
            self.indptr.numpy(),
            self.indices.numpy(),
            weights.to(dtype).numpy(),
            degree.numpy(),
            self_loop.numpy(),
        )
        return degree, self_loop if num_loops else None

    def to_edge_index(self) -> Tensor:
        """Edges as int64 `(2, num_edges)`, sources above destinations, sorted by destination."""
        dst = torch.repeat_interleave(torch.arange(self.num_nodes), self.in_degree)
        return torch.stack([self.indices.long(), dst])

    def to_sparse_tensor(self) -> Any:
        """The transposed adjacency as `torch_sparse.SparseTensor`, as PyG's models take it (extra `sparse`)."""
        from gnnfast.graph.pyg import sparse_tensor

        return sparse_tensor(self.indptr, self.indices, self.edge_weight, self.num_nodes)

    def to_block(self) -> Block:
        """The whole graph as one block whose sources are its destinations."""
        return Block(
            self.indptr,
            self.indices,
            num_src=self.num_nodes,
            edge_ids=self.edge_ids,
            edge_weight=self.edge_weight,
            src_degree=self.degree,
            self_loop_weight=self.self_loop_weight,
        )

    def block(self, dst_nodes: Tensor, indptr: Tensor, edges: Tensor, inclusion_weight: Tensor | None = None) -> Block:
        """The block of some in-edges of some nodes: what a sampler makes of its draws.

        Args:
            dst_nodes: Global ids, int64, `(num_dst,)`, distinct.
            indptr: int64, `(num_dst + 1,)`; destination i takes `edges[indptr[i]:indptr[i + 1]]`.
            edges: Positions in `indices`, int64, `(indptr[-1],)`.
            inclusion_weight: See `Block`.

        Returns:
            A block whose `src_nodes` are `dst_nodes` and then the other sources, in the order of their appearance.

        Raises:
            ValueError: If a destination comes twice.
        """
        nodes = torch.cat([dst_nodes, self.indices[edges].long()])
        num_slots = 1 << (2 * nodes.numel() + 1).bit_length()
        keys, values = torch.full((num_slots,), -1), torch.empty(num_slots, dtype=torch.int32)
        src_nodes, rows = torch.empty_like(nodes), torch.empty_like(nodes)
        num_src = relabel_seeds_hashed(nodes.numpy(), keys.numpy(), values.numpy(), src_nodes.numpy(), rows.numpy())
        num_dst = dst_nodes.numel()
        if num_dst and int(rows[:num_dst].max()) != num_dst - 1:
            raise ValueError("dst_nodes must be distinct")
        src_nodes = src_nodes[:num_src].clone()
        return Block(
            indptr,
            rows[num_dst:].int(),
            num_src=num_src,
            src_nodes=src_nodes,
            edge_ids=None if self.edge_ids is None else self.edge_ids[edges],
            edge_weight=None if self.edge_weight is None else self.edge_weight[edges],
            inclusion_weight=inclusion_weight,
            src_degree=self.degree[src_nodes],
            self_loop_weight=None if self.self_loop_weight is None else self.self_loop_weight[src_nodes],
        )

    def to_undirected(self) -> CSCGraph:
        """Each edge in both directions, once; parallel edges merge to one with the mean of their weights.

        Columns come out sorted by source; `edge_ids` are dropped, since they no longer name single edges.
        """
        if self.edge_weight is not None:
            edge_index = self.to_edge_index()
            both_ways = torch.cat([edge_index, edge_index.flip(0)], dim=1)
            both = CSCGraph.from_edge_index(both_ways, self.num_nodes, self.edge_weight.repeat(2))
            return both.merge_parallel_edges()
        indptr, indices = torch.empty_like(self.indptr), self.indices.new_empty(2 * self.num_edges)
        kernels.mirror_edges(self.indptr.numpy(), self.indices.numpy(), indptr.numpy(), indices.numpy())
        return _merged(indptr, indices, None)

    def merge_parallel_edges(self) -> CSCGraph:
        """Each edge once, with the mean of the weights of those merged; columns sorted by source, no `edge_ids`."""
        if self.edge_weight is None:
            return _merged(self.indptr, self.indices.clone(), None)
        # The transpose of the transpose is the graph itself, its columns sorted.
        indptr, indices, edges = self.to_block().transpose
        indptr, indices, positions = Block(indptr, indices, self.num_nodes).transpose
        return _merged(indptr, indices, self.edge_weight[edges[positions]])

    def __repr__(self) -> str:
        parts = [f"num_nodes={self.num_nodes}", f"num_edges={self.num_edges}"]
        parts += [name for name in ("edge_ids", "edge_weight") if getattr(self, name) is not None]
        return f"CSCGraph({', '.join(parts)})"


def _merged(indptr: Tensor, indices: Tensor, weight: Tensor | None) -> CSCGraph:
    """The graph of these columns with parallel edges merged; overwrites `indices` and `weight`.

    Columns with weights must be sorted by source.
    """
    if weight is None:
        kernels.sort_columns(indptr.numpy(), indices.numpy())
    merged = torch.empty_like(indptr)
    weights = NO_WEIGHTS if weight is None else weight
    kernels.merge_parallel_edges(indptr.numpy(), indices.numpy(), weights.numpy(), merged.numpy())
    # Cut, not copied: what the merged edges took stays allocated.
    num_edges = int(merged[-1])
    return CSCGraph(merged, indices[:num_edges], None, None if weight is None else weight[:num_edges], validate=False)


def index_dtype(num_nodes: int) -> torch.dtype:
    """int32 as long as every id fits: half the bytes that sampling reads."""
    return torch.int32 if num_nodes <= torch.iinfo(torch.int32).max else torch.int64


def _check_ids(name: str, ids: Tensor, num_nodes: int) -> None:
    if ids.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(ids))
    if low < 0 or high >= num_nodes:
        bad = low if low < 0 else high
        raise ValueError(
            f"{name} holds node {bad}, but the graph's {num_nodes} nodes are numbered 0 to {num_nodes - 1}"
        )


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
