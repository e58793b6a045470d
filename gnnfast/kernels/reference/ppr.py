"""Personalized PageRank over in-edges, in plain Python and plain torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor


def push_ppr(
    indptr: Tensor, indices: Tensor, start_node: int, alpha: float, eps: float
) -> tuple[dict[int, float], dict[int, float]]:
    """(influence found, probability not yet walked), by node in the order of discovery."""
    found, rest = {start_node: 0.0}, {start_node: 1.0}
    queue = deque([start_node])
    while queue:
        u = queue.popleft()
        amount, rest[u] = rest[u], 0.0
        sources = indices[indptr[u] : indptr[u + 1]].tolist()
        if not sources:
            found[u] += amount
            continue
        found[u] += alpha * amount
        share = (1.0 - alpha) * amount / len(sources)
        for w in sources:
            found.setdefault(w, 0.0)
            rest[w] = rest.get(w, 0.0) + share
            if w not in queue and rest[w] >= eps * int(indptr[w + 1] - indptr[w]):
                queue.append(w)
    return found, rest


def keep_largest(found: dict[int, float], start_node: int, top_k: int) -> list[tuple[int, float]]:
    """The other nodes of largest positive influence, falling; of equals, who was discovered first."""
    others = [(node, score) for node, score in found.items() if node != start_node and score > 0]
    return sorted(others, key=lambda pair: -pair[1])[:top_k]


def exact_ppr(indptr: Tensor, indices: Tensor, alpha: float) -> Tensor:
    """The influence of node u on node s in row s, column u, float64 `(num_nodes, num_nodes)`, by a linear system."""
    num_nodes = indptr.numel() - 1
    step = torch.zeros(num_nodes, num_nodes, dtype=torch.float64)
    for v in range(num_nodes):
        sources = indices[indptr[v] : indptr[v + 1]].tolist() or [v]
        for u in sources:
            step[v, u] += 1 / len(sources)
    identity = torch.eye(num_nodes, dtype=torch.float64)
    influence: Tensor = alpha * torch.linalg.inv(identity - (1 - alpha) * step)
    return influence


def merge_pairs(pairs: Sequence[tuple[int, int]], max_size: int, num_members: int) -> list[set[int]]:
    """The groups that merging pair by pair makes, none larger than `max_size`."""
    groups = [{member} for member in range(num_members)]
    for first, second in pairs:
        a, b = (next(group for group in groups if member in group) for member in (first, second))
        if a is not b and len(a) + len(b) <= max_size:
            a |= b
            groups.remove(b)
    return groups
