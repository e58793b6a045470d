"""Drawing the sources of a whole layer at once, in plain torch."""

import math

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import random_unit


def sum_squares(
    indptr: Tensor,
    indices: Tensor,
    dst_nodes: Tensor,
    sources: Tensor,
    edge_weight: Tensor | None,
    inverse: Tensor,
    num_sources: int,
) -> Tensor:
    """Sum of edge_weight**2 * inverse[v] by source, self-loops left out."""
    edges, dst = _columns(indptr, dst_nodes)
    weight = torch.ones(edges.numel()).double() if edge_weight is None else edge_weight[edges].double()
    squares = torch.where(indices[edges] == dst, 0, weight.square() * inverse[dst])
    return torch.zeros(num_sources, dtype=torch.float64).index_add(0, sources.long(), squares)


def poisson_probabilities(importance: Tensor, expected: int) -> Tensor:
    """min(1, c importance), by bisection of the logarithm of c."""
    if int((importance > 0).sum()) <= expected:
        return (importance > 0).double()
    low, high = -200.0, 200.0
    for _ in range(200):
        middle = (low + high) / 2
        total = float((math.exp(middle) * importance).clamp(max=1).sum())
        low, high = (low, middle) if total > expected else (middle, high)
    return (math.exp(low) * importance).clamp(max=1)


def race_times(layer_key: int, nodes: Tensor, importance: Tensor) -> Tensor:
    """-log(the node's number) / importance."""
    numbers = torch.tensor([random_unit(layer_key, node) for node in nodes.tolist()], dtype=torch.float64)
    return -numbers.log() / importance


def keep_drawn(
    indptr: Tensor,
    indices: Tensor,
    dst_nodes: Tensor,
    sources: Tensor,
    edge_weight: Tensor | None,
    source_weight: Tensor,
    source_scale: Tensor,
    self_normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Where each destination's kept in-edges begin, their positions, their weights, and how many keep none."""
    counts, kept_edges, weights, num_silent = [0], [], [], 0
    first = 0
    for node in dst_nodes.tolist():
        edges = torch.arange(int(indptr[node]), int(indptr[node + 1]))
        rows = sources[first : first + edges.numel()].long()
        first += edges.numel()
        is_loop = indices[edges] == node
        weight = torch.where(is_loop, 1, source_weight[rows])
        message = source_scale[rows] if edge_weight is None else source_scale[rows] * edge_weight[edges].double().abs()
        others_kept = float((message * weight)[~is_loop].sum())
        if self_normalize and others_kept != 0:
            weight = torch.where(is_loop, 1, weight * (float(message[~is_loop].sum()) / others_kept))
        is_kept = is_loop | (source_weight[rows] > 0)
        num_silent += bool((~is_loop).any()) and not bool((is_kept & ~is_loop).any())
        kept_edges.append(edges[is_kept])
        weights.append(weight[is_kept])
        counts.append(counts[-1] + int(is_kept.sum()))
    empty = torch.empty(0, dtype=torch.int64)
    return (
        torch.tensor(counts),
        torch.cat([empty, *kept_edges]),
        torch.cat([empty.float(), *weights]).float(),
        num_silent,
    )


def _columns(indptr: Tensor, dst_nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and destinations of all in-edges of some nodes."""
    columns = [torch.arange(int(indptr[node]), int(indptr[node + 1])) for node in dst_nodes.tolist()]
    edges = torch.cat([torch.empty(0, dtype=torch.int64), *columns])
    return edges, torch.repeat_interleave(dst_nodes, indptr[dst_nodes + 1] - indptr[dst_nodes])
