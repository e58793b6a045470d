from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.kernels.reference.ppr import keep_largest, push_ppr
from gnnfast.nn import GNN
from gnnfast.sampler import NeighborSampler, Sampler, ShadowSampler
from tests.minibatches import digest
from tests.strategies import csc_graphs

CONVS = ("gcn", "gat", "gatv2", "gin", "sage")
options = st.fixed_dictionaries(
    {
        "depth": st.integers(1, 3),
        "budget": st.sampled_from([-1, 1, 2, 3]),
        "replace": st.booleans(),
        "selection": st.sampled_from(["hops", "ppr"]),
        "top_k": st.just(12),  # all that is found: with fewer, who passes a walk on may be left out
        "eps": st.sampled_from([1e-1, 1e-3]),
    }
)


def some_seeds(data: st.DataObject, graph: CSCGraph) -> Tensor:
    nodes = st.lists(st.integers(0, graph.num_nodes - 1), max_size=6)
    return torch.tensor(data.draw(nodes), dtype=torch.int64)


def random_graph(num_nodes: int = 300, num_edges: int = 3000) -> CSCGraph:
    generator = torch.Generator().manual_seed(1)
    return CSCGraph.from_edge_index(torch.randint(num_nodes, (2, num_edges), generator=generator), num_nodes)


def ego_of_row(batch: MiniBatch) -> list[int]:
    """The number of each row's ego: rows of one ego come together after the seeds, and a seed reaches all of its own.

    Found by walking over edges from the seeds, so that it does not trust the order of rows.
    """
    sources, destinations = batch.blocks[0].edge_index.tolist()
    ego = [*range(batch.num_seeds), *[-1] * (batch.num_nodes - batch.num_seeds)]
    for _ in range(batch.num_nodes):
        before = list(ego)
        for u, v in zip(sources, destinations, strict=True):
            if ego[v] >= 0:
                assert ego[u] in (-1, ego[v]), "an edge between two egos"
                ego[u] = ego[v]
        if ego == before:
            break
    assert -1 not in ego, "a row that its seed cannot hear"
    return ego


def ego_graph(batch: MiniBatch, row: int) -> tuple[list[int], list[tuple[int, list[tuple[int, int]]]]]:
    """The nodes of a seed's ego by row, and its columns as (node, [(source, edge id)])."""
    block, ego = batch.blocks[0], ego_of_row(batch)
    rows = [r for r in range(batch.num_nodes) if ego[r] == row]
    columns = []
    for r in rows:
        first, last = block.indptr[r : r + 2].tolist()
        sources = batch.node_ids[block.indices[first:last].long()].tolist()
        columns.append((int(batch.node_ids[r]), list(zip(sources, block.edge_ids[first:last].tolist(), strict=True))))
    return batch.node_ids[rows].tolist(), columns


@given(graph=csc_graphs(max_edges=60), kwargs=options, data=st.data())
def test_an_ego_holds_all_edges_among_its_nodes_and_no_other(graph: CSCGraph, kwargs: dict, data: st.DataObject):
    seed_nodes = some_seeds(data, graph)
    batch = ShadowSampler(graph, **kwargs, edge_ids=True).sample(seed_nodes, 3)
    ids = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids
    for row in range(batch.num_seeds):
        nodes, columns = ego_graph(batch, row)
        assert len(set(nodes)) == len(nodes)
        assert nodes[0] == int(seed_nodes[row])
        for node, column in columns:
            positions = range(*graph.indptr[node : node + 2].tolist())
            in_edges = [(int(graph.indices[e]), int(ids[e])) for e in positions]
            assert column == [(source, edge) for source, edge in in_edges if source in nodes]


@given(graph=csc_graphs(max_edges=60), kwargs=options, data=st.data())
def test_blocks_carry_what_the_full_graph_says_of_their_rows(graph: CSCGraph, kwargs: dict, data: st.DataObject):
    seed_nodes = some_seeds(data, graph)
    batch = ShadowSampler(graph, **kwargs, edge_ids=True).sample(seed_nodes, 3)
    (block,) = batch.blocks
    assert block.num_src == block.num_dst == batch.num_nodes
    assert torch.equal(batch.seed_nodes, seed_nodes)
    assert torch.equal(batch.node_ids[: batch.num_seeds], seed_nodes)
    assert batch.seed_rows is None
    assert torch.equal(block.src_nodes, batch.node_ids)
    assert torch.equal(block.src_degree, graph.degree[batch.node_ids])
    if graph.self_loop_weight is None:
        assert block.self_loop_weight is None
    else:
        assert torch.equal(block.self_loop_weight, graph.self_loop_weight[batch.node_ids])
    if graph.edge_weight is None:
        assert block.edge_weight is None
    else:
        position_of = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids.argsort()
        assert torch.equal(block.edge_weight, graph.edge_weight[position_of[block.edge_ids]])


