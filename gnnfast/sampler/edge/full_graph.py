"""The whole graph in every mini-batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.sampler.edge.link_neighbor import LinkNeighborSampler
from gnnfast.sampler.edge.negatives import Negatives
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import check_seeds


class FullGraphSampler(LinkNeighborSampler):
    """Has messages flow along all edges, for all nodes; seeds only say what the loss is of.

    For graphs that fit, and mini-batches whose neighborhoods are most of the graph anyhow: one block serves all layers
    and all steps, so it is transposed and normalized once. For seed nodes and for seed edges; nothing is sampled but
    negatives.

    Args:
        graph: All of it flows.
        num_negatives: Pairs drawn for each seed edge.
        negatives, src_range, dst_range, avoid_edges: What they are; see `NegativeSampler`.
    """

    def __init__(
        self,
        graph: CSCGraph,
        num_negatives: int = 1,
        negatives: Negatives = "uniform",
        src_range: Sequence[int] | None = None,
        dst_range: Sequence[int] | None = None,
        avoid_edges: bool | None = None,
    ):
        whole = _WholeGraph(graph)
        super().__init__(graph, (), num_negatives, negatives, src_range, dst_range, avoid_edges, sampler=whole)


class _WholeGraph:
    """The graph as a mini-batch for any seeds."""

    law = Law(unbiased=("sum", "mean"), exact=True)

    def __init__(self, graph: CSCGraph):
        self._block = graph.to_block()
        self._block.src_nodes = self._nodes = torch.arange(graph.num_nodes)

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        check_seeds(seed_nodes, self._nodes.numel())
        return MiniBatch(seed_nodes, self._nodes, [self._block], seed_rows=seed_nodes)
