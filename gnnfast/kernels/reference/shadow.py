"""Ego graphs of many seeds, one Python set at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnfast.kernels.reference.neighbor import sample_neighbors


def draw_egos(
    indptr: Tensor, indices: Tensor, seed_nodes: Tensor, hop_keys: Sequence[int], budget: int, replace: bool
) -> list[list[int]]:
    """The nodes of each ego in the order of their discovery, its seed first."""
    return [_draw_ego(indptr, indices, seed_node, hop_keys, budget, replace) for seed_node in seed_nodes.tolist()]


def _draw_ego(
    indptr: Tensor, indices: Tensor, seed_node: int, hop_keys: Sequence[int], budget: int, replace: bool
) -> list[int]:
    nodes = frontier = [seed_node]
    for key in hop_keys:
        edges = sample_neighbors(indptr, torch.tensor(frontier, dtype=torch.int64), key, budget, replace)
        frontier = [node for node in dict.fromkeys(indices[edges].tolist()) if node not in nodes]
        nodes = nodes + frontier
    return nodes


def induce_egos(indptr: Tensor, indices: Tensor, egos: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """All edges inside each ego: (indptr, rows of sources, positions in `indices`); the egos' first nodes come first.

    Rows are numbered in that order too: the first nodes of all egos, then the others, ego by ego.
    """
    place = [(ego, 0) for ego in range(len(egos))]
    place += [(ego, i) for ego, nodes in enumerate(egos) for i in range(1, len(nodes))]
    row_of = {where: row for row, where in enumerate(place)}
    columns: list[list[tuple[int, int]]] = []
    for ego, i in place:
        nodes = list(egos[ego])
        first, last = indptr[nodes[i] : nodes[i] + 2].tolist()
        sources = ((edge, int(indices[edge])) for edge in range(first, last))
        columns.append([(row_of[ego, nodes.index(node)], edge) for edge, node in sources if node in nodes])
    count = torch.tensor([0] + [len(column) for column in columns])
    rows, edges = torch.tensor([pair for column in columns for pair in column], dtype=torch.int64).view(-1, 2).T
    return count.cumsum(0), rows, edges
