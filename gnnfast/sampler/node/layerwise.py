"""Layer-wise sampling: a fixed number of nodes for a whole layer, instead of for each of its nodes."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.graph.csc import NO_WEIGHTS
from gnnfast.kernels.cpu import layerwise as kernels
from gnnfast.kernels.cpu.alias import build_alias, draw_aliases
from gnnfast.kernels.cpu.labor import draw_units
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import Hop, HopAssembler, InEdges
from gnnfast.sampler.node_map import NodeMap, NodeMapPool

log = logging.getLogger("gnnfast")

Normalise = Literal["hajek", "ht"]

_RATIO = "weights are rescaled to the sum over all in-edges of GCN's operator, a ratio of two sums, one of them random"
_MEAN = "a mean divides by the sum of the kept weights, which is random"
_DISTINCT = "sources are drawn without replacement, which 1 / q does not make up for"


class LayerSampler(ABC):
    """Draws the sources of each layer at once; a node keeps every in-edge whose source was drawn.

    The rows that a layer computes are also among its sources, so that a node's own row is exact, and so are self-loops.
    A row may keep no in-edge: `num_silent_rows` of `num_rows` so far had some and kept none; it is logged once.

    Args:
        graph: Graph to sample from.
        num_nodes: Sources drawn per layer, from the seed nodes outwards.
        normalise: "hajek" rescales each row's weights, such that the sizes of GCN's operator, of the full graph, keep
            their sum over the row; "ht" (Horvitz and Thompson, Hansen and Hurwitz) leaves them: unbiased, but of larger
            variance.
        edge_ids: Whether blocks carry the ids of kept edges: the graph's `edge_ids`, or else positions in `indices`.

    Raises:
        ValueError: If a number is not positive or `normalise` is another word.
    """

    def __init__(self, graph: CSCGraph, num_nodes: Sequence[int], normalise: Normalise, edge_ids: bool):
        is_list = isinstance(num_nodes, Sequence) and bool(num_nodes)
        if not is_list or any(
            isinstance(number, bool) or not isinstance(number, int) or number < 1 for number in num_nodes
        ):
            raise ValueError(f"num_nodes must be positive whole numbers, one per layer; got {num_nodes}")
        if normalise not in ("hajek", "ht"):
            raise ValueError(f"normalise must be 'hajek' or 'ht', got {normalise!r}")
        self.graph = graph
        self.num_nodes = list(num_nodes)
        self.normalise = normalise
        self.edge_ids = edge_ids
        self.num_rows = 0
        self.num_silent_rows = 0
        self._lock = threading.Lock()
        self._assembler = HopAssembler(graph, edge_ids)
        self._source_maps = NodeMapPool(graph.num_nodes)

    @property
    def num_layers(self) -> int:
        return len(self.num_nodes)

    @property
    @abstractmethod
    def law(self) -> Law:
        """What the draws promise."""

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Samples the message flow that ends at the seed nodes.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`; duplicates share one row, `MiniBatch.seed_rows` says which.
            seed: Same seed, same mini-batch, on any number of threads.

        Returns:
            One block per layer, ordered from the model's input to its output; the last block's destinations are the
            distinct seeds in the order of their first appearance.

        Raises:
            ValueError: If a seed is not a node of the graph.
        """

        def draw(node_map: NodeMap) -> list[Hop]:
            return [
                self._draw_hop(node_map, number, derive_seed(seed, hop)) for hop, number in enumerate(self.num_nodes)
            ]

        return self._assembler.mini_batch(seed_nodes, draw)

    @abstractmethod
    def _draw(self, source_map: NodeMap, frontier: np.ndarray, num_nodes: int, key: int) -> tuple[InEdges, np.ndarray]:
        """The in-edges of a frontier, and inclusion weights of their sources, float64, 0 for those not drawn."""

    def _draw_hop(self, node_map: NodeMap, num_nodes: int, key: int) -> Hop:
        """Draws sources for all nodes so far."""
        empty = self._assembler.empty
        # A copy: numbering what is kept may move the node map's array.
        frontier = node_map.nodes().copy()
        with self._source_maps.lend() as source_map:
            columns, source_weight = self._draw(source_map, frontier, num_nodes, key)
            source_scale = np.sqrt(self._inverse_degree[source_map.nodes()])
        indptr = empty(frontier.size + 1, torch.int64)
        edges, weight = empty(columns.num_edges, torch.int64), empty(columns.num_edges, torch.float32)
        num_silent = kernels.keep_drawn(
            self.graph.indptr.numpy(),
            self.graph.indices.numpy(),
            frontier,
            columns.sources.numpy(),
            self._edge_weight,
            source_weight,
            source_scale,
            self.normalise == "hajek",
            indptr.numpy(),
            edges.numpy(),
            weight.numpy(),
        )
        self._count(frontier.size, num_silent)
        num_kept = int(indptr[-1])
        edges, weight = edges[:num_kept], weight[:num_kept]
        return self._assembler.hop(node_map, indptr, edges, None if bool((weight == 1).all()) else weight)

    def _count(self, num_rows: int, num_silent: int) -> None:
        with self._lock:
            is_first = num_silent > 0 and self.num_silent_rows == 0
            self.num_rows += num_rows
            self.num_silent_rows += num_silent
        if is_first:
            log.info(
                f"{type(self).__name__}: {num_silent} of {num_rows} rows of a layer kept none of their in-edges; "
                "larger num_nodes leave fewer; said once"
            )

    def _importance(self, source_map: NodeMap, frontier: np.ndarray, columns: InEdges) -> np.ndarray:
        """Squared norms of the sources' columns of GCN's operator, as far as the frontier's rows go; float64."""
        out = np.empty(source_map.count)
        kernels.sum_squares(
            self.graph.indptr.numpy(),
            self.graph.indices.numpy(),
            frontier,
            columns.sources.numpy(),
            self._edge_weight,
            self._inverse_degree,
            out,
        )
        out *= self._inverse_degree[source_map.nodes()]
        return out

    @property
    def _edge_weight(self) -> np.ndarray:
        weight = self.graph.edge_weight
        return (NO_WEIGHTS if weight is None else weight).numpy()

    @cached_property
    def _inverse_degree(self) -> np.ndarray:
        """1 / (degree + weight of the self-loop), 0 where that is not positive; float64, `(num_nodes,)`."""
        loops = self.graph.self_loop_weight
        total = self.graph.degree.double() + (1 if loops is None else loops)
        return torch.where(total > 0, 1 / total, 0).numpy()

    def _at_in_edges(self, columns: InEdges, seed_nodes: Tensor, by_source: np.ndarray) -> Tensor:
        """A source's value for each in-edge, 1 for self-loops."""
        dst = torch.repeat_interleave(seed_nodes, self.graph.in_degree[seed_nodes])
        is_loop = self.graph.indices[columns.edges] == dst
        return torch.where(is_loop, 1, torch.from_numpy(by_source)[columns.sources.long()])


