from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chi2

from gnnfast.kernels.cpu import alias as cpu
from gnnfast.kernels.reference import alias as reference

weight_lists = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-12, 1e12), st.sampled_from([1.0, 3.0])), min_size=1, max_size=40
).filter(any)


def table(weights: np.ndarray, dtype: type = np.int64) -> tuple[np.ndarray, np.ndarray]:
    accept, alias = np.full(weights.size, np.nan), np.full(weights.size, -1, dtype)
    cpu.build_alias(weights, accept, alias)
    return accept, alias


@given(weights=weight_lists, dtype=st.sampled_from([np.int32, np.int64]), single=st.booleans())
@example(weights=[0.1] * 10, dtype=np.int32, single=False)
@example(weights=[0.0, 0.0, 5.0, 0.0], dtype=np.int32, single=False)
@example(weights=[1 / 3, 2 / 3, 1 / 3, 0.0, 1 / 3], dtype=np.int64, single=False)
def test_a_table_holds_the_distribution(weights: list[float], dtype: type, single: bool):
    given_weights = np.array(weights, np.float32 if single else np.float64)
    accept, alias = table(given_weights, dtype)
    expected = given_weights.astype(np.float64) / given_weights.astype(np.float64).sum()
    held = reference.probabilities(torch.from_numpy(accept), torch.from_numpy(alias)).numpy()
    assert np.all((accept >= 0) & (accept <= 1))
    assert np.allclose(held, expected, rtol=0, atol=1e-13)


@given(weights=weight_lists)
def test_an_item_of_weight_zero_is_never_drawn(weights: list[float]):
    accept, alias = table(np.array(weights))
    assert all(accept[i] == 0 for i in range(len(weights)) if weights[i] == 0)
    assert all(weights[alias[i]] > 0 for i in range(len(weights)) if accept[i] < 1)


def test_items_of_weight_zero_stay_out_of_a_large_table():
    weights = np.random.default_rng(0).pareto(1.1, 1_000_000)
    weights[::3] = 0
    accept, alias = table(weights, np.int32)
    assert not accept[::3].any()
    assert (alias[accept < 1] % 3 != 0).all()
    held = reference.probabilities(torch.from_numpy(accept), torch.from_numpy(alias)).numpy()
    assert np.abs(held - weights / weights.sum()).max() < 1e-12


@given(weights=weight_lists, key=st.integers(0, 2**64 - 1))
def test_draws_equal_the_reference(weights: list[float], key: int):
    accept, alias = table(np.array(weights))
    drawn = np.empty(20, np.int64)
    cpu.draw_aliases(accept, alias, np.uint64(key), drawn)
    expected = reference.draw_aliases(torch.from_numpy(accept), torch.from_numpy(alias), key, 20)
    assert drawn.tolist() == expected.tolist()


@pytest.mark.parametrize("num_items", [2, 7, 1000])
def test_draws_follow_the_weights(num_items: int):
    weights = np.random.default_rng(num_items).pareto(1.5, num_items) + 0.05
    accept, alias = table(weights)
    drawn = np.empty(500_000, np.int64)
    cpu.draw_aliases(accept, alias, np.uint64(3), drawn)
    expected = drawn.size * weights / weights.sum()
    statistic = ((np.bincount(drawn, minlength=num_items) - expected) ** 2 / expected).sum()
    assert chi2.sf(statistic, num_items - 1) > 1e-4
