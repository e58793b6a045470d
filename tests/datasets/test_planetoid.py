import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from gnnfast.datasets import planetoid
from gnnfast.graph.splits import mask_to_ids

PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")


def raw_folder(root: Path, name: str) -> Path:
    folder = root / name.lower()
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.mark.parametrize(
    ("name", "num_nodes", "num_edges", "num_features", "num_classes", "num_train"),
    [("Cora", 2708, 10556, 1433, 7, 140), ("CiteSeer", 3327, 9104, 3703, 6, 120), ("PubMed", 19717, 88648, 500, 3, 60)],
)
def test_counts_are_the_published_ones(
    given_data: Path, name: str, num_nodes: int, num_edges: int, num_features: int, num_classes: int, num_train: int
):
    raw_folder(given_data, name)
    dataset = planetoid(name)
    assert (dataset.num_nodes, dataset.graph.num_edges) == (num_nodes, num_edges)
    assert (dataset.num_features, dataset.num_classes) == (num_features, num_classes)
    assert [ids.numel() for ids in dataset.split_ids.values()] == [num_train, 500, 1000]


@pytest.mark.filterwarnings("ignore")  # PyG's own reader unpickles with names that NumPy and SciPy have retired.
@pytest.mark.parametrize("name", ["Cora", "CiteSeer", "PubMed"])
@pytest.mark.parametrize("normalize", [False, True])
def test_equals_the_class_of_pyg(given_data: Path, tmp_path: Path, name: str, normalize: bool):
    from torch_geometric.datasets import Planetoid
    from torch_geometric.transforms import NormalizeFeatures

    shutil.copytree(raw_folder(given_data, name), tmp_path / name / "raw")
    for folder, _, files in os.walk(tmp_path):
        for path in (Path(folder), *(Path(folder, file) for file in files)):
            path.chmod(0o755)
    data = Planetoid(str(tmp_path), name, transform=NormalizeFeatures() if normalize else None)[0]
    for root in (given_data, tmp_path):
        dataset = planetoid(name, root, normalize_features=normalize)
        src, dst = dataset.graph.to_edge_index()
        order = torch.argsort(data.edge_index[1] * dataset.num_nodes + data.edge_index[0])
        assert torch.equal(torch.stack([src, dst]), data.edge_index[:, order])
        torch.testing.assert_close(dataset.features.rows, data.x)
        assert torch.equal(dataset.labels, data.y)
        for split, ids in dataset.split_ids.items():
            assert torch.equal(ids, mask_to_ids(data[f"{split}_mask"]))


def test_a_random_split_follows_its_own_seed(given_data: Path):
    raw_folder(given_data, "Cora")
    first, again, other = (planetoid("cora", split="random", per_class=20, split_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.train_ids, again.train_ids)
    assert not torch.equal(first.train_ids, other.train_ids)
    assert first.train_ids.numel() == 20 * 7
    assert first.val_ids.numel() == 30 * 7


def test_a_missing_file_says_where_it_was_expected_and_how_to_get_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as error:
        planetoid("Cora", tmp_path)
    assert str(tmp_path / "Cora/raw/ind.cora.tx") in str(error.value)
    assert "https://github.com/kimiyoung/planetoid/raw/master/data/ind.cora.tx" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_would_run_code_is_refused(tmp_path: Path):
    class Attack:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'was_here'}",)

    for part in PARTS:
        (tmp_path / f"ind.cora.{part}").write_bytes(pickle.dumps(Attack(), protocol=2))
    with pytest.raises(ValueError, match="no business"):
        planetoid("Cora", tmp_path)
    assert not (tmp_path / "was_here").exists()


def test_a_truncated_file_is_named(given_data: Path, tmp_path: Path):
    folder = raw_folder(given_data, "Cora")
    for part in PARTS:
        content = (folder / f"ind.cora.{part}").read_bytes()
        (tmp_path / f"ind.cora.{part}").write_bytes(content[: len(content) // 2] if part == "allx" else content)
    with pytest.raises(ValueError, match=r"ind\.cora\.allx is not a whole file"):
        planetoid("Cora", tmp_path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="Cora, CiteSeer, PubMed"):
        planetoid("Coral")
