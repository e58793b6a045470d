"""Walks against the edges of a graph, one step of Python at a time."""

from collections import Counter

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import node_key, random_below, random_unit


def random_walks(indptr: Tensor, indices: Tensor, roots: Tensor, length: int, key: int) -> Tensor:
    """Walks over uniform in-edges, int64 `(num_roots, length + 1)`, each beginning with its root."""
    columns = _in_neighbors(indptr, indices)
    walks: list[list[int]] = []
    for number, root in enumerate(roots.tolist()):
        walk = [root]
        for step in range(length):
            in_neighbors = columns[walk[-1]]
            position = random_below(node_key(key, number), step, len(in_neighbors)) if in_neighbors else 0
            walk.append(in_neighbors[position] if in_neighbors else walk[-1])
        walks.append(walk)
    return torch.tensor(walks, dtype=torch.int64).view(-1, length + 1)


def visit_neighborhoods(
    indptr: Tensor,
    indices: Tensor,
    dst_nodes: Tensor,
    layer_key: int,
    fanout: int,
    num_walks: int,
    walk_length: int,
    restart: float,
) -> list[list[tuple[int, int]]]:
    """The most visited nodes of each destination with their visits, most first."""
    columns = _in_neighbors(indptr, indices)
    neighborhoods: list[list[tuple[int, int]]] = []
    for root in dst_nodes.tolist():
        key = node_key(layer_key, root)
        met: list[tuple[int, int, int]] = []
        for walk in range(num_walks):
            node = root
            for step in range(walk_length):
                in_neighbors = columns[node]
                if not in_neighbors:
                    break
                draw = 2 * (walk * walk_length + step)
                node = in_neighbors[random_below(key, draw, len(in_neighbors))]
                met.append((step, walk, node))
                if random_unit(key, draw + 1) < restart:
                    break
        visits = Counter(node for _, _, node in sorted(met) if node != root)
        # In the order first met where visits are equal.
        neighborhoods.append(visits.most_common(fanout))
    return neighborhoods


def _in_neighbors(indptr: Tensor, indices: Tensor) -> list[list[int]]:
    return [column.tolist() for column in indices.tensor_split(indptr[1:-1])]
