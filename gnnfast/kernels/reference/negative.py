"""Drawing pairs of nodes that are no edges, one Python integer at a time."""

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import node_key, random_below, random_unit

ATTEMPTS = 32


def draw_negatives(
    edges: Tensor,
    num_negatives: int,
    key: int,
    src_range: tuple[int, int],
    dst_range: tuple[int, int],
    table: tuple[Tensor, Tensor] | None,
    avoid: set[tuple[int, int]] | None,
) -> Tensor:
    """Pairs `(2, num_edges * num_negatives)` that avoid the edges `avoid`, in both directions, if there are any given.

    Destinations come from the alias table (accept, alias) where there is one.
    """
    pairs: list[tuple[int, int]] = []
    for u, v in edges.T.tolist():
        edge_key = node_key(node_key(key, u), v)

        def fits(src: int, dst: int, ends: tuple[int, int] = (u, v)) -> bool:
            taken = {ends} if avoid is None else avoid | {ends}
            return avoid is None or (src != dst and (src, dst) not in taken and (dst, src) not in taken)

        for k in range(num_negatives):
            for draw in range(2 * k * ATTEMPTS, 2 * (k + 1) * ATTEMPTS, 2):
                src = u
                if src_range[1] > src_range[0]:
                    src = src_range[0] + random_below(edge_key, draw, src_range[1] - src_range[0])
                dst = dst_range[0] + _destination(edge_key, draw, dst_range[1] - dst_range[0], table)
                if fits(src, dst):
                    break
            others = [*range(dst, dst_range[1]), *range(dst_range[0], dst)]
            pairs.append((src, next((other for other in others if fits(src, other)), dst)))
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T


def _destination(edge_key: int, draw: int, num_dst: int, table: tuple[Tensor, Tensor] | None) -> int:
    if table is None:
        return random_below(edge_key, draw + 1, num_dst)
    accept, alias = table
    key = node_key(edge_key, 1)
    slot = random_below(key, draw, num_dst)
    return slot if random_unit(key, draw + 1) < accept[slot] else int(alias[slot])