class LadiesSampler(LayerSampler):
    """Draws sources for the rows of a layer, with probabilities that follow what those rows receive from them.

    Zou et al., Layer-Dependent Importance Sampling for Training Deep and Large Graph Convolutional Networks, 2019,
    https://arxiv.org/abs/1911.07323 (algorithm 1): q_u is proportional to the squared norm of column u of the rows of
    GCN's operator. Drawn with replacement, u weighs its multiplicity / (num_nodes q_u). The authors' program draws
    without replacement and self-normalizes 1 / q_u: biased, of lower variance, and here `replace=False`.

    Args:
        graph, num_nodes, normalise, edge_ids: See `LayerSampler`.
        replace: Whether a source may be drawn again.

    Raises:
        ValueError: If a number is not positive, `normalise` is another word, or it is "ht" without replacement.
    """

    def __init__(
        self,
        graph: CSCGraph,
        num_nodes: Sequence[int],
        replace: bool = True,
        normalise: Normalise = "hajek",
        edge_ids: bool = False,
    ):
        super().__init__(graph, num_nodes, normalise, edge_ids)
        if normalise == "ht" and not replace:
            raise ValueError("normalise='ht' needs replace=True: draws without replacement have no known probabilities")
        self.replace = replace

    @property
    def law(self) -> Law:
        if not self.replace:
            return Law(bias=f"{_DISTINCT}, and {_RATIO}", rank_invariant=False)
        return Law(
            unbiased=("sum",) if self.normalise == "ht" else (),
            bias=_MEAN if self.normalise == "ht" else _RATIO,
            edge_inclusion=self._edge_inclusion,
            rank_invariant=False,
        )

    def _draw(self, source_map: NodeMap, frontier: np.ndarray, num_nodes: int, key: int) -> tuple[InEdges, np.ndarray]:
        columns = self._assembler.in_edges(source_map, frontier)
        importance = self._importance(source_map, frontier, columns)
        weight = np.zeros_like(importance)
        if not importance.any():
            return columns, weight
        share = importance / importance.sum()
        if self.replace:
            drawn, count = np.unique(_draw_items(share, num_nodes, key), return_counts=True)
            weight[drawn] = count / (num_nodes * share[drawn])
        else:
            times = np.empty_like(share)
            kernels.race_times(np.uint64(key), source_map.nodes(), share, times)
            last = min(num_nodes, times.size) - 1
            drawn = np.flatnonzero((times <= np.partition(times, last)[last]) & (share > 0))
            weight[drawn] = 1 / share[drawn]
        return columns, weight

    def _edge_inclusion(self, seed_nodes: Tensor) -> Tensor:
        frontier = seed_nodes.numpy()
        with self._source_maps.lend() as source_map:
            columns = self._assembler.in_edges(source_map, frontier)
            importance = self._importance(source_map, frontier, columns)
        return self._at_in_edges(columns, seed_nodes, _ever(importance, self.num_nodes[0]))


