"""Mini-batches for tasks on edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.kernels.cpu import exclude as kernels
from gnnfast.sampler.base import Sampler
from gnnfast.sampler.edge.negatives import Negatives, NegativeSampler
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.neighbor import NeighborSampler
from gnnfast.sampler.node_map import distinct_nodes


class LinkNeighborSampler:
    """Samples the neighborhoods of both ends of edges, and of pairs that are no edges.

    The sampler of the neighborhoods and the `NegativeSampler` draw independently, each keyed by what it draws for: a
    seed edge has the same negatives and the same neighborhoods in every batch and on every rank.

    Args:
        graph: Graph that messages flow on.
        fanouts: In-neighbors drawn per node, from the ends of the pairs outwards, one entry per model layer; -1 takes
            all.
        num_negatives: Pairs drawn for each seed edge.
        negatives, src_range, dst_range, avoid_edges: What they are; see `NegativeSampler`.
        exclude_seed_edges: Whether messages never flow along a seed edge of the batch, in either direction, so that a
            model cannot read off what it is to predict. What a node hears then depends on the batch. The edges that
            stay keep their weights, which makes sums over them unbiased for the graph without the excluded edges;
            degrees are those of the whole graph.
        edge_ids: Whether blocks carry the ids of drawn edges: the graph's `edge_ids`, or else positions in `indices`.
        sampler: What samples neighborhoods, in place of a `NeighborSampler` with `fanouts` and `edge_ids`.

    Raises:
        ValueError: If an argument of `NeighborSampler` or `NegativeSampler` is out of range, or `num_negatives` is
            negative.
    """

    def __init__(
        self,
        graph: CSCGraph,
        fanouts: Sequence[int] = (10, 10),
        num_negatives: int = 1,
        negatives: Negatives = "uniform",
        src_range: Sequence[int] | None = None,
        dst_range: Sequence[int] | None = None,
        avoid_edges: bool | None = None,
        exclude_seed_edges: bool = False,
        edge_ids: bool = False,
        sampler: Sampler | None = None,
    ):
        if num_negatives < 0:
            raise ValueError(f"num_negatives must be at least 0, got {num_negatives}")
        self.graph = graph
        self.num_negatives = num_negatives
        self.exclude_seed_edges = exclude_seed_edges
        self.sampler = NeighborSampler(graph, fanouts, edge_ids=edge_ids) if sampler is None else sampler
        self.negative_sampler = NegativeSampler(graph, negatives, src_range, dst_range, avoid_edges)
        # As of any sampler: there only where it is given, and absent where one block serves models of any depth.
        if hasattr(self.sampler, "num_layers"):
            self.num_layers: int = self.sampler.num_layers

    @property
    def avoid_edges(self) -> bool:
        return self.negative_sampler.avoid_edges

    @cached_property
    def law(self) -> Law:
        """That of the sampler of neighborhoods, as far as no edge is excluded."""
        law: Law = getattr(self.sampler, "law", Law())
        if not self.exclude_seed_edges:
            return law
        why = "no message flows along the seed edges of a batch"
        return replace(
            law,
            unbiased=(),
            bias=f"{law.bias}; {why}" if law.bias else why,
            edge_inclusion=None,
            exact=False,
            rank_invariant=False,
        )

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Samples the neighborhoods of nodes, as the sampler of neighborhoods does; nothing is excluded."""
        return self.sampler.sample(seed_nodes, seed)

    def sample_edges(self, seed_edges: Tensor, seed: int) -> MiniBatch:
        """Draws negatives and samples the message flow that ends at the ends of all pairs.

        Args:
            seed_edges: Global ids, int64, `(2, num_edges)`, sources above destinations; not necessarily edges of the
                graph.
            seed: Same seed, same mini-batch, on any number of threads.

        Returns:
            A mini-batch whose `seed_nodes` are the distinct ends; `seed_edges` holds the given ones and then
            `num_negatives` for each, `edge_rows` the output rows of their ends, `edge_labels` 1 and 0.

        Raises:
            ValueError: If the edges are not of that shape or an end is not a node of the graph.
        """
        self._check(seed_edges)
        num_edges = seed_edges.shape[1]
        negatives = self.negative_sampler.draw(seed_edges.contiguous(), self.num_negatives, seed)
        pairs = torch.cat([seed_edges, negatives], dim=1)
        seed_nodes, numbers = distinct_nodes(pairs.view(-1))
        batch = self.sampler.sample(seed_nodes, seed)
        rows = numbers if batch.seed_rows is None else batch.seed_rows[numbers]
        labels = torch.zeros(pairs.shape[1])
        labels[:num_edges] = 1
        blocks = _exclude(batch.blocks, seed_edges) if self.exclude_seed_edges else batch.blocks
        return replace(batch, blocks=blocks, seed_edges=pairs, edge_rows=rows.view(2, -1), edge_labels=labels)

    def _check(self, seed_edges: Tensor) -> None:
        if seed_edges.dtype != torch.int64 or seed_edges.dim() != 2 or seed_edges.shape[0] != 2:
            raise ValueError(
                f"seed_edges must be int64 of shape (2, num_edges), got {seed_edges.dtype} {tuple(seed_edges.shape)}"
            )
        if seed_edges.numel() == 0:
            return
        low, high = (int(bound) for bound in torch.aminmax(seed_edges))
        if low < 0 or high >= self.graph.num_nodes:
            bad = low if low < 0 else high
            raise ValueError(
                f"seed_edges holds node {bad}, but the graph numbers nodes 0 to {self.graph.num_nodes - 1}"
            )


def _exclude(blocks: list[Block], edges: Tensor) -> list[Block]:
    """The blocks without the edges, in either direction; one that serves several layers stays one."""
    slots = torch.full((1 << (2 * edges.shape[1] + 1).bit_length(),), -1)
    kernels.enter_pairs(edges.numpy(), slots.numpy())
    without = {id(block): _without(block, edges, slots) for block in blocks}
    return [without[id(block)] for block in blocks]


def _without(block: Block, edges: Tensor, slots: Tensor) -> Block:
    indptr, kept = torch.empty_like(block.indptr), torch.empty(block.num_edges, dtype=torch.int64)
    src_nodes = torch.arange(block.num_src) if block.src_nodes is None else block.src_nodes
    tensors = (block.indptr, block.indices, src_nodes, edges, slots, indptr, kept)
    kernels.keep_others(*(tensor.numpy() for tensor in tensors))
    if int(indptr[-1]) == block.num_edges:
        return block
    kept = kept[: int(indptr[-1])]
    return Block(
        indptr,
        block.indices[kept],
        num_src=block.num_src,
        src_nodes=block.src_nodes,
        edge_ids=None if block.edge_ids is None else block.edge_ids[kept],
        edge_weight=None if block.edge_weight is None else block.edge_weight[kept],
        inclusion_weight=None if block.inclusion_weight is None else block.inclusion_weight[kept],
        src_degree=block.src_degree,
        self_loop_weight=block.self_loop_weight,
    )