@given(graph=csc_graphs(max_edges=60), kwargs=options, seed=st.integers(0, 2**64 - 1), data=st.data())
def test_an_ego_is_the_same_alone_and_in_any_batch(graph: CSCGraph, kwargs: dict, seed: int, data: st.DataObject):
    sampler = ShadowSampler(graph, **kwargs, edge_ids=True)
    batch = sampler.sample(some_seeds(data, graph), seed)
    for row, seed_node in enumerate(batch.seed_nodes):
        assert ego_graph(batch, row) == ego_graph(sampler.sample(seed_node[None], seed), 0)


@pytest.mark.parametrize("selection", ["hops", "ppr"])
@pytest.mark.parametrize("conv", CONVS)
def test_outputs_at_a_seed_do_not_change_with_the_other_seeds(conv: str, selection: str):
    graph = random_graph()
    torch.manual_seed(0)
    x, model = torch.randn(graph.num_nodes, 8), GNN(8, 8, 3, 4, conv=conv).eval()
    sampler = ShadowSampler(graph, selection=selection, budget=4)
    outputs = []
    for others in ([], [8, 9, 7, 7], [250, 8]):
        batch = sampler.sample(torch.tensor([7, 100, *others]), 5)
        # Row by row: matrix products may round differently by the number of rows.
        rows = ego_of_row(batch)
        for row in (0, 1):
            kept = torch.tensor([r for r, ego in enumerate(rows) if ego == row])
            local = torch.full((batch.num_nodes,), -1).index_copy(0, kept, torch.arange(kept.numel()))
            src, dst = batch.blocks[0].edge_index
            own = CSCGraph.from_edge_index(torch.stack([local[src], local[dst]])[:, local[dst] >= 0], kept.numel())
            block = own.to_block()
            block.src_degree = batch.blocks[0].src_degree[kept]
            out = model(x[batch.node_ids[kept]], block)[0]
            together = batch.at_seeds(model(x[batch.node_ids], batch.blocks[0]))[row]
            torch.testing.assert_close(together, out, rtol=1e-5, atol=1e-6)
            outputs.append(out)
    for repeated in outputs[2::2]:
        assert torch.equal(repeated, outputs[0])
    for repeated in outputs[3::2]:
        assert torch.equal(repeated, outputs[1])


@given(graph=csc_graphs(max_edges=60), depth=st.integers(1, 3), budget=st.integers(1, 3), data=st.data())
def test_no_hop_draws_more_than_the_budget(graph: CSCGraph, depth: int, budget: int, data: st.DataObject):
    batch = ShadowSampler(graph, depth, budget, edge_ids=True).sample(some_seeds(data, graph), 3)
    most = sum(budget**hop for hop in range(depth + 1))
    for row in range(batch.num_seeds):
        assert len(ego_graph(batch, row)[0]) <= most


@given(graph=csc_graphs(max_edges=60), budget=st.sampled_from([-1, 1, 2]), replace=st.booleans(), data=st.data())
def test_a_hop_draws_what_neighbor_sampling_draws(graph: CSCGraph, budget: int, replace: bool, data: st.DataObject):
    seed_nodes = some_seeds(data, graph)
    batch = ShadowSampler(graph, 1, budget, replace, edge_ids=True).sample(seed_nodes, 11)
    neighbors = NeighborSampler(graph, [budget], replace)
    for row, seed_node in enumerate(seed_nodes):
        assert ego_graph(batch, row)[0] == neighbors.sample(seed_node[None], 11).node_ids.tolist()


