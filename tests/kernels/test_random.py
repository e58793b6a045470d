from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gnnfast.kernels.cpu import random as cpu
from gnnfast.kernels.reference import random as reference
from tests.chi_square import equal_cells_p_value

words = st.integers(0, 2**64 - 1)
draws = st.integers(0, 2**40)
bounds = st.one_of(st.integers(1, 100), st.integers(1, 2**63 - 1), st.integers(2**63 - 1000, 2**63 - 1))

# A third of all words are too many for this bound.
OFTEN_REDRAWN = 2**64 // 3 + 1


@given(word=words, node=st.integers(0, 2**63 - 1), draw=draws)
def test_words_equal_the_reference(word: int, node: int, draw: int):
    assert cpu.mix(np.uint64(word)) == reference.mix(word)
    assert cpu.node_key(np.uint64(word), node) == reference.node_key(word, node)
    assert cpu.random_bits(np.uint64(word), draw) == reference.random_bits(word, draw)


@given(key=words, draw=draws, bound=bounds)
@example(key=0, draw=0, bound=1)
@example(key=2**64 - 1, draw=2**40, bound=2**63 - 1)
@example(key=0, draw=0, bound=2**62)
def test_bounded_numbers_equal_the_reference(key: int, draw: int, bound: int):
    number = reference.random_below(key, draw, bound)
    assert 0 <= number < bound
    assert cpu.random_below(np.uint64(key), draw, bound) == number


@given(key=words)
def test_redrawn_numbers_equal_the_reference(key: int):
    for draw in range(8):
        assert cpu.random_below(np.uint64(key), draw, OFTEN_REDRAWN) == reference.random_below(key, draw, OFTEN_REDRAWN)


def test_words_are_those_of_splitmix64():
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [reference.random_bits(1234567, draw) for draw in range(5)] == published


@pytest.mark.parametrize("bound", [3, 10, 257])
def test_bounded_numbers_are_uniform(bound: int):
    numbers = np.array([cpu.random_below(np.uint64(5), draw, bound) for draw in range(50_000)])
    assert equal_cells_p_value(np.bincount(numbers, minlength=bound)) > 1e-4


def test_no_residue_of_a_large_bound_is_favored():
    # Without redrawing, two of the three residues would come with probability 3/8.
    bound = 3 * 2**61
    residues = [cpu.random_below(np.uint64(5), draw, bound) % 3 for draw in range(20_000)]
    assert equal_cells_p_value(np.bincount(residues, minlength=3)) > 1e-4


@given(key=words, draw=draws)
def test_unit_numbers_equal_the_reference(key: int, draw: int):
    number = reference.random_unit(key, draw)
    assert 0 < number < 1
    assert cpu.random_unit(np.uint64(key), draw) == number


@pytest.mark.parametrize(("bits", "number"), [(0, 2.0**-53), (2**64 - 1, 1 - 2.0**-53)])
def test_unit_numbers_reach_neither_end(bits: int, number: float):
    with mock.patch.object(reference, "random_bits", return_value=bits):
        assert reference.random_unit(0, 0) == number


def test_unit_numbers_are_uniform():
    numbers = np.array([cpu.random_unit(np.uint64(5), draw) for draw in range(50_000)])
    assert equal_cells_p_value(np.bincount((numbers * 100).astype(int), minlength=100)) > 1e-4
    low_bits = (numbers * 2**52).astype(np.int64) % 64
    assert equal_cells_p_value(np.bincount(low_bits, minlength=64)) > 1e-4


@given(words=st.lists(words, min_size=1, max_size=4), other=st.lists(words, min_size=1, max_size=4))
@example(words=[0], other=[0, 0])
@example(words=[1, 2], other=[2, 1])
@example(words=[1, 1], other=[2, 2])
def test_different_words_derive_different_seeds(words: list[int], other: list[int]):
    derived = reference.derive_seed(*words)
    assert 0 <= derived < 2**64
    assert (derived == reference.derive_seed(*other)) == (words == other)


def test_derived_seeds_of_neighboring_words_have_even_bits():
    seeds = np.array([reference.derive_seed(seed, epoch) for seed in range(100) for epoch in range(100)], np.uint64)
    ones = np.unpackbits(seeds.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(seeds.size)
    assert np.unique(seeds).size == seeds.size
