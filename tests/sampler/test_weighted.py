from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gnnfast.graph import Block, CSCGraph
from gnnfast.nn import GCNConv
from gnnfast.sampler import NeighborSampler, WeightedNeighborSampler
from tests.minibatches import digest, tree
from tests.strategies import csc_graphs

all_fanouts = st.lists(st.sampled_from([-1, 1, 2, 3, 5]), min_size=1, max_size=3)
seeds = st.integers(0, 2**64 - 1)


def some_seeds(data: st.DataObject, graph: CSCGraph, unique: bool = False) -> Tensor:
    nodes = st.lists(st.integers(0, graph.num_nodes - 1), max_size=8, unique=unique)
    return torch.tensor(data.draw(nodes), dtype=torch.int64)


def random_graph(num_nodes: int = 60, num_edges: int = 900, weighted: bool = True) -> CSCGraph:
    """With hubs, self-loops, parallel edges, an isolated node and weights over four decades, some of them 0."""
    generator = torch.Generator().manual_seed(1)
    ends = (num_nodes * torch.rand(2, num_edges, generator=generator) ** 2).long()
    ends[1][ends[1] == 7] = 8
    weight = 10 ** (4 * torch.rand(num_edges, generator=generator) - 2)
    weight[torch.rand(num_edges, generator=generator) < 0.1] = 0
    return CSCGraph.from_edge_index(ends, num_nodes, weight if weighted else None)


def weighted_sums(block: Block, x: Tensor) -> Tensor:
    """The sum of edge weight x inclusion weight x source row at each destination."""
    weight = torch.ones(block.num_edges) if block.inclusion_weight is None else block.inclusion_weight
    if block.edge_weight is not None:
        weight = weight * block.edge_weight
    return torch.zeros(block.num_dst).index_add(0, block.dst_index, weight * x[block.src_nodes[block.indices]])


@given(graph=csc_graphs(), fanouts=all_fanouts, replace=st.booleans(), data=st.data())
def test_drawn_edges_exist_as_often_as_the_fanout_says(
    graph: CSCGraph, fanouts: list[int], replace: bool, data: st.DataObject
):
    edge_weight = torch.tensor(data.draw(st.lists(st.floats(0, 8, width=32), min_size=graph.num_edges)))
    edge_weight = edge_weight[: graph.num_edges].float()
    seed_nodes = some_seeds(data, graph)
    batch = WeightedNeighborSampler(graph, fanouts, replace, edge_weight, edge_ids=True).sample(seed_nodes, 5)
    src, dst = graph.to_edge_index()
    position_of = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids.argsort()
    assert batch.blocks[-1].dst_nodes.tolist() == list(dict.fromkeys(seed_nodes.tolist()))
    for block, fanout in zip(batch.blocks, reversed(fanouts), strict=True):
        positions = position_of[block.edge_ids]
        local_src, local_dst = block.edge_index
        assert torch.equal(src[positions], block.src_nodes[local_src])
        assert torch.equal(dst[positions], block.dst_nodes[local_dst])
        assert graph.edge_weight is None or torch.equal(block.edge_weight, graph.edge_weight[positions])
        num_positive = torch.zeros(graph.num_nodes, dtype=torch.int64).index_add(0, dst, (edge_weight > 0).long())
        num_positive = num_positive[block.dst_nodes]
        count = block.indptr[1:] - block.indptr[:-1]
        if fanout == -1:
            assert torch.equal(count, graph.in_degree[block.dst_nodes])
            assert block.inclusion_weight is None
        else:
            assert bool((edge_weight[positions] > 0).all())
            expected = torch.where(num_positive > 0, fanout, 0) if replace else num_positive.clamp(max=fanout)
            assert torch.equal(count, expected)
        assert replace or positions.unique().numel() == positions.numel()


@given(graph=csc_graphs(weighted=True), fanouts=all_fanouts, replace=st.booleans(), seed=seeds, data=st.data())
def test_a_seeds_tree_is_the_same_alone_and_in_any_batch(
    graph: CSCGraph, fanouts: list[int], replace: bool, seed: int, data: st.DataObject
):
    sampler = WeightedNeighborSampler(graph, fanouts, replace)
    batch = sampler.sample(some_seeds(data, graph, unique=True), seed)
    for row, seed_node in enumerate(batch.seed_nodes):
        assert tree(batch, row) == tree(sampler.sample(seed_node[None], seed), 0)


@given(graph=csc_graphs(), num_layers=st.integers(1, 3), data=st.data())
def test_all_neighbors_are_those_of_the_uniform_sampler(graph: CSCGraph, num_layers: int, data: st.DataObject):
    seed_nodes = some_seeds(data, graph)
    samplers = (WeightedNeighborSampler, NeighborSampler)
    weighted, uniform = (sampler(graph, [-1] * num_layers).sample(seed_nodes, 3) for sampler in samplers)
    assert digest([weighted]) == digest([uniform])


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("edge_weight", [None, "gcn"])
def test_weighted_sums_are_unbiased_and_inclusion_is_as_declared(replace: bool, edge_weight: str | None):
    graph = random_graph()
    sampler = WeightedNeighborSampler(graph, [4], replace, edge_weight, edge_ids=True)
    assert sampler.law.unbiased == ("sum",)
    num_draws = 4000
    x = torch.randn(graph.num_nodes, generator=torch.Generator().manual_seed(0))
    nodes = torch.arange(graph.num_nodes)
    full = weighted_sums(NeighborSampler(graph, [-1]).sample(nodes, 0).blocks[0], x)
    sums, count = [], torch.zeros(graph.num_edges)
    for seed in range(num_draws):
        block = sampler.sample(nodes, seed).blocks[0]
        sums.append(weighted_sums(block, x))
        count[block.edge_ids.unique()] += 1
    drawn = torch.stack(sums).double()
    standard_error = drawn.std(0) / num_draws**0.5
    assert bool(((drawn.mean(0) - full).abs() <= 5 * standard_error + 1e-4).all())
    probability = sampler.law.edge_inclusion(nodes)
    variance = num_draws * probability * (1 - probability)
    often = variance > 10
    assert int(often.sum()) > 50
    assert bool(((count - num_draws * probability).abs() < 5 * variance.sqrt())[often].all())
    assert bool((count[probability == 0] == 0).all() and (count[probability == 1] == num_draws).all())


