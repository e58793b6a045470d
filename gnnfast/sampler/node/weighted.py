"""Neighbor sampling by edge weight."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.kernels.cpu import neighbor
from gnnfast.kernels.cpu import weighted as kernels
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import Hop, HopAssembler, check_fanouts
from gnnfast.sampler.node_map import NodeMap


class WeightedNeighborSampler:
    """Draws in-neighbors hop by hop, heavy edges more often than light ones; light edges that are drawn count more.

    Without replacement an in-edge e of v is drawn with probability p_e = min(1, weight_e / tau_v), where tau_v makes
    the probabilities add up to the fanout: those that Cohen et al., Efficient Stream Sampling for Variance-Optimal
    Estimation of Subset Sums, 2011, https://arxiv.org/abs/0803.0473, prove optimal. The draw itself is the pivotal
    method along the column (Chauvet, On a Characterization of Ordered Pivotal Sampling, 2012,
    https://arxiv.org/abs/1211.5442): always `fanout` distinct edges, or all of positive weight if there are no more; of
    edges beside each other in the column rarely both. `inclusion_weight` = 1 / p_e keeps sums over in-edges unbiased,
    and the sum of the weights themselves comes out right in every draw. A node costs fanout x log(in-degree) steps; the
    graph costs 8 bytes per edge for every different fanout, once.

    With replacement every draw takes e with probability p_e = weight_e / (sum of the column's weights), and
    `inclusion_weight` = 1 / (fanout p_e). An edge that is drawn twice stands in the block twice.

    Edges of weight 0 are never drawn, except by a fanout of -1, which takes all in-edges. Draws are keyed by
    (seed, hop, node): what a seed draws does not depend on which other seeds are in its batch.

    Args:
        graph: Graph to sample from.
        fanouts: In-neighbors drawn per node, from the seed nodes outwards, one entry per model layer; -1 takes all.
        replace: Whether a node may draw the same in-edge again. It then always draws `fanout` of them.
        edge_weight: What edges are drawn by, at least 0, floating, `(num_edges,)`, in the order of `graph.indices`. By
            default the absolute value of the graph's own, or 1 for all. "gcn" takes what GCN multiplies messages with:
            neighbors of small degree are drawn more often.
        edge_ids: Whether blocks carry the ids of drawn edges: the graph's `edge_ids`, or else positions in `indices`.

    Raises:
        ValueError: If a fanout is 0, below -1 or above 2**18, or the weights are negative, not finite, or not one per
            edge.
    """

    def __init__(
        self,
        graph: CSCGraph,
        fanouts: Sequence[int],
        replace: bool = False,
        edge_weight: Tensor | Literal["gcn"] | None = None,
        edge_ids: bool = False,
    ):
        self.fanouts = check_fanouts(fanouts)
        if max(self.fanouts) > kernels.LARGEST_FANOUT:
            raise ValueError(f"fanouts must be at most {kernels.LARGEST_FANOUT}, or -1 for all; got {fanouts}")
        self.graph = graph
        self.replace = replace
        self.edge_ids = edge_ids
        self._weights = _weights(graph, edge_weight)
        self._sums = {self._draws_at_once(fanout): torch.empty(0) for fanout in self.fanouts if fanout != -1}
        for num_draws in self._sums:
            self._sums[num_draws] = torch.empty(graph.num_edges, dtype=torch.int64)
            kernels.sum_shares(graph.indptr.numpy(), self._weights.numpy(), num_draws, self._sums[num_draws].numpy())
        self._assembler = HopAssembler(graph, edge_ids)

    @property
    def num_layers(self) -> int:
        return len(self.fanouts)

    @cached_property
    def law(self) -> Law:
        """Sums are unbiased if no edge that counts has weight 0; means only where a node's edges all weigh the same."""
        if all(fanout == -1 for fanout in self.fanouts):
            return Law(unbiased=("sum", "mean"), exact=True, edge_inclusion=self._inclusion_probability)
        own = self.graph.edge_weight
        never_drawn = self._weights == 0
        misses = bool((never_drawn if own is None else never_drawn & (own != 0)).any())
        first = torch.repeat_interleave(self.graph.indptr[:-1], self.graph.in_degree)
        is_even = not bool(never_drawn.any()) and bool((self._weights == self._weights[first]).all())
        biases = []
        if misses:
            biases.append("edges of weight 0 are never drawn")
        if not is_even:
            biases.append("a mean divides by the drawn weights, whose sum varies from draw to draw")
        return Law(
            unbiased=() if misses else ("sum", "mean") if is_even else ("sum",),
            bias="; ".join(biases),
            edge_inclusion=self._inclusion_probability,
            distinct=not self.replace,
        )

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Samples the message flow that ends at the seed nodes.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`; duplicates share one row, `MiniBatch.seed_rows` says which.
            seed: Same seed, same mini-batch, on any number of threads.

        Returns:
            One block per fanout, ordered from the model's input to its output; the last block's destinations are the
            distinct seeds in the order of their first appearance.

        Raises:
            ValueError: If a seed is not a node of the graph.
        """

        def draw(node_map: NodeMap) -> list[Hop]:
            return [self._draw_hop(node_map, fanout, derive_seed(seed, hop)) for hop, fanout in enumerate(self.fanouts)]

        return self._assembler.mini_batch(seed_nodes, draw)

    def _draw_hop(self, node_map: NodeMap, fanout: int, layer_key: int) -> Hop:
        graph_indptr, empty = self.graph.indptr.numpy(), self._assembler.empty
        # A copy: numbering what is drawn may move the node map's array.
        frontier = node_map.nodes().copy()
        indptr = empty(frontier.size + 1, torch.int64)
        key = np.uint64(layer_key)
        if fanout == -1:
            spans = np.empty((frontier.size, 2), np.int64)
            neighbor.count_neighbors(graph_indptr, frontier, -1, False, indptr.numpy(), spans)
            edges = empty(int(indptr[-1]), torch.int64)
            neighbor.sample_neighbors(frontier, spans, key, -1, False, indptr.numpy(), edges.numpy())
            return self._assembler.hop(node_map, indptr, edges, None)
        sums = self._sums[self._draws_at_once(fanout)].numpy()
        is_complete, sample = False, kernels.sample_independent
        if self.replace:
            kernels.count_independent(graph_indptr, sums, frontier, fanout, indptr.numpy())
        else:
            sample = kernels.sample_shares
            is_complete = kernels.count_shares(graph_indptr, sums, frontier, indptr.numpy())
        edges = empty(int(indptr[-1]), torch.int64)
        weight = empty(edges.numel(), torch.float32)
        sample(graph_indptr, sums, frontier, key, indptr.numpy(), edges.numpy(), weight.numpy())
        return self._assembler.hop(node_map, indptr, edges, None if is_complete else weight)

    def _draws_at_once(self, fanout: int) -> int:
        """With replacement every draw is one of its own."""
        return 1 if self.replace else fanout

    def _inclusion_probability(self, seed_nodes: Tensor) -> Tensor:
        nodes = torch.tensor(list(dict.fromkeys(seed_nodes.tolist())), dtype=torch.int64)
        shares = torch.ones(int(self.graph.in_degree[nodes].sum()), dtype=torch.float64)
        if self.fanouts[0] == -1:
            return shares
        sums = self._sums[self._draws_at_once(self.fanouts[0])]
        kernels.list_shares(self.graph.indptr.numpy(), sums.numpy(), nodes.numpy(), shares.numpy())
        return 1 - (1 - shares) ** self.fanouts[0] if self.replace else shares


def _weights(graph: CSCGraph, edge_weight: Tensor | str | None) -> Tensor:
    """What edges are drawn by, floating, at least 0."""
    own = torch.ones(graph.num_edges) if graph.edge_weight is None else graph.edge_weight.abs()
    if isinstance(edge_weight, str):
        if edge_weight != "gcn":
            raise ValueError(f"edge_weight must be 'gcn' or one number per edge, got {edge_weight!r}")
        self_loop = 1 if graph.self_loop_weight is None else graph.self_loop_weight
        scale = (graph.degree + self_loop).abs().pow(-0.5)
        own = own * torch.where(scale == torch.inf, 0, scale)[graph.indices]
    elif edge_weight is not None:
        if not isinstance(edge_weight, Tensor):
            raise ValueError(f"edge_weight must be 'gcn' or a tensor with one number per edge, got {edge_weight!r}")
        if edge_weight.shape != (graph.num_edges,) or not edge_weight.is_floating_point():
            raise ValueError(
                f"edge_weight must be floating of shape ({graph.num_edges},), got {edge_weight.dtype} of shape "
                f"{tuple(edge_weight.shape)}"
            )
        own = edge_weight if edge_weight.dtype == torch.float64 else edge_weight.float()
    if not bool((torch.isfinite(own) & (own >= 0)).all()):
        raise ValueError("edge_weight must be finite and at least 0")
    return own.contiguous()
