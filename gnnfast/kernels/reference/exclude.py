"""Taking edges out of a block, edge by edge."""

import torch
from torch import Tensor


def keep_others(indptr: Tensor, indices: Tensor, src_nodes: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Where each destination's edges begin, and the positions of those that are no pair in either direction."""
    taken = {ends for u, v in pairs.T.tolist() for ends in ((u, v), (v, u))}
    edges: list[int] = []
    starts = [0]
    for dst, (first, last) in enumerate(zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)):
        ends = [(int(src_nodes[indices[e]]), int(src_nodes[dst])) for e in range(first, last)]
        edges += [first + position for position, pair in enumerate(ends) if pair not in taken]
        starts.append(len(edges))
    return torch.tensor(starts), torch.tensor(edges, dtype=torch.int64)
