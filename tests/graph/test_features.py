from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import FeatureStore

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def some_rows(num_rows: int, num_features: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(num_rows, num_features, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(num_rows=st.integers(1, 12), num_features=st.integers(0, 37), data=st.data())
def test_gathered_rows_are_the_rows(dtype: torch.dtype, num_rows: int, num_features: int, data: st.DataObject):
    rows = some_rows(num_rows, num_features, dtype)
    ids = torch.tensor(data.draw(st.lists(st.integers(0, num_rows - 1), max_size=20)), dtype=torch.int64)
    store = FeatureStore(rows)
    assert torch.equal(store.gather(ids), rows[ids])
    out = torch.empty(ids.numel(), num_features, dtype=dtype)
    assert store.gather(ids, out) is out
    assert torch.equal(out, rows[ids])


@pytest.mark.parametrize("memory_map", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_features", [0, 1, 7, 16])
def test_saved_rows_come_back_from_the_file(tmp_path: Path, dtype: torch.dtype, num_features: int, memory_map: bool):
    rows = some_rows(9, num_features, dtype)
    FeatureStore(rows).save(tmp_path / "x.npy")
    store = FeatureStore.from_npy(tmp_path / "x.npy", memory_map)
    assert store.dtype == dtype
    assert (store.num_rows, store.num_features) == (9, num_features)
    ids = torch.tensor([8, 0, 3, 3])
    assert torch.equal(store.gather(ids), rows[ids])


def test_writing_to_mapped_rows_leaves_the_file_as_it_is(tmp_path: Path):
    FeatureStore(torch.ones(4, 3)).save(tmp_path / "x.npy")
    FeatureStore.from_npy(tmp_path / "x.npy").rows.zero_()
    assert torch.equal(FeatureStore.from_npy(tmp_path / "x.npy").rows, torch.ones(4, 3))


@pytest.mark.parametrize("memory_map", [True, False])
@pytest.mark.parametrize("kept", [0, 5, 100, 1000])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int, memory_map: bool):
    path = tmp_path / "x.npy"
    FeatureStore(torch.ones(100, 30)).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"x\.npy is not a whole \.npy file"):
        FeatureStore.from_npy(path, memory_map)


@pytest.mark.parametrize("array", [np.ones((2, 2), np.int64), np.ones((2, 2), ">f4"), np.ones((2, 2), np.uint8)])
def test_a_file_of_another_type_is_refused(tmp_path: Path, array: np.ndarray):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match="must hold float32"):
        FeatureStore.from_npy(tmp_path / "x.npy")


def test_an_archive_of_arrays_is_refused(tmp_path: Path):
    np.savez(tmp_path / "x.npz", a=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"is not a whole \.npy file"):
        FeatureStore.from_npy(tmp_path / "x.npz")


def test_a_file_that_cannot_be_mapped_row_by_row_warns(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    with pytest.warns(UserWarning, match="stored column by column"):
        store = FeatureStore.from_npy(tmp_path / "x.npy")
    assert store.gather(torch.tensor([1])).tolist() == [[3.0, 4.0, 5.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FeatureStore.from_npy(tmp_path / "x.npy", memory_map=False)


@pytest.mark.parametrize("rows", [torch.ones(3), torch.ones(3, 2, 2), torch.ones(3, 2, dtype=torch.int64)])
def test_features_of_another_shape_or_type_are_refused(rows: torch.Tensor):
    with pytest.raises(ValueError, match=r"of shape \(num_nodes, num_features\), got"):
        FeatureStore(rows)


def test_strided_features_are_gathered_right():
    rows = some_rows(6, 8, torch.float32)
    ids = torch.tensor([5, 0])
    assert torch.equal(FeatureStore(rows.T).gather(ids), rows.T[ids])
    assert torch.equal(FeatureStore(rows[:, 1:4]).gather(ids), rows[ids, 1:4])


def test_half_precision_features_may_begin_between_two_words():
    flat = some_rows(1, 13, torch.float16).view(-1)
    rows = flat[1:].view(6, 2)
    assert torch.equal(FeatureStore(rows).gather(torch.tensor([5, 0])), rows[[5, 0]])
