"""Lists of edges, in plain torch."""

import torch
from torch import Tensor


def list_edges(
    indptr: Tensor, sources: Tensor, edges: Tensor, edge_ids: Tensor, first_dst: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(sources, destinations, numbers) of the edges of some columns, the first of which is `first_dst`."""
    dst = first_dst + torch.repeat_interleave(torch.arange(indptr.numel() - 1), indptr.diff())
    return sources.long(), dst, edge_ids[edges] if edge_ids.numel() else edges
