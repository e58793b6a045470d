"""gnnfast.loader.NeighborLoader beside PyG's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import GraphSAGE

from gnnfast.graph import CSCGraph
from gnnfast.loader import NeighborLoader
from gnnfast.loader.compat.neighborhoods import Neighborhoods
from gnnfast.sampler import NeighborSampler, ShadowSampler
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


def test_it_draws_what_the_neighbor_sampler_draws():
    data = small_data()
    graph = CSCGraph.from_edge_index(data.edge_index, data.num_nodes, keep_edge_ids=True)
    seeds = torch.tensor([4, 4, 9, 0])
    drawn, rows = Neighborhoods(graph, [3, 2], replace=False).draw(seeds, seed=7)
    batch = NeighborSampler(graph, [3, 2], expand="once", edge_ids=True).sample(seeds, 7)
    assert torch.equal(drawn.node_ids, batch.node_ids)
    assert torch.equal(drawn.edge_index, batch.blocks[0].edge_index)
    assert torch.equal(drawn.edge_ids, batch.blocks[0].edge_ids)
    assert torch.equal(rows, batch.seed_rows)


@pytest.mark.parametrize("subgraph_type", ["directional", "induced", "bidirectional"])
def test_a_repeated_seed_has_a_row_for_each_time(subgraph_type: str):
    data = small_data()
    seeds = torch.tensor([4, 7, 4, 9, 4])
    loader = NeighborLoader(data, [-1, -1], input_nodes=seeds, subgraph_type=subgraph_type, batch_size=5)
    once = next(iter(NeighborLoader(data, [-1, -1], seeds[[0, 1, 3]], subgraph_type=subgraph_type, batch_size=3)))
    batch = next(iter(loader))
    assert torch.equal(batch.n_id[:5], seeds)
    assert torch.equal(batch.y[:5], data.y[seeds])
    assert torch.equal(batch.n_id[batch.edge_index], data.edge_index[:, batch.e_id]) or subgraph_type == "bidirectional"
    assert batch.num_nodes == once.num_nodes + 2
    if subgraph_type != "bidirectional":
        for row in (2, 4):
            first = batch.e_id[batch.edge_index[1] == 0]
            assert torch.equal(batch.e_id[batch.edge_index[1] == row], first)
    if subgraph_type == "directional":
        assert batch.num_sampled_nodes == [5, *once.num_sampled_nodes[1:]]
        assert sum(batch.num_sampled_edges) == batch.num_edges


@pytest.mark.parametrize("subgraph_type", ["induced", "bidirectional"])
def test_other_subgraphs_are_pygs(data: Data, subgraph_type: str):
    for ours, theirs in both(data, [-1], input_nodes=torch.arange(40), batch_size=20, subgraph_type=subgraph_type):
        assert kinds(ours) == kinds(theirs)
        assert torch.equal(ours.n_id.sort().values, theirs.n_id.sort().values)
        assert edge_pairs(ours) == edge_pairs(theirs)
        if subgraph_type == "induced":
            assert_cut_from(ours, data)


@pytest.mark.filterwarnings("ignore:The usage of the 'directed' argument")
def test_undirected_is_the_old_word_for_induced():
    data = small_data()
    for ours, theirs in both(data, [-1], batch_size=20, directed=False):
        assert edge_pairs(ours) == edge_pairs(theirs)


def test_a_sparse_tensor_stays_one():
    SparseTensor = pytest.importorskip("torch_sparse").SparseTensor
    # Each pair once: a matrix has no parallel edges.
    src, dst = torch.unique(torch.randint(0, 55, (2, 200), generator=torch.Generator().manual_seed(1)), dim=1)
    value = torch.rand(src.numel())
    data = Data(x=torch.rand(60, 7), adj_t=SparseTensor(row=dst, col=src, value=value, sparse_sizes=(60, 60)))
    for ours, theirs in both(data, [-1, -1], batch_size=16):
        assert kinds(ours, HOPS) == kinds(theirs)
        order, their_order = ours.n_id.argsort(), theirs.n_id.argsort()
        assert torch.equal(ours.adj_t.to_dense()[order][:, order], theirs.adj_t.to_dense()[their_order][:, their_order])


def test_pubmed_like_masks_and_indices_name_their_inputs():
    data = small_data()
    by_mask = next(iter(NeighborLoader(data, [2], input_nodes=data.train_mask, batch_size=4)))
    by_index = next(iter(NeighborLoader(data, [2], input_nodes=[30, 20, 10], batch_size=2)))
    of_all = next(iter(NeighborLoader(data, [2], batch_size=4)))
    assert torch.equal(by_mask.input_id, data.train_mask.nonzero().view(-1)[:4])
    assert by_index.input_id.tolist() == [0, 1]
    assert by_index.n_id[:2].tolist() == [30, 20]
    assert of_all.input_id.tolist() == [0, 1, 2, 3]


def epoch(loader: NeighborLoader) -> list[dict[str, Any]]:
    return [batch.to_dict() for batch in loader]


def same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one[key], two[key]) if isinstance(one[key], torch.Tensor) else one[key] == two[key]
        for one, two in zip(first, second, strict=True)
        for key in one
    )


@pytest.mark.parametrize("num_workers", [1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(num_workers: int):
    data = small_data()
    torch.manual_seed(3)
    alone = NeighborLoader(data, [2, 2], batch_size=7, shuffle=True)
    expected = [epoch(alone), epoch(alone)]
    torch.manual_seed(3)
    loader = NeighborLoader(data, [2, 2], batch_size=7, shuffle=True, num_workers=num_workers, persistent_workers=True)
    assert len(loader) == 9
    assert same(epoch(loader), expected[0])
    assert same(epoch(loader), expected[1])
    assert not same(*expected)


def test_the_order_is_that_of_torchs_loader():
    pytest.importorskip("torch_sparse")
    data = small_data()
    for kwargs in (
        {"shuffle": True, "drop_last": True},
        {"shuffle": True, "generator": torch.Generator().manual_seed(5)},
        {"sampler": [5, 3, 1, 8]},
        {"batch_size": 1, "batch_sampler": [[5, 3], [1]]},
    ):
        orders = []
        for kind in (NeighborLoader, pygs):
            torch.manual_seed(11)
            if "generator" in kwargs:
                kwargs["generator"].manual_seed(5)
            loader = kind(data, [2], **{"batch_size": 8, **kwargs})
            orders.append([batch.input_id.tolist() for batch in loader])
            assert len(loader) == len(orders[-1])
        assert orders[0] == orders[1]


def test_an_epoch_may_be_left_early_and_passes_may_be_nested():
    loader = NeighborLoader(small_data(), [2], batch_size=5, num_workers=2)
    for _ in loader:
        break
    first = [batch.input_id.tolist() for batch in loader]
    pairs = [(one.input_id.tolist(), two.input_id.tolist()) for one, two in zip(loader, loader, strict=True)]
    assert pairs == [(ids, ids) for ids in first]


def test_the_loader_can_be_called_with_positions():
    data = small_data()
    batch = NeighborLoader(data, [2], input_nodes=torch.tensor([30, 20, 10]), batch_size=2)([2, 0])
    assert batch.input_id.tolist() == [2, 0]
    assert batch.n_id[:2].tolist() == [10, 30]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("filter_per_worker", [None, True, False])
def test_transforms_change_the_batch(num_workers: int, filter_per_worker: bool | None):
    def keep_first_edge(output: Any) -> Any:
        output.row, output.col, output.edge = output.row[:1], output.col[:1], output.edge[:1]
        assert output.metadata[0].numel() == 10
        return output

    def double(batch: Data) -> Data:
        batch.x = batch.x * 2
        return batch

    data = small_data()
    loader = NeighborLoader(
        data,
        [2],
        batch_size=10,
        transform=double,
        transform_sampler_output=keep_first_edge,
        num_workers=num_workers,
        filter_per_worker=filter_per_worker,
        pin_memory=True,
    )
    for batch in loader:
        assert torch.equal(batch.x, data.x[batch.n_id] * 2)
        assert batch.num_edges == 1
        assert torch.equal(batch.edge_attr, data.edge_attr[batch.e_id])


def test_a_batch_follows_what_scripts_do_to_the_data():
    data = small_data()
    loader = NeighborLoader(data, [2], batch_size=10)
    del loader.data.x
    loader.data.n_id = torch.arange(60) + 100
    loader.data.extra = torch.arange(60).numpy()
    loader.data.table = torch.rand(3, 60)
    batch = next(iter(loader))
    assert "x" not in batch
    assert batch.n_id[:10].tolist() == list(range(100, 110))
    assert batch.extra[:10].tolist() == list(range(10))
    assert batch.table.shape == (3, 60)


def test_learned_features_get_gradients():
    data = small_data()
    data.x = torch.nn.Parameter(torch.rand(60, 4))
    batch = next(iter(NeighborLoader(data, [2], batch_size=10)))
    batch.x.sum().backward()
    assert torch.equal(data.x.grad[:, 0].nonzero().view(-1), batch.n_id.sort().values)


def test_weights_draw_heavy_edges():
    data = small_data()
    data.edge_weight = (torch.arange(data.num_edges) % 2).float()
    seen = torch.zeros(data.num_edges)
    loader = NeighborLoader(data, [2, 2], weight_attr="edge_weight", batch_size=60)
    for _ in range(20):
        batch = next(iter(loader))
        assert_cut_from(batch, data)
        assert int(torch.bincount(batch.edge_index[1]).max()) <= 2
        seen[batch.e_id] += 1
    assert seen[0::2].sum() == 0
    assert (seen[1::2] > 0).all()


def test_a_sampler_of_either_side_can_be_passed():
    data = small_data()
    graph = CSCGraph.from_pyg(data, keep_edge_ids=True)
    for sampler in (
        NeighborSampler(graph, [3, 2], edge_ids=True),
        NeighborSampler(graph, [3, 2], expand="once", edge_ids=True),
        ShadowSampler(graph, edge_ids=True),
        pygs(data, [3, 2]).node_sampler,
    ):
        for batch in NeighborLoader(data, None, batch_size=8, neighbor_sampler=sampler):
            assert_cut_from(batch, data)
            assert batch.n_id[: batch.batch_size].tolist() == batch.input_id.tolist()


def test_what_cannot_be_done_says_what_can():
    data = small_data()
    data.time = torch.arange(60)
    with pytest.raises(NotImplementedError, match=r"torch_geometric\.loader\.NeighborLoader"):
        NeighborLoader(data, [2], time_attr="time")
    with pytest.raises(NotImplementedError, match="ShaDowKHopSampler"):
        NeighborLoader(data, [2], disjoint=True)
    with pytest.raises(ValueError, match="subgraph_type"):
        NeighborLoader(data, [2], subgraph_type="other")
    for num_neighbors in ([-2], [1.5], [], [True], 3, {("a", "to", "b"): [2]}):
        with pytest.raises(ValueError, match="num_neighbors"):
            NeighborLoader(data, num_neighbors)
    with pytest.raises(ValueError, match="neither edge_index nor adj_t"):
        NeighborLoader(Data(x=data.x), [2])
    hetero = HeteroData()
    hetero["paper"].x = data.x
    hetero["paper", "cites", "paper"].edge_index = data.edge_index
    with pytest.raises(TypeError, match="to_homogeneous"):
        NeighborLoader(hetero, [2], input_nodes=("paper", None))
    assert next(iter(NeighborLoader(hetero.to_homogeneous(), [2], batch_size=4))).batch_size == 4
    with pytest.warns(UserWarning, match="worker_init_fn"):
        NeighborLoader(data, [2], worker_init_fn=print)
    with pytest.raises(ValueError, match="node 99") as raised:
        next(iter(NeighborLoader(data, [2], input_nodes=[5, 99], batch_size=2)))
    assert "positions 0, 1" in raised.value.__notes__[0]


def learn(loader: Any, data: Data, trim: bool) -> tuple[float, float]:
    """Mean losses of the two epochs of an ordinary PyG script."""
    torch.manual_seed(0)
    model = GraphSAGE(data.num_features, 32, num_layers=2, out_channels=int(data.y.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        total = examples = 0
        for batch in loader:
            optimizer.zero_grad()
            counts = {}
            if trim:
                counts["num_sampled_nodes_per_hop"] = batch.num_sampled_nodes
                counts["num_sampled_edges_per_hop"] = batch.num_sampled_edges
            out = model(batch.x, batch.edge_index, **counts)[: batch.batch_size]
            loss = torch.nn.functional.cross_entropy(out, batch.y[: batch.batch_size])
            loss.backward()
            optimizer.step()
            total += loss.item() * batch.batch_size
            examples += batch.batch_size
        losses.append(total / examples)
    return losses[0], losses[1]


@needs_data
def test_a_pyg_script_learns_what_it_learns_with_pygs_loader():
    data = pubmed()
    kwargs = {"input_nodes": torch.arange(4000), "batch_size": 256, "shuffle": True}
    losses = []
    for make, trim in ((pygs, False), (NeighborLoader, False), (NeighborLoader, True)):
        torch.manual_seed(0)
        losses.append(learn(make(data, [10, 5], **kwargs), data, trim))
    for first, last in losses:
        assert last < 0.7 * first
        assert last == pytest.approx(losses[0][1], rel=0.03)


def test_trimmed_layers_compute_the_same():
    data = small_data()
    batch = next(iter(NeighborLoader(data, [3, 2], batch_size=16)))
    model = GraphSAGE(7, 8, num_layers=2, out_channels=3)
    whole = model(batch.x, batch.edge_index)[:16]
    trimmed = model(
        batch.x,
        batch.edge_index,
        num_sampled_nodes_per_hop=batch.num_sampled_nodes,
        num_sampled_edges_per_hop=batch.num_sampled_edges,
    )
    assert torch.allclose(trimmed[:16], whole, atol=1e-6)


def larger_graph(num_nodes: int) -> CSCGraph:
    """Every node draws the last."""
    return CSCGraph(torch.arange(num_nodes + 1), torch.full((num_nodes,), num_nodes - 1).int())


def test_a_sampler_of_another_graph_is_refused():
    data = small_data()
    sampler = NeighborSampler(larger_graph(data.num_nodes + 1000), [3])
    with pytest.raises(ValueError, match=f"{data.num_nodes + 1000} nodes, but the data has {data.num_nodes}"):
        NeighborLoader(data, [3], neighbor_sampler=sampler)


def test_drawn_nodes_and_edges_that_the_data_does_not_have_are_refused():
    data = small_data()

    class Hidden:
        """Does not say which graph it draws from."""

        def __init__(self, sampler: NeighborSampler):
            self.sample = sampler.sample

    sampler = NeighborSampler(larger_graph(data.num_nodes + 1000), [3])
    with pytest.raises(ValueError, match=f"node {data.num_nodes + 999} was drawn"):
        next(iter(NeighborLoader(data, [3], neighbor_sampler=Hidden(sampler))))

    def move(field: str, by: int) -> Any:
        def change(output: Any) -> Any:
            setattr(output, field, getattr(output, field) + by)
            return output

        return change

    for field, by, message in (("node", 1000, "node"), ("node", -1000, "node -"), ("edge", 10**6, "edge")):
        loader = NeighborLoader(data, [3], transform_sampler_output=move(field, by))
        with pytest.raises(ValueError, match=f"{message}.* was drawn"):
            next(iter(loader))


@pytest.mark.parametrize("kind", [torch.tensor, list, np.array])
def test_seeds_are_whole_numbers(kind: Any):
    data = small_data()
    with pytest.raises(ValueError, match="input_nodes must hold whole numbers"):
        NeighborLoader(data, [3], input_nodes=kind([1.5, 2]))
    batch = next(iter(NeighborLoader(data, [3], input_nodes=kind([4, 2]), batch_size=2)))
    assert batch.n_id[:2].tolist() == [4, 2]
    assert len(NeighborLoader(data, [3], input_nodes=[])) == 0


@pytest.mark.parametrize("shape", [(59,), (61,), (60, 1)])
def test_a_mask_has_one_entry_per_node(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="one entry per node, 60"):
        NeighborLoader(small_data(), [3], input_nodes=torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("num_neighbors", [np.array([3, 2]), list(np.array([3, 2])), torch.tensor([3, 2]), (3, 2)])
def test_num_neighbors_are_whole_numbers_of_any_kind(num_neighbors: Any):
    data = small_data()
    torch.manual_seed(0)
    expected = next(iter(NeighborLoader(data, [3, 2], batch_size=20)))
    torch.manual_seed(0)
    assert torch.equal(next(iter(NeighborLoader(data, num_neighbors, batch_size=20))).e_id, expected.e_id)


@pytest.mark.parametrize("weight_attr", [None, "edge_weight"])
@pytest.mark.parametrize("num_neighbors", [[0, 0], [2, 0], [0, 2]])
def test_no_neighbors_are_drawn_where_none_are_asked_for(num_neighbors: list[int], weight_attr: str | None):
    data = small_data()
    nodes = torch.tensor([4, 4, 9, 30])
    (batch,) = NeighborLoader(data, num_neighbors, nodes, weight_attr=weight_attr, batch_size=4)
    assert torch.equal(batch.n_id[:4], nodes)
    assert_cut_from(batch, data)
    assert len(batch.num_sampled_edges) == 2
    assert batch.num_sampled_edges[num_neighbors.index(0)] == 0
    assert (batch.num_edges > 0) == (num_neighbors == [2, 0])
