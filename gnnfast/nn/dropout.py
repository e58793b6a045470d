"""Dropout that costs a CPU less than the layer it follows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_LEVELS = 1 << 16


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Zeroes each value with probability p and scales the others to keep the mean, as `torch.nn.functional.dropout`.

    On a CPU torch asks its serial generator once per value; here one draw of 64 bits decides on four values.
    Their probability is p to the nearest 1 / 65536, and the scale is that probability's own. Follows
    `torch.manual_seed`, with other values than torch's.

    Args:
        x: Floating, any shape.
        p: Probability in [0, 1].
        training: Whether to do anything.
    """
    threshold = round(p * _LEVELS)
    if not training or not x.is_cpu or not 0 < threshold < _LEVELS:
        return F.dropout(x, p, training)
    num_draws = -(-x.numel() // 4)
    # From the smallest int64 to no upper end: all 64 bits are random.
    draws = torch.empty(num_draws, dtype=torch.int64).random_(-(2**63), None)
    levels = draws.view(torch.int16)[: x.numel()].view(x.shape)
    keep = levels >= threshold - _LEVELS // 2
    return x * keep.to(x.dtype).mul_(_LEVELS / (_LEVELS - threshold))


class Dropout(torch.nn.Dropout):
    """`torch.nn.Dropout` by `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)
