"""GraphSAINT's node sampler."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import saint as kernels
from gnnfast.kernels.cpu.alias import build_alias, draw_aliases
from gnnfast.sampler.subgraph.saint import SaintSampler, check_positive
from gnnfast.sampler.subgraph.saint_norm import IndependentDraws


class SaintNodeSampler(SaintSampler):
    """Subgraphs on nodes drawn independently, the much heard more often.

    Zeng et al., GraphSAINT: Graph Sampling Based Inductive Learning Method, 2020, https://arxiv.org/abs/1907.04931
    (section 3.4).

    Args:
        graph: Graph to sample from.
        num_nodes: Draws of a subgraph, with replacement: it has this many nodes or fewer.
        probability: What a node's probability is proportional to. "degree": its number of out-edges, as in the authors'
            code; a node without any counts as having one, so that all nodes are trained on. "norm": the squared norm of
            its column in GCN's operator, as in the paper.
        num_batches, normalization, train_only, seed_nodes, edge_ids: See `SaintSampler`.
        coverage, cache_dir: See `SaintSampler`; only for normalization "estimated".

    Raises:
        ValueError: If an argument is out of range.
    """

    normalizations = ("exact", "estimated", None)

    def __init__(
        self,
        graph: CSCGraph,
        num_nodes: int = 4000,
        probability: str = "degree",
        num_batches: int | None = None,
        normalization: str | None = "exact",
        coverage: float = 50,
        cache_dir: str | Path | None = None,
        train_only: bool = False,
        seed_nodes: Tensor | None = None,
        edge_ids: bool = False,
    ):
        if probability not in ("degree", "norm"):
            raise ValueError(f"probability must be 'degree' or 'norm', got {probability!r}")
        check_positive(num_nodes=num_nodes)
        self.num_nodes = num_nodes
        self.probability = probability
        super().__init__(graph, num_batches, normalization, coverage, cache_dir, train_only, seed_nodes, edge_ids)

    @cached_property
    def _draw_probability(self) -> np.ndarray:
        weights = _out_degrees(self._sampled) if self.probability == "degree" else _gcn_column_norms(self._sampled)
        return np.asarray(weights / weights.sum())

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        size = self._draw_probability.size
        accept, alias = np.empty(size, np.float64), np.empty(size, np.int32 if size < 2**31 else np.int64)
        build_alias(self._draw_probability, accept, alias)
        return accept, alias

    def _draw(self, key: int) -> np.ndarray:
        nodes = np.empty(self.num_nodes, np.int64)
        draw_aliases(*self._table, np.uint64(key), nodes)
        return nodes

    def _settings(self) -> dict[str, int]:
        return {"num_nodes": self.num_nodes, "by_norm": self.probability == "norm"}

    def _independent_draws(self) -> IndependentDraws:
        return IndependentDraws(self._draw_probability, self.num_nodes)


def _out_degrees(graph: CSCGraph) -> np.ndarray:
    out_degree = np.empty(graph.num_nodes, np.int64)
    kernels.count_sources(graph.indices.numpy(), out_degree)
    return np.maximum(out_degree, 1).astype(np.float64)


def _gcn_column_norms(graph: CSCGraph) -> np.ndarray:
    self_loop = torch.ones(graph.num_nodes) if graph.self_loop_weight is None else graph.self_loop_weight
    degree = (graph.degree.double() + self_loop.double()).numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(degree > 0, degree**-0.5, 0)
    norms = np.empty(graph.num_nodes, np.float64)
    weight = np.empty(0, np.float32) if graph.edge_weight is None else graph.edge_weight.numpy()
    loops = self_loop.double().numpy()
    kernels.gcn_column_norms(graph.indptr.numpy(), graph.indices.numpy(), weight, scale, loops, norms)
    return norms
