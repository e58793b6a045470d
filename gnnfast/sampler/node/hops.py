"""What samplers that go hop by hop have in common: from drawn in-edges to a mini-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.kernels.cpu.gather import gather_values
from gnnfast.kernels.cpu.neighbor import count_neighbors, sample_neighbors
from gnnfast.runtime.buffers import BufferPool
from gnnfast.sampler.node_map import NodeMap, NodeMapPool


class HopAssembler:
    """Turns drawn in-edges into hops and hops into a mini-batch; safe to use from several threads.

    Args:
        graph: Graph that is sampled.
        edge_ids: Whether blocks carry the ids of drawn edges: the graph's `edge_ids`, or else positions in `indices`.
    """

    def __init__(self, graph: CSCGraph, edge_ids: bool):
        self.graph = graph
        self.edge_ids = edge_ids
        self._node_maps = NodeMapPool(graph.num_nodes)
        self._buffers = BufferPool()

    def mini_batch(self, seed_nodes: Tensor, draw: Callable[[NodeMap], list[Hop]]) -> MiniBatch:
        """The mini-batch of some seeds.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`; duplicates share one row.
            draw: Makes the hops, from the seeds outwards, with a node map that holds the distinct seeds.

        Raises:
            ValueError: If a seed is not a node of the graph.
        """
        check_seeds(seed_nodes, self.graph.num_nodes)
        with self._node_maps.lend() as node_map:
            seed_rows = node_map.start(seed_nodes.numpy())
            num_distinct = node_map.count
            hops = draw(node_map)
            node_ids = self.empty(node_map.count, torch.int64)
            np.copyto(node_ids.numpy(), node_map.nodes())
        degree = self.take(self.graph.degree, node_ids)
        self_loop = self.graph.self_loop_weight
        loops = None if self_loop is None else self.take(self_loop, node_ids)
        blocks = [
            Block(
                hop.indptr,
                hop.indices,
                num_src=hop.num_src,
                src_nodes=node_ids[: hop.num_src],
                edge_ids=hop.edge_ids,
                edge_weight=hop.edge_weight,
                inclusion_weight=hop.inclusion_weight,
                src_degree=degree[: hop.num_src],
                self_loop_weight=None if loops is None else loops[: hop.num_src],
            )
            for hop in reversed(hops)
        ]
        has_duplicates = num_distinct < seed_nodes.numel()
        return MiniBatch(seed_nodes, node_ids, blocks, torch.from_numpy(seed_rows) if has_duplicates else None)

    def hop(self, node_map: NodeMap, indptr: Tensor, edges: Tensor, inclusion_weight: Tensor | None) -> Hop:
        """Numbers the sources of drawn edges.

        Args:
            node_map: Where they get their numbers.
            indptr: int64, `(num_dst + 1,)`; destination i takes `edges[indptr[i]:indptr[i + 1]]`.
            edges: Positions in the graph's `indices`, int64, `(indptr[-1],)`.
            inclusion_weight: float32, `(indptr[-1],)`; None means 1.
        """
        graph = self.graph
        indices = self.empty(edges.numel(), torch.int32)
        node_map.add(graph.indices.numpy(), edges.numpy(), indices.numpy())
        edge_ids = None
        if self.edge_ids:
            edge_ids = edges if graph.edge_ids is None else self.take(graph.edge_ids, edges)
        return Hop(
            indptr,
            indices,
            num_src=node_map.count,
            edge_ids=edge_ids,
            edge_weight=None if graph.edge_weight is None else self.take(graph.edge_weight, edges),
            inclusion_weight=inclusion_weight,
        )

    def in_edges(self, source_map: NodeMap, frontier: np.ndarray, starts_anew: bool = True) -> InEdges:
        """All in-edges of some nodes.

        Args:
            source_map: Numbers their sources.
            frontier: Global ids, int64, `(num_dst,)`.
            starts_anew: Whether the map first forgets what it holds.
        """
        graph_indptr = self.graph.indptr.numpy()
        indptr = self.empty(frontier.size + 1, torch.int64)
        spans = np.empty((frontier.size, 2), np.int64)
        count_neighbors(graph_indptr, frontier, -1, False, indptr.numpy(), spans)
        edges = self.empty(int(indptr[-1]), torch.int64)
        sample_neighbors(frontier, spans, np.uint64(0), -1, False, indptr.numpy(), edges.numpy())
        sources = self.empty(edges.numel(), torch.int32)
        if starts_anew:
            source_map.start(frontier[:0])
        source_map.add(self.graph.indices.numpy(), edges.numpy(), sources.numpy())
        return InEdges(indptr, edges, sources, source_map.count)

    def take(self, values: Tensor, positions: Tensor) -> Tensor:
        """`values[positions]`."""
        out = self.empty(positions.numel(), values.dtype)
        gather_values(values.numpy(), positions.numpy(), out.numpy())
        return out

    def empty(self, size: int, dtype: torch.dtype) -> Tensor:
        """Uninitialized memory of the pool."""
        return self._buffers.empty((size,), dtype)


@dataclass
class InEdges:
    """All in-edges of a frontier, destination by destination, with their sources numbered.

    Args:
        indptr: int64, `(num_dst + 1,)`.
        edges: Positions in the graph's `indices`, int64, `(num_edges,)`.
        sources: int32, `(num_edges,)`, below `num_sources`.
        num_sources: How many nodes have a number.
    """

    indptr: Tensor
    edges: Tensor
    sources: Tensor
    num_sources: int

    @property
    def num_dst(self) -> int:
        return self.indptr.numel() - 1

    @property
    def num_edges(self) -> int:
        return self.edges.numel()


@dataclass
class Hop:
    """What one hop drew, in local numbers, before all nodes of the mini-batch are known."""

    indptr: Tensor
    indices: Tensor
    num_src: int
    edge_ids: Tensor | None
    edge_weight: Tensor | None
    inclusion_weight: Tensor | None


def nest(hops: Sequence[Hop]) -> list[Hop]:
    """From hops that each drew for their new nodes alone: each with the columns of all before it in front.

    All of them view the arrays of the last one.
    """
    num_columns, num_edges = [0], [0]
    for hop in hops:
        num_columns.append(num_columns[-1] + hop.indptr.numel() - 1)
        num_edges.append(num_edges[-1] + hop.indices.numel())
    indptr = torch.cat(
        [hops[0].indptr, *(hop.indptr[1:] + before for hop, before in zip(hops[1:], num_edges[1:], strict=False))]
    )
    indices = torch.cat([hop.indices for hop in hops])
    edge_ids, edge_weight = (_cat([getattr(hop, name) for hop in hops]) for name in ("edge_ids", "edge_weight"))
    weights = [hop.inclusion_weight for hop in hops]
    weight = None
    if any(part is not None for part in weights):
        weight = torch.cat([_or_ones(part, hop) for part, hop in zip(weights, hops, strict=True)])
    return [
        Hop(
            indptr[: columns + 1],
            indices[:edges],
            hop.num_src,
            None if edge_ids is None else edge_ids[:edges],
            None if edge_weight is None else edge_weight[:edges],
            None if weight is None or all(part is None for part in weights[: depth + 1]) else weight[:edges],
        )
        for depth, (hop, columns, edges) in enumerate(zip(hops, num_columns[1:], num_edges[1:], strict=True))
    ]


def check_fanouts(fanouts: Sequence[int]) -> list[int]:
    """The fanouts as a list; refuses others than positive whole numbers and -1."""
    if not isinstance(fanouts, Sequence) or not fanouts or not all(_is_fanout(fanout) for fanout in fanouts):
        raise ValueError(
            f"fanouts must be positive, or -1 for all in-neighbors, whole numbers, one per layer; got {fanouts}"
        )
    return list(fanouts)


def _is_fanout(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (0 < value < 2**63 or value == -1)


def check_seeds(seed_nodes: Tensor, num_nodes: int) -> None:
    """Refuses what is not a list of the graph's nodes."""
    if seed_nodes.dtype != torch.int64 or seed_nodes.dim() != 1:
        raise ValueError(f"seed_nodes must be int64 of one dimension, got {seed_nodes.dtype} {tuple(seed_nodes.shape)}")
    if seed_nodes.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(seed_nodes))
    if low < 0 or high >= num_nodes:
        bad = low if low < 0 else high
        raise ValueError(f"seed_nodes holds node {bad}, but the sampler's graph numbers nodes 0 to {num_nodes - 1}")


def _cat(parts: list[Tensor | None]) -> Tensor | None:
    """The parts in one, where every hop has its own."""
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _or_ones(weight: Tensor | None, hop: Hop) -> Tensor:
    return torch.ones(hop.indices.numel()) if weight is None else weight
