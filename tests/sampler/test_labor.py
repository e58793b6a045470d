from __future__ import annotations

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

from gnnfast.datasets import synthetic
from gnnfast.graph import Block, CSCGraph
from gnnfast.nn import GCNConv, GINConv, SAGEConv
from gnnfast.sampler import LaborSampler, NeighborSampler, Sampler
from gnnfast.sampler.node.labor import _Numbers
from tests.minibatches import digest, tree
from tests.strategies import csc_graphs

NUM_DRAWS = 2000
all_fanouts = st.lists(st.sampled_from([-1, 1, 2, 3, 5]), min_size=1, max_size=3)
options = st.fixed_dictionaries({"rounds": st.sampled_from([0, 1, 2, -1]), "layer_dependency": st.booleans()})


@pytest.fixture(scope="module")
def graph() -> CSCGraph:
    """200 nodes with 1 to 40 in-edges of very uneven sources, some parallel, some from themselves."""
    generator = torch.Generator().manual_seed(0)
    dst = torch.repeat_interleave(torch.arange(200), 1 + torch.arange(200) % 40)
    src = (200 * torch.rand(dst.numel(), generator=generator) ** 2).long()
    weight = torch.rand(dst.numel(), generator=generator, dtype=torch.float64) + 0.1
    return CSCGraph.from_edge_index(torch.stack([src, dst]), 200, weight)


def some_seeds(data: st.DataObject, graph: CSCGraph, unique: bool = False) -> Tensor:
    nodes = st.lists(st.integers(0, graph.num_nodes - 1), max_size=8, unique=unique)
    return torch.tensor(data.draw(nodes), dtype=torch.int64)


def weights(block: Block) -> Tensor:
    return torch.ones(block.num_edges) if block.inclusion_weight is None else block.inclusion_weight


def in_edges(graph: CSCGraph, seed_nodes: Tensor) -> Tensor:
    """Positions of all in-edges, seed by seed."""
    parts = [torch.arange(graph.indptr[v], graph.indptr[v + 1]) for v in seed_nodes.tolist()]
    return torch.cat([*parts, torch.empty(0, dtype=torch.int64)])


@given(graph=csc_graphs(), fanouts=all_fanouts, options=options, seed=st.integers(0, 2**64 - 1), data=st.data())
def test_every_kept_edge_exists_once(
    graph: CSCGraph, fanouts: list[int], options: dict, seed: int, data: st.DataObject
):
    seed_nodes = some_seeds(data, graph)
    batch = LaborSampler(graph, fanouts, **options, edge_ids=True).sample(seed_nodes, seed)
    src, dst = graph.to_edge_index()
    position_of = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids.argsort()
    assert len(batch.blocks) == len(fanouts)
    for block, fanout in zip(batch.blocks, reversed(fanouts), strict=True):
        local_src, local_dst = block.edge_index
        positions = position_of[block.edge_ids]
        assert torch.equal(src[positions], block.src_nodes[local_src])
        assert torch.equal(dst[positions], block.dst_nodes[local_dst])
        assert block.edge_ids.unique().numel() == block.num_edges
        assert graph.edge_weight is None or torch.equal(block.edge_weight, graph.edge_weight[positions])
        degree = graph.in_degree[block.dst_nodes]
        count = block.indptr[1:] - block.indptr[:-1]
        keeps_all = torch.ones_like(degree, dtype=torch.bool) if fanout < 0 else degree <= fanout
        assert torch.equal(count[keeps_all], degree[keeps_all])
        assert bool((weights(block)[keeps_all[local_dst]] == 1).all())
        assert bool((weights(block) >= 1).all())


@given(graph=csc_graphs(), fanouts=all_fanouts, options=options, data=st.data())
def test_each_layer_feeds_the_next(graph: CSCGraph, fanouts: list[int], options: dict, data: st.DataObject):
    seed_nodes = some_seeds(data, graph)
    batch = LaborSampler(graph, fanouts, **options).sample(seed_nodes, 3)
    assert batch.node_ids.unique().numel() == batch.num_nodes
    assert torch.equal(batch.blocks[0].src_nodes, batch.node_ids)
    assert batch.blocks[-1].dst_nodes.tolist() == list(dict.fromkeys(seed_nodes.tolist()))
    assert torch.equal(batch.at_seeds(batch.blocks[-1].dst_nodes), seed_nodes)
    for block, after in pairwise(batch.blocks):
        assert torch.equal(block.dst_nodes, after.src_nodes)


