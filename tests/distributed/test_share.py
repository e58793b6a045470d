from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gnnfast.distributed import RankFailed
from gnnfast.distributed.share import _open, _pack
from gnnfast.graph import FeatureStore
from tests.distributed.datasets import NUM_NODES, ring
from tests.distributed.test_launch import results, start


@pytest.mark.parametrize("is_file", [False, True])
def test_ranks_of_a_host_have_one_copy_between_them(is_file: bool, tmp_path: Path):
    num_features = 128
    own = ring(num_features)
    path = None
    if is_file:
        path = str(tmp_path / "x.npy")
        own.features.save(path)
    expected = float(2 * own.features.rows.double().sum() + own.graph.indices.sum() + own.labels.sum())
    num_bytes = own.features.rows.nbytes

    start(2, "share", str(tmp_path), num_features, path)

    told = results(tmp_path, 2)
    assert [one["total"] for one in told] == [expected, expected]
    assert [one["built"] for one in told] == [[0], []]
    # Each counts half of the pages that both have mapped.
    assert sum(one["pss"] for one in told) < 1.5 * num_bytes
    # What one writes the other does not see.
    assert [one["first"] for one in told] == [0.0, 1.0]


def test_an_error_of_the_first_rank_is_everyones():
    with pytest.raises(RankFailed, match="FileNotFoundError: there is no such data set") as raised:
        start(3, "share_failure")

    assert raised.value.is_common


def test_what_cannot_be_pickled_is_built_by_every_rank(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    start(2, "share_what_cannot_be", str(tmp_path))

    assert results(tmp_path, 2) == [3, 3]
    assert "memory cannot be shared between the ranks of this host, so each has a copy" in capfd.readouterr().err


def test_a_parcel_holds_each_tensor_once_and_files_not_at_all(tmp_path: Path):
    rows = torch.randn(NUM_NODES, 4)
    FeatureStore(rows).save(tmp_path / "x.npy")
    mapped = FeatureStore.from_npy(tmp_path / "x.npy")
    written = FeatureStore.from_npy(tmp_path / "x.npy")
    written.rows[5] = 1
    empty, scalar = torch.empty(0, 3), torch.tensor(7, dtype=torch.bfloat16)

    parcel, _ = _pack({"a": rows, "b": rows, "turned": rows.T, "map": mapped, "w": written, "e": empty, "s": scalar})
    value, reason = _open(parcel)

    assert reason is None
    assert [piece.path for piece in parcel.layout].count(str(tmp_path / "x.npy")) == 1
    assert torch.equal(value["a"], rows)
    assert value["a"] is value["b"]
    assert torch.equal(value["turned"], rows.T)
    assert torch.equal(value["map"].rows, rows)
    assert float(value["w"].rows[5, 0]) == 1
    assert value["map"].gather(torch.tensor([3])).tolist() == rows[3:4].tolist()
    assert value["e"].shape == (0, 3)
    assert value["s"].item() == 7


def test_memory_that_is_not_the_first_ranks_is_refused():
    parcel, _ = _pack(torch.ones(3))
    parcel.proof = b"x" * 32

    assert _open(parcel) == (None, "process ids mean other processes here than for the first rank")
    parcel.descriptor = 10**6
    assert "No such file" in (_open(parcel)[1] or "")
