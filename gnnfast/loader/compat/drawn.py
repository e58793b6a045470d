"""A drawn subgraph in PyG's terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnfast.graph import Block, MiniBatch

if TYPE_CHECKING:
    from torch_geometric.sampler import SamplerOutput


@dataclass
class Drawn:
    """Nodes and edges of a batch.

    Args:
        node_ids: Global ids, int64, `(num_nodes,)`, the seeds first.
        edge_index: Local ids, int64, `(2, num_edges)`.
        edge_ids: int64, `(num_edges,)`.
        num_sampled_nodes: New nodes by hop, the seeds first; None where hops mean nothing.
        num_sampled_edges: Edges by hop.
    """

    node_ids: Tensor
    edge_index: Tensor
    edge_ids: Tensor | None
    num_sampled_nodes: list[int] | None = None
    num_sampled_edges: list[int] | None = None

    @classmethod
    def of(cls, batch: MiniBatch, by_hop: bool) -> Drawn:
        """All edges of a mini-batch, each once, and a row for every seed.

        Args:
            by_hop: Whether every node was expanded once, at the hop that reached it, so that hops can be counted.
        """
        widest, last = batch.blocks[0], batch.blocks[-1]
        if all(_is_prefix(block, widest) for block in batch.blocks):
            drawn = cls(batch.node_ids, widest.edge_index, widest.edge_ids)
            if by_hop:
                nodes = [0, last.num_dst, *(block.num_src for block in reversed(batch.blocks))]
                edges = [0, *(block.num_edges for block in reversed(batch.blocks))]
                drawn.num_sampled_nodes = [after - before for before, after in pairwise(nodes)]
                drawn.num_sampled_edges = [after - before for before, after in pairwise(edges)]
        else:
            drawn = _union(batch)
        if batch.seed_rows is None:
            return drawn
        return drawn.with_repeated_seeds(batch.seed_nodes, batch.seed_rows)

    def with_repeated_seeds(self, seed_nodes: Tensor, seed_rows: Tensor) -> Drawn:
        """Gives each repetition of a seed a row of its own, with the same in-edges: scripts read row i for seed i.

        Edges must be sorted by destination.

        Args:
            seed_nodes: All seeds, int64, `(num_seeds,)`.
            seed_rows: The row that each has so far, int64, `(num_seeds,)`.
        """
        num_distinct, num_seeds = int(seed_rows.max()) + 1, seed_nodes.numel()
        src, dst = self.edge_index
        num_first = int(torch.searchsorted(dst, num_distinct))
        in_degree = torch.bincount(dst[:num_first], minlength=num_distinct)
        repeats = in_degree[seed_rows]
        starts = (torch.cumsum(in_degree, 0) - in_degree)[seed_rows]
        offset = torch.arange(int(repeats.sum())) - torch.repeat_interleave(torch.cumsum(repeats, 0) - repeats, repeats)
        first_edges = torch.repeat_interleave(starts, repeats) + offset
        edges = torch.cat([first_edges, torch.arange(num_first, src.numel())])
        # Where the rows go: a distinct seed to where it came first, other nodes behind all seeds.
        row = torch.arange(self.node_ids.numel()) + num_seeds - num_distinct
        row[:num_distinct] = torch.full((num_distinct,), num_seeds).scatter_reduce(
            0, seed_rows, torch.arange(num_seeds), "amin"
        )
        new_dst = torch.cat([torch.repeat_interleave(torch.arange(num_seeds), repeats), row[dst[num_first:]]])
        repeated = Drawn(
            torch.cat([seed_nodes, self.node_ids[num_distinct:]]),
            torch.stack([row[src[edges]], new_dst]),
            None if self.edge_ids is None else self.edge_ids[edges],
        )
        if self.num_sampled_nodes is not None and self.num_sampled_edges is not None:
            repeated.num_sampled_nodes = [num_seeds, *self.num_sampled_nodes[1:]]
            repeated.num_sampled_edges = [first_edges.numel(), *self.num_sampled_edges[1:]]
        return repeated

    def in_both_directions(self) -> Drawn:
        """The edges and their reverses, each pair once; both directions have the id of one of them, as in PyG."""
        from torch_geometric.sampler.utils import to_bidirectional

        src, dst = self.edge_index
        src, dst, edge_ids = to_bidirectional(src, dst, src, dst, self.edge_ids, self.edge_ids)
        return Drawn(self.node_ids, torch.stack([src, dst]), edge_ids)

    def transformed(self, transform: Callable[[Any], Any], metadata: Any) -> Drawn:
        """What a function of a `torch_geometric.sampler.SamplerOutput` makes of it."""
        output = self.to_output()
        output.metadata = metadata
        return Drawn.of_output(transform(output), None)

    @classmethod
    def of_output(cls, output: SamplerOutput, permutation: Tensor | None) -> Drawn:
        """What a PyG sampler drew.

        Args:
            output: Of a homogeneous graph.
            permutation: The sampler's `edge_permutation`.
        """
        edge_ids = None if output.edge is None else output.edge.long()
        if edge_ids is not None and permutation is not None:
            edge_ids = permutation[edge_ids]
        edge_index = torch.stack([output.row, output.col])
        return cls(output.node, edge_index, edge_ids, output.num_sampled_nodes, output.num_sampled_edges)

    def to_output(self) -> SamplerOutput:
        """As PyG's samplers return it."""
        from torch_geometric.sampler import SamplerOutput

        return SamplerOutput(
            self.node_ids,
            self.edge_index[0],
            self.edge_index[1],
            self.edge_ids,
            num_sampled_nodes=self.num_sampled_nodes,
            num_sampled_edges=self.num_sampled_edges,
        )


def _is_prefix(block: Block, widest: Block) -> bool:
    """Whether `block` is the first columns of `widest`, as where every node was expanded once."""
    return block is widest or (
        torch.equal(block.indptr, widest.indptr[: block.num_dst + 1])
        and torch.equal(block.indices, widest.indices[: block.num_edges])
    )


def _union(batch: MiniBatch) -> Drawn:
    """The edges of layers that were drawn apart, those that come in several once, sorted by destination."""
    edge_index = torch.cat([block.edge_index for block in batch.blocks], dim=1)
    edge_ids = None
    if batch.blocks[0].edge_ids is not None:
        edge_ids = torch.cat([block.edge_ids for block in batch.blocks if block.edge_ids is not None])
    # Parallel edges are told apart by their ids; without ids a pair of nodes counts once.
    keys = edge_index[1] * batch.num_nodes + edge_index[0] if edge_ids is None else edge_ids
    _, inverse = torch.unique(keys, return_inverse=True)
    positions = torch.arange(inverse.numel())
    first = torch.empty_like(inverse[: int(inverse.max()) + 1 if inverse.numel() else 0])
    first = first.scatter_reduce(0, inverse, positions, "amin", include_self=False)
    first = first[torch.argsort(edge_index[1, first], stable=True)]
    return Drawn(batch.node_ids, edge_index[:, first], None if edge_ids is None else edge_ids[first])