class PLadiesSampler(LayerSampler):
    """Draws sources as LADIES does, each by a coin of its own: fewer of them twice, the same number on average.

    Balin and Çatalyürek, Layer-Neighbor Sampling, 2023, https://arxiv.org/abs/2210.13339 (section 3.1, Poisson
    LADIES): u is drawn with probability p_u = min(1, c q_u), where the p_u add up to the number asked for, and weighs
    1 / p_u.

    Args:
        graph, num_nodes, normalise, edge_ids: See `LayerSampler`; `num_nodes` are drawn on average, all sources if
            there are no more.

    Raises:
        ValueError: If a number is not positive or `normalise` is another word.
    """

    def __init__(
        self,
        graph: CSCGraph,
        num_nodes: Sequence[int],
        normalise: Normalise = "hajek",
        edge_ids: bool = False,
    ):
        super().__init__(graph, num_nodes, normalise, edge_ids)

    @property
    def law(self) -> Law:
        return Law(
            unbiased=("sum",) if self.normalise == "ht" else (),
            bias=_MEAN if self.normalise == "ht" else _RATIO,
            edge_inclusion=self._edge_inclusion,
            rank_invariant=False,
        )

    def _draw(self, source_map: NodeMap, frontier: np.ndarray, num_nodes: int, key: int) -> tuple[InEdges, np.ndarray]:
        columns, probability = self._probabilities(source_map, frontier, num_nodes)
        units, weight = np.empty_like(probability), np.zeros_like(probability)
        draw_units(np.uint64(key), source_map.nodes(), units)
        np.divide(1, probability, out=weight, where=units <= probability)
        return columns, weight

    def _probabilities(self, source_map: NodeMap, frontier: np.ndarray, num_nodes: int) -> tuple[InEdges, np.ndarray]:
        columns = self._assembler.in_edges(source_map, frontier)
        importance = self._importance(source_map, frontier, columns)
        probability = np.empty_like(importance)
        kernels.poisson_probabilities(importance, num_nodes, probability)
        return columns, probability

    def _edge_inclusion(self, seed_nodes: Tensor) -> Tensor:
        with self._source_maps.lend() as source_map:
            columns, probability = self._probabilities(source_map, seed_nodes.numpy(), self.num_nodes[0])
        return self._at_in_edges(columns, seed_nodes, probability)


