"""Softmax attention over in-edges in plain torch: any device, any floating type, every message in memory.

Rows are `(num_src, heads, channels)`, scores `(rows, heads)`.
"""

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import GOLDEN
from gnnfast.kernels.reference.segment import destinations

_LEVELS = 1 << 16


def attend(
    indptr: Tensor,
    indices: Tensor,
    score: Tensor,
    self_score: Tensor | None,
    inclusion_weight: Tensor | None,
    drop_level: int,
    key: int,
    x: Tensor,
) -> Tensor:
    """The mean of each destination's sources, `(num_dst, heads, channels)`, weighted by their softmaxed scores.

    Args:
        indptr, indices: The block.
        score: By edge, `(num_edges, heads)`.
        self_score: By destination, `(num_dst, heads)`: each has its own row as a source, and edges from a node to
            itself count as absent. None leaves the edges as they are.
        inclusion_weight: Factors of the exponentials, `(num_edges,)`.
        drop_level: Weights whose draw of 16 bits is below it are dropped, the others scaled up.
        key: Of the draws.
        x: Sources, with `heads` rows each or one that all heads read.
    """
    dst = destinations(indptr)
    num_dst, num_heads = indptr.numel() - 1, score.shape[1]
    is_used = torch.ones_like(indices, dtype=torch.bool)
    if self_score is not None:
        is_used = indices != dst
        score = torch.cat([score, self_score])
        dst = torch.cat([dst, torch.arange(num_dst, device=dst.device)])
        indices = torch.cat([indices, torch.arange(num_dst, device=dst.device, dtype=indices.dtype)])
        is_used = torch.cat([is_used, is_used.new_ones(num_dst)])
    index = dst.unsqueeze(-1).expand_as(score)
    score = score.masked_fill(~is_used.unsqueeze(-1), -torch.inf)
    with torch.no_grad():
        high = score.new_full((num_dst, num_heads), -torch.inf).scatter_reduce(0, index, score, "amax")
    weight = (score - high.index_select(0, dst)).exp()
    if inclusion_weight is not None:
        factor = torch.cat([inclusion_weight, inclusion_weight.new_ones(len(weight) - len(inclusion_weight))])
        weight = weight * factor.unsqueeze(-1)
    total = weight.new_zeros(num_dst, num_heads).index_add(0, dst, weight)
    weight = weight / total.masked_fill(total == 0, 1).index_select(0, dst)
    if drop_level > 0:
        kept = draws(key, weight.numel(), weight.device).view_as(weight) >= drop_level
        weight = weight * kept * (_LEVELS / max(_LEVELS - drop_level, 1))
    messages = x.index_select(0, indices) * weight.unsqueeze(-1)
    return messages.new_zeros(num_dst, *messages.shape[1:]).index_add(0, dst, messages)


def draws(key: int, size: int, device: torch.device) -> Tensor:
    """16 random bits for each of `size` positions: four draws share one hash, the first its lowest bits."""
    position = torch.arange(size, device=device)
    bits = _mix(_signed(key) + (position // 4 + 1) * _signed(GOLDEN))
    return (bits >> (16 * (position % 4))) & 0xFFFF


def _mix(x: Tensor) -> Tensor:
    """`random.mix` on int64, whose products wrap as unsigned ones do."""
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word
