import shutil
from pathlib import Path

import pytest
import torch

from gnnfast.datasets import planetoid, pyg
from gnnfast.graph.splits import mask_to_ids

# PyG itself warns while it is imported and while it processes.
pytestmark = pytest.mark.filterwarnings("ignore")


def make(**arguments: object) -> tuple:
    from torch_geometric.datasets import FakeDataset

    torch.manual_seed(0)
    return FakeDataset(num_graphs=1, avg_num_nodes=60, task="node", num_classes=3, **arguments)[0]


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch):
    """A class of PyG's whose single graph a test writes."""
    import torch_geometric.datasets as known

    class Shipped:
        graphs: list = []  # noqa: RUF012

        def __init__(self, root: str, name: str = "first"):
            type(self).was_given = (root, name)

        def __len__(self) -> int:
            return len(self.graphs)

        def __getitem__(self, position: int):
            return self.graphs[position]

    monkeypatch.setattr(known, "Actor", Shipped)
    return Shipped


def test_masks_are_the_public_split_and_root_is_passed_on(shipped, tmp_path: Path):
    data = make()
    data.train_mask, data.val_mask, data.test_mask = torch.eye(3, dtype=torch.bool)[torch.arange(data.num_nodes) % 3].T
    shipped.graphs = [data]
    dataset = pyg("Actor", {"name": "second"}, root=tmp_path)
    assert shipped.was_given == (str(tmp_path), "second")
    assert torch.equal(dataset.features.rows, data.x)
    assert torch.equal(dataset.labels, data.y)
    assert dataset.graph.num_edges == data.num_edges
    for part, ids in dataset.split_ids.items():
        assert torch.equal(ids, mask_to_ids(data[f"{part}_mask"]))


def test_one_of_several_splits_is_chosen_by_its_column(shipped, tmp_path: Path):
    data = make()
    parts = (torch.arange(data.num_nodes)[:, None] + torch.arange(4)) % 3
    data.train_mask, data.val_mask, data.test_mask = parts == 0, parts == 1, parts == 2
    shipped.graphs = [data]
    assert torch.equal(pyg("Actor", mask_column=2, root=tmp_path).train_ids, mask_to_ids(parts[:, 2] == 0))
    with pytest.raises(ValueError, match="splits 0 to 3, got mask_column=4"):
        pyg("Actor", mask_column=4, root=tmp_path)


def test_a_class_without_a_root_and_without_masks_takes_a_random_split():
    arguments = {"num_graphs": 1, "avg_num_nodes": 60, "task": "node", "num_classes": 3}
    dataset = pyg("FakeDataset", arguments, split="random")
    assert sum(ids.numel() for ids in dataset.split_ids.values()) == dataset.num_nodes
    with pytest.raises(ValueError, match=r"no train_mask, val_mask, test_mask: choose dataset\.split=random"):
        pyg("FakeDataset", arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "Actor has no x"),
        ({"y": None}, "Actor has no y"),
    ],
)
def test_a_graph_that_lacks_something_is_refused(shipped, tmp_path: Path, changes: dict, message: str):
    data = make()
    for key, value in changes.items():
        data[key] = value
    shipped.graphs = [data]
    with pytest.raises(ValueError, match=message):
        pyg("Actor", root=tmp_path, split="random")


def test_features_that_are_not_finite_are_named(shipped, tmp_path: Path):
    data = make()
    data.x[5, 2] = torch.nan
    shipped.graphs = [data]
    with pytest.raises(ValueError, match="Actor: feature 2 of node 5 is nan"):
        pyg("Actor", root=tmp_path, split="random")


def test_several_graphs_are_refused(shipped, tmp_path: Path):
    shipped.graphs = [make(), make()]
    with pytest.raises(ValueError, match="holds 2 graphs"):
        pyg("Actor", root=tmp_path)


def test_an_unknown_class_names_near_ones():
    with pytest.raises(ValueError, match="no 'Planetod'; did you mean Planetoid"):
        pyg("Planetod")


def test_arguments_that_do_not_bind_are_named(shipped, tmp_path: Path):
    with pytest.raises(ValueError, match=r"Actor does not take the arguments .*nmae"):
        pyg("Actor", {"nmae": "x"}, root=tmp_path)


def test_pygs_planetoid_is_ours(given_data: Path, tmp_path: Path):
    if not (given_data / "cora").exists():
        pytest.skip(f"{given_data / 'cora'} is not there")
    (tmp_path / "Cora" / "raw").mkdir(parents=True)
    for path in (given_data / "cora").iterdir():
        shutil.copyfile(path, tmp_path / "Cora" / "raw" / path.name)
    theirs = pyg("Planetoid", {"name": "Cora"}, root=tmp_path, normalize_features=True)
    ours = planetoid("Cora", tmp_path)
    assert torch.equal(theirs.graph.indptr, ours.graph.indptr)
    assert theirs.split_ids.keys() == ours.split_ids.keys()
    torch.testing.assert_close(theirs.features.rows, ours.features.rows)
