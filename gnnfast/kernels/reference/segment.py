"""Aggregation over in-edges in plain torch: any device, any floating type.

Features are `(rows, heads, channels)`, weights `(edges, heads)`; None means 1.
"""

import torch
from torch import Tensor


def segment_sum(
    indptr: Tensor, indices: Tensor, weight: Tensor | None, self_weight: Tensor | None, x: Tensor
) -> Tensor:
    """The weighted sum of the sources of each destination, and its own weighted row."""
    messages = x.index_select(0, indices)
    if weight is not None:
        messages = messages * weight.unsqueeze(-1)
    out = x.new_zeros(indptr.numel() - 1, *x.shape[1:]).index_add(0, destinations(indptr), messages)
    if self_weight is not None:
        num_own = self_weight.shape[0]
        own = x[:num_own] * self_weight.unsqueeze(-1)
        out = torch.cat([out[:num_own] + own, out[num_own:]])
    return out


def segment_dot(indptr: Tensor, indices: Tensor, g: Tensor, x: Tensor) -> Tensor:
    """The inner product of each edge's destination row of g and source row of x, by head."""
    return (g.index_select(0, destinations(indptr)) * x.index_select(0, indices)).sum(-1)


def segment_max(indptr: Tensor, indices: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest source value of each destination by channel, of x `(num_src, channels)`, and who has it."""
    dst = destinations(indptr)[:, None].expand(-1, x.shape[1])
    shape = (indptr.numel() - 1, x.shape[1])
    messages = x.index_select(0, indices)
    out = x.new_zeros(shape).scatter_reduce(0, dst, messages, "amax", include_self=False)
    # The first edge that reaches the maximum; NaN reaches itself.
    position = torch.arange(indices.numel(), device=x.device)[:, None].expand_as(messages)
    reaches = (messages == out.gather(0, dst)) | messages.isnan()
    position = torch.where(reaches, position, indices.numel())
    first = torch.full(shape, indices.numel(), device=x.device).scatter_reduce(0, dst, position, "amin")
    return out, torch.cat([indices, indices.new_full((1,), -1)])[first]


def segment_max_backward(source: Tensor, g: Tensor, num_src: int) -> Tensor:
    """The gradient of `segment_max`: each winner gets what its maxima get."""
    padded = g.new_zeros(num_src + 1, g.shape[1])
    winner = torch.where(source < 0, num_src, source).long()
    return padded.scatter_add(0, winner, g)[:num_src]


def mean_weights(indptr: Tensor, weight: Tensor) -> Tensor:
    """Weights `(num_edges,)` divided by their sum at each destination; 0 where that is 0."""
    dst = destinations(indptr)
    total = weight.new_zeros(indptr.numel() - 1).index_add(0, dst, weight)
    scale = torch.where(total == 0, 0, 1 / total.where(total != 0, 1))
    return weight * scale[dst]


def destinations(indptr: Tensor) -> Tensor:
    """The destination of each edge."""
    return torch.repeat_interleave(indptr[1:] - indptr[:-1])
