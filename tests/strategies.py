"""Graphs as hypothesis draws them: small, and with everything that trips a graph algorithm."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph


@st.composite
def csc_graphs(
    draw: st.DrawFn,
    min_nodes: int = 1,
    max_nodes: int = 12,
    max_edges: int = 40,
    weighted: bool | None = None,
    edge_ids: bool | None = None,
) -> CSCGraph:
    """Graphs with isolated nodes, self-loops and parallel edges, in int32 or int64.

    Args:
        weighted, edge_ids: Whether the graph has them; None means sometimes.
    """
    num_nodes = draw(st.integers(min_nodes, max_nodes))
    edge_index = torch.tensor(draw(edge_lists(num_nodes, max_edges)), dtype=torch.int64).view(-1, 2).T
    weight = None
    if draw(st.booleans()) if weighted is None else weighted:
        weight = torch.tensor(draw(edge_weights(edge_index.shape[1])))
    keep_ids = draw(st.booleans()) if edge_ids is None else edge_ids
    graph = CSCGraph.from_edge_index(edge_index, num_nodes, weight, keep_edge_ids=keep_ids)
    indices = graph.indices.to(draw(st.sampled_from([torch.int32, torch.int64])))
    return CSCGraph(graph.indptr, indices, graph.edge_ids, graph.edge_weight)


def edge_lists(num_nodes: int, max_edges: int = 40) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Pairs (source, destination); so few nodes that self-loops and parallel edges are common."""
    # Drawn as bytes: ten times faster than as lists of pairs of integers.
    return st.binary(max_size=2 * max_edges).map(
        lambda ends: [(u % num_nodes, v % num_nodes) for u, v in zip(ends[::2], ends[1::2], strict=False)]
    )


def edge_weights(num_edges: int) -> st.SearchStrategy[list[float]]:
    """Positive weights that float32 holds exactly."""
    return st.binary(min_size=num_edges, max_size=num_edges).map(lambda eighths: [(1 + byte) / 8 for byte in eighths])