@given(graph=csc_graphs(max_nodes=8, max_edges=60), fanout=st.integers(1, 5), options=options, data=st.data())
def test_a_node_kept_for_one_seed_is_kept_for_all_that_want_it_more(
    graph: CSCGraph, fanout: int, options: dict, data: st.DataObject
):
    seed_nodes = some_seeds(data, graph, unique=True)
    sampler = LaborSampler(graph, [fanout], **options, edge_ids=True)
    block = sampler.sample(seed_nodes, 5).blocks[0]
    position_of = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids.argsort()
    all_edges = in_edges(graph, seed_nodes)
    kept = torch.isin(all_edges, position_of[block.edge_ids])
    probability = sampler.law.edge_inclusion(seed_nodes)
    for source in range(graph.num_nodes):
        is_its = graph.indices[all_edges] == source
        least_kept = min(probability[is_its & kept].tolist(), default=2)
        assert max(probability[is_its & ~kept].tolist(), default=0) < least_kept


@given(graph=csc_graphs(max_nodes=8, max_edges=60), fanouts=all_fanouts, layer_dependency=st.booleans(), data=st.data())
def test_without_rounds_a_seeds_tree_is_the_same_alone_and_in_any_batch(
    graph: CSCGraph, fanouts: list[int], layer_dependency: bool, data: st.DataObject
):
    sampler = LaborSampler(graph, fanouts, layer_dependency=layer_dependency)
    batch = sampler.sample(some_seeds(data, graph, unique=True), 11)
    assert sampler.law.rank_invariant
    for row, seed_node in enumerate(batch.seed_nodes):
        assert tree(batch, row) == tree(sampler.sample(seed_node[None], 11), 0)


@given(graph=csc_graphs(), fanouts=all_fanouts, layer_dependency=st.booleans(), data=st.data())
def test_counting_candidates_first_keeps_the_same_edges(
    graph: CSCGraph, fanouts: list[int], layer_dependency: bool, data: st.DataObject
):
    seed_nodes = some_seeds(data, graph)
    sampler = LaborSampler(graph, fanouts, layer_dependency=layer_dependency, edge_ids=True)
    fast = sampler.sample(seed_nodes, 3)

    def keep_likely(frontier: np.ndarray, fanout: int, key: int, *_: int) -> tuple[Tensor, Tensor, Tensor]:
        return sampler._keep_likely(frontier, fanout, _Numbers(key))

    with mock.patch.object(sampler, "_keep_evenly", keep_likely):
        general = sampler.sample(seed_nodes, 3)
    assert torch.equal(fast.node_ids, general.node_ids)
    for block, other in zip(fast.blocks, general.blocks, strict=True):
        assert torch.equal(block.edge_ids, other.edge_ids)
        torch.testing.assert_close(weights(block), weights(other), rtol=1e-6, atol=0)


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("kappa", [1, 3])
def test_edges_are_kept_as_often_as_the_law_says(graph: CSCGraph, rounds: int, kappa: int):
    seed_nodes = torch.arange(20, 60)
    sampler = LaborSampler(graph, [4, 4], rounds, batch_dependency=kappa, edge_ids=True)
    probability = sampler.law.edge_inclusion(seed_nodes).numpy()
    counts = np.zeros(graph.num_edges)
    for seed in range(NUM_DRAWS):
        counts[sampler.sample_step(seed_nodes, seed, kappa - 1).blocks[-1].edge_ids.numpy()] += 1
    all_edges = in_edges(graph, seed_nodes)
    counts, all_sources = counts[all_edges.numpy()], graph.indices[all_edges].numpy()
    is_open = probability < 1
    assert (counts[~is_open] == NUM_DRAWS).all()
    assert is_open.sum() > 100
    sources, counts, probability = all_sources[is_open], counts[is_open], probability[is_open]
    z = (counts - NUM_DRAWS * probability) / np.sqrt(NUM_DRAWS * probability * (1 - probability))
    assert abs(z).max() < 4.5
    # Edges of one source move together: the statistic takes one of each.
    first = np.unique(sources, return_index=True)[1]
    statistic = (z[first] ** 2).sum()
    assert chi2.sf(statistic, first.size) > 1e-4
    assert chi2.cdf(statistic, first.size) > 1e-4


