from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chi2

from gnnfast.kernels.cpu import weighted as cpu
from gnnfast.kernels.reference import weighted as reference

NUM_DRAWS = 100_000
keys = st.integers(0, 2**64 - 1)
some_weights = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.sampled_from([1.0, 2.0, 1e6])), min_size=1, max_size=30
)


def shares(weights: list[float] | np.ndarray, fanout: int) -> np.ndarray:
    """Shares of one column."""
    column = np.asarray(weights)
    sums = np.full(column.size, -1)
    cpu.sum_shares(np.array([0, column.size]), column, fanout, sums)
    return np.diff(sums, prepend=0)


def draw(weights: np.ndarray, fanout: int, replace: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(positions, weights), each `(NUM_DRAWS, draws)`, of as many nodes with the same column of weights."""
    indptr = weights.size * np.arange(NUM_DRAWS + 1)
    sums = np.tile(np.cumsum(shares(weights, 1 if replace else fanout)), NUM_DRAWS)
    nodes, out_indptr = np.arange(NUM_DRAWS), np.empty(NUM_DRAWS + 1, np.int64)
    if replace:
        cpu.count_independent(indptr, sums, nodes, fanout, out_indptr)
    else:
        cpu.count_shares(indptr, sums, nodes, out_indptr)
    edges, weight = np.empty(out_indptr[-1], np.int64), np.empty(out_indptr[-1], np.float32)
    sample = cpu.sample_independent if replace else cpu.sample_shares
    sample(indptr, sums, nodes, np.uint64(7), out_indptr, edges, weight)
    return edges.reshape(NUM_DRAWS, -1) - indptr[:-1, None], weight.reshape(NUM_DRAWS, -1)


@given(weights=some_weights, fanout=st.integers(1, 12), single=st.booleans())
@example(weights=[1.0] * 11, fanout=10, single=True)
@example(weights=[1e12, 1.0, 1.0], fanout=2, single=False)
@example(weights=[1.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], fanout=2, single=False)
def test_shares_equal_the_reference(weights: list[float], fanout: int, single: bool):
    column = np.array(weights, np.float32 if single else np.float64)
    given_shares = shares(column, fanout)
    expected = reference.inclusion_probabilities(torch.from_numpy(column), fanout).numpy()
    assert np.allclose(given_shares / cpu.WHOLE, expected, rtol=0, atol=1e-11)
    assert given_shares.sum() == min(fanout, (column > 0).sum()) * cpu.WHOLE
    assert (given_shares[column == 0] == 0).all()
    assert ((given_shares >= 0) & (given_shares <= cpu.WHOLE)).all()


@pytest.mark.parametrize("fanout", [1, 1000, cpu.LARGEST_FANOUT])
def test_shares_of_many_edges_stay_within_bounds(fanout: int):
    weights = np.random.default_rng(1).pareto(1.0, cpu.LARGEST_FANOUT + 100)
    given_shares = shares(weights, fanout)
    assert given_shares.sum() == fanout * cpu.WHOLE
    assert given_shares.min() >= 0
    assert given_shares.max() <= cpu.WHOLE
    expected = reference.inclusion_probabilities(torch.from_numpy(weights), fanout).numpy() if fanout < 2000 else None
    assert expected is None or np.abs(given_shares / cpu.WHOLE - expected).max() < 1e-10


@given(weights=some_weights, fanout=st.integers(1, 12), replace=st.booleans(), key=keys)
def test_draws_equal_the_reference(weights: list[float], fanout: int, replace: bool, key: int):
    # Two nodes with the same column draw anew, and the second one's edges come after the first one's.
    column_sums = np.cumsum(shares(weights, 1 if replace else fanout))
    indptr, sums = len(weights) * np.arange(3), np.concatenate([column_sums, column_sums])
    nodes, out_indptr = np.array([1, 0]), np.empty(3, np.int64)
    if replace:
        cpu.count_independent(indptr, sums, nodes, fanout, out_indptr)
    else:
        complete = cpu.count_shares(indptr, sums, nodes, out_indptr)
        assert complete == (all(weights) and len(weights) <= fanout)
    edges, weight = np.empty(out_indptr[-1], np.int64), np.empty(out_indptr[-1], np.float32)
    sample = cpu.sample_independent if replace else cpu.sample_shares
    sample(indptr, sums, nodes, np.uint64(key), out_indptr, edges, weight)
    expected = []
    for node in nodes.tolist():
        if replace:
            num_draws = fanout if any(weights) else 0
            drawn = reference.sample_column_again(torch.from_numpy(column_sums), key, node, num_draws)
        else:
            drawn = reference.sample_column(torch.from_numpy(column_sums), key, node)
            assert len(set(drawn)) == len(drawn)
        expected += [indptr[node] + position for position in drawn]
    assert edges.tolist() == expected
    probability = np.diff(column_sums, prepend=0)[edges % len(weights)] / cpu.WHOLE * (fanout if replace else 1)
    assert np.allclose(weight, 1 / probability, rtol=1e-6)


@pytest.mark.parametrize(
    "weights",
    [
        [1.0, 1.0, 1.0, 1.0, 1.0],
        [5.0, 1.0, 0.0, 3.0, 2.0, 2.5, 0.2],
        [1.0, 50.0, 1.0, 1.0, 40.0, 2.0, 3.0],
        list(1 / np.arange(1, 40)),
    ],
)
def test_every_edge_is_drawn_with_its_probability(weights: list[float]):
    fanout = 3
    column = np.array(weights)
    probability = shares(column, fanout) / cpu.WHOLE
    positions, weight = draw(column, fanout)
    assert (np.diff(np.sort(positions, axis=1), axis=1) > 0).all()
    counts = np.bincount(positions.ravel(), minlength=column.size)
    assert (counts[probability == 0] == 0).all()
    assert (counts[probability == 1] == NUM_DRAWS).all()
    uncertain = (probability > 0) & (probability < 1)
    p = probability[uncertain]
    deviation = (counts[uncertain] - NUM_DRAWS * p) / np.sqrt(NUM_DRAWS * p * (1 - p))
    assert np.abs(deviation).max() < 4.5
    # What weighs is what is drawn for: the estimate of the sum of weights is always right.
    assert np.allclose((weight * column[positions]).sum(axis=1), column.sum(), rtol=1e-5)


def test_every_sequence_with_replacement_follows_the_weights():
    weights = np.array([1.0, 0.0, 4.0, 2.5])
    positions, _ = draw(weights, 3, replace=True)
    p = weights / weights.sum()
    expected = NUM_DRAWS * np.einsum("i,j,k->ijk", p, p, p).ravel()
    counts = np.bincount(positions @ [16, 4, 1], minlength=64)
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi2.sf(statistic, possible.sum() - 1) > 1e-4


@pytest.mark.parametrize("replace", [False, True])
def test_weighted_sums_are_unbiased(replace: bool):
    generator = np.random.default_rng(3)
    weights, values = generator.pareto(1.5, 30) + 0.1, generator.normal(size=30)
    positions, weight = draw(weights, 5, replace)
    sums = (weight * values[positions]).sum(axis=1)
    assert abs(sums.mean() - values.sum()) < 4 * sums.std() / np.sqrt(NUM_DRAWS)
