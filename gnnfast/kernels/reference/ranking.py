"""Where the destinations that are right stand among all that there are, row by row."""

import torch
from torch import Tensor


def rank_destinations(
    scores: Tensor,
    sources: Tensor,
    first_node: int,
    known_indptr: Tensor,
    known: Tensor,
    pair_indptr: Tensor,
    pair_dst: Tensor,
) -> tuple[Tensor, Tensor]:
    """The ranks and fellows of the compiled kernel, for all rows."""
    ranks, fellows = [], []
    for i, source in enumerate(sources.tolist()):
        row = scores[i].clone()
        nodes = torch.arange(row.numel()) + first_node
        hidden = torch.cat([known[known_indptr[source] : known_indptr[source + 1]].long(), torch.tensor([source])])
        row[torch.isin(nodes, hidden)] = -torch.inf
        own = row[pair_dst[pair_indptr[i] : pair_indptr[i + 1]] - first_node]
        candidates = row[row > -torch.inf]
        for score in own:
            ties = int((candidates == score).sum()) - 1
            ranks.append(1 + int((candidates > score).sum()) + max(ties, 0) / 2)
            fellows.append(int((own > score).sum()) + (int((own == score).sum()) - 1) / 2)
    return torch.tensor(ranks, dtype=torch.float64), torch.tensor(fellows, dtype=torch.float64)
