"""Layer-neighbor sampling, one equation and one Python number at a time."""

import math

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import node_key, random_unit
from gnnfast.kernels.reference.segment import destinations


def expected_draws(indptr: Tensor, dst_nodes: Tensor, fanout: int) -> tuple[int, int]:
    """Sum of min(fanout, in-degree) over the destinations, and their largest in-degree."""
    degree = indptr[dst_nodes + 1] - indptr[dst_nodes]
    drawn = degree if fanout < 0 else degree.clamp(max=fanout)
    return int(drawn.sum()), int(degree.max()) if degree.numel() else 0


def keep_evenly(
    indptr: Tensor, indices: Tensor, dst_nodes: Tensor, layer_key: int, fanout: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Where each destination's kept in-edges begin, their positions, and 1 / p_s for each."""
    counts, edges, weights = [0], [], []
    for node in dst_nodes.tolist():
        first, last = int(indptr[node]), int(indptr[node + 1])
        keeps_all = fanout < 0 or last - first <= fanout
        probability = 1.0 if keeps_all else fanout / (last - first)
        kept = [e for e in range(first, last) if random_unit(layer_key, int(indices[e])) <= probability]
        edges += kept
        weights += [1 / probability] * len(kept)
        counts.append(len(edges))
    return torch.tensor(counts), torch.tensor(edges, dtype=torch.int64), torch.tensor(weights, dtype=torch.float32)


def draw_units(layer_key: int, nodes: Tensor) -> Tensor:
    """Each node's number."""
    return torch.tensor([random_unit(layer_key, node) for node in nodes.tolist()], dtype=torch.float64)


def draw_turned_units(first_key: int, second_key: int, angle: float, nodes: Tensor) -> Tensor:
    """Phi(cos(angle) n_1 + sin(angle) n_2) for each node."""
    normals = [
        math.cos(angle) * _normal(first_key, node) + math.sin(angle) * _normal(second_key, node)
        for node in nodes.tolist()
    ]
    uniform: Tensor = torch.special.ndtr(torch.tensor(normals, dtype=torch.float64))
    return uniform


def _normal(layer_key: int, node: int) -> float:
    key = node_key(layer_key, node)
    return math.sqrt(-2 * math.log(random_unit(key, 0))) * math.cos(2 * math.pi * random_unit(key, 1))


def even_scales(indptr: Tensor, fanout: int) -> Tensor:
    """fanout / in-degree, 1 where there is none or everything is kept."""
    degree = indptr[1:] - indptr[:-1]
    return torch.where((degree == 0) | (fanout < 0), 1.0, torch.full_like(degree, fanout) / degree.double())


def solve_scales(indptr: Tensor, candidates: Tensor, importance: Tensor, fanout: int) -> Tensor:
    """c_s by bisection of its logarithm."""
    scales = []
    for first, last in zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True):
        pi = importance[candidates[first:last].long()]
        if fanout < 0 or last - first <= fanout:
            scales.append(1 / float(pi.min()) if last > first else 1.0)
            continue
        low, high = math.log(1e-30), math.log(1e30)
        for _ in range(200):
            middle = (low + high) / 2
            total = float((1 / (math.exp(middle) * pi).clamp(max=1)).sum())
            low, high = (middle, high) if total > (last - first) ** 2 / fanout else (low, middle)
        scales.append(math.exp(high))
    return torch.tensor(scales, dtype=torch.float64)


def raise_importance(indptr: Tensor, candidates: Tensor, scale: Tensor, importance: Tensor) -> tuple[Tensor, float]:
    """pi_u times the largest c_s of its destinations, and the sum of min(1, that)."""
    largest = torch.zeros_like(importance).scatter_reduce(
        0, candidates.long(), scale[destinations(indptr)], "amax", include_self=True
    )
    raised = importance * largest
    return raised, float(raised.clamp(max=1).sum())


def probabilities(indptr: Tensor, candidates: Tensor, importance: Tensor, scale: Tensor, fanout: int) -> Tensor:
    """min(1, c_s pi_u) of each in-edge, 1 where a destination has no more than `fanout`."""
    dst = destinations(indptr)
    keeps_all = (indptr[1:] - indptr[:-1] <= fanout) | (fanout < 0)
    return torch.where(keeps_all[dst], 1.0, (scale[dst] * importance[candidates.long()]).clamp(max=1))


def keep_likely(
    indptr: Tensor, edges: Tensor, candidates: Tensor, units: Tensor, probability: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Where each destination's kept in-edges begin, the edges, and 1 / p_us for each."""
    kept = units[candidates.long()] <= probability
    counts = torch.cat([indptr.new_zeros(1), kept.long().cumsum(0)])
    return counts[indptr], edges[kept], (1 / probability[kept]).float()