@pytest.mark.parametrize("top_k", [1, 3, 20])
def test_an_ego_by_influence_holds_the_nodes_that_its_seed_hears_most(top_k: int):
    graph = random_graph()
    sampler = ShadowSampler(graph, selection="ppr", top_k=top_k)
    for seed_node in (0, 17, 299):
        found, _ = push_ppr(graph.indptr, graph.indices, seed_node, 0.2, 1e-3)
        most = [node for node, _ in keep_largest(found, seed_node, top_k)]
        assert sampler.sample(torch.tensor([seed_node]), 0).node_ids.tolist() == [seed_node, *most]
        assert len(most) == top_k


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("weighted", [False, True])
def test_egos_of_all_neighbors_give_the_outputs_of_the_full_graph(conv: str, weighted: bool):
    graph = random_graph(60, 150)
    if weighted:
        graph = CSCGraph(graph.indptr, graph.indices, edge_weight=torch.rand(graph.num_edges) + 0.5)
    sampler = ShadowSampler(graph, depth=2, budget=-1)
    assert sampler.law.exact
    assert not ShadowSampler(graph, depth=2, budget=-1, normalization="batch").law.exact
    assert not ShadowSampler(graph, depth=2, budget=3).law.exact
    torch.manual_seed(0)
    x, model = torch.randn(60, 6), GNN(6, 8, 2, 3, conv=conv).eval()
    seed_nodes = torch.tensor([3, 59, 3, 0, 17])
    batch = sampler.sample(seed_nodes, 0)
    full = model(x, graph.to_block())[seed_nodes]
    torch.testing.assert_close(batch.at_seeds(model(x[batch.node_ids], batch.blocks[0])), full, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("selection", ["hops", "ppr"])
def test_normalization_in_the_batch_counts_degrees_in_the_ego(selection: str):
    graph = random_graph()
    batch = ShadowSampler(graph, budget=3, selection=selection, normalization="batch").sample(torch.arange(20), 0)
    (block,) = batch.blocks
    is_loop = block.edge_index[0] == block.edge_index[1]
    counted = torch.zeros(batch.num_nodes).index_add(0, block.dst_index, (~is_loop).float())
    assert torch.equal(block.src_degree, counted)
    assert not torch.equal(counted, graph.degree[batch.node_ids])


@pytest.mark.parametrize("selection", ["hops", "ppr"])
def test_bounds_say_where_the_other_nodes_of_an_ego_begin(selection: str):
    sampler = ShadowSampler(random_graph(), selection=selection)
    seeds = torch.tensor([5, 9, 5])
    batch, bounds = sampler.sample_with_bounds(seeds, 4)
    expected = sampler.sample(seeds, 4)
    assert torch.equal(batch.node_ids, expected.node_ids)
    assert int(bounds[0]) == 0
    assert bounds.diff().tolist() == [ego_of_row(batch)[3:].count(ego) for ego in range(3)]


def test_a_mini_batch_is_a_function_of_its_seed():
    graph = random_graph()
    by_hops, by_ppr = (ShadowSampler(graph, budget=3, selection=selection) for selection in ("hops", "ppr"))
    digests = [digest([by_hops.sample(torch.arange(50), seed)]) for seed in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]
    assert digest([by_ppr.sample(torch.arange(50), 1)]) == digest([by_ppr.sample(torch.arange(50), 2)])


@pytest.mark.parametrize("selection", ["hops", "ppr"])
def test_threads_sampling_at_once_give_the_mini_batches_of_one(selection: str):
    sampler = ShadowSampler(random_graph(), budget=3, selection=selection, edge_ids=True)

    def sample(seed: int) -> str:
        return digest([sampler.sample(torch.arange(seed, seed + 60), seed)])

    alone = [sample(seed) for seed in range(20)]
    fresh = ShadowSampler(random_graph(), budget=3, selection=selection, edge_ids=True)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(sample, range(20))) == alone
    assert [digest([fresh.sample(torch.arange(seed, seed + 60), seed)]) for seed in (19, 0)] == [alone[19], alone[0]]


@pytest.mark.parametrize("selection", ["hops", "ppr"])
def test_no_seeds_and_isolated_seeds_give_empty_columns(selection: str):
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1], [1, 1]]), 4)
    sampler = ShadowSampler(graph, selection=selection)
    nothing = sampler.sample(torch.empty(0, dtype=torch.int64), 0)
    assert nothing.num_nodes == nothing.num_edges == nothing.num_seeds == 0
    batch = sampler.sample(torch.tensor([3, 1, 0, 3]), 0)
    assert batch.node_ids.tolist() == [3, 1, 0, 3, 0]
    assert batch.blocks[0].indptr.tolist() == [0, 0, 2, 2, 2, 2]
    assert batch.blocks[0].indices.tolist() == [4, 1]


def test_graphs_of_pyg_have_the_seeds_first():
    batch = ShadowSampler(random_graph(), budget=3).sample(torch.tensor([5, 9, 5]), 0)
    data = batch.to_pyg()
    assert data.batch_size == 3
    assert data.n_id[:3].tolist() == [5, 9, 5]
    assert data.num_edges == batch.num_edges


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth": 0}, "depth must be positive"),
        ({"budget": 0}, "budget positive or -1"),
        ({"selection": "walks"}, "selection must be 'hops' or 'ppr', got 'walks'"),
        ({"normalization": "none"}, "normalization must be 'full' or 'batch', got 'none'"),
        ({"top_k": 0}, "top_k must be positive"),
        ({"alpha": 1.0}, "alpha and eps between 0 and 1"),
        ({"eps": 0.0}, "alpha and eps between 0 and 1"),
    ],
)
def test_arguments_out_of_range_are_refused(kwargs: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ShadowSampler(random_graph(), **kwargs)


def test_seeds_that_are_no_nodes_are_refused():
    sampler = ShadowSampler(random_graph())
    assert isinstance(sampler, Sampler)
    with pytest.raises(ValueError, match="holds node 300"):
        sampler.sample(torch.tensor([300]), 0)
