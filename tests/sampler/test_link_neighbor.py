from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.sampler import (
    LinkNeighborSampler,
    LinkSampler,
    NegativeSampler,
    NeighborSampler,
    RandomWalkSampler,
    Sampler,
)
from tests.chi_square import equal_cells_p_value
from tests.minibatches import digest, tree
from tests.strategies import csc_graphs, edge_lists

seeds = st.integers(0, 2**64 - 1)
kinds = st.sampled_from(["uniform", "degree", "per_source"])


def some_edges(data: st.DataObject, graph: CSCGraph) -> Tensor:
    """Edges of the graph and other pairs."""
    others = torch.tensor(data.draw(edge_lists(graph.num_nodes, 4)), dtype=torch.int64).view(-1, 2).T
    return torch.cat([graph.to_edge_index()[:, ::3], others], dim=1)


def random_graph(num_nodes: int, num_edges: int) -> CSCGraph:
    generator = torch.Generator().manual_seed(1)
    return CSCGraph.from_edge_index(torch.randint(num_nodes, (2, num_edges), generator=generator), num_nodes)


def pairs_of(edges: Tensor) -> list[tuple[int, int]]:
    return list(zip(*edges.tolist(), strict=True))


def message_edges(batch: MiniBatch) -> set[tuple[int, int]]:
    """Global (source, destination) of all edges of all blocks."""
    return {
        pair
        for block in batch.blocks
        for pair in pairs_of(torch.stack([block.src_nodes[block.indices.long()], block.dst_nodes[block.dst_index]]))
    }


@given(
    graph=csc_graphs(min_nodes=2),
    num_negatives=st.integers(0, 3),
    negatives=kinds,
    exclude=st.booleans(),
    seed=seeds,
    data=st.data(),
)
def test_pairs_rows_and_labels_fit_together(
    graph: CSCGraph, num_negatives: int, negatives: str, exclude: bool, seed: int, data: st.DataObject
):
    if negatives == "degree" and graph.num_edges == 0:
        return
    edges = some_edges(data, graph)
    sampler = LinkNeighborSampler(graph, [2, 2], num_negatives, negatives, exclude_seed_edges=exclude)
    batch = sampler.sample_edges(edges, seed)
    num_edges = edges.shape[1]
    assert torch.equal(batch.seed_edges[:, :num_edges], edges)
    assert batch.seed_edges.shape == (2, num_edges * (1 + num_negatives))
    assert batch.edge_labels.tolist() == [1.0] * num_edges + [0.0] * (num_edges * num_negatives)
    assert torch.equal(batch.node_ids[: batch.num_outputs][batch.edge_rows], batch.seed_edges)
    assert batch.seed_nodes.tolist() == list(dict.fromkeys(batch.seed_edges.view(-1).tolist()))
    assert torch.equal(batch.at_seeds(batch.node_ids[: batch.num_outputs]), batch.seed_nodes)
    assert torch.equal(batch.seed_edges[:, num_edges:], sampler.negative_sampler.draw(edges, num_negatives, seed))
    if negatives != "uniform":
        assert torch.equal(batch.seed_edges[0, num_edges:], edges[0].repeat_interleave(num_negatives))


@given(graph=csc_graphs(min_nodes=2), negatives=kinds, seed=seeds, data=st.data())
def test_an_edge_has_the_same_negatives_and_trees_in_any_batch(
    graph: CSCGraph, negatives: str, seed: int, data: st.DataObject
):
    if negatives == "degree" and graph.num_edges == 0:
        return
    edges = some_edges(data, graph)
    sampler = LinkNeighborSampler(graph, [2, 2], 2, negatives)
    batch = sampler.sample_edges(edges, seed)
    for e in range(edges.shape[1]):
        alone = sampler.sample_edges(edges[:, e : e + 1], seed)
        first = edges.shape[1] + 2 * e
        columns = [e, first, first + 1]
        assert torch.equal(batch.seed_edges[:, columns], alone.seed_edges)
        rows, rows_alone = batch.edge_rows[:, columns].view(-1).tolist(), alone.edge_rows.view(-1).tolist()
        for row, row_alone in zip(rows, rows_alone, strict=True):
            assert tree(batch, row) == tree(alone, row_alone)


