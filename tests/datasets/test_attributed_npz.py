import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gnnfast.datasets import amazon, coauthor


def small_arrays() -> dict[str, np.ndarray]:
    """Four goods; edges 0-1 (one way), 1-2 (both ways), 3-3; node 3 has no word, node 0 one word twice."""
    return {
        "adj_data": np.ones(4, np.float32),
        "adj_indices": np.array([1, 2, 1, 3], np.int32),
        "adj_indptr": np.array([0, 1, 2, 3, 4], np.int32),
        "adj_shape": np.array([4, 4]),
        "attr_data": np.array([2, 1, 1, 1], np.float32),
        "attr_indices": np.array([0, 2, 1, 2], np.int32),
        "attr_indptr": np.array([0, 2, 3, 4, 4], np.int32),
        "attr_shape": np.array([4, 3]),
        "labels": np.array([0, 1, 0, 1]),
        "node_names": np.array(["a", "b", "c", "d"], dtype=object),
    }


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "place",
    [
        "Computers/raw/amazon_electronics_computers.npz",
        "Amazon/Computers/raw/amazon_electronics_computers.npz",
        "amazon_computers/amazon_electronics_computers.npz",
        "amazon_computers/amazon-computers.zip",
        "amazon-computers.zip",
    ],
)
def test_reads_every_layout(tmp_path: Path, place: str):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    content = npz_bytes(small_arrays())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("amazon_electronics_computers.npz", content)
    else:
        path.write_bytes(content)
    dataset = amazon("Computers", tmp_path, fractions=(0.5, 0.25, 0.25), normalize_features=True)
    assert dataset.graph.to_edge_index().tolist() == [[1, 0, 2, 1], [0, 1, 1, 2]]
    assert dataset.features.rows.tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert dataset.labels.tolist() == [0, 1, 0, 1]


def test_directed_edges_stay_as_they_are_stored(tmp_path: Path):
    (tmp_path / "amazon_electronics_photo.npz").write_bytes(npz_bytes(small_arrays()))
    dataset = amazon("photo", tmp_path, undirected=False)
    assert dataset.graph.to_edge_index().tolist() == [[0, 2, 1], [1, 1, 2]]


def test_half_precision_features_are_the_rounded_ones(tmp_path: Path):
    (tmp_path / "ms_academic_cs.npz").write_bytes(npz_bytes(small_arrays()))
    full = coauthor("CS", tmp_path).features.rows
    half = coauthor("CS", tmp_path, feature_dtype="bfloat16").features.rows
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, full.bfloat16())


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("attr_indices", np.array([0, 2, 1, 9], np.int32), "columns are numbered 0 to 2, but one is 9"),
        ("attr_indptr", np.array([0, 2, 1, 4, 4], np.int32), "do not fit together"),
        ("adj_indices", np.array([1, 2, 1, 7], np.int32), "columns are numbered 0 to 3, but one is 7"),
        ("labels", np.array([0, 1, 0]), "labels have 3 rows"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, name: str, values: np.ndarray, message: str):
    (tmp_path / "amazon_electronics_photo.npz").write_bytes(npz_bytes(small_arrays() | {name: values}))
    with pytest.raises(ValueError, match=message):
        amazon("Photo", tmp_path)


def test_a_missing_array_is_named(tmp_path: Path):
    arrays = small_arrays()
    del arrays["attr_shape"]
    (tmp_path / "amazon_electronics_photo.npz").write_bytes(npz_bytes(arrays))
    with pytest.raises(ValueError, match="no array attr_shape"):
        amazon("Photo", tmp_path)


@pytest.mark.parametrize("suffix", [".npz", ".zip"])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str):
    name = {".npz": "amazon_electronics_photo.npz", ".zip": "amazon-photo.zip"}[suffix]
    (tmp_path / name).write_bytes(npz_bytes(small_arrays())[:500])
    with pytest.raises(ValueError, match=f"{name} is not a whole {suffix} file"):
        amazon("Photo", tmp_path)


def test_a_missing_file_says_where_it_was_expected_and_how_to_get_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as error:
        coauthor("Physics", tmp_path)
    assert str(tmp_path / "Physics/raw/ms_academic_phy.npz") in str(error.value)
    assert "gnn-benchmark/raw/master/data/npz/ms_academic_phy.npz" in str(error.value)


def test_amazon_computers_has_its_published_counts(given_data: Path):
    dataset = amazon("Computers", per_class=20)
    assert (dataset.num_nodes, dataset.graph.num_edges) == (13752, 491722)
    assert (dataset.num_features, dataset.num_classes) == (767, 10)
    assert [ids.numel() for ids in dataset.split_ids.values()] == [200, 300, 13252]
    assert int((dataset.graph.in_degree == 0).sum()) == 281


def test_coauthor_physics_has_its_published_counts(given_data: Path):
    dataset = coauthor("Physics", feature_dtype="float16")
    assert (dataset.num_nodes, dataset.graph.num_edges) == (34493, 495924)
    assert (dataset.num_features, dataset.num_classes) == (8415, 5)
    assert dataset.features.dtype == torch.float16


@pytest.mark.filterwarnings("ignore")
def test_equals_the_reader_of_pyg(given_data: Path, tmp_path: Path):
    from torch_geometric.io import read_npz

    with zipfile.ZipFile(given_data / "amazon_computers/amazon-computers.zip") as archive:
        archive.extract("amazon_electronics_computers.npz", tmp_path)
    data = read_npz(str(tmp_path / "amazon_electronics_computers.npz"))
    dataset = amazon("Computers", tmp_path)
    order = torch.argsort(data.edge_index[1] * dataset.num_nodes + data.edge_index[0])
    assert torch.equal(dataset.graph.to_edge_index(), data.edge_index[:, order])
    assert torch.equal(dataset.features.rows, data.x)
    assert torch.equal(dataset.labels, data.y)
