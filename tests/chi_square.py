"""p-values of Pearson's chi-square for what samplers claim of their draws."""

from __future__ import annotations

from math import comb

import numpy as np
from scipy.stats import chi2


def equal_cells_p_value(counts: np.ndarray) -> float:
    """Of the claim that every cell is equally likely."""
    expected = counts.sum() / counts.size
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.size - 1))


def inclusion_p_value(counts: np.ndarray, fanout: int) -> float:
    """Of the claim that each of `counts.size` neighbors is in a drawn set of `fanout` distinct ones equally often.

    Members of one set exclude each other, which shrinks the statistic by (d - fanout) / (d - 1) against d independent
    cells.
    """
    degree = counts.size
    expected = counts.sum() / degree
    statistic = ((counts - expected) ** 2 / expected).sum() * (degree - 1) / (degree - fanout)
    return float(chi2.sf(statistic, degree - 1))


def independence_p_value(first: np.ndarray, second: np.ndarray, num_values: int) -> float:
    """Of the claim that pairs of draws, each uniform below `num_values`, are uniform together."""
    return equal_cells_p_value(np.bincount(first * num_values + second, minlength=num_values**2))


def subset_counts(drawn: np.ndarray, degree: int) -> np.ndarray:
    """How often each subset was drawn: `(comb(degree, fanout),)`, from distinct positions `(num_draws, fanout)`."""
    _, counts = np.unique((1 << drawn).sum(axis=1), return_counts=True)
    padded = np.zeros(comb(degree, drawn.shape[1]), dtype=np.int64)
    padded[: counts.size] = counts
    return padded
