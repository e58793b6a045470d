"""Neighborhoods of random walks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.kernels.cpu import random_walk as kernels
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import Hop, HopAssembler, check_fanouts
from gnnfast.sampler.node_map import NodeMap


class RandomWalkSampler:
    """Lets each node hear the nodes that short random walks from it visit most often.

    Ying et al., Graph Convolutional Neural Networks for Web-Scale Recommender Systems (PinSAGE), 2018,
    https://arxiv.org/abs/1806.01973 (section 3.2). Walks go against the edges, over uniform in-edges, whatever those
    weigh; the `fanout` most visited nodes become the in-neighbors, whether or not there is an edge, most visited first,
    of those visited equally often the one met after fewer steps; the node itself never.

    `inclusion_weight` is a node's share in the visits of those kept, times the degree that GCN normalizes with. So
    means weighted by it are PinSAGE's importance pooling, and sums and GCN, with the degrees of the full graph as
    everywhere, have the scale of those over all in-edges: what is trained on these blocks can be evaluated on the
    graph. They still estimate pooling by visits, not the plain sum. Blocks carry neither edge weights nor edge ids.

    Draws are keyed by (seed, hop, node, walk, step): what a seed draws does not depend on which other seeds are in its
    batch.

    Args:
        graph: Graph to walk on.
        fanouts: Nodes kept per node, from the seed nodes outwards, one entry per model layer; -1 keeps all visited.
        num_walks: Walks from each node.
        walk_length: Steps after which a walk ends at the latest; it ends at nodes without in-edges, too.
        restart: Probability that a walk ends after a step, so that the next one begins at the node again: the larger,
            the closer the nodes that are kept.

    Raises:
        ValueError: If a fanout is 0 or below -1, there are no walks or steps, or `restart` is not in [0, 1].
    """

    def __init__(
        self,
        graph: CSCGraph,
        fanouts: Sequence[int],
        num_walks: int = 30,
        walk_length: int = 3,
        restart: float = 0.5,
    ):
        if num_walks < 1 or walk_length < 1 or not 0 <= restart <= 1:
            raise ValueError(
                "num_walks and walk_length must be at least 1 and restart a probability; got "
                f"{num_walks=}, {walk_length=}, {restart=}"
            )
        self.graph = graph
        self.fanouts = check_fanouts(fanouts)
        self.num_walks = num_walks
        self.walk_length = walk_length
        self.restart = restart
        self.law = Law(
            bias="nodes are heard in proportion to the visits of walks, the most visited only",
            graph_edges=False,
        )
        self._assembler = HopAssembler(graph, edge_ids=False)

    @property
    def num_layers(self) -> int:
        return len(self.fanouts)

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
        graph, empty = self.graph, self._assembler.empty
        # A copy: numbering what is drawn may move the node map's array.
        frontier = node_map.nodes().copy()
        most = self.num_walks * self.walk_length
        fanout = most if fanout == -1 else min(fanout, most)
        indptr = empty(frontier.size + 1, torch.int64)
        visited = empty(frontier.size * fanout, torch.int64)
        weight = empty(frontier.size * fanout, torch.float32)
        kernels.visit_neighborhoods(
            graph.indptr.numpy(),
            graph.indices.numpy(),
            graph.degree.numpy(),
            frontier,
            np.uint64(layer_key),
            fanout,
            self.num_walks,
            self.walk_length,
            float(self.restart),
            indptr.numpy(),
            visited.numpy(),
            weight.numpy(),
        )
        num_edges = int(indptr[-1])
        indices = empty(num_edges, torch.int32)
        node_map.add(visited.numpy(), np.arange(num_edges), indices.numpy())
        return Hop(
            indptr,
            indices,
            num_src=node_map.count,
            edge_ids=None,
            edge_weight=None,
            inclusion_weight=weight[:num_edges],
        )
