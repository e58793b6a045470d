"""Drawing in-neighbors, one Python integer at a time."""

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import node_key, random_below


def count_neighbors(indptr: Tensor, dst_nodes: Tensor, fanout: int, replace: bool) -> tuple[Tensor, bool]:
    """Where each destination's draws begin, and whether they are all in-edges, each once."""
    degree = indptr[dst_nodes + 1] - indptr[dst_nodes]
    takes_all = torch.full_like(degree, fanout < 0, dtype=torch.bool)
    if not replace:
        takes_all |= degree <= fanout
    count = torch.where(takes_all, degree, fanout * (degree > 0))
    return torch.cat([count.new_zeros(1), count.cumsum(0)]), bool((takes_all | (degree == 0)).all())


def sample_neighbors(indptr: Tensor, dst_nodes: Tensor, layer_key: int, fanout: int, replace: bool) -> Tensor:
    """The positions of the drawn in-edges, destination by destination, in the order drawn."""
    edges: list[int] = []
    for node in dst_nodes.tolist():
        first, last = int(indptr[node]), int(indptr[node + 1])
        degree = last - first
        key = node_key(layer_key, node)
        if fanout < 0 or (degree <= fanout and not replace):
            edges += range(first, last)
        elif replace:
            edges += [first + random_below(key, draw, degree) for draw in range(fanout if degree else 0)]
        else:
            edges += [first + position for position in _floyd(key, degree, fanout)]
    return torch.tensor(edges, dtype=torch.int64)


def inclusion_weights(indptr: Tensor, dst_nodes: Tensor, out_indptr: Tensor) -> Tensor:
    """in-degree / number drawn, for each drawn edge, float32."""
    degree = indptr[dst_nodes + 1] - indptr[dst_nodes]
    count = out_indptr[1:] - out_indptr[:-1]
    return torch.repeat_interleave((degree.double() / count).float(), count)


def _floyd(key: int, degree: int, fanout: int) -> list[int]:
    """Distinct positions below `degree`: the algorithm of Bentley and Floyd, as they print it."""
    chosen: list[int] = []
    for draw, last in enumerate(range(degree - fanout, degree)):
        position = random_below(key, draw, last + 1)
        chosen.append(last if position in chosen else position)
    return chosen
