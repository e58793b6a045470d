"""Building, turning round and summing CSC columns in plain torch."""

import torch
from torch import Tensor


def edges_to_csc(src: Tensor, dst: Tensor, num_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Edges sorted by destination, stably: (indptr, sources, position of each edge in `src`)."""
    order = torch.argsort(dst, stable=True)
    return _offsets(dst, num_nodes), src[order], order


def transpose_csc(indptr: Tensor, indices: Tensor, num_src: int) -> tuple[Tensor, Tensor, Tensor]:
    """Columns of out-edges, ascending by destination: (indptr, destinations, positions in `indices`)."""
    order = torch.argsort(indices, stable=True)
    return _offsets(indices, num_src), _destinations(indptr)[order], order


def merge_parallel_edges(
    indptr: Tensor, indices: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One edge for each run of equal sources in sorted columns, with the mean of the run's weights."""
    edges = torch.stack([_destinations(indptr), indices.long()])
    merged, run, length = torch.unique_consecutive(edges, dim=1, return_inverse=True, return_counts=True)
    mean = None
    if weights is not None:
        mean = (torch.zeros(length.numel(), dtype=torch.float64).index_add(0, run, weights.double()) / length).to(
            weights.dtype
        )
    return _offsets(merged[0], indptr.numel() - 1), merged[1], mean


def sum_columns(indptr: Tensor, indices: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, int]:
    """In-degrees without self-loops, the last self-loop's weight or 1, float64; and the number of self-loops."""
    num_nodes = indptr.numel() - 1
    weights = torch.ones(indices.numel(), dtype=torch.float64) if weights is None else weights.double()
    dst = _destinations(indptr)
    is_loop = indices == dst
    degree = torch.zeros(num_nodes, dtype=torch.float64).index_add(0, dst, torch.where(is_loop, 0, weights))
    self_loop = torch.ones(num_nodes, dtype=torch.float64)
    for edge in is_loop.nonzero().view(-1).tolist():
        self_loop[dst[edge]] = weights[edge]
    return degree, self_loop, int(is_loop.sum())


def _offsets(column_of_edge: Tensor, num_columns: int) -> Tensor:
    count = torch.bincount(column_of_edge, minlength=num_columns)
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


def _destinations(indptr: Tensor) -> Tensor:
    return torch.repeat_interleave(indptr[1:] - indptr[:-1])
