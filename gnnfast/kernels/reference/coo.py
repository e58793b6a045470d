"""Lists of edges, in plain torch."""

import torch
from torch import Tensor


def list_edges(
    indptr: Tensor, sources: Tensor, edges: Tensor, edge_ids: Tensor, first_dst: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(sources, destinations, numbers) of the edges of some columns, the first of which is `first_dst`."""
    dst = first_dst + torch.repeat_interleave(torch.arange(indptr.numel() - 1), indptr.diff())
    return sources.long(), dst, edge_ids[edges] if edge_ids.numel() else edges


def list_edges_among(indptr: Tensor, indices: Tensor, edge_ids: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(sources, destinations, numbers) of all edges among some nodes, in their local ids, column by column."""
    row = {node: i for i, node in enumerate(nodes.tolist())}
    edges = [
        (row[source], i, int(edge_ids[e]) if edge_ids.numel() else e)
        for i, node in enumerate(nodes.tolist())
        for e in range(int(indptr[node]), int(indptr[node + 1]))
        if (source := int(indices[e])) in row
    ]
    src, dst, ids = torch.tensor(edges, dtype=torch.int64).view(-1, 3).T
    return src, dst, ids
