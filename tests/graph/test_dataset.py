from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from gnnfast.graph import CSCGraph, Dataset, FeatureStore


def make(**changes: Any) -> Dataset:
    parts: dict[str, Any] = {
        "name": "five",
        "graph": CSCGraph.from_edge_index(torch.tensor([[0, 1, 2, 2], [1, 2, 3, 0]]), 5, torch.rand(4)),
        "features": FeatureStore(torch.arange(10.0).view(5, 2)),
        "labels": torch.tensor([0, 2, 1, -1, 0]),
        "train_ids": torch.tensor([0, 1]),
        "val_ids": torch.tensor([2]),
        "test_ids": torch.tensor([4]),
    }
    return Dataset(**parts | changes)


def test_the_number_of_classes_is_read_off_the_labels():
    assert make().num_classes == 3
    assert make(num_classes=7).num_classes == 7
    assert make(labels=torch.zeros(5, 4)).num_classes == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": FeatureStore(torch.ones(4, 2))}, "five: features have 4 rows but the graph has 5 nodes"),
        ({"labels": torch.zeros(6, dtype=torch.int64)}, "labels have 6 rows but the graph has 5 nodes"),
        ({"test_ids": torch.tensor([5])}, "the test split names node 5, but nodes are numbered 0 to 4"),
        ({"val_ids": torch.tensor([2, -1])}, "the val split names node -1"),
        ({"train_ids": torch.tensor([True, False, False, False, False])}, "train_ids must be int64"),
        ({"train_ids": torch.tensor([[0, 1]])}, "train_ids must be int64 of one dimension"),
        ({"val_ids": torch.tensor([2, 3])}, "node 3 of the val split has label -1"),
        ({"num_classes": 2}, "node 1 of the train split has label 2, but classes are numbered 0 to 1"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_features_that_are_not_finite_are_refused_where_a_split_reads_them(value: float):
    rows = torch.ones(5, 2)
    rows[3, 1] = value
    assert make(features=FeatureStore(rows)).num_features == 2
    rows[4, 0] = value
    with pytest.raises(ValueError, match="features of node 4, of the test split, are not finite"):
        make(features=FeatureStore(rows))


def test_empty_splits_and_unknown_labels_elsewhere_are_fine():
    none = torch.empty(0, dtype=torch.int64)
    dataset = make(train_ids=none, val_ids=none, test_ids=none, labels=torch.full((5,), -1))
    assert dataset.num_classes == 0


def test_a_data_set_survives_the_way_through_pyg():
    dataset = make()
    back = Dataset.from_pyg(dataset.to_pyg(), "five")
    assert repr(back) == repr(dataset)
    assert torch.equal(back.graph.indptr, dataset.graph.indptr)
    assert torch.equal(back.graph.indices, dataset.graph.indices)
    assert torch.equal(back.graph.edge_weight, dataset.graph.edge_weight)
    assert torch.equal(back.features.rows, dataset.features.rows)
    assert torch.equal(back.labels, dataset.labels)
    for split, ids in dataset.split_ids.items():
        assert torch.equal(back.split_ids[split], ids)


def pyg_data(**changes: Any) -> Data:
    return Data(
        **{
            "x": torch.ones(3, 1),
            "y": torch.tensor([0, 1, 1]),
            "edge_index": torch.tensor([[0], [1]]),
            "train_mask": torch.tensor([True, False, False]),
            "val_mask": torch.tensor([False, True, False]),
            "test_mask": torch.tensor([False, False, True]),
        }
        | changes
    )


def test_labels_in_one_column_are_classes():
    assert Dataset.from_pyg(pyg_data(y=torch.tensor([[0], [1], [1]]))).labels.tolist() == [0, 1, 1]


def test_missing_parts_of_pyg_data_are_named():
    with pytest.raises(ValueError, match="has no y, val_mask"):
        Dataset.from_pyg(pyg_data(y=None, val_mask=None))


def test_masks_of_several_splits_are_refused():
    with pytest.raises(ValueError, match=r"got shape \(3, 10\): choose one of its columns"):
        Dataset.from_pyg(pyg_data(train_mask=torch.ones(3, 10, dtype=torch.bool)))
