"""The loaders of whole subgraphs beside PyG's: clusters, GraphSAINT, ShaDow, random nodes."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torch_geometric.data import Batch, Data, HeteroData

import gnnfast.loader as ours
from gnnfast.loader import (
    ClusterData,
    ClusterLoader,
    GraphSAINTEdgeSampler,
    GraphSAINTNodeSampler,
    GraphSAINTRandomWalkSampler,
    RandomNodeLoader,
    ShaDowKHopSampler,
)
from tests.loader.pyg_graphs import assert_cut_from, kinds, needs_data, pubmed, small_data


@pytest.fixture(params=["small", pytest.param("pubmed", marks=needs_data)])
def data(request: pytest.FixtureRequest) -> Data:
    return numbered(connected_data() if request.param == "small" else pubmed())


def connected_data() -> Data:
    """A random graph without isolated nodes, from which torch_sparse's walks do not return."""
    data = small_data()
    data.edge_index[:, :60] = torch.stack([torch.arange(60), torch.arange(60).roll(1)])
    return data


def numbered(data: Data) -> Data:
    """Numbers nodes and edges: these loaders do not say which they took."""
    data.n_id, data.e_id = torch.arange(data.num_nodes), torch.arange(data.num_edges)
    return data


def pyg() -> Any:
    pytest.importorskip("torch_sparse")
    import torch_geometric.loader

    return torch_geometric.loader


def assert_induced(batch: Data, data: Data) -> None:
    """Every edge of the graph among the batch's nodes is there, and nothing else."""
    assert_cut_from(batch, data)
    inside = torch.zeros(data.num_nodes, dtype=torch.bool)
    inside[batch.n_id] = True
    expected = inside[data.edge_index].all(dim=0).nonzero().view(-1)
    assert torch.equal(batch.e_id.sort().values, expected)
    assert batch.n_id.unique().numel() == batch.num_nodes


SAINT = {
    "GraphSAINTNodeSampler": {"batch_size": 20},
    "GraphSAINTEdgeSampler": {"batch_size": 10},
    "GraphSAINTRandomWalkSampler": {"batch_size": 6, "walk_length": 3},
}


@pytest.mark.parametrize("name", SAINT)
def test_saint_batches_have_pygs_attributes(name: str, data: Data, tmp_path: Path):
    # PyG's edge sampler draws a number for each of PubMed's edges and counts for minutes.
    coverage = 2 if data.num_nodes == 60 else 0
    kwargs = {**SAINT[name], "num_steps": 3, "sample_coverage": coverage, "log": False}
    loader = getattr(ours, name)(data, save_dir=str(tmp_path), **kwargs)
    theirs = getattr(pyg(), name)(data, **kwargs)
    assert len(loader) == len(theirs) == 3
    batches = list(loader)
    for batch, their_batch in zip(batches, theirs, strict=True):
        assert kinds(batch) == kinds(their_batch)
        assert type(batch) is type(their_batch)
        assert_induced(batch, data)
        assert batch.num_nodes == batch.x.shape[0]
    assert not torch.equal(batches[0].n_id, batches[1].n_id)


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        (GraphSAINTNodeSampler, {"batch_size": 25}),
        (GraphSAINTEdgeSampler, {"batch_size": 12}),
        (GraphSAINTRandomWalkSampler, {"batch_size": 8, "walk_length": 2}),
    ],
)
def test_saint_norms_make_sums_and_losses_right(kind: Any, kwargs: dict[str, int], tmp_path: Path):
    data = numbered(connected_data())
    torch.manual_seed(0)
    loader = kind(data, num_steps=1200, sample_coverage=300, save_dir=str(tmp_path), log=False, **kwargs)
    loss, sums, seen = torch.zeros(()), torch.zeros(60), torch.zeros(60)
    value = torch.rand(60)
    for batch in loader:
        loss += (batch.node_norm * value[batch.n_id]).sum()
        src, dst = batch.n_id[batch.edge_index]
        sums.index_add_(0, dst, batch.edge_norm * value[src])
        seen[batch.n_id] += 1
    assert float(loss / 1200) == pytest.approx(float(value.mean()), rel=0.05)
    src, dst = data.edge_index
    expected = torch.zeros(60).index_add_(0, dst, value[src])
    # Given that v is in the batch, the weighted sum over its in-edges is that of the graph on average.
    assert float((sums / seen).sum() / expected.sum()) == pytest.approx(1, abs=0.05)