def deviations(outputs: Tensor, full: Tensor) -> Tensor:
    """(mean - truth) / standard error, by seed."""
    return (outputs.mean(0) - full) / (outputs.std(0) / outputs.shape[0] ** 0.5)


@pytest.mark.parametrize("rounds", [0, 1, -1])
def test_sums_are_unbiased_and_vary_as_poisson_draws(graph: CSCGraph, rounds: int):
    seed_nodes = torch.tensor([19, 39, 79, 28])
    x = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
    sampler = LaborSampler(graph, [5], rounds)
    edges, probability = in_edges(graph, seed_nodes), sampler.law.edge_inclusion(seed_nodes)
    row = torch.repeat_interleave(graph.in_degree[seed_nodes])
    value = x[graph.indices[edges].long()] * graph.edge_weight[edges]
    full = torch.zeros(4, dtype=torch.float64).index_add(0, row, value)
    # Parallel edges come together: their values add up before they are squared.
    _, group = torch.unique(row * 200 + graph.indices[edges], return_inverse=True)
    joint = torch.zeros(int(group.max()) + 1, dtype=torch.float64).index_add(0, group, value)
    first_of = torch.zeros_like(joint, dtype=torch.int64).scatter(0, group, torch.arange(group.numel()))
    spread = joint.square() * (1 / probability[first_of] - 1)
    variance = torch.zeros(4, dtype=torch.float64).index_add(0, row[first_of], spread)

    def output(seed: int) -> Tensor:
        block = (batch := sampler.sample(seed_nodes, seed)).blocks[0]
        value = x[batch.node_ids[block.indices.long()]] * block.edge_weight * weights(block).double()
        return torch.zeros(4, dtype=torch.float64).index_add(0, block.dst_index, value)

    outputs = torch.stack([output(seed) for seed in range(NUM_DRAWS)])
    assert deviations(outputs, full).abs().max() < 3
    assert (outputs.var(0) / variance - 1).abs().max() < 0.1


@pytest.mark.parametrize("make_conv", [lambda: GCNConv(3, 1), lambda: GINConv(torch.nn.Linear(3, 1))])
def test_layers_that_sum_are_unbiased(make_conv, graph: CSCGraph):
    torch.manual_seed(0)
    conv, seed_nodes = make_conv().double(), torch.tensor([19, 39, 79, 28])
    x = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
    sampler = LaborSampler(graph, [5], rounds=1)
    assert sampler.law.unbiased == ("sum",)
    with torch.no_grad():
        full = conv(x, graph.to_block())[seed_nodes, 0]
        batches = (sampler.sample(seed_nodes, seed) for seed in range(1500))
        outputs = torch.stack([conv(x[batch.node_ids], batch.blocks[0])[:, 0] for batch in batches])
    assert deviations(outputs, full).abs().max() < 3


