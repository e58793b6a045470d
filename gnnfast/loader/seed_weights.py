"""Drawing the seeds of an epoch by weight."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnfast.kernels.reference.random import derive_seed


def class_balancing_weights(classes: Tensor) -> Tensor:
    """1 / size of the class: seeds drawn by these are of every class alike.

    Args:
        classes: Integers from 0, `(num_seeds,)`.

    Returns:
        float64, `(num_seeds,)`.
    """
    return torch.bincount(classes).double().reciprocal()[classes]


class WeightedDraws:
    """Draws positions with replacement, in proportion to weights, of which there may be billions.

    Args:
        weights: Numbers of at least 0, `(num_weights,)`, not all 0; those of weight 0 are never drawn.

    Raises:
        ValueError: If the weights are not of one dimension, negative, not finite, or all 0.
    """

    def __init__(self, weights: Tensor):
        if weights.dim() != 1:
            raise ValueError(f"weights must be of one dimension, got shape {tuple(weights.shape)}")
        if not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not bool(weights.any()):
            raise ValueError("weights must be finite, at least 0 and not all 0")
        self.sums = weights.double().cumsum(0)

    def draw(self, num_draws: int, seed: int) -> Tensor:
        """Positions, int64, `(num_draws,)`; same seed, same positions."""
        sums = self.sums.numpy()
        # Rounded up, a point may reach the total: the last position of positive weight has it.
        last = np.searchsorted(sums, sums[-1], side="left")
        points = np.random.default_rng(derive_seed(seed)).random(num_draws) * sums[-1]
        return torch.from_numpy(np.minimum(np.searchsorted(sums, points, side="right"), last))
