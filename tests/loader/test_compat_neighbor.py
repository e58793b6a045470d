"""gnnfast.loader.NeighborLoader beside PyG's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from gnnfast.loader import NeighborLoader
from tests.loader.pyg_graphs import assert_cut_from, edge_pairs, kinds, needs_data, pubmed, small_data

# PyG's own loader says so where torch_sparse draws for it.
pytestmark = pytest.mark.filterwarnings("ignore:Using 'NeighborSampler' without a 'pyg-lib'")

HOPS = ("num_sampled_nodes", "num_sampled_edges")  # which PyG leaves out where torch_sparse draws


@pytest.fixture(params=["small", pytest.param("pubmed", marks=needs_data)])
def data(request: pytest.FixtureRequest) -> Data:
    return small_data() if request.param == "small" else pubmed()


def pygs(*args: Any, **kwargs: Any) -> Any:
    pytest.importorskip("torch_sparse")
    from torch_geometric.loader import NeighborLoader as Loader

    return Loader(*args, **kwargs)


def both(data: Data, *args: Any, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
    ours, theirs = NeighborLoader(data, *args, **kwargs), pygs(data, *args, **kwargs)
    assert len(ours) == len(theirs)
    return zip(ours, theirs, strict=True)


def test_a_batch_has_pygs_attributes(data: Data):
    for ours, theirs in both(data, [3, 2], input_nodes=data.train_mask, batch_size=16):
        assert kinds(ours, HOPS) == kinds(theirs)
        assert type(ours) is type(theirs)
        assert torch.equal(ours.input_id, theirs.input_id)
        assert ours.batch_size == theirs.batch_size
        assert torch.equal(ours.n_id[: ours.batch_size], theirs.n_id[: ours.batch_size])


def test_all_neighbors_make_pygs_batch(data: Data):
    for ours, theirs in both(data, [-1, -1], input_nodes=torch.arange(40, 0, -1), batch_size=16):
        assert torch.equal(ours.n_id.sort().values, theirs.n_id.sort().values)
        assert edge_pairs(ours) == edge_pairs(theirs)
        assert torch.equal(ours.e_id.sort().values, theirs.e_id.sort().values)
        assert_cut_from(ours, data)


def test_drawn_edges_are_the_graphs_and_at_most_as_many_as_asked_for(data: Data):
    fanouts = [3, 2]
    for batch in NeighborLoader(data, fanouts, input_nodes=data.train_mask, batch_size=16):
        assert_cut_from(batch, data)
        assert batch.n_id.unique().numel() == batch.num_nodes
        assert batch.e_id.unique().numel() == batch.num_edges
        assert batch.num_sampled_nodes[0] == batch.batch_size
        assert sum(batch.num_sampled_nodes) == batch.num_nodes
        assert sum(batch.num_sampled_edges) == batch.num_edges
        degree = torch.bincount(data.edge_index[1], minlength=data.num_nodes)[batch.n_id]
        drawn = torch.bincount(batch.edge_index[1], minlength=batch.num_nodes)
        first = 0
        for fanout, count in zip([*fanouts, 0], batch.num_sampled_nodes, strict=True):
            assert torch.equal(drawn[first : first + count], degree[first : first + count].clamp(max=fanout))
            first += count
        assert torch.equal(batch.edge_index[1], batch.edge_index[1].sort().values)
