"""Pairs of nodes to tell edges from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import negative as kernels
from gnnfast.kernels.cpu.alias import build_alias
from gnnfast.kernels.cpu.csc import sort_columns
from gnnfast.kernels.reference.random import derive_seed

Negatives = Literal["uniform", "degree", "per_source"]

_STREAM = 1 << 32  # no hop has this number: negatives and neighbors are drawn independently


class NegativeSampler:
    """Draws negatives for edges u -> v. Safe to use from several threads.

    What is drawn for an edge depends on (seed, u, v, number of the negative) alone, so it is the same in every batch
    and on every rank; an edge that comes twice has the same negatives twice.

    Args:
        graph: Whose edges are avoided and whose degrees count.
        negatives: "uniform": pairs (w, w') with both ends uniform, as PyG's binary negative sampling. "degree": pairs
            (u, w) with w in proportion to in-degree ** 0.75 (Mikolov et al., Distributed Representations of Words and
            Phrases, 2013, https://arxiv.org/abs/1310.4546). "per_source": pairs (u, w) with w uniform.
        src_range: First and last node that "uniform" sources are drawn from; None: all nodes.
        dst_range: First and last node that destinations are drawn from, say the items of a bipartite graph; None: all.
        avoid_edges: Whether no negative may be an edge of the graph in either direction, the edge it is drawn for, or a
            node with itself; None: for "per_source" only. A pair that may not be is drawn again up to 32 times; after
            that the next node of the range is taken that is no neighbor of the source. A source connected with the
            whole range keeps an edge. Costs a sorted copy of the graph's columns where they are not sorted.

    Raises:
        ValueError: If `negatives` is another word, a range is empty or outside the graph, or no node of the range has
            an in-edge to be drawn by.
    """

    def __init__(
        self,
        graph: CSCGraph,
        negatives: Negatives = "uniform",
        src_range: Sequence[int] | None = None,
        dst_range: Sequence[int] | None = None,
        avoid_edges: bool | None = None,
    ):
        if negatives not in ("uniform", "degree", "per_source"):
            raise ValueError(f"negatives must be 'uniform', 'degree' or 'per_source', got {negatives!r}")
        if src_range is not None and negatives != "uniform":
            raise ValueError(f"src_range is for negatives='uniform': {negatives!r} keeps the sources of the edges")
        self.graph = graph
        self.negatives = negatives
        self.avoid_edges = negatives == "per_source" if avoid_edges is None else avoid_edges
        self._src_range = _checked_range("src_range", src_range, graph.num_nodes) if negatives == "uniform" else (0, 0)
        self._dst_range = _checked_range("dst_range", dst_range, graph.num_nodes)
        self._table = (np.empty(0), np.empty(0, np.int64))
        if negatives == "degree":
            self._table = _degree_table(graph, *self._dst_range)
        self._sorted_indices = _sorted_columns(graph) if self.avoid_edges else graph.indices[:0]

    def draw(self, edges: Tensor, num_negatives: int, seed: int) -> Tensor:
        """Draws negatives.

        Args:
            edges: Global ids, int64, `(2, num_edges)`.
            num_negatives: Of each edge.
            seed: Same seed, same negatives.

        Returns:
            Pairs of global ids, int64, `(2, num_edges * num_negatives)`, those of an edge beside each other.
        """
        pairs = torch.empty(2, edges.shape[1] * num_negatives, dtype=torch.int64)
        kernels.draw_negatives(
            edges.numpy(),
            num_negatives,
            np.uint64(derive_seed(seed, _STREAM)),
            self._src_range,
            self._dst_range,
            *self._table,
            self.avoid_edges,
            self.graph.indptr.numpy(),
            self._sorted_indices.numpy(),
            pairs.numpy(),
        )
        return pairs


def _checked_range(name: str, nodes: Sequence[int] | None, num_nodes: int) -> tuple[int, int]:
    """The range as (first, last + 1)."""
    if nodes is None:
        return 0, num_nodes
    is_pair = isinstance(nodes, Sequence) and len(nodes) == 2 and all(isinstance(node, int) for node in nodes)
    if not is_pair or not 0 <= nodes[0] <= nodes[1] < num_nodes:
        raise ValueError(
            f"{name} must be the first and the last of some of the nodes 0 to {num_nodes - 1}, got {nodes}"
        )
    return nodes[0], nodes[1] + 1


def _degree_table(graph: CSCGraph, first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    weights = graph.in_degree[first:end].double().pow(0.75)
    if not bool(weights.any()):
        raise ValueError(f"no node from {first} to {end - 1} has an in-edge: negatives='degree' has nothing to draw by")
    accept, alias = np.empty(end - first), np.empty(end - first, np.int64)
    build_alias(weights.numpy(), accept, alias)
    return accept, alias


def _sorted_columns(graph: CSCGraph) -> Tensor:
    """The graph's `indices` with every column ascending: themselves where they are."""
    ascends = graph.indices[1:] >= graph.indices[:-1]
    starts = graph.indptr[1:-1]
    ascends[starts[(starts > 0) & (starts < graph.num_edges)] - 1] = True
    if bool(ascends.all()):
        return graph.indices
    indices = graph.indices.clone()
    sort_columns(graph.indptr.numpy(), indices.numpy())
    return indices
