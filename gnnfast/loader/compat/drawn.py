"""A drawn subgraph in PyG's terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from gnnfast.graph import MiniBatch
from gnnfast.sampler.subgraph.induce import Inducer


@dataclass
class Drawn:
    """Nodes and edges of a batch.

    Args:
        node_ids: Global ids, int64, `(num_nodes,)`, one row for every seed first.
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


def induced(batch: MiniBatch, inducer: Inducer) -> Drawn:
    """All edges among the nodes of a mini-batch."""
    block = inducer.induce(batch.node_ids)
    num_nodes, num_distinct = batch.node_ids.numel(), batch.blocks[-1].num_dst
    num_first = int(block.indptr[num_distinct])
    drawn = Drawn(
        batch.node_ids,
        block.edge_index,
        block.edge_ids,
        [num_distinct, num_nodes - num_distinct],
        [num_first, block.num_edges - num_first],
    )
    if batch.seed_rows is not None:
        drawn = _with_repeated_seeds(drawn, batch.seed_nodes, batch.seed_rows)
    return replace(drawn, num_sampled_nodes=None, num_sampled_edges=None)


def in_both_directions(drawn: Drawn) -> Drawn:
    """The edges and their reverses, each pair of nodes once; both directions have the id of one of them, as in PyG."""
    from torch_geometric.sampler.utils import to_bidirectional

    src, dst = drawn.edge_index
    src, dst, edge_ids = to_bidirectional(src, dst, src, dst, drawn.edge_ids, drawn.edge_ids)
    return Drawn(drawn.node_ids, torch.stack([src, dst]), edge_ids)


def drawn_once(batch: MiniBatch) -> Drawn:
    """What a sampler that expands every node once drew, a row for each seed, repeated ones too.

    Args:
        batch: Blocks that are prefixes of the first.
    """
    widest = batch.blocks[0]
    nodes = [batch.blocks[-1].num_dst, *(block.num_src for block in reversed(batch.blocks))]
    edges = [0, *(block.num_edges for block in reversed(batch.blocks))]
    drawn = Drawn(
        batch.node_ids,
        widest.edge_index,
        widest.edge_ids,
        [nodes[0], *(after - before for before, after in pairwise(nodes))],
        [after - before for before, after in pairwise(edges)],
    )
    return drawn if batch.seed_rows is None else _with_repeated_seeds(drawn, batch.seed_nodes, batch.seed_rows)


def _with_repeated_seeds(drawn: Drawn, seed_nodes: Tensor, seed_rows: Tensor) -> Drawn:
    """Gives each repetition of a seed a row of its own, with the same in-edges: PyG's scripts read row i for seed i."""
    assert drawn.num_sampled_nodes is not None
    assert drawn.num_sampled_edges is not None
    num_distinct, num_first = drawn.num_sampled_nodes[0], drawn.num_sampled_edges[0]
    num_seeds = seed_nodes.numel()
    src, dst = drawn.edge_index
    in_degree = torch.bincount(dst[:num_first], minlength=num_distinct)
    repeats = in_degree[seed_rows]
    starts = (torch.cumsum(in_degree, 0) - in_degree)[seed_rows]
    offset = torch.arange(int(repeats.sum())) - torch.repeat_interleave(torch.cumsum(repeats, 0) - repeats, repeats)
    first_edges = torch.repeat_interleave(starts, repeats) + offset
    edges = torch.cat([first_edges, torch.arange(num_first, src.numel())])
    # Where the rows went: distinct seed j to where it came first, other nodes behind all seeds.
    row = torch.arange(drawn.node_ids.numel()) + num_seeds - num_distinct
    row[:num_distinct] = torch.full((num_distinct,), num_seeds).scatter_reduce(
        0, seed_rows, torch.arange(num_seeds), "amin"
    )
    new_dst = torch.cat([torch.repeat_interleave(torch.arange(num_seeds), repeats), row[dst[num_first:]]])
    return Drawn(
        torch.cat([seed_nodes, drawn.node_ids[num_distinct:]]),
        torch.stack([row[src[edges]], new_dst]),
        None if drawn.edge_ids is None else drawn.edge_ids[edges],
        [num_seeds, *drawn.num_sampled_nodes[1:]],
        [first_edges.numel(), *drawn.num_sampled_edges[1:]],
    )
