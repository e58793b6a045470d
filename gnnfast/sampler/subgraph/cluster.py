"""Cluster-GCN: subgraphs on a few parts of a partition."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.partition import partition_graph
from gnnfast.sampler.law import Law
from gnnfast.sampler.subgraph.induce import Inducer
from gnnfast.sampler.subgraph.parts import PartDeal


class ClusterSampler:
    """Joins random parts of a graph to a mini-batch, with all edges among their nodes, those between parts included.

    Chiang et al., Cluster-GCN: An Efficient Algorithm for Training Deep and Large Graph Convolutional Networks, 2019,
    https://arxiv.org/abs/1905.07953 (algorithm 1, stochastic multiple partitions). Every node is in one mini-batch of
    an epoch. What an epoch does not see are the edges between parts that did not come together: see `left_out_share`.

    Args:
        graph: Graph to sample from.
        num_parts: Parts that the graph is cut into, once.
        parts_per_batch: Parts of a mini-batch. More of them bring back edges and even out the labels.
        method: As in `partition_graph`.
        normalization: What makes up for the edges that are left out. "batch": GCN counts degrees inside the mini-batch,
            as in the paper. "full": degrees are those of the full graph, and edges between parts weigh 1 / probability:
            sums are unbiased where mini-batches have two parts or more.
        partition_seed: Of the partition.
        cache_dir: Where partitions are kept; None means `gnnfast` in the user's cache folder.
        edge_ids: Whether blocks carry the ids of their edges.

    Raises:
        ValueError: If there are fewer nodes than parts or fewer parts than `parts_per_batch`, or `method` or
            `normalization` is another word.
    """

    def __init__(
        self,
        graph: CSCGraph,
        num_parts: int = 100,
        parts_per_batch: int = 10,
        method: str = "auto",
        normalization: Literal["batch", "full"] = "batch",
        partition_seed: int = 0,
        cache_dir: str | Path | None = None,
        edge_ids: bool = False,
    ):
        self.graph = graph
        self.parts_per_batch = parts_per_batch
        self.normalization = normalization
        self._inducer = Inducer(graph, edge_ids, normalization)
        self.partition = partition_graph(graph, num_parts, method, partition_seed, cache_dir)
        self._deal = PartDeal(self.partition, parts_per_batch)

    @property
    def num_batches(self) -> int:
        return self._deal.num_batches

    @property
    def cut_share(self) -> float:
        """Edges between different parts, as a share of all but self-loops: seen when both parts come together."""
        return self.partition.cut_share

    @property
    def left_out_share(self) -> float:
        """Expected share of the edges, self-loops not counted, that an epoch does not see."""
        num_parts = self.partition.num_parts
        small, num_larger = divmod(num_parts, self.num_batches)
        pairs_together = num_larger * (small + 1) * small + (self.num_batches - num_larger) * small * (small - 1)
        return self.cut_share * (1 - pairs_together / max(num_parts * (num_parts - 1), 1))

    @property
    def law(self) -> Law:
        """Sums are unbiased with normalization "full" where every mini-batch has two parts or more."""
        sees_all = self.left_out_share == 0
        weighted = self.normalization == "full" and self.partition.num_parts >= 2 * self.num_batches
        return Law(
            unbiased=("sum", "mean") if sees_all else ("sum",) if weighted else (),
            bias=f"{self.left_out_share:.1%} of the edges, between parts of different mini-batches, are left out",
            node_inclusion=self._deal.node_inclusion,
        )

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        """Takes out some parts.

        Args:
            batch: Number in the epoch, in [0, num_batches).
            epoch_seed: Same seed and number, same mini-batch, on any thread.

        Returns:
            One square block, its nodes part by part.
        """
        parts = self._deal.parts(batch, epoch_seed)
        nodes = self.partition.nodes_of(parts)
        block = self._inducer.induce(nodes)
        if self.normalization == "full" and 1 < parts.numel() < self.partition.num_parts:
            block.inclusion_weight = self._inclusion_weight(block, nodes, parts.numel())
        return MiniBatch(nodes, nodes, [block])

    def _inclusion_weight(self, block: Block, nodes: torch.Tensor, num_parts: int) -> torch.Tensor:
        """1 inside a part; given one part of a mini-batch, another is there with probability
        (parts there - 1) / (parts - 1).
        """
        part_of = self.partition.part_of[nodes].int()
        is_between = part_of[block.indices] != part_of.repeat_interleave(block.indptr.diff())
        return torch.where(is_between, (self.partition.num_parts - 1) / (num_parts - 1), 1.0)