def test_saint_takes_the_destinations_counts(tmp_path: Path):
    # A star: leaves hear the hub and nothing else, so a leaf is rarely there and the hub nearly always.
    edge_index = torch.stack([torch.zeros(40, dtype=torch.int64), torch.arange(1, 41)])
    data = numbered(Data(x=torch.rand(41, 1), edge_index=torch.cat([edge_index, edge_index.flip(0)], dim=1)))
    loader = GraphSAINTNodeSampler(data, 8, num_steps=50, sample_coverage=1, save_dir=str(tmp_path))
    for batch in loader:
        to_leaf = batch.n_id[batch.edge_index[1]] != 0
        if to_leaf.any():
            # P(leaf) / P(leaf and hub) is little above 1; with P(hub) above the line it would be several times that.
            assert float(batch.edge_norm[to_leaf].max()) < 1.1
            assert float(batch.edge_norm[~to_leaf].min()) > 3


def test_shadow_batches_have_pygs_attributes(data: Data):
    kwargs = {"depth": 2, "num_neighbors": 3, "node_idx": data.train_mask, "batch_size": 8}
    loader, theirs = ShaDowKHopSampler(data, **kwargs), pyg().ShaDowKHopSampler(data, **kwargs)
    assert len(loader) == len(theirs)
    for batch, their_batch in zip(loader, theirs, strict=True):
        assert kinds(batch) == kinds(their_batch)
        assert isinstance(batch, Batch)
        check_egos(batch, data)


def check_egos(batch: Data, data: Data) -> None:
    """Every ego is contiguous, begins with its seed and holds the graph's edges among its nodes."""
    assert torch.equal(batch.batch, torch.repeat_interleave(torch.arange(batch.ptr.numel() - 1), batch.ptr.diff()))
    assert torch.equal(batch.root_n_id, batch.ptr[:-1])
    assert torch.equal(batch.y, data.y[batch.n_id][batch.root_n_id])
    assert torch.equal(batch.n_id[batch.edge_index], data.edge_index[:, batch.e_id])
    assert torch.equal(batch.x, data.x[batch.n_id])
    ego = batch.batch[batch.edge_index]
    assert torch.equal(ego[0], ego[1])
    for number in range(min(batch.ptr.numel() - 1, 5)):
        inside = torch.zeros(data.num_nodes, dtype=torch.bool)
        inside[batch.n_id[batch.batch == number]] = True
        expected = inside[data.edge_index].all(dim=0).nonzero().view(-1)
        assert torch.equal(batch.e_id[ego[0] == number].sort().values, expected)


def test_whole_egos_are_pygs(data: Data):
    kwargs = {"depth": 2, "num_neighbors": 5000, "node_idx": torch.tensor([7, 3, 11]), "batch_size": 3}
    batch = next(iter(ShaDowKHopSampler(data, **kwargs)))
    their_batch = next(iter(pyg().ShaDowKHopSampler(data, **kwargs)))
    for number in range(3):
        nodes, theirs = (each.n_id[each.batch == number].sort().values for each in (batch, their_batch))
        assert torch.equal(nodes, theirs)
    assert torch.equal(batch.y, their_batch.y)
    assert batch.num_edges == their_batch.num_edges


def test_shadow_keeps_sparse_tensors():
    SparseTensor = pytest.importorskip("torch_sparse").SparseTensor
    src, dst = torch.unique(torch.randint(0, 60, (2, 200), generator=torch.Generator().manual_seed(1)), dim=1)
    adj_t = SparseTensor(row=dst, col=src, sparse_sizes=(60, 60))
    data = Data(x=torch.rand(60, 3), y=torch.arange(60), n_id=torch.arange(60), adj_t=adj_t)
    batch = next(iter(ShaDowKHopSampler(data, 1, 60, batch_size=60)))
    theirs = next(iter(pyg().ShaDowKHopSampler(data, 1, 60, batch_size=60)))
    assert set(batch.keys()) == set(theirs.keys())
    assert batch.adj_t.sizes() == theirs.adj_t.sizes()
    assert batch.adj_t.nnz() == theirs.adj_t.nnz()


