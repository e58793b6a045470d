"""Uniform neighbor sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.kernels.cpu import neighbor as kernels
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import Hop, HopAssembler, check_fanouts, nest
from gnnfast.sampler.node_map import NodeMap


class NeighborSampler:
    """Draws a fixed number of in-neighbors per node, hop by hop.

    Hamilton et al., Inductive Representation Learning on Large Graphs, 2017, https://arxiv.org/abs/1706.02216
    (algorithm 2). Every in-edge of a node is drawn with probability min(1, fanout / in-degree), and all subsets of that
    size alike; `inclusion_weight` = in-degree / fanout keeps weighted sums unbiased, plain means are unbiased as they
    are.

    Draws are keyed by (seed, hop, node): what a seed draws does not depend on which other seeds are in its batch.

    Args:
        graph: Graph to sample from.
        fanouts: In-neighbors drawn per node, from the seed nodes outwards, one entry per model layer; -1 takes all.
        replace: Whether a node may draw the same in-edge again. It then always draws `fanout` of them.
        expand: "layer" draws anew for every layer. "once" draws each node's neighbors once, at the hop that reaches it
            first, and uses them in all layers, as PyG's loaders do; cheaper, but with unequal fanouts the draws of a
            node depend on its batch.
        edge_ids: Whether blocks carry the ids of drawn edges: the graph's `edge_ids`, or else positions in `indices`.

    Raises:
        ValueError: If a fanout is 0 or below -1, or `expand` is another word.
    """

    def __init__(
        self,
        graph: CSCGraph,
        fanouts: Sequence[int],
        replace: bool = False,
        expand: Literal["layer", "once"] = "layer",
        edge_ids: bool = False,
    ):
        if expand not in ("layer", "once"):
            raise ValueError(f"expand must be 'layer' or 'once', got {expand!r}")
        self.graph = graph
        self.fanouts = check_fanouts(fanouts)
        self.replace = replace
        self.expand = expand
        self.edge_ids = edge_ids
        self._assembler = HopAssembler(graph, edge_ids)

    @property
    def num_layers(self) -> int:
        return len(self.fanouts)

    @property
    def law(self) -> Law:
        return Law(
            unbiased=("sum", "mean"),
            edge_inclusion=self._edge_inclusion,
            distinct=not self.replace,
            # Unequal fanouts: what a node draws then depends on the hop at which its batch reaches it.
            rank_invariant=self.expand == "layer" or len(set(self.fanouts)) == 1,
        )

    def _edge_inclusion(self, seed_nodes: Tensor) -> Tensor:
        degree = self.graph.in_degree[seed_nodes].double()
        fanout = self.fanouts[0]
        if fanout < 0:
            probability = torch.ones_like(degree)
        elif self.replace:
            probability = 1 - (1 - 1 / degree) ** fanout
        else:
            probability = (fanout / degree).clamp(max=1)
        return probability.repeat_interleave(degree.long())

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
        draw = self._draw_once if self.expand == "once" else self._draw_layers
        return self._assembler.mini_batch(seed_nodes, lambda node_map: draw(node_map, seed))

    def _draw_layers(self, node_map: NodeMap, seed: int) -> list[Hop]:
        """Every hop draws for all nodes so far: layer by layer, independent samples."""
        return [self._draw_hop(node_map, 0, fanout, derive_seed(seed, hop)) for hop, fanout in enumerate(self.fanouts)]

    def _draw_once(self, node_map: NodeMap, seed: int) -> list[Hop]:
        """Every hop draws for its new nodes only; a layer's block is all hops up to it, joined."""
        hops: list[Hop] = []
        first_new = 0
        # One key for all hops: which one reaches a node first depends on the batch.
        key = derive_seed(seed, 0)
        for fanout in self.fanouts:
            num_before = node_map.count
            hops.append(self._draw_hop(node_map, first_new, fanout, key))
            first_new = num_before
        return nest(hops)

    def _draw_hop(self, node_map: NodeMap, first: int, fanout: int, layer_key: int) -> Hop:
        """Draws for the nodes from number `first` on and numbers what they drew."""
        graph_indptr, empty = self.graph.indptr.numpy(), self._assembler.empty
        # A copy: numbering what is drawn may move the node map's array.
        frontier = node_map.nodes()[first:].copy()
        indptr = empty(frontier.size + 1, torch.int64)
        spans = np.empty((frontier.size, 2), np.int64)
        is_complete = kernels.count_neighbors(graph_indptr, frontier, fanout, self.replace, indptr.numpy(), spans)
        edges = empty(int(indptr[-1]), torch.int64)
        kernels.sample_neighbors(
            frontier, spans, np.uint64(layer_key), fanout, self.replace, indptr.numpy(), edges.numpy()
        )
        weight = None
        if not is_complete:
            weight = empty(edges.numel(), torch.float32)
            kernels.inclusion_weights(spans, indptr.numpy(), weight.numpy())
        return self._assembler.hop(node_map, indptr, edges, weight)