def test_means_have_the_variance_of_hajeks_estimator():
    # Many destinations with in-neighbors of their own: as many independent draws in one mini-batch.
    num_rows, degree, fanout = 20_000, 60, 15
    indices = num_rows + torch.arange(num_rows * degree)
    indptr = torch.cat([degree * torch.arange(num_rows + 1), torch.full((indices.numel(),), indices.numel())])
    graph = CSCGraph(indptr, indices)
    x = torch.arange(degree).double() / degree
    batch = LaborSampler(graph, [fanout]).sample(torch.arange(num_rows), 1)
    block = batch.blocks[0]
    value = x[(batch.node_ids[block.indices.long()] - num_rows) % degree]
    total, weight = (
        torch.zeros(num_rows, dtype=torch.float64).index_add(0, block.dst_index, v)
        for v in (value * weights(block), weights(block).double())
    )
    means = total / weight
    # Linearized, by the residuals x - mean; the second-order factor 1 + (1 - p) / fanout is the random number kept.
    probability = fanout / degree
    variance = float((x - x.mean()).square().sum() * (1 / probability - 1) / degree**2) * (
        1 + (1 - probability) / fanout
    )
    assert float(means.var()) == pytest.approx(variance, rel=0.05)
    assert float(means.mean()) == pytest.approx(float(x.mean()), abs=4 * (variance / num_rows) ** 0.5)


def test_hops_share_numbers_only_when_asked(graph: CSCGraph):
    seed_nodes = torch.arange(20, 60)
    for layer_dependency in (True, False):
        sampler = LaborSampler(graph, [3, 3], layer_dependency=layer_dependency, edge_ids=True)
        assert (sampler.law.unbiased == ()) == layer_dependency
        same = []
        for seed in range(20):
            first, last = sampler.sample(seed_nodes, seed).blocks
            # The seeds are the first destinations of both hops.
            same.append(torch.equal(first.edge_ids[: int(first.indptr[40])], last.edge_ids))
        assert same == [layer_dependency] * 20


def shared_sources(sampler: LaborSampler, seed_nodes: Tensor, steps: int) -> list[float]:
    """Jaccard index of the input nodes of consecutive steps."""
    nodes = [
        set(sampler.sample_step(seed_nodes, 4, step).node_ids[seed_nodes.numel() :].tolist()) for step in range(steps)
    ]
    return [len(a & b) / len(a | b) for a, b in pairwise(nodes)]


def test_consecutive_steps_share_nodes_as_long_as_kappa_says():
    generator = torch.Generator().manual_seed(0)
    graph = CSCGraph.from_edge_index(torch.randint(0, 20_000, (2, 400_000), generator=generator), 20_000)
    seed_nodes = torch.arange(200)
    independent, some, much = (
        np.array(shared_sources(LaborSampler(graph, [5], batch_dependency=kappa), seed_nodes, 20))
        for kappa in (1, 4, 16)
    )
    # Of numbers that are independent, both below p = 1/4 with probability 1/16, one of them with 7/16.
    assert independent.mean() == pytest.approx(1 / 7, abs=0.02)
    assert independent.mean() + 0.2 < some.mean() < much.mean() - 0.1
    nodes = [LaborSampler(graph, [5], batch_dependency=4).sample_step(seed_nodes, 4, step) for step in (0, 4)]
    first, fifth = (set(batch.node_ids[200:].tolist()) for batch in nodes)
    assert len(first & fifth) / len(first | fifth) == pytest.approx(1 / 7, abs=0.03)


def test_a_step_is_a_function_of_epoch_seed_and_number(graph: CSCGraph):
    sampler = LaborSampler(graph, [4, 4], batch_dependency=3)
    digests = [digest([sampler.sample_step(torch.arange(50), *words)]) for words in ((1, 7), (1, 8), (2, 7), (1, 7))]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("rounds", [0, 1])
@pytest.mark.parametrize("num_threads", [2, 8])
def test_threads_sampling_at_once_give_the_mini_batches_of_one(graph: CSCGraph, rounds: int, num_threads: int):
    sampler = LaborSampler(graph, [4, 6], rounds, batch_dependency=5, edge_ids=True)

    def sample(seed: int) -> str:
        seed_nodes = torch.arange(seed, seed + 100)
        return digest([sampler.sample(seed_nodes, seed), sampler.sample_step(seed_nodes, 0, seed)])

    alone = [sample(seed) for seed in range(40)]
    with ThreadPoolExecutor(num_threads) as threads:
        assert list(threads.map(sample, range(40))) == alone
    assert len(set(alone)) == 40


