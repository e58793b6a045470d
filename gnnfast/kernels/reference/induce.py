"""The edges of a graph among some of its nodes, plainly."""

import torch
from torch import Tensor


def induced_edges(indptr: Tensor, indices: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(indptr, local sources, positions in `indices`) of the edges among `nodes`, column by column."""
    local_of = {int(node): i for i, node in enumerate(nodes)}
    counts, sources, edges = [0], [], []
    for node in nodes:
        for e in range(int(indptr[node]), int(indptr[node + 1])):
            if int(indices[e]) in local_of:
                sources.append(local_of[int(indices[e])])
                edges.append(e)
        counts.append(len(edges))
    return torch.tensor(counts), torch.tensor(sources, dtype=torch.int32), torch.tensor(edges, dtype=torch.int64)
