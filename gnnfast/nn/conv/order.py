"""Whether to aggregate before or after the linear transformation: both give the same sum."""

import torch
from torch import Tensor

from gnnfast.graph import Block


def aggregates_first(block: Block, x: Tensor, out_channels: int) -> bool:
    """Compares `E d_in + N_dst d_in d_out` with `N_src d_in d_out + E d_out`, the backward pass included.

    Features that need no gradient make aggregating them cheaper: no aggregation runs backward.
    """
    in_channels = x.shape[-1]
    aggregations_first = aggregations_last = products = 1
    if torch.is_grad_enabled():
        aggregations_first += int(x.requires_grad)
        aggregations_last += 1
        products += 1 + int(x.requires_grad)
    matrix = products * in_channels * out_channels
    first = aggregations_first * block.num_edges * in_channels + block.num_dst * matrix
    last = aggregations_last * block.num_edges * out_channels + block.num_src * matrix
    return first <= last
