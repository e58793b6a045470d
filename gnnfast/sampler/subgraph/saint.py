"""GraphSAINT: training on random subgraphs whose weights make them stand for the whole graph."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.runtime.cached_file import cached_arrays
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import check_seeds
from gnnfast.sampler.node_map import NodeMapPool
from gnnfast.sampler.subgraph.induce import Inducer
from gnnfast.sampler.subgraph.saint_norm import Counts, InclusionWeights, IndependentDraws, count_subgraphs

# Part of the key of counts on disk: to be raised when what is drawn or counted changes.
COUNTS_VERSION = 1
_COUNTING_SEED = 0x5A147
_NUM_PROBES = 16  # subgraphs whose mean size says how many make an epoch, where nothing else does


class SaintSampler(ABC):
    """What the four samplers share: nodes are drawn, their subgraph taken out, its weights found.

    All of the graph is sampled, whichever nodes are trained on; `train_only` restricts it to the training nodes and the
    edges among them, as the paper does.

    Every edge u -> v of a subgraph has `inclusion_weight` P(v taken) / P(u and v taken), every node `seed_weight`
    1 / P(v taken).

    Args:
        graph: Graph to sample from, with at least one node.
        num_batches: Subgraphs per epoch; None: as many as take each node once on average.
        normalization: Where the probabilities come from: "exact", their closed form; "estimated", counts in subgraphs
            drawn beforehand; None leaves the weights out.
        coverage: How often a node is taken in those subgraphs on average, for "estimated".
        cache_dir: Folder that keeps the counts; None means `gnnfast` in the user's cache folder.
        train_only: Whether to sample the graph of `seed_nodes` alone.
        seed_nodes: The training nodes, distinct global ids, int64.
        edge_ids: Whether blocks carry the ids of their edges.

    Raises:
        ValueError: If an argument is out of range, or with `train_only` one of `seed_nodes` is not in the graph or
            comes twice.
    """

    normalizations: ClassVar[tuple[str | None, ...]] = ("estimated", None)

    def __init__(
        self,
        graph: CSCGraph,
        num_batches: int | None,
        normalization: str | None,
        coverage: float,
        cache_dir: str | Path | None,
        train_only: bool,
        seed_nodes: Tensor | None,
        edge_ids: bool,
    ):
        if normalization not in self.normalizations:
            raise ValueError(f"normalization must be one of {self.normalizations}, got {normalization!r}")
        if num_batches is not None and num_batches < 1:
            raise ValueError(f"num_batches must be at least 1, or null to cover the graph, got {num_batches}")
        if not coverage > 0:
            raise ValueError(f"coverage must be positive, got {coverage}")
        if train_only and seed_nodes is None:
            raise ValueError("train_only=True needs seed_nodes, the training nodes")
        self.graph = graph
        self.normalization = normalization
        self.coverage = coverage
        self.train_only = train_only
        self._global_ids = seed_nodes if train_only else None
        self._sampled = graph if self._global_ids is None else _graph_among(graph, self._global_ids, edge_ids)
        if self._sampled.num_nodes == 0:
            raise ValueError(f"there is no node to sample in {self._sampled!r}")
        self._inducer = Inducer(self._sampled, edge_ids)
        self._node_maps = NodeMapPool(self._sampled.num_nodes)
        self._weights = self._find_weights(cache_dir)
        self.num_batches = num_batches or math.ceil(self._sampled.num_nodes / self._expected_nodes())

    @property
    def law(self) -> Law:
        """What the weights make right, and where it is known, the probability of each node."""
        draws = self._independent_draws()
        reason = "the average over a subgraph's edges divides one random sum by another"
        unbiased: tuple[str, ...] = ()
        if self.train_only:
            reason = "edges from nodes that are not trained on are left out"
        elif self.normalization == "exact" and draws is not None and draws.reach_all_pairs:
            unbiased = ("sum",)
        else:
            weights = "estimated from counts" if self._weights else "left out"
            reason = f"the weights of edges are {weights}, and {reason}"
        return Law(unbiased, reason, node_inclusion=None if draws is None else partial(self._at_all_nodes, draws))

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        """Draws one subgraph of an epoch.

        Args:
            batch: Number in the epoch, in [0, num_batches).
            epoch_seed: Same seed and number, same mini-batch, on any thread.

        Returns:
            One square block; nodes come in the order in which they were first drawn.
        """
        nodes = self._draw_distinct(derive_seed(epoch_seed, batch))
        block, edges = self._inducer.induce_with_edges(nodes)
        seed_weight = None
        if self._weights is not None:
            block.inclusion_weight = self._weights.of_edges(block, nodes, edges)
            seed_weight = self._weights.of_nodes(nodes)
        if self._global_ids is not None:
            nodes = block.src_nodes = self._global_ids[nodes]
        return MiniBatch(nodes, nodes, [block], seed_weight=seed_weight)

    def draw_nodes(self, seed: int) -> Tensor:
        """Draws the nodes of one subgraph alone, for those who take out its edges themselves.

        Args:
            seed: Same seed, same nodes, on any thread.

        Returns:
            Distinct global ids in the order in which they were first drawn, int64, `(num_nodes,)`.
        """
        nodes = self._draw_distinct(seed)
        return nodes if self._global_ids is None else self._global_ids[nodes]

    def weights_of_all(self) -> tuple[Tensor, Tensor] | None:
        """The weights that subgraphs give to the nodes and edges they hold, for all that can be sampled.

        Returns:
            1 / P(v taken) of each node, float32, and P(v taken) / P(u and v taken) of each edge u -> v, float32, in the
            order of the sampled graph; inf where no subgraph can hold the edge. None if there are no weights.
        """
        if self._weights is None:
            return None
        graph, block = self._sampled, self._sampled.to_block()
        nodes, edges = torch.arange(graph.num_nodes), torch.arange(graph.num_edges)
        node_weight = self._weights.of_nodes(nodes)
        if isinstance(self._weights, IndependentDraws) and not self._weights.reach_all_pairs:
            return node_weight, torch.where(block.indices == block.dst_index, 1.0, torch.inf)
        return node_weight, self._weights.of_edges(block, nodes, edges)

    @abstractmethod
    def _draw(self, key: int) -> np.ndarray:
        """The nodes of a subgraph, int64, some of them more than once."""

    @abstractmethod
    def _settings(self) -> dict[str, int]:
        """What the law of a subgraph depends on besides the graph."""

    def _independent_draws(self) -> IndependentDraws | None:
        """The weights in closed form."""
        return None

    def _draw_distinct(self, key: int) -> Tensor:
        drawn = self._draw(key)
        with self._node_maps.lend() as node_map:
            node_map.start(drawn)
            return torch.from_numpy(node_map.nodes().copy())

    def _find_weights(self, cache_dir: str | Path | None) -> InclusionWeights | None:
        if self.normalization == "exact":
            return self._independent_draws()
        if self.normalization is None:
            return None
        graph = self._sampled
        inputs = {
            "version": COUNTS_VERSION,
            # The whole name: a subclass that draws otherwise may be called as its parent is.
            "sampler": f"{type(self).__module__}.{type(self).__qualname__}",
            "coverage": float(self.coverage),
            "indptr": graph.indptr.numpy(),
            "indices": graph.indices.numpy(),
            "edge_weight": None if graph.edge_weight is None else graph.edge_weight.numpy(),
            **self._settings(),
        }
        counts = cached_arrays("saint", inputs, self._count, cache_dir)
        return Counts(counts["node_count"], counts["edge_count"], int(counts["num_subgraphs"]))

    def _count(self) -> dict[str, np.ndarray]:
        def draw(number: int) -> tuple[Tensor, Tensor]:
            nodes = self._draw_distinct(derive_seed(_COUNTING_SEED, number))
            return nodes, self._inducer.induce_with_edges(nodes)[1]

        graph = self._sampled
        return count_subgraphs(draw, graph.num_nodes, graph.num_edges, self.coverage, os.cpu_count() or 1)

    def _expected_nodes(self) -> float:
        weights = self._weights or self._independent_draws()
        if weights is not None:
            return weights.expected_nodes
        sizes = [self._draw_distinct(derive_seed(_COUNTING_SEED, probe)).numel() for probe in range(_NUM_PROBES)]
        return sum(sizes) / _NUM_PROBES

    def _at_all_nodes(self, draws: IndependentDraws) -> Tensor:
        taken = draws.node_probability()
        if self._global_ids is None:
            return taken
        return torch.zeros(self.graph.num_nodes, dtype=torch.float64).index_copy_(0, self._global_ids, taken)


def check_positive(**counts: int) -> None:
    """Refuses anything but whole numbers of at least 1."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {count!r}")


def _graph_among(graph: CSCGraph, nodes: Tensor, edge_ids: bool) -> CSCGraph:
    """The graph on some nodes, numbered by their position."""
    check_seeds(nodes, graph.num_nodes)
    if nodes.unique().numel() < nodes.numel():
        raise ValueError("seed_nodes must be distinct")
    block = Inducer(graph, edge_ids).induce(nodes)
    return CSCGraph(block.indptr, block.indices, block.edge_ids, block.edge_weight, validate=False)
