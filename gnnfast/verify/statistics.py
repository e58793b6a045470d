"""Sizes that chance alone exceeds with a known, small probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, bdtrc, chdtrc

# Of all tests of one check together: a right sampler fails a check for one seed in a thousand, and, since draws are
# keyed, for that seed always.
FALSE_ALARM = 1e-3


def binomial_p_values(counts: np.ndarray, num_draws: int, probability: np.ndarray) -> np.ndarray:
    """Two-sided p-values of `counts` successes among `num_draws`, exact: twice the smaller tail.

    counts       integers, as float64 (num_cells,)
    probability  float64 (num_cells,); what rounding leaves beside 0 and 1 counts as 0 and 1
    """
    probability = np.where(probability < 1e-9, 0.0, np.where(probability > 1 - 1e-9, 1.0, probability))
    inside = np.clip(probability, 1e-9, 1 - 1e-9)
    at_most = bdtr(counts, num_draws, inside)
    at_least = np.where(counts > 0, bdtrc(np.maximum(counts - 1, 0), num_draws, inside), 1.0)
    p_values = np.minimum(1.0, 2 * np.minimum(at_most, at_least))
    p_values = np.where(probability == 0, (counts == 0).astype(float), p_values)
    return np.asarray(np.where(probability == 1, (counts == num_draws).astype(float), p_values))


def chi_square_p_value(observed: np.ndarray, expected: np.ndarray, variance: np.ndarray) -> float:
    """Of cells whose counts have these means and variances and are independent or exclude each other."""
    return float(chdtrc(observed.size, ((observed - expected) ** 2 / variance).sum()))


@dataclass
class Deviations:
    """Count, mean, spread and range of numbers that should be 0 on average, cell by cell.

    Args:
        num_cells: Cells whose means are judged together.
    """

    num_cells: int

    def __post_init__(self) -> None:
        self.count = np.zeros(self.num_cells)
        self.sum = np.zeros(self.num_cells)
        self.sum_of_squares = np.zeros(self.num_cells)
        self.largest = np.zeros(self.num_cells)

    def add(self, cells: np.ndarray, values: np.ndarray, ranges: np.ndarray | None = None) -> None:
        """Takes one number for each of these cells, which must be distinct.

        Args:
            cells: int64.
            values: One number for each.
            ranges: How far the numbers of a cell may lie apart, as far as this one tells: a value that is nearly always
                the same has a spread that few numbers show. None: as far as the values are from 0.
        """
        self.count[cells] += 1
        self.sum[cells] += values
        self.sum_of_squares[cells] += values * values
        largest = np.abs(values) if ranges is None else np.maximum(np.abs(values), ranges)
        self.largest[cells] = np.maximum(self.largest[cells], largest)

    def standard_errors(self, slack: np.ndarray, min_count: int = 1) -> tuple[np.ndarray, float]:
        """How many standard errors each mean is off, and how many are too many.

        By Bernstein's inequality, whose bound holds for any distribution: with L = ln(2 cells / FALSE_ALARM), a mean
        is off by more than `sqrt(2 L)` standard errors plus `2 L / 3` of the range over the count with a probability of
        FALSE_ALARM in all cells together. The second term is taken off what is returned, and so is `slack`.

        Args:
            slack: What rounding may do to each mean, float64 `(num_cells,)`.
            min_count: Cells with fewer numbers are left out: NaN.

        Returns:
            Standard errors, float64 `(num_cells,)`, and the threshold.
        """
        judged = self.count >= min_count
        log_term = np.log(2 * max(judged.sum(), 1) / FALSE_ALARM)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.sum / self.count
            variance = np.maximum(self.sum_of_squares / self.count - mean**2, 0)
            excess = np.abs(mean) - 2 * log_term / 3 * self.largest / self.count - slack
            excess = np.maximum(excess, 0)
            errors = np.where(excess > 0, excess / np.sqrt(variance / self.count), 0.0)
        return np.where(judged, errors, np.nan), float(np.sqrt(2 * log_term))