def test_clusters_cover_the_nodes_and_keep_their_inner_edges(data: Data, tmp_path: Path):
    clusters = ClusterData(data, num_parts=6, save_dir=str(tmp_path), log=False)
    assert len(clusters) == 6
    parts = list(clusters)
    for part in parts:
        assert_induced(part, data)
    assert torch.equal(torch.cat([part.n_id for part in parts]).sort().values, torch.arange(data.num_nodes))
    with pytest.raises(IndexError):
        clusters[6]


def test_cluster_batches_have_the_edges_between_their_clusters(data: Data, tmp_path: Path):
    clusters = ClusterData(data, num_parts=6, save_dir=str(tmp_path))
    loader = ClusterLoader(clusters, batch_size=2, shuffle=True, num_workers=2)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    for batch in batches:
        assert_induced(batch, data)
    assert torch.equal(torch.cat([batch.n_id for batch in batches]).sort().values, torch.arange(data.num_nodes))


@pytest.mark.parametrize("sparse_format", ["csr", "csc"])
def test_edges_between_clusters_can_be_kept(sparse_format: str, tmp_path: Path):
    data = numbered(connected_data())
    clusters = ClusterData(
        data, num_parts=4, save_dir=str(tmp_path), keep_inter_cluster_edges=True, sparse_format=sparse_format
    )
    ids = []
    for part in clusters:
        own, other = part.edge_index if sparse_format == "csr" else part.edge_index.flip(0)
        ends = torch.stack([part.n_id[own], clusters.partition.node_perm[other]])
        ends = ends if sparse_format == "csr" else ends.flip(0)
        assert torch.equal(ends, data.edge_index[:, part.e_id])
        ids.append(part.e_id)
    assert torch.equal(torch.cat(ids).sort().values, torch.arange(data.num_edges))


def test_random_parts_are_pygs(data: Data):
    torch.manual_seed(4)
    loader = RandomNodeLoader(data, num_parts=5, shuffle=True, num_workers=1)
    batches = list(loader)
    torch.manual_seed(4)
    theirs = list(pyg().RandomNodeLoader(data, num_parts=5, shuffle=True))
    assert len(loader) == len(batches) == len(theirs) == 5
    for batch, their_batch in zip(batches, theirs, strict=True):
        assert kinds(batch) == kinds(their_batch)
        assert torch.equal(batch.n_id, their_batch.n_id)
        assert torch.equal(batch.e_id.sort().values, their_batch.e_id.sort().values)
        assert_induced(batch, data)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("num_parts", [4, 7])
def test_passes_take_what_torchs_take_of_a_generator(num_parts: int, drop_last: bool, num_workers: int):
    # Of 60 nodes 4 parts are batches of 15; 7 are batches of 9 and a short one.
    data = numbered(small_data())

    def run(make: Any) -> tuple[list[list[list[int]]], list[int]]:
        generator = torch.Generator().manual_seed(5)
        loader = make(shuffle=True, drop_last=drop_last, generator=generator)
        orders = [[batch.n_id.tolist() for batch in loader] for _ in range(3)]
        # A pass that is left when it has all its batches: torch has then ended its order only if the last was short.
        orders.append([batch.n_id.tolist() for batch in islice(loader, len(loader))])
        return orders, generator.get_state().tolist()

    orders, state = run(lambda **kwargs: RandomNodeLoader(data, num_parts, num_workers=num_workers, **kwargs))
    their_orders, their_state = run(
        lambda **kwargs: DataLoader(
            range(60), -(-60 // num_parts), collate_fn=lambda nodes: Data(n_id=torch.tensor(nodes)), **kwargs
        )
    )
    assert orders == their_orders
    if num_workers == 0:
        assert state == their_state


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda data, **kwargs: GraphSAINTNodeSampler(data, 20, num_steps=5, **kwargs),
        lambda data, **kwargs: GraphSAINTRandomWalkSampler(data, 5, 2, num_steps=5, **kwargs),
        lambda data, **kwargs: ShaDowKHopSampler(data, 2, 2, batch_size=10, shuffle=True, **kwargs),
        lambda data, **kwargs: RandomNodeLoader(data, 4, shuffle=True, **kwargs),
    ],
)
def test_batches_do_not_depend_on_the_number_of_workers(make: Any, num_workers: int):
    data = numbered(connected_data())

    def run(num_workers: int) -> list[tuple[list[int], list[int]]]:
        torch.manual_seed(2)
        return [(batch.n_id.tolist(), batch.e_id.tolist()) for batch in make(data, num_workers=num_workers)]

    assert run(num_workers) == run(0)


