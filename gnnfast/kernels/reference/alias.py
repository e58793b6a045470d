"""Alias tables: what one says, and a draw from it."""

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import random_below, random_unit


def probabilities(accept: Tensor, alias: Tensor) -> Tensor:
    """The distribution that a table stands for, float64 `(n,)`: every slot is drawn alike."""
    accept = accept.double()
    return (accept + torch.zeros_like(accept).index_add(0, alias.long(), 1 - accept)) / accept.numel()


def draw_aliases(accept: Tensor, alias: Tensor, key: int, num_draws: int) -> Tensor:
    """Draws 0, 1, 2, ... of the stream of `key`, int64 `(num_draws,)`."""
    items: list[int] = []
    for draw in range(num_draws):
        slot = random_below(key, 2 * draw, accept.numel())
        items.append(slot if random_unit(key, 2 * draw + 1) < accept[slot] else int(alias[slot]))
    return torch.tensor(items, dtype=torch.int64)
