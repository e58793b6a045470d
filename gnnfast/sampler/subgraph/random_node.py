"""Subgraphs on random parts of the nodes."""

from __future__ import annotations

import numpy as np
import torch

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.sampler.law import Law
from gnnfast.sampler.subgraph.induce import Inducer


class RandomNodeSampler:
    """Deals all nodes out to parts of equal size, anew for every epoch; a mini-batch is the subgraph of a part.

    Every node is in one mini-batch of an epoch, with probability 1 / num_parts in a given one. Of its in-edges about
    that share is there too: the others are cut, see `cut_share`.

    Args:
        graph: Graph to sample from.
        num_parts: Mini-batches of an epoch.
        normalization: What makes up for the edges that are cut. "batch": GCN counts degrees inside the part, as the
            same layer on a sparser graph. "full": degrees are those of the full graph, and edges weigh 1 / probability:
            sums are unbiased, and noisy where parts are many.
        edge_ids: Whether blocks carry the ids of their edges.

    Raises:
        ValueError: If there are fewer nodes than parts, or `normalization` is another word.
    """

    def __init__(self, graph: CSCGraph, num_parts: int = 8, normalization: str = "batch", edge_ids: bool = False):
        if not 1 <= num_parts <= graph.num_nodes:
            raise ValueError(f"num_parts must be from 1 to the number of nodes, {graph.num_nodes}; got {num_parts}")
        self.graph = graph
        self.num_parts = num_parts
        self.normalization = normalization
        self._inducer = Inducer(graph, edge_ids, normalization)
        self._last_deal: tuple[int, np.ndarray] | None = None

    @property
    def num_batches(self) -> int:
        return self.num_parts

    @property
    def cut_share(self) -> float:
        """Expected share of edges between parts, self-loops not counted: those that an epoch does not see."""
        num_nodes = self.graph.num_nodes
        small, num_larger = divmod(num_nodes, self.num_parts)
        pairs_kept = num_larger * (small + 1) * small + (self.num_parts - num_larger) * small * (small - 1)
        return 1 - pairs_kept / max(num_nodes * (num_nodes - 1), 1)

    @property
    def law(self) -> Law:
        """Sums are unbiased with normalization "full" where every part has two nodes or more."""
        weighted = self.normalization == "full" and self.graph.num_nodes >= 2 * self.num_parts
        return Law(
            unbiased=("sum",) if weighted or self.num_parts == 1 else (),
            bias=f"{self.cut_share:.1%} of the edges are cut, and nodes that lose all of theirs have no average",
            node_inclusion=lambda: torch.full((self.graph.num_nodes,), 1 / self.num_parts, dtype=torch.float64),
        )

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        """Takes out one part of an epoch.

        Args:
            batch: Number in the epoch, in [0, num_parts).
            epoch_seed: Same seed and number, same mini-batch, on any thread.

        Returns:
            One square block, its nodes in random order.
        """
        nodes = torch.from_numpy(self._part(batch, epoch_seed))
        block, _ = self._inducer.induce_with_edges(nodes)
        if self.normalization == "full":
            # Given a node of the part, another one is in it with probability (size - 1) / (number of nodes - 1).
            weight = (self.graph.num_nodes - 1) / max(nodes.numel() - 1, 1)
            block.inclusion_weight = torch.full((block.num_edges,), weight)
            if self.graph.self_loop_weight is not None:
                block.inclusion_weight[block.indices == block.dst_index] = 1
        return MiniBatch(nodes, nodes, [block])

    def _part(self, batch: int, epoch_seed: int) -> np.ndarray:
        # Which parts are larger by one is drawn as well, or nodes would not be equally likely in all of them.
        first = (batch + derive_seed(epoch_seed, 1)) % self.num_parts
        return np.ascontiguousarray(self._deal(epoch_seed)[first :: self.num_parts])

    def _deal(self, epoch_seed: int) -> np.ndarray:
        """All nodes in random order, remembered for the other mini-batches of the epoch."""
        last = self._last_deal
        if last is None or last[0] != epoch_seed:
            order = np.random.default_rng(derive_seed(epoch_seed, 0)).permutation(self.graph.num_nodes)
            last = self._last_deal = epoch_seed, order
        return last[1]