def test_heterogeneous_data_and_old_norms_are_refused():
    hetero = HeteroData()
    hetero["paper"].x = torch.rand(5, 2)
    for make in (
        lambda: ClusterData(hetero, 2),
        lambda: RandomNodeLoader(hetero, 2),
        lambda: ShaDowKHopSampler(hetero, 2, 2),
        lambda: GraphSAINTNodeSampler(hetero, 2),
    ):
        with pytest.raises(TypeError, match="to_homogeneous"):
            make()
    data = small_data()
    with pytest.raises(TypeError, match=r"torch_geometric\.data\.Data"):
        RandomNodeLoader(data.edge_index, 2)
    data.node_norm = torch.rand(60)
    with pytest.raises(ValueError, match="node_norm"):
        GraphSAINTNodeSampler(data, 2)
    with pytest.raises(ValueError, match="sparse_format"):
        ClusterData(data, 2, sparse_format="coo")


@pytest.mark.parametrize("bad", [1000, -3])
def test_ids_outside_the_graph_are_refused(bad: int, tmp_path: Path):
    data = small_data()
    clusters = ClusterData(data, 4, save_dir=str(tmp_path))
    for make in (
        lambda: ShaDowKHopSampler(data, 2, 3, torch.tensor([1, bad])),
        lambda: clusters.subgraph(torch.tensor([1, bad])),
    ):
        with pytest.raises(ValueError, match=f"node {bad}"):
            make()
    loaders = [RandomNodeLoader(data, 2), ClusterLoader(clusters), ShaDowKHopSampler(data, 2, 3)]
    for loader in (*loaders, GraphSAINTNodeSampler(data, 5)):
        with pytest.raises(ValueError, match=f"positions 0 to .*, got {bad}"):
            loader([0, bad])
    for order in ({"sampler": [0, bad]}, {"sampler": [bad]}):
        with pytest.raises(ValueError, match=f"positions 0 to .*, got {bad}"):
            list(ClusterLoader(clusters, **order))
    with pytest.raises(ValueError, match=f"positions 0 to .*, got {bad}"):
        list(RandomNodeLoader(data, 2, sampler=[1, bad]))
    assert RandomNodeLoader(data, 2)([]).num_nodes == 0