@given(graph=csc_graphs(min_nodes=2), seed=seeds, data=st.data())
def test_no_message_flows_along_excluded_edges_and_all_others_stay(graph: CSCGraph, seed: int, data: st.DataObject):
    edges = some_edges(data, graph)
    batches = [
        LinkNeighborSampler(graph, [2, -1], exclude_seed_edges=exclude, edge_ids=True).sample_edges(edges, seed)
        for exclude in (False, True)
    ]
    taken = {*pairs_of(edges), *pairs_of(edges.flip(0))}
    assert torch.equal(batches[0].node_ids, batches[1].node_ids)
    for block, without in zip(batches[0].blocks, batches[1].blocks, strict=True):
        ends = pairs_of(torch.stack([block.src_nodes[block.indices.long()], block.dst_nodes[block.dst_index]]))
        kept = [e for e, pair in enumerate(ends) if pair not in taken]
        assert torch.equal(without.indices, block.indices[kept])
        assert torch.equal(without.dst_index, block.dst_index[kept])
        assert (without.num_src, without.num_dst) == (block.num_src, block.num_dst)
        for name in ("edge_ids", "edge_weight", "inclusion_weight"):
            values, expected = getattr(without, name), getattr(block, name)
            assert (values is None) == (expected is None)
            assert values is None or torch.equal(values, expected[kept])
        assert torch.equal(without.src_degree, block.src_degree)
    assert not message_edges(batches[1]) & taken


@given(graph=csc_graphs(min_nodes=2), negatives=kinds, seed=seeds, data=st.data())
def test_negatives_avoid_edges_where_the_source_has_a_stranger(
    graph: CSCGraph, negatives: str, seed: int, data: st.DataObject
):
    if negatives == "degree" and graph.num_edges == 0:
        return
    edges = some_edges(data, graph)
    drawn = NegativeSampler(graph, negatives, avoid_edges=True).draw(edges, 3, seed)
    taken = set(pairs_of(graph.to_edge_index())) | set(pairs_of(graph.to_edge_index().flip(0)))
    for position, (u, w) in enumerate(pairs_of(drawn)):
        edge = pairs_of(edges)[position // 3]
        forbidden = taken | {edge, edge[::-1]}
        has_stranger = any(u != other and (u, other) not in forbidden for other in range(graph.num_nodes))
        assert not has_stranger or (u != w and (u, w) not in forbidden)


def test_negatives_follow_their_law():
    # Node v hears v others: in-degree v.
    graph = CSCGraph.from_edge_index(torch.tensor([(u, v) for v in range(8) for u in range(v)]).T, 8)
    edges = torch.stack([torch.arange(4000) % 8, torch.arange(4000) // 8 % 8])
    edges = edges.unique(dim=1)
    drawn = {
        kind: torch.cat([NegativeSampler(graph, kind).draw(edges, 5, seed) for seed in range(100)], dim=1)
        for kind in ("uniform", "degree")
    }
    pairs = np.bincount((8 * drawn["uniform"][0] + drawn["uniform"][1]).numpy(), minlength=64)
    assert equal_cells_p_value(pairs) > 1e-4
    counts = np.bincount(drawn["degree"][1].numpy(), minlength=8)
    expected = np.arange(8) ** 0.75
    expected *= counts.sum() / expected.sum()
    assert counts[0] == 0
    assert chi2.sf(((counts - expected)[1:] ** 2 / expected[1:]).sum(), 6) > 1e-4


def test_strangers_are_drawn_uniformly_per_source():
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 0, 3], [1, 2, 0]]), 10)
    sampler = NegativeSampler(graph, "per_source")
    drawn = torch.cat([sampler.draw(torch.tensor([[0], [1]]), 50, seed) for seed in range(400)], dim=1)
    counts = np.bincount(drawn[1].numpy(), minlength=10)
    assert counts[:4].tolist() == [0, 0, 0, 0]
    assert equal_cells_p_value(counts[4:]) > 1e-4