def test_inclusion_probabilities_come_in_the_order_of_the_distinct_seeds():
    graph = random_graph()
    law = WeightedNeighborSampler(graph, [3]).law
    alone = [law.edge_inclusion(torch.tensor([node])) for node in (5, 0)]
    assert torch.equal(law.edge_inclusion(torch.tensor([5, 0, 5])), torch.cat(alone))
    assert [part.numel() for part in alone] == graph.in_degree[[5, 0]].tolist()
    assert alone[1].sum() == pytest.approx(3, abs=1e-12)


def test_a_sampled_gcn_layer_is_unbiased_and_varies_less_than_with_uniform_neighbors():
    # A hub hears nodes of very different degree: GCN multiplies them very differently.
    graph = random_graph(200, 6000, weighted=False).merge_parallel_edges()
    conv = GCNConv(8, 4)
    x = torch.randn(graph.num_nodes, 8, generator=torch.Generator().manual_seed(0))
    nodes = torch.arange(graph.num_nodes)

    def layer(sampler: NeighborSampler | WeightedNeighborSampler, seed: int) -> Tensor:
        batch = sampler.sample(nodes, seed)
        return conv(x[batch.node_ids], batch.blocks[0])

    errors = []
    with torch.no_grad():
        full = conv(x, graph.to_block())
        for sampler in (WeightedNeighborSampler(graph, [5], edge_weight="gcn"), NeighborSampler(graph, [5])):
            drawn = torch.stack([layer(sampler, seed) for seed in range(1000)]).double()
            assert bool(((drawn.mean(0) - full).abs() < 5 * drawn.std(0) / 1000**0.5 + 1e-4).all())
            errors.append((drawn - full).square().mean())
    assert errors[0] < 0.8 * errors[1]


def test_the_law_says_what_weights_leave_out():
    ring = torch.tensor([[0, 1, 2, 0], [1, 2, 0, 2]])
    even = WeightedNeighborSampler(CSCGraph.from_edge_index(ring), [1]).law
    assert even.unbiased == ("sum", "mean")
    assert even.distinct
    by_weight = WeightedNeighborSampler(CSCGraph.from_edge_index(ring), [1], True, torch.tensor([1.0, 1, 2, 3])).law
    assert by_weight.unbiased == ("sum",)
    assert "a mean divides" in by_weight.bias
    assert not by_weight.distinct
    missing = WeightedNeighborSampler(CSCGraph.from_edge_index(ring), [1], False, torch.tensor([1.0, 1, 0, 1])).law
    assert missing.unbiased == ()
    assert "weight 0 are never drawn" in missing.bias
    assert WeightedNeighborSampler(CSCGraph.from_edge_index(ring), [-1]).law.exact


def test_threads_sampling_at_once_give_the_mini_batches_of_one():
    graph = random_graph(2000, 40_000)
    sampler = WeightedNeighborSampler(graph, [5, 10], edge_ids=True)

    def sample(seed: int) -> str:
        return digest([sampler.sample(torch.arange(seed, seed + 200), seed)])

    alone = [sample(seed) for seed in range(30)]
    assert len(set(alone)) == 30
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(sample, range(30))) == alone


@pytest.mark.parametrize("replace", [False, True])
def test_no_seeds_isolated_seeds_and_weightless_columns_give_no_edges(replace: bool):
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1, 1], [1, 2, 1]]), 4, torch.tensor([0.0, 2.0, 0.0]))
    sampler = WeightedNeighborSampler(graph, [2, 2], replace)
    assert sampler.sample(torch.empty(0, dtype=torch.int64), 0).num_nodes == 0
    batch = sampler.sample(torch.tensor([3, 1, 0, 3]), 0)
    assert batch.node_ids.tolist() == [3, 1, 0]
    assert batch.num_edges == 0
    assert batch.seed_rows.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("edge_weight", "message"),
    [
        (torch.tensor([1.0, -1.0]), "at least 0"),
        (torch.tensor([1.0, torch.nan]), "finite"),
        (torch.tensor([1.0]), "of shape"),
        (torch.tensor([1, 1]), "floating"),
        ("degree", "'gcn' or one number per edge, got 'degree'"),
    ],
)
def test_weights_that_are_none_are_refused(edge_weight: Tensor | str, message: str):
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(ValueError, match=message):
        WeightedNeighborSampler(graph, [1], edge_weight=edge_weight)


@pytest.mark.parametrize("fanouts", [[], [0], [2**18 + 1]])
def test_fanouts_out_of_range_are_refused(fanouts: list[int]):
    with pytest.raises(ValueError, match="fanouts must be"):
        WeightedNeighborSampler(random_graph(), fanouts)
