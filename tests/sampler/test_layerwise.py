from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import Tensor

from gnnfast.graph import Block, CSCGraph
from gnnfast.nn import GCNConv, GINConv
from gnnfast.sampler import FastGCNSampler, LadiesSampler, PLadiesSampler, Sampler
from gnnfast.sampler.node.layerwise import LayerSampler
from tests.minibatches import digest, tree
from tests.strategies import csc_graphs

NUM_DRAWS = 2000
MAKERS: dict[str, Callable[..., LayerSampler]] = {
    "ladies": LadiesSampler,
    "ladies_distinct": lambda *args, **kwargs: LadiesSampler(*args, **kwargs, replace=False),
    "pladies": PLadiesSampler,
    "fastgcn": FastGCNSampler,
}
UNBIASED = ["ladies", "pladies", "fastgcn"]
names = st.sampled_from(list(MAKERS))
all_numbers = st.lists(st.sampled_from([1, 2, 3, 5, 20]), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def graph() -> CSCGraph:
    """200 nodes with 1 to 40 weighted in-edges of very uneven sources, some parallel, some from themselves."""
    generator = torch.Generator().manual_seed(0)
    dst = torch.repeat_interleave(torch.arange(200), 1 + torch.arange(200) % 40)
    src = (200 * torch.rand(dst.numel(), generator=generator) ** 1.5).long()
    src, dst = torch.cat([src, torch.arange(0, 200, 7)]), torch.cat([dst, torch.arange(0, 200, 7)])
    weight = torch.rand(dst.numel(), generator=generator, dtype=torch.float64) + 0.1
    return CSCGraph.from_edge_index(torch.stack([src, dst]), 200, weight)


def squares(graph: CSCGraph, rows: Tensor) -> Tensor:
    """Squared norms of the columns of GCN's operator in some rows, without the rows' own terms; float64."""
    src, dst = graph.to_edge_index()
    is_loop = src == dst
    own = torch.ones(200, dtype=torch.float64)
    own[src[is_loop]] = graph.edge_weight[is_loop]
    degree = torch.zeros(200, dtype=torch.float64).index_add(0, dst[~is_loop], graph.edge_weight[~is_loop]) + own
    value = graph.edge_weight / (degree[src] * degree[dst]).sqrt()
    counts = torch.isin(dst, rows) & ~is_loop
    # Each of parallel edges by itself.
    return torch.zeros(200, dtype=torch.float64).index_add(0, src[counts], value[counts].square())


def make(name: str, graph: CSCGraph, num_nodes: list[int], normalise: str = "hajek", **options: bool) -> LayerSampler:
    return MAKERS[name](graph, num_nodes, normalise=normalise, **options)


def some_seeds(data: st.DataObject, graph: CSCGraph, unique: bool = False) -> Tensor:
    nodes = st.lists(st.integers(0, graph.num_nodes - 1), max_size=8, unique=unique)
    return torch.tensor(data.draw(nodes), dtype=torch.int64)


def weights(block: Block) -> Tensor:
    return torch.ones(block.num_edges) if block.inclusion_weight is None else block.inclusion_weight


def in_edges(graph: CSCGraph, seed_nodes: Tensor) -> Tensor:
    """Positions of all in-edges, seed by seed."""
    parts = [torch.arange(graph.indptr[v], graph.indptr[v + 1]) for v in seed_nodes.tolist()]
    return torch.cat([*parts, torch.empty(0, dtype=torch.int64)])


@given(name=names, graph=csc_graphs(), num_nodes=all_numbers, seed=st.integers(0, 2**64 - 1), data=st.data())
def test_every_in_edge_from_a_drawn_source_is_kept_once(
    name: str, graph: CSCGraph, num_nodes: list[int], seed: int, data: st.DataObject
):
    seed_nodes = some_seeds(data, graph)
    batch = make(name, graph, num_nodes, edge_ids=True).sample(seed_nodes, seed)
    src, dst = graph.to_edge_index()
    position_of = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids.argsort()
    assert len(batch.blocks) == len(num_nodes)
    for block, number in zip(batch.blocks, reversed(num_nodes), strict=True):
        local_src, local_dst = block.edge_index
        positions = position_of[block.edge_ids]
        assert torch.equal(src[positions], block.src_nodes[local_src])
        assert torch.equal(dst[positions], block.dst_nodes[local_dst])
        assert graph.edge_weight is None or torch.equal(block.edge_weight, graph.edge_weight[positions])
        is_loop = src[positions] == dst[positions]
        assert bool((weights(block)[is_loop] == 1).all())
        drawn = src[positions][~is_loop].unique()
        if name != "pladies":
            assert drawn.numel() <= number
        everything = in_edges(graph, block.dst_nodes)
        expected = everything[torch.isin(src[everything], drawn) | (src[everything] == dst[everything])]
        assert positions.tolist() == expected.tolist()


@given(name=names, graph=csc_graphs(), num_nodes=all_numbers, data=st.data())
def test_each_layer_feeds_the_next(name: str, graph: CSCGraph, num_nodes: list[int], data: st.DataObject):
    seed_nodes = some_seeds(data, graph)
    batch = make(name, graph, num_nodes).sample(seed_nodes, 3)
    assert batch.node_ids.unique().numel() == batch.num_nodes
    assert torch.equal(batch.blocks[0].src_nodes, batch.node_ids)
    assert batch.blocks[-1].dst_nodes.tolist() == list(dict.fromkeys(seed_nodes.tolist()))
    assert torch.equal(batch.at_seeds(batch.blocks[-1].dst_nodes), seed_nodes)
    for block, after in pairwise(batch.blocks):
        assert torch.equal(block.dst_nodes, after.src_nodes)


@given(graph=csc_graphs(), num_layers=st.integers(1, 3), data=st.data())
def test_as_many_nodes_as_there_are_give_every_in_edge(graph: CSCGraph, num_layers: int, data: st.DataObject):
    batch = PLadiesSampler(graph, [graph.num_nodes] * num_layers).sample(some_seeds(data, graph), 3)
    for block in batch.blocks:
        assert block.num_edges == int(graph.in_degree[block.dst_nodes].sum())
        assert block.inclusion_weight is None


@given(name=names, graph=csc_graphs(), number=st.integers(1, 5), data=st.data())
def test_self_normalised_rows_keep_the_sum_of_gcns_operator(
    name: str, graph: CSCGraph, number: int, data: st.DataObject
):
    seed_nodes = some_seeds(data, graph)
    block = make(name, graph, [number]).sample(seed_nodes, 3).blocks[0]
    edge_weight = torch.ones(block.num_edges) if block.edge_weight is None else block.edge_weight
    loops = torch.ones(block.num_src) if block.self_loop_weight is None else block.self_loop_weight
    scale = (block.src_degree + loops).double().rsqrt()
    is_other = block.indices != block.dst_index
    value = torch.where(is_other, edge_weight * weights(block) * scale[block.indices.long()], 0)
    kept = torch.zeros(block.num_dst, dtype=torch.float64).index_add(0, block.dst_index, value)
    own = graph.self_loop_weight
    graph_scale = (graph.degree + (1 if own is None else own)).double().rsqrt()
    src, dst = graph.to_edge_index()
    value = graph_scale[src] * (1 if graph.edge_weight is None else graph.edge_weight) * (src != dst)
    full = torch.zeros(graph.num_nodes, dtype=torch.float64).index_add(0, dst, value)[block.dst_nodes]
    torch.testing.assert_close(kept, torch.where(kept > 0, full, 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", UNBIASED)
def test_sources_are_drawn_as_often_as_the_law_says(name: str, graph: CSCGraph):
    seed_nodes, number = torch.arange(20, 50), 25
    importance = squares(graph, torch.arange(200) if name == "fastgcn" else seed_nodes)
    share = importance / importance.sum()
    if name == "pladies":
        low, high = 0.0, 1e9
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (low, middle) if float((middle * share).clamp(max=1).sum()) > number else (middle, high)
        probability = (low * share).clamp(max=1)
    else:
        probability = 1 - (1 - share) ** number
    sampler = make(name, graph, [number, number], edge_ids=True)
    edges = in_edges(graph, seed_nodes)
    src, dst = graph.to_edge_index()
    is_other = src[edges] != dst[edges]
    law = sampler.law.edge_inclusion(seed_nodes)
    torch.testing.assert_close(law, torch.where(is_other, probability[src[edges]], 1), rtol=1e-4, atol=0)
    counts = torch.zeros(graph.num_edges, dtype=torch.float64)
    for seed in range(NUM_DRAWS):
        counts[sampler.sample(seed_nodes, seed).blocks[-1].edge_ids] += 1
    assert bool((counts[edges][~is_other] == NUM_DRAWS).all())
    # One edge stands for all of its source, which are kept together.
    sources, first = np.unique(src[edges][is_other].numpy(), return_index=True)
    count, p = counts[edges][is_other][first].numpy(), probability[sources].numpy()
    is_open = (p < 1 - 1e-9) & (p > 1e-3)
    assert is_open.sum() > 50
    z = (count - NUM_DRAWS * p)[is_open] / np.sqrt(NUM_DRAWS * p * (1 - p))[is_open]
    assert abs(z).max() < 4.5
    # With replacement sources exclude each other a little, which makes the statistic smaller.
    assert chi2.sf((z**2).sum(), z.size) > 1e-4


@pytest.mark.parametrize("name", UNBIASED)
def test_sums_are_unbiased(name: str, graph: CSCGraph):
    seed_nodes = torch.tensor([19, 39, 79, 28])
    x = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
    sampler = make(name, graph, [30], "ht")
    assert sampler.law.unbiased == ("sum",)
    torch.manual_seed(0)
    convs = [GCNConv(3, 1).double(), GINConv(torch.nn.Linear(3, 1)).double()]
    with torch.no_grad():
        # GIN does not use the edge weights of the graph, GCN does.
        full = torch.stack([conv(x, graph.to_block())[seed_nodes, 0] for conv in convs])
        batches = (sampler.sample(seed_nodes, seed) for seed in range(NUM_DRAWS))
        outputs = torch.stack(
            [torch.stack([conv(x[b.node_ids], b.blocks[0])[:, 0] for conv in convs]) for b in batches]
        )
    assert ((outputs.mean(0) - full) / (outputs.std(0) / NUM_DRAWS**0.5)).abs().max() < 3


def test_poisson_draws_have_their_variance(graph: CSCGraph):
    seed_nodes = torch.arange(30, 60)
    x = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
    sampler = PLadiesSampler(graph, [30], normalise="ht")
    edges, probability = in_edges(graph, seed_nodes), sampler.law.edge_inclusion(seed_nodes)
    # The sum over all rows: each source brings what it sends to all of them, or nothing.
    value = torch.zeros(200, dtype=torch.float64).index_add(
        0, graph.indices[edges].long(), graph.edge_weight[edges] * (probability < 1)
    )
    p = torch.ones(200, dtype=torch.float64).scatter(0, graph.indices[edges].long(), probability)
    open_edges = probability < 1
    p.scatter_(0, graph.indices[edges[open_edges]].long(), probability[open_edges])
    variance = float(((value * x).square() * (1 / p - 1)).sum())

    def output(seed: int) -> float:
        block = (batch := sampler.sample(seed_nodes, seed)).blocks[0]
        return float((x[batch.node_ids[block.indices.long()]] * block.edge_weight * weights(block)).sum())

    outputs = np.array([output(seed) for seed in range(NUM_DRAWS)])
    assert outputs.var() == pytest.approx(variance, rel=0.1)


def test_self_normalised_weights_vary_less(graph: CSCGraph):
    seed_nodes, x = torch.arange(30, 60), torch.ones(200, 1) + torch.arange(200)[:, None] % 3
    errors = {}
    conv = GCNConv(1, 1)
    with torch.no_grad():
        full = conv(x, graph.to_block())[seed_nodes]
        for normalise in ("ht", "hajek"):
            sampler = PLadiesSampler(graph, [30], normalise=normalise)
            batches = (sampler.sample(seed_nodes, seed) for seed in range(200))
            errors[normalise] = sum(float((conv(x[b.node_ids], b.blocks[0]) - full).square().mean()) for b in batches)
            assert (sampler.law.unbiased == ("sum",)) == (normalise == "ht")
            assert sampler.law.bias
    assert errors["hajek"] < errors["ht"] / 2


def test_distinct_draws_take_exactly_as_many_and_prefer_the_heavy(graph: CSCGraph):
    seed_nodes = torch.arange(20, 50)
    share = squares(graph, seed_nodes)
    sampler = LadiesSampler(graph, [25], replace=False)
    assert sampler.law.edge_inclusion is None
    counts = torch.zeros(200)
    for seed in range(400):
        block = sampler.sample(seed_nodes, seed).blocks[0]
        drawn = block.src_nodes[block.indices[block.indices != block.dst_index].long()].unique()
        assert drawn.numel() == 25
        counts[drawn] += 1
    assert np.corrcoef(counts.numpy(), share.sqrt().numpy())[0, 1] > 0.9


@given(graph=csc_graphs(max_nodes=8, max_edges=60), num_nodes=all_numbers, data=st.data())
def test_fastgcn_gives_a_seed_the_same_tree_alone_and_in_any_batch(
    graph: CSCGraph, num_nodes: list[int], data: st.DataObject
):
    sampler = FastGCNSampler(graph, num_nodes)
    batch = sampler.sample(some_seeds(data, graph, unique=True), 11)
    assert sampler.law.rank_invariant
    for row, seed_node in enumerate(batch.seed_nodes):
        assert tree(batch, row) == tree(sampler.sample(seed_node[None], 11), 0)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("num_threads", [2, 8])
def test_threads_sampling_at_once_give_the_mini_batches_of_one(name: str, num_threads: int, graph: CSCGraph):
    sampler = make(name, graph, [30, 40], edge_ids=True)

    def sample(seed: int) -> str:
        return digest([sampler.sample(torch.arange(seed, seed + 100), seed % 10)])

    alone = [sample(seed) for seed in range(40)]
    with ThreadPoolExecutor(num_threads) as threads:
        assert list(threads.map(sample, range(40))) == alone
    assert len(set(alone)) == 40
    assert sample(3) == alone[3] != digest([sampler.sample(torch.arange(3, 103), 4)])


@given(name=names, graph=csc_graphs(), num_nodes=all_numbers, data=st.data())
def test_dense_and_hashed_node_maps_give_the_same_mini_batch(
    name: str, graph: CSCGraph, num_nodes: list[int], data: st.DataObject
):
    def sample_two() -> str:
        sampler = make(name, graph, num_nodes, edge_ids=True)
        return digest([sampler.sample(first, 1), sampler.sample(second, 2)])

    first, second = some_seeds(data, graph), some_seeds(data, graph)
    dense = sample_two()
    with mock.patch("gnnfast.sampler.node_map.DENSE_LIMIT", -1):
        assert sample_two() == dense


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("num_edges", [0, 1, 2])
def test_isolated_seeds_and_no_seeds_hear_nobody(name: str, num_edges: int):
    # The second edge is a self-loop: exact, and of importance 0.
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 2], [1, 2]])[:, :num_edges], 4)
    sampler = make(name, graph, [2, 3])
    batch = sampler.sample(torch.tensor([3, 0, 3]), 0)
    assert (batch.node_ids.tolist(), batch.num_edges) == ([3, 0], 0)
    assert batch.seed_rows.tolist() == [0, 1, 0]
    empty = sampler.sample(torch.empty(0, dtype=torch.int64), 0)
    assert empty.num_nodes == empty.num_edges == empty.num_seeds == 0
    assert sampler.sample(torch.tensor([2]), 0).num_edges == (2 if num_edges == 2 else 0)
    assert sampler.num_silent_rows == 0
    if sampler.law.edge_inclusion:
        assert sampler.law.edge_inclusion(torch.tensor([3, 1, 2])).tolist() == [1.0] * num_edges


