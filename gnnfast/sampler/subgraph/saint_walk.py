"""GraphSAINT's random walk samplers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import saint as kernels
from gnnfast.kernels.cpu.random_walk import random_walks
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.sampler.subgraph.saint import SaintSampler, check_positive


class SaintWalkSampler(SaintSampler):
    """Subgraphs on the nodes of random walks from uniform roots.

    Zeng et al., GraphSAINT: Graph Sampling Based Inductive Learning Method, 2020, https://arxiv.org/abs/1907.04931
    (algorithm 2, "random walk"). Walks go against the edges, to those whose messages a node hears.

    Args:
        graph: Graph to sample from.
        num_roots: Walks of a subgraph; roots are drawn with replacement.
        walk_length: Steps of each walk.
        num_batches, normalization, coverage, cache_dir, train_only, seed_nodes, edge_ids: See `SaintSampler`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        graph: CSCGraph,
        num_roots: int = 1500,
        walk_length: int = 2,
        num_batches: int | None = None,
        normalization: str | None = "estimated",
        coverage: float = 50,
        cache_dir: str | Path | None = None,
        train_only: bool = False,
        seed_nodes: Tensor | None = None,
        edge_ids: bool = False,
    ):
        check_positive(num_roots=num_roots, walk_length=walk_length)
        self.num_roots = num_roots
        self.walk_length = walk_length
        super().__init__(graph, num_batches, normalization, coverage, cache_dir, train_only, seed_nodes, edge_ids)

    def _draw(self, key: int) -> np.ndarray:
        graph = self._sampled
        roots = np.empty(self.num_roots, np.int64)
        kernels.draw_nodes(graph.num_nodes, np.uint64(derive_seed(key, 0)), roots)
        walks = np.empty((self.num_roots, self.walk_length + 1), np.int64)
        step_key = np.uint64(derive_seed(key, 1))
        random_walks(graph.indptr.numpy(), graph.indices.numpy(), roots, self.walk_length, step_key, walks)
        return walks.reshape(-1)

    def _settings(self) -> dict[str, int]:
        return {"num_roots": self.num_roots, "walk_length": self.walk_length}


class SaintMultiWalkSampler(SaintSampler):
    """Subgraphs on the nodes of one walk with many heads: that at the node of most edges is likeliest to step.

    Zeng et al., GraphSAINT: Graph Sampling Based Inductive Learning Method, 2020, https://arxiv.org/abs/1907.04931
    (algorithm 2, "multi-dimensional random walk"), after Ribeiro and Towsley, 2010, https://arxiv.org/abs/1002.1751.
    Walks go against the edges.

    Args:
        graph: Graph to sample from.
        num_frontier: Heads of the walk; they begin at uniform nodes, drawn with replacement.
        budget: Nodes visited, those where the heads begin included: a subgraph has this many nodes or fewer.
        num_batches, normalization, coverage, cache_dir, train_only, seed_nodes, edge_ids: See `SaintSampler`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        graph: CSCGraph,
        num_frontier: int = 1500,
        budget: int = 4500,
        num_batches: int | None = None,
        normalization: str | None = "estimated",
        coverage: float = 50,
        cache_dir: str | Path | None = None,
        train_only: bool = False,
        seed_nodes: Tensor | None = None,
        edge_ids: bool = False,
    ):
        check_positive(num_frontier=num_frontier)
        if budget < num_frontier:
            raise ValueError(f"budget counts the nodes of the frontier, but {budget=} < {num_frontier=}")
        self.num_frontier = num_frontier
        self.budget = budget
        super().__init__(graph, num_batches, normalization, coverage, cache_dir, train_only, seed_nodes, edge_ids)

    def _draw(self, key: int) -> np.ndarray:
        graph = self._sampled
        visited = np.empty(self.budget, np.int64)
        heads, steps = visited[: self.num_frontier], visited[self.num_frontier :]
        kernels.draw_nodes(graph.num_nodes, np.uint64(derive_seed(key, 0)), heads)
        step_key = np.uint64(derive_seed(key, 1))
        taken = kernels.frontier_walk(graph.indptr.numpy(), graph.indices.numpy(), heads.copy(), step_key, steps)
        return visited[: self.num_frontier + taken]

    def _settings(self) -> dict[str, int]:
        return {"num_frontier": self.num_frontier, "budget": self.budget}
