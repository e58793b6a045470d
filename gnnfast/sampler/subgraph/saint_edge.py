"""GraphSAINT's edge sampler."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from gnnfast.graph import Block, CSCGraph
from gnnfast.kernels.cpu import saint as kernels
from gnnfast.kernels.cpu.gather import gather_values
from gnnfast.sampler.subgraph.saint import SaintSampler, check_positive
from gnnfast.sampler.subgraph.saint_norm import IndependentDraws


class SaintEdgeSampler(SaintSampler):
    """Subgraphs on the ends of edges drawn independently, those between nodes of few edges more often.

    Zeng et al., GraphSAINT: Graph Sampling Based Inductive Learning Method, 2020, https://arxiv.org/abs/1907.04931
    (theorem 3.2). The paper draws the pair {u, v} with probability proportional to A_uv + A_vu, where A averages over
    in-edges: 1 / d_u + 1 / d_v in an undirected graph. That is a uniform node and a uniform in-edge of it, which needs
    no table and no look at the other edges. A node without in-edges is drawn alone, so that all nodes are trained on.

    Args:
        graph: Graph to sample from.
        num_edges: Draws of a subgraph, with replacement: it has twice as many nodes or fewer, and all edges among them.
        num_batches, normalization, train_only, seed_nodes, edge_ids: See `SaintSampler`.
        coverage, cache_dir: See `SaintSampler`; only for normalization "estimated".

    Raises:
        ValueError: If an argument is out of range.
    """

    normalizations = ("exact", "estimated", None)

    def __init__(
        self,
        graph: CSCGraph,
        num_edges: int = 2000,
        num_batches: int | None = None,
        normalization: str | None = "exact",
        coverage: float = 50,
        cache_dir: str | Path | None = None,
        train_only: bool = False,
        seed_nodes: Tensor | None = None,
        edge_ids: bool = False,
    ):
        check_positive(num_edges=num_edges)
        self.num_edges = num_edges
        super().__init__(graph, num_batches, normalization, coverage, cache_dir, train_only, seed_nodes, edge_ids)

    @cached_property
    def _draw_probability(self) -> np.ndarray:
        graph = self._sampled
        out = np.empty(graph.num_nodes, np.float64)
        kernels.edge_draw_probability(graph.indptr.numpy(), graph.indices.numpy(), out)
        return out

    def _draw(self, key: int) -> np.ndarray:
        ends = np.empty((self.num_edges, 2), np.int64)
        graph = self._sampled
        kernels.draw_edge_ends(graph.indptr.numpy(), graph.indices.numpy(), np.uint64(key), ends)
        return ends.reshape(-1)

    def _settings(self) -> dict[str, int]:
        return {"num_edges": self.num_edges}

    def _independent_draws(self) -> IndependentDraws:
        return IndependentDraws(self._draw_probability, self.num_edges, self._joint_probability)

    def _joint_probability(self, block: Block, nodes: np.ndarray) -> np.ndarray:
        # The backward pass walks the same transpose.
        out_indptr, out_indices, _ = block.transpose
        graph = self._sampled
        in_degree = np.empty(nodes.size, np.int64)
        gather_values(graph.in_degree.numpy(), nodes, in_degree)
        out = np.empty(block.num_edges, np.float64)
        kernels.edge_joint_probability(
            block.indptr.numpy(),
            block.indices.numpy(),
            out_indptr.numpy(),
            out_indices.numpy(),
            in_degree,
            graph.num_nodes,
            out,
        )
        return out