def test_rows_that_keep_nothing_are_counted_and_logged_once(graph: CSCGraph, caplog: pytest.LogCaptureFixture):
    sampler = FastGCNSampler(graph, [2])
    with caplog.at_level(logging.INFO, "gnnfast"):
        batches = [sampler.sample(torch.arange(40), seed) for seed in range(5)]
    blocks = [batch.blocks[0] for batch in batches]
    num_silent = sum(
        40 - block.dst_index[block.indices != block.dst_index].unique().numel() for block in blocks
    ) - 5 * int(sum(set(in_neighbors(graph, node)) <= {node} for node in range(40)))
    assert sampler.num_rows == 200
    assert sampler.num_silent_rows == num_silent > 0
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["FastGCNSampler"]


def in_neighbors(graph: CSCGraph, node: int) -> list[int]:
    return graph.indices[graph.indptr[node] : graph.indptr[node + 1]].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_nodes": []}, "num_nodes must be positive whole numbers"),
        ({"num_nodes": [4, 0]}, "num_nodes must be positive whole numbers"),
        ({"num_nodes": [2.5]}, "num_nodes must be positive whole numbers"),
        ({"num_nodes": [4], "normalise": "mean"}, "normalise must be 'hajek' or 'ht', got 'mean'"),
        ({"num_nodes": [4], "normalise": "ht", "replace": False}, "'ht' needs replace=True"),
    ],
)
def test_arguments_out_of_range_are_refused(graph: CSCGraph, arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        LadiesSampler(graph, **arguments)


@pytest.mark.parametrize("name", MAKERS)
def test_a_sampler_keeps_the_protocol(name: str, graph: CSCGraph):
    sampler = make(name, graph, [2, 2, 2])
    assert isinstance(sampler, Sampler)
    assert sampler.num_layers == 3
    with pytest.raises(ValueError, match="holds node 200"):
        sampler.sample(torch.tensor([200]), 0)


@pytest.mark.parametrize("name", ["ladies", "pladies", "fastgcn"])
def test_weights_stay_positive_where_edges_weigh_less_than_nothing(name: str, graph: CSCGraph):
    signs = torch.arange(graph.num_edges) % 2 * 2.0 - 1
    signed = CSCGraph(graph.indptr, graph.indices, edge_weight=signs)
    block = make(name, signed, [20]).sample(torch.arange(20), 0).blocks[0]
    assert block.num_edges > 0
    assert (weights(block) > 0).all()