@pytest.mark.parametrize("sparse_format", ["csr", "csc"])
def test_a_partition_has_pygs_fields(sparse_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torch_geometric.loader import cluster as their_module

    # Theirs leaves the order of a cluster's nodes open.
    monkeypatch.setattr(their_module, "index_sort", lambda values, max_value: values.sort(stable=True))
    data = connected_data()
    # Each pair once: the order of parallel edges is nobody's promise.
    data = numbered(Data(x=data.x, edge_index=data.edge_index.unique(dim=1).flip(1)))
    clusters = ClusterData(data, 4, save_dir=str(tmp_path), sparse_format=sparse_format)
    partition = clusters.partition
    part_of = torch.empty(60, dtype=torch.int64)
    for number in range(4):
        part_of[partition.nodes(number)] = number
    theirs = their_module.ClusterData._partition(clusters, data.edge_index, part_of)
    for field in dataclasses.fields(theirs):
        ours, expected = getattr(partition, field.name), getattr(theirs, field.name)
        assert torch.equal(ours, expected) if isinstance(expected, torch.Tensor) else ours == expected, field.name


@pytest.mark.parametrize("name", SAINT)
def test_saint_loaders_have_pygs_attributes(name: str, tmp_path: Path):
    data = connected_data()
    data = numbered(Data(x=data.x, edge_index=data.edge_index.unique(dim=1).flip(1)))
    kwargs = {**SAINT[name], "log": False}
    loader = getattr(ours, name)(data, sample_coverage=3, save_dir=str(tmp_path), **kwargs)
    theirs = getattr(pyg(), name)(data, **kwargs)
    for mine, expected in zip(loader.adj.coo(), theirs.adj.coo(), strict=True):
        assert torch.equal(mine, expected)
    for batch in loader:
        assert torch.equal(loader.node_norm[batch.n_id], batch.node_norm)
        torch.testing.assert_close(loader.edge_norm[batch.e_id], batch.edge_norm)
    assert loader.edge_norm.shape == (data.num_edges,)
    assert not hasattr(getattr(ours, name)(data, **kwargs), "node_norm")


def test_shadow_loaders_have_pygs_attributes():
    data = connected_data()
    data = Data(x=data.x, edge_index=data.edge_index.unique(dim=1).flip(1))
    loader, theirs = ShaDowKHopSampler(data, 2, 3), pyg().ShaDowKHopSampler(data, 2, 3)
    assert not loader.is_sparse_tensor
    for mine, expected in zip(loader.adj_t.coo(), theirs.adj_t.coo(), strict=True):
        assert torch.equal(mine, expected)
    sparse = Data(x=data.x, adj_t=theirs.adj_t)
    loader = ShaDowKHopSampler(sparse, 2, 3)
    assert loader.is_sparse_tensor
    assert loader.adj_t.nnz() == data.num_edges


def test_random_parts_name_their_edges():
    data = small_data()
    assert RandomNodeLoader(data, 2).edge_index is data.edge_index


def test_shadow_seeds_are_whole_numbers_of_any_width():
    data = numbered(small_data())
    loader = ShaDowKHopSampler(data, 1, 3, torch.tensor([7, 3], dtype=torch.int32), batch_size=2)
    batch = next(iter(loader))
    assert batch.n_id[batch.root_n_id].tolist() == [7, 3]
    for nodes, message in ((torch.tensor([1.5]), "whole numbers"), (torch.ones(59, dtype=torch.bool), "one entry")):
        with pytest.raises(ValueError, match=f"node_idx .*{message}"):
            ShaDowKHopSampler(data, 1, 3, nodes)


@pytest.mark.parametrize("name", SAINT)
def test_coverage_below_0_means_none(name: str):
    data = numbered(connected_data())
    loader = getattr(ours, name)(data, sample_coverage=-1, **SAINT[name])
    batch = next(iter(loader))
    assert_induced(batch, data)
    assert "node_norm" not in batch


def test_a_cluster_cannot_keep_edges_to_others_in_a_sparse_tensor(tmp_path: Path):
    SparseTensor = pytest.importorskip("torch_sparse").SparseTensor
    src, dst = connected_data().edge_index.unique(dim=1)
    data = Data(x=torch.rand(60, 2), adj_t=SparseTensor(row=dst, col=src, sparse_sizes=(60, 60)))
    with pytest.raises(ValueError, match="keep_inter_cluster_edges needs edge_index"):
        ClusterData(data, 4, save_dir=str(tmp_path), keep_inter_cluster_edges=True)
    assert sum(part.num_nodes for part in ClusterData(data, 4, save_dir=str(tmp_path))) == 60


@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_sparse_torch_tensor_is_refused_by_every_loader(tmp_path: Path):
    data = Data(x=torch.rand(3, 2), adj_t=torch.eye(3).to_sparse_csr())
    for make in (
        lambda: ours.NeighborLoader(data, [2]),
        lambda: ours.LinkNeighborLoader(data, [2], torch.tensor([[0], [1]])),
        lambda: ClusterData(data, 2, save_dir=str(tmp_path)),
        lambda: GraphSAINTNodeSampler(data, 2),
        lambda: ShaDowKHopSampler(data, 1, 2),
        lambda: RandomNodeLoader(data, 2),
    ):
        with pytest.raises(TypeError, match=r"torch_sparse\.SparseTensor"):
            make()