class FastGCNSampler(LayerSampler):
    """Draws sources from one distribution over all nodes, whatever rows a layer has.

    Chen et al., FastGCN: Fast Learning with Graph Convolutional Networks via Importance Sampling, 2018,
    https://arxiv.org/abs/1801.10247: q_u is proportional to the squared norm of column u of GCN's operator; drawn with
    replacement, u weighs its multiplicity / (num_nodes q_u). On sparse graphs most draws reach none of a layer's rows,
    and most rows none of the draws: a baseline.

    Args:
        graph, num_nodes, normalise, edge_ids: See `LayerSampler`.

    Raises:
        ValueError: If a number is not positive or `normalise` is another word.
    """

    def __init__(
        self,
        graph: CSCGraph,
        num_nodes: Sequence[int],
        normalise: Normalise = "hajek",
        edge_ids: bool = False,
    ):
        super().__init__(graph, num_nodes, normalise, edge_ids)
        importance = np.empty(graph.num_nodes)
        kernels.sum_squares(
            graph.indptr.numpy(),
            graph.indices.numpy(),
            np.arange(graph.num_nodes),
            graph.indices.numpy(),
            self._edge_weight,
            self._inverse_degree,
            importance,
        )
        importance *= self._inverse_degree
        self._importance_of_nodes = importance
        self._total = float(importance.sum())
        self._alias_table = _alias_table(importance) if self._total > 0 else None

    @property
    def law(self) -> Law:
        return Law(
            unbiased=("sum",) if self.normalise == "ht" else (),
            bias=_MEAN if self.normalise == "ht" else _RATIO,
            edge_inclusion=self._edge_inclusion,
        )

    def _draw(self, source_map: NodeMap, frontier: np.ndarray, num_nodes: int, key: int) -> tuple[InEdges, np.ndarray]:
        drawn = np.empty(0 if self._alias_table is None else num_nodes, np.int64)
        if self._alias_table is not None:
            draw_aliases(*self._alias_table, np.uint64(key), drawn)
        # Numbered before all other sources: those are not drawn.
        count = np.bincount(source_map.start(drawn))
        columns = self._assembler.in_edges(source_map, frontier, starts_anew=False)
        weight = np.zeros(source_map.count)
        share = self._importance_of_nodes[source_map.nodes()[: count.size]] / self._total
        weight[: count.size] = count / (num_nodes * share)
        return columns, weight

    def _edge_inclusion(self, seed_nodes: Tensor) -> Tensor:
        with self._source_maps.lend() as source_map:
            columns = self._assembler.in_edges(source_map, seed_nodes.numpy())
            importance = self._importance_of_nodes[source_map.nodes()]
        return self._at_in_edges(columns, seed_nodes, _ever(importance, self.num_nodes[0], self._total))


def _alias_table(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    accept, alias = np.empty(weights.size), np.empty(weights.size, np.int64)
    build_alias(weights, accept, alias)
    return accept, alias


def _draw_items(share: np.ndarray, num_draws: int, key: int) -> np.ndarray:
    """Items drawn with replacement, by their shares."""
    drawn = np.empty(num_draws, np.int64)
    draw_aliases(*_alias_table(share), np.uint64(key), drawn)
    return drawn


def _ever(importance: np.ndarray, num_draws: int, total: float | None = None) -> np.ndarray:
    """Probability that an item is among so many draws with replacement."""
    total = float(importance.sum()) if total is None else total
    return 1 - (1 - importance / total) ** num_draws if total > 0 else np.zeros_like(importance)