@given(graph=csc_graphs(), fanouts=all_fanouts, options=options, data=st.data())
def test_dense_and_hashed_node_maps_give_the_same_mini_batch(
    graph: CSCGraph, fanouts: list[int], options: dict, data: st.DataObject
):
    def sample_two() -> str:
        sampler = LaborSampler(graph, fanouts, **options, edge_ids=True)
        return digest([sampler.sample(first, 1), sampler.sample(second, 2)])

    first, second = some_seeds(data, graph), some_seeds(data, graph)
    dense = sample_two()
    with mock.patch("gnnfast.sampler.node_map.DENSE_LIMIT", -1):
        assert sample_two() == dense


@pytest.mark.parametrize("rounds", [0, 1, -1])
@pytest.mark.parametrize("num_edges", [0, 1])
def test_isolated_seeds_and_no_seeds_hear_nobody(rounds: int, num_edges: int):
    graph = CSCGraph.from_edge_index(torch.tensor([[0], [1]])[:, :num_edges], 4)
    sampler = LaborSampler(graph, [2, -1], rounds)
    batch = sampler.sample(torch.tensor([3, 0, 3]), 0)
    assert (batch.node_ids.tolist(), batch.num_edges) == ([3, 0], 0)
    assert batch.seed_rows.tolist() == [0, 1, 0]
    empty = sampler.sample(torch.empty(0, dtype=torch.int64), 0)
    assert empty.num_nodes == empty.num_edges == empty.num_seeds == 0
    assert sampler.law.edge_inclusion(torch.tensor([3, 1])).tolist() == [1.0] * num_edges


def test_a_seed_that_keeps_nothing_gets_a_row_without_edges():
    graph = CSCGraph(torch.tensor([0, 30, *[30] * 30]), torch.arange(1, 31))
    sampler, node = LaborSampler(graph, [1]), torch.tensor([0])
    batches = [sampler.sample(node, seed) for seed in range(200)]
    silent = [batch for batch in batches if batch.num_edges == 0]
    # (1 - 1 / 30) ** 30 of them.
    assert 0.2 < len(silent) / 200 < 0.55
    x = torch.ones(31, 2)
    with torch.no_grad():
        for batch in silent:
            assert bool(SAGEConv(2, 3)(x[batch.node_ids], batch.blocks[0]).isfinite().all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fanouts": [0]}, "fanouts must be positive, or -1"),
        ({"fanouts": []}, "fanouts must be positive, or -1"),
        ({"fanouts": [2], "rounds": -2}, "rounds must be at least 0, or -1"),
        ({"fanouts": [2], "batch_dependency": 0}, "batch_dependency at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(graph: CSCGraph, arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        LaborSampler(graph, **arguments)


def test_a_sampler_keeps_the_protocol(graph: CSCGraph):
    sampler = LaborSampler(graph, [2, 2, 2])
    assert isinstance(sampler, Sampler)
    assert sampler.num_layers == 3
    with pytest.raises(ValueError, match="holds node 200"):
        sampler.sample(torch.tensor([200]), 0)


def num_nodes(sampler: LaborSampler | NeighborSampler, seeds: list[Tensor]) -> float:
    return float(np.mean([sampler.sample(seed_nodes, step).num_nodes for step, seed_nodes in enumerate(seeds)]))


@pytest.mark.slow
def test_labor_reads_fewer_nodes_than_neighbor_sampling():
    graph = synthetic(169_000, 2_330_000, num_features=4, num_classes=40, attainable_hops=0).graph
    generator, fanouts = np.random.default_rng(0), [4, 4, 4]
    seeds = [torch.from_numpy(generator.choice(graph.num_nodes, 1024, replace=False)) for _ in range(10)]
    neighbor = num_nodes(NeighborSampler(graph, fanouts), seeds)
    even, dependent = (
        num_nodes(LaborSampler(graph, fanouts, layer_dependency=shared), seeds) for shared in (False, True)
    )
    rounds = [num_nodes(LaborSampler(graph, fanouts, rounds), seeds) for rounds in (1, 2, -1)]
    assert even <= 0.80 * neighbor
    assert dependent <= 0.62 * neighbor
    assert even > rounds[0] > rounds[1] > rounds[2]
