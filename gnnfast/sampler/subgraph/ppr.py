"""Which nodes a node hears most."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import ppr as kernels


class PersonalizedPageRank:
    """The influence of nodes on a node: where a walk against the direction of the edges, begun there, ends.

    A walk ends with probability `alpha` at each node it visits, and else moves to an in-neighbor, each in-edge alike;
    edge weights have no part in it. Where there is none, it stays.

    Args:
        graph: Graph to walk on.
        top_k: Largest number of nodes found for each, the node itself not counted.
        alpha: In (0, 1): the smaller, the farther a walk gets.
        eps: Probability, per in-edge of a node, that is not followed any further. One search reads at most
            1 / (alpha * eps) edges.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, graph: CSCGraph, top_k: int, alpha: float, eps: float):
        if top_k < 1 or not 0 < alpha < 1 or not 0 < eps < 1:
            raise ValueError(f"top_k must be positive, alpha and eps between 0 and 1; got {top_k=}, {alpha=}, {eps=}")
        self.graph = graph
        self.top_k = top_k
        self.alpha = alpha
        self.eps = eps

    def largest(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The nodes of largest influence on each of some nodes, by approximate search.

        Andersen, Chung and Lang, Local Graph Partitioning using PageRank Vectors, 2006. The influence found is too
        small by at most eps times the degree where every edge has its reverse.

        Args:
            nodes: Global ids, int64, `(num_given,)`.

        Returns:
            offsets, int64 `(num_given + 1,)`; nodes, int64 `(offsets[-1],)`, those of node i at
            `offsets[i]:offsets[i + 1]`, by falling influence; their influence, float64.
        """
        num_given = nodes.numel()
        offsets = torch.empty(num_given + 1, dtype=torch.int64)
        found = torch.empty(num_given * self.top_k, dtype=torch.int64)
        influence = torch.empty(num_given * self.top_k, dtype=torch.float64)
        kernels.push_ppr(
            self.graph.indptr.numpy(),
            self.graph.indices.numpy(),
            nodes.numpy(),
            self.alpha,
            self.eps,
            self.top_k,
            offsets.numpy(),
            found.numpy(),
            influence.numpy(),
        )
        num_found = int(offsets[-1])
        return offsets, found[:num_found], influence[:num_found]

    def of_set(self, nodes: Tensor, num_rounds: int = 50) -> Tensor:
        """The influence of every node on a set together, by power iteration, float64, `(num_nodes,)`.

        Args:
            nodes: The set: distinct global ids, int64.
            num_rounds: What is missing in the end is at most (1 - alpha) ** num_rounds in all.
        """
        influence = torch.empty(self.graph.num_nodes, dtype=torch.float64)
        kernels.iterate_ppr(
            self.graph.indptr.numpy(),
            self.graph.indices.numpy(),
            nodes.numpy(),
            self.alpha,
            num_rounds,
            influence.numpy(),
        )
        return influence
