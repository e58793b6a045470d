from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from gnnfast.verify.statistics import FALSE_ALARM, Deviations, binomial_p_values, chi_square_p_value


@pytest.mark.parametrize(("count", "probability"), [(0, 0.3), (3, 0.3), (12, 0.3), (20, 0.3), (7, 0.5)])
def test_binomial_tails_are_exact(count: int, probability: float):
    right = min(1, 2 * min(binom.cdf(count, 20, probability), binom.sf(count - 1, 20, probability)))
    assert binomial_p_values(np.array([float(count)]), 20, np.array([probability]))[0] == pytest.approx(right)


@pytest.mark.parametrize(("count", "probability", "p_value"), [(0, 0, 1), (1, 0, 0), (20, 1, 1), (19, 1, 0)])
def test_what_is_certain_admits_no_exception(count: int, probability: float, p_value: float):
    assert binomial_p_values(np.array([float(count)]), 20, np.array([probability]))[0] == p_value


@pytest.mark.parametrize("skewed", [False, True])
def test_means_that_are_0_pass_as_often_as_promised(skewed: bool):
    generator = np.random.default_rng(1)
    num_cells, num_trials, failures = 50, 400, 0
    for _ in range(num_trials):
        deviations = Deviations(num_cells)
        # One in fifty is 49, the others -1: the tails of an importance weight.
        for _ in range(150):
            values = generator.normal(size=num_cells)
            if skewed:
                values = np.where(generator.random(num_cells) < 0.02, 49.0, -1.0)
            deviations.add(np.arange(num_cells), values, np.full(num_cells, 50.0) if skewed else None)
        errors, threshold = deviations.standard_errors(np.zeros(num_cells))
        failures += bool(errors.max() > threshold)
    assert failures <= max(2, 3 * FALSE_ALARM * num_trials)


def test_a_mean_that_is_off_is_noticed():
    generator = np.random.default_rng(2)
    deviations = Deviations(40)
    for _ in range(500):
        values = generator.normal(size=40)
        values[7] += 0.5
        deviations.add(np.arange(40), values)
    errors, threshold = deviations.standard_errors(np.zeros(40))
    assert errors.argmax() == 7
    assert errors[7] > threshold


def test_cells_with_few_numbers_are_not_judged():
    deviations = Deviations(2)
    for _ in range(10):
        deviations.add(np.array([1]), np.array([1.0]))
    errors, _ = deviations.standard_errors(np.zeros(2), min_count=5)
    assert np.isnan(errors[0])
    assert errors[1] > 0


def test_chi_square_notices_a_favored_cell():
    expected = np.full(16, 100.0)
    observed = expected.copy()
    assert chi_square_p_value(observed, expected, expected) == 1
    observed[:8] += 30
    observed[8:] -= 30
    assert chi_square_p_value(observed, expected, expected) < FALSE_ALARM
