"""Walks against the edges of a graph, one step of Python at a time."""

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import node_key, random_below


def random_walks(indptr: Tensor, indices: Tensor, roots: Tensor, length: int, key: int) -> Tensor:
    """Walks over uniform in-edges, int64 `(num_roots, length + 1)`, each beginning with its root."""
    walks: list[list[int]] = []
    for number, root in enumerate(roots.tolist()):
        walk = [root]
        for step in range(length):
            in_neighbors = indices[indptr[walk[-1]] : indptr[walk[-1] + 1]].tolist()
            position = random_below(node_key(key, number), step, len(in_neighbors)) if in_neighbors else 0
            walk.append(in_neighbors[position] if in_neighbors else walk[-1])
        walks.append(walk)
    return torch.tensor(walks, dtype=torch.int64).view(-1, length + 1)