def test_ranges_bound_the_ends_of_negatives():
    graph = random_graph(50, 400)
    edges = graph.to_edge_index()
    for kind in ("uniform", "degree", "per_source"):
        destinations = NegativeSampler(graph, kind, dst_range=(20, 29)).draw(edges, 4, 0)[1].unique()
        assert destinations.tolist() == list(range(20, 30))
    sources = NegativeSampler(graph, src_range=[40, 49]).draw(edges, 4, 0)[0].unique()
    assert sources.tolist() == list(range(40, 50))


def test_negatives_differ_from_seed_to_seed():
    graph = random_graph(1000, 5000)
    edges = graph.to_edge_index()[:, :200]
    sampler = NegativeSampler(graph)
    first, second = sampler.draw(edges, 1, 0), sampler.draw(edges, 1, 1)
    assert int((first == second).sum()) < 10


def test_threads_sampling_at_once_give_the_mini_batches_of_one():
    graph = random_graph(2000, 40_000)
    sampler = LinkNeighborSampler(graph, [5, 5], 2, "per_source", exclude_seed_edges=True)
    edges = graph.to_edge_index()

    def sample(seed: int) -> str:
        return digest([sampler.sample_edges(edges[:, 100 * seed : 100 * seed + 100], seed)])

    alone = [sample(seed) for seed in range(30)]
    assert len(set(alone)) == 30
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(sample, range(30))) == alone


def test_no_edges_give_an_empty_mini_batch():
    sampler = LinkNeighborSampler(random_graph(10, 20), [2, 2], exclude_seed_edges=True)
    batch = sampler.sample_edges(torch.empty(2, 0, dtype=torch.int64), 0)
    assert batch.num_nodes == batch.num_edges == batch.edge_labels.numel() == 0
    assert batch.seed_edges.shape == batch.edge_rows.shape == (2, 0)


def test_another_sampler_of_neighborhoods_may_stand_in():
    graph = random_graph(100, 800)
    walks = RandomWalkSampler(graph, [3])
    sampler = LinkNeighborSampler(graph, sampler=walks)
    assert isinstance(sampler, Sampler)
    assert isinstance(sampler, LinkSampler)
    assert sampler.num_layers == 1
    assert sampler.law is walks.law
    batch = sampler.sample_edges(graph.to_edge_index()[:, :10], 4)
    assert digest([walks.sample(batch.seed_nodes, 4)]) == digest(
        [MiniBatch(batch.seed_nodes, batch.node_ids, batch.blocks, batch.seed_rows)]
    )
    nodes = torch.tensor([5, 5, 2])
    assert digest([sampler.sample(nodes, 1)]) == digest([walks.sample(nodes, 1)])


def test_excluding_edges_takes_promises_back():
    graph = random_graph(10, 20)
    whole, without = (LinkNeighborSampler(graph, [2], exclude_seed_edges=exclude).law for exclude in (False, True))
    assert whole.unbiased == NeighborSampler(graph, [2]).law.unbiased
    assert whole.rank_invariant
    assert without.unbiased == ()
    assert "seed edges of a batch" in without.bias
    assert not without.rank_invariant


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_negatives": -1}, "num_negatives must be at least 0"),
        ({"negatives": "hard"}, "negatives must be 'uniform', 'degree' or 'per_source', got 'hard'"),
        ({"dst_range": (3, 12)}, "dst_range must be"),
        ({"dst_range": (5, 4)}, "dst_range must be"),
        ({"src_range": (0, 3), "negatives": "degree"}, "src_range is for negatives='uniform'"),
        ({"fanouts": [0]}, "fanouts must be"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        LinkNeighborSampler(random_graph(10, 20), **arguments)


def test_a_range_without_in_edges_has_nothing_to_draw_by_degree():
    graph = CSCGraph.from_edge_index(torch.tensor([[0], [1]]), 4)
    with pytest.raises(ValueError, match="no node from 2 to 3 has an in-edge"):
        NegativeSampler(graph, "degree", dst_range=(2, 3))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.tensor([[0], [10]]), "holds node 10, but the graph numbers nodes 0 to 9"),
        (torch.tensor([[0], [1]], dtype=torch.int32), "must be int64"),
        (torch.tensor([[0, 1, 2]]), "shape"),
    ],
)
def test_edges_that_are_none_are_refused(edges: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        LinkNeighborSampler(random_graph(10, 20)).sample_edges(edges, 0)
