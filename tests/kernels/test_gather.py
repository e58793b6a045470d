from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from gnnfast.kernels.cpu import gather as cpu
from gnnfast.kernels.reference import gather as reference


@pytest.mark.parametrize("word", [torch.int32, torch.int16])
@given(num_rows=st.integers(1, 20), num_words=st.integers(0, 70), data=st.data())
def test_gathered_rows_equal_the_reference(word: torch.dtype, num_rows: int, num_words: int, data: st.DataObject):
    rows = torch.arange(num_rows * num_words, dtype=word).view(num_rows, num_words)
    ids = torch.tensor(data.draw(st.lists(st.integers(0, num_rows - 1), max_size=30)), dtype=torch.int64)
    out = torch.empty(ids.numel(), num_words, dtype=word)
    cpu.gather_rows(rows.numpy(), ids.numpy(), out.numpy())
    assert torch.equal(out, reference.gather_rows(rows, ids))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32, torch.float64])
@given(num_values=st.integers(1, 20), data=st.data())
def test_gathered_values_equal_the_reference(dtype: torch.dtype, num_values: int, data: st.DataObject):
    values = torch.arange(num_values).to(dtype)
    ids = torch.tensor(data.draw(st.lists(st.integers(0, num_values - 1), max_size=50)), dtype=torch.int64)
    out = torch.empty(ids.numel(), dtype=dtype)
    cpu.gather_values(values.numpy(), ids.numpy(), out.numpy())
    assert torch.equal(out, reference.gather_values(values, ids))


@given(num_columns=st.integers(0, 40), seed=st.integers(0, 99), ids=st.lists(st.integers(0, 9), max_size=30))
def test_rounded_rows_equal_the_reference(num_columns: int, seed: int, ids: list[int]):
    rows = torch.randn(10, num_columns, generator=torch.Generator().manual_seed(seed))
    special = torch.tensor([torch.nan, -torch.inf, torch.inf, 1e-40, -0.0, 3.4e38, 1 + 2**-8, 1 + 3 * 2**-8])
    rows[0, : len(special)] = special[:num_columns]
    out = torch.empty(len(ids), num_columns, dtype=torch.bfloat16)
    cpu.gather_rounded(rows.numpy(), np.array(ids, np.int64), out.view(torch.uint16).numpy())
    expected = reference.gather_rounded(rows, torch.tensor(ids, dtype=torch.int64))
    assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


def test_rows_beyond_two_to_the_31_words_are_found():
    # Memory that was never written takes no room: only its last row is read.
    rows = np.zeros((2**21 + 1, 1024), np.int16)
    rows[-1] = 7
    out = np.empty((2, 1024), np.int16)
    cpu.gather_rows(rows, np.array([2**21, 0], np.int64), out)
    assert (out[0] == 7).all()
    assert (out[1] == 0).all()


@pytest.mark.parametrize("word", [np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("shift", [0, 1])
def test_rows_written_past_the_caches_equal_the_reference(word: type[np.integer], shift: int):
    row_bytes, num_ids = 2048, 4096  # twice what is streamed
    generator = np.random.default_rng(0)
    rows = generator.integers(-100, 100, (300, row_bytes // np.dtype(word).itemsize)).astype(word)
    ids = generator.integers(0, 300, num_ids)
    # Memory that begins between two vectors is not written that way.
    memory = np.zeros(num_ids * rows.shape[1] + shift, word)
    out = memory[shift:].reshape(num_ids, -1)
    cpu.gather_rows(rows, ids, out)
    assert (out == rows[ids]).all()
    assert not memory[:shift].any()
