"""What is cut out of a PyG `Data`, where it lies and how long it lives."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch_geometric.data import Data

from gnnfast.loader.compat.attributes import Attributes

NODES, EDGE_INDEX, EDGES = torch.tensor([3, 0]), torch.tensor([[0, 1], [1, 1]]), torch.tensor([2, 4])


def test_what_is_cut_is_where_it_was_cut_from():
    # "meta" stands for a GPU, which not every machine has.
    data = Data(
        x=torch.rand(5, 2, device="meta"),
        y=torch.arange(5),
        edge_index=torch.zeros(2, 6, dtype=torch.int64, device="meta"),
        edge_attr=torch.rand(6, 3, device="meta"),
        edge_kind=torch.arange(6),
    )
    batch = Attributes(data).cut(NODES, EDGE_INDEX, EDGES)
    for key in ("x", "edge_index", "edge_attr"):
        assert batch[key].device.type == "meta", key
    assert batch.x.shape == (2, 2)
    assert batch.edge_index.shape == (2, 2)
    assert batch.edge_attr.shape == (2, 3)
    assert batch.y.tolist() == [3, 0]
    assert batch.edge_kind.tolist() == [2, 4]
    data.edge_index = torch.zeros(2, 6, dtype=torch.int64)
    attributes = Attributes(data)
    assert torch.equal(attributes.cut(NODES, EDGE_INDEX, EDGES).edge_index, EDGE_INDEX)
    assert attributes.edge_device.type == "cpu"


def test_a_sparse_tensor_is_where_it_was_cut_from(monkeypatch: pytest.MonkeyPatch):
    torch_sparse = pytest.importorskip("torch_sparse")
    SparseTensor = torch_sparse.SparseTensor
    row, col = torch.tensor([[0, 1, 2, 3, 4, 4], [1, 2, 3, 4, 0, 1]])
    adj_t = SparseTensor(row=row, col=col, value=torch.rand(6), sparse_sizes=(5, 5)).to("meta")
    attributes = Attributes(Data(x=torch.rand(5, 2), adj_t=adj_t))
    assert attributes.edge_device.type == "meta"
    # It looks at the numbers, which "meta" has none of: what it is made of has to do.
    monkeypatch.setattr(torch_sparse, "SparseTensor", dict)
    batch = attributes.cut(NODES, EDGE_INDEX, EDGES)
    assert {batch.adj_t[key].device.type for key in ("row", "col", "value")} == {"meta"}
    assert batch.adj_t["sparse_sizes"] == (2, 2)
    assert batch.x.device.type == "cpu"


def test_what_is_deleted_from_the_data_is_let_go():
    data = Data(x=torch.rand(5, 2), spare=torch.rand(5, 100), edge_index=torch.zeros(2, 6, dtype=torch.int64))
    attributes = Attributes(data)
    attributes.cut(NODES, EDGE_INDEX, EDGES)
    deleted = weakref.ref(data.spare)
    del data.spare
    attributes.refresh()
    gc.collect()
    assert deleted() is None
    assert "spare" not in attributes.cut(NODES, EDGE_INDEX, EDGES)
