from __future__ import annotations

import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.sampler import EpochSampler, SaintEdgeSampler, SaintMultiWalkSampler, SaintNodeSampler, SaintWalkSampler
from gnnfast.sampler.subgraph import saint
from tests.minibatches import digest
from tests.sampler.subgraph_draws import Draws, draw, inclusion_p_value, loss_errors, sum_errors, uneven_graph
from tests.strategies import csc_graphs

NUM_DRAWS = 20_000
SAMPLERS = {
    "degree": lambda graph, **more: SaintNodeSampler(graph, 40, **more),
    "norm": lambda graph, **more: SaintNodeSampler(graph, 40, "norm", **more),
    "edge": lambda graph, **more: SaintEdgeSampler(graph, 25, **more),
    "walk": lambda graph, **more: SaintWalkSampler(graph, 15, 2, **more),
    "multi_walk": lambda graph, **more: SaintMultiWalkSampler(graph, 10, 40, **more),
}
CLOSED_FORMS = ["degree", "norm", "edge"]
WALKS = ["walk", "multi_walk"]
names = pytest.mark.parametrize("name", list(SAMPLERS))
closed_forms = pytest.mark.parametrize("name", CLOSED_FORMS)
directions = pytest.mark.parametrize("undirected", [True, False], ids=["undirected", "directed"])
drawn_cases = pytest.mark.parametrize(
    ("name", "undirected"), [("degree", True), ("norm", False), ("edge", True), ("edge", False)]
)


@cache
def drawn(name: str, undirected: bool) -> tuple[CSCGraph, EpochSampler, Draws]:
    graph = uneven_graph(undirected)
    sampler = SAMPLERS[name](graph)
    return graph, sampler, draw(sampler, graph.num_nodes, NUM_DRAWS)


# What the law says of nodes.


@drawn_cases
def test_nodes_are_taken_with_their_probabilities(name: str, undirected: bool):
    _, sampler, draws = drawn(name, undirected)
    probability = sampler.law.node_inclusion().numpy()
    assert (probability > 0).all()
    assert inclusion_p_value(draws, probability) > 1e-4


def test_an_edge_drawn_by_the_sum_of_degrees_fails_the_law():
    graph, sampler, _ = drawn("edge", True)
    src, dst = graph.to_edge_index().numpy()
    degree = graph.in_degree.numpy()
    inverted = (degree[src] + degree[dst]) / (degree[src] + degree[dst]).sum()
    right = (1 / degree[src] + 1 / degree[dst]) / (1 / degree[src] + 1 / degree[dst]).sum()
    isolated = np.flatnonzero(degree == 0)
    generator = np.random.default_rng(0)

    def p_value(probability: np.ndarray) -> float:
        """Of the sampler's law, for draws of edges by this one; a share of the draws are isolated nodes."""
        alone = generator.random((NUM_DRAWS, sampler.num_edges)) < isolated.size / graph.num_nodes
        edges = generator.choice(src.size, alone.shape, p=probability)
        some = generator.choice(isolated, alone.shape)
        ends = np.concatenate([np.where(alone, some, src[edges]), np.where(alone, some, dst[edges])], axis=1)
        is_in = np.zeros((NUM_DRAWS, graph.num_nodes), bool)
        np.put_along_axis(is_in, ends, True, axis=1)
        batch, node = np.nonzero(is_in)
        nothing = np.empty(0)
        draws = Draws(NUM_DRAWS, graph.num_nodes, batch, node, nothing, nothing, nothing, nothing, nothing)
        return inclusion_p_value(draws, sampler.law.node_inclusion().numpy())

    assert p_value(right) > 1e-4
    assert p_value(inverted) < 1e-100


@directions
def test_walks_take_nodes_with_their_hitting_probabilities(undirected: bool):
    graph = uneven_graph(undirected)
    num_roots, walk_length = 15, 3
    src, dst = graph.to_edge_index().numpy()
    step = np.zeros((graph.num_nodes, graph.num_nodes))
    np.add.at(step, (dst, src), 1)
    step[graph.in_degree.numpy() == 0] += np.eye(graph.num_nodes)[graph.in_degree.numpy() == 0]
    step /= step.sum(axis=1, keepdims=True)
    hit = np.empty(graph.num_nodes)
    for node in range(graph.num_nodes):
        reaches = np.eye(graph.num_nodes)[node]
        for _ in range(walk_length):
            reaches = step @ reaches
            reaches[node] = 1
        hit[node] = reaches.mean()
    sampler = SaintWalkSampler(graph, num_roots, walk_length, normalization=None)
    draws = draw(sampler, graph.num_nodes, NUM_DRAWS)
    # Nodes of one walk come together: the deviations' sum is wider than of independent nodes.
    assert inclusion_p_value(draws, 1 - (1 - hit) ** num_roots) > 1e-6
    assert inclusion_p_value(draws, 1 - (1 - hit) ** (num_roots + 1)) < 1e-100


# What the weights make right.


@drawn_cases
def test_sums_at_the_nodes_of_a_subgraph_are_unbiased(name: str, undirected: bool):
    graph, sampler, draws = drawn(name, undirected)
    assert sampler.law.unbiased == ("sum",)
    assert np.abs(sum_errors(draws, graph)).max() < 3


@drawn_cases
def test_weights_by_the_count_of_the_source_are_biased(name: str, undirected: bool):
    graph, sampler, draws = drawn(name, undirected)
    probability = sampler.law.node_inclusion().numpy()
    by_source = draws.weight * probability[draws.src] / probability[draws.dst]
    assert np.abs(sum_errors(draws, graph, by_source)).max() > 10


@drawn_cases
def test_the_weighted_loss_of_a_subgraph_is_that_of_all_nodes(name: str, undirected: bool):
    _, _, draws = drawn(name, undirected)
    assert np.abs(loss_errors(draws)).max() < 3


@closed_forms
def test_counts_approach_the_closed_form(name: str, tmp_path: Path):
    graph = uneven_graph(True)
    exact = SAMPLERS[name](graph)
    counted = SAMPLERS[name](graph, normalization="estimated", coverage=1000, cache_dir=tmp_path)
    assert counted.law.unbiased == ()
    assert counted.num_batches == exact.num_batches
    batch, expected = counted.sample_batch(0, 3), exact.sample_batch(0, 3)
    assert torch.equal(batch.node_ids, expected.node_ids)
    torch.testing.assert_close(batch.seed_weight, expected.seed_weight, rtol=0.15, atol=0)
    weight, exact_weight = (drawn.blocks[0].inclusion_weight for drawn in (batch, expected))
    error = ((weight - exact_weight) / exact_weight).abs()
    assert error.median() < 0.05
    assert error.max() < 0.6


@pytest.mark.parametrize("name", WALKS)
def test_counted_weights_bring_sums_and_losses_of_walks_near_the_full_ones(name: str, tmp_path: Path):
    graph = uneven_graph(True)
    sampler = SAMPLERS[name](graph, coverage=1000, cache_dir=tmp_path)
    draws = draw(sampler, graph.num_nodes, 3000)
    assert np.abs(sum_errors(draws, graph)).max() < 4
    assert np.abs(loss_errors(draws)).max() < 4
    assert np.abs(sum_errors(draws, graph, np.ones_like(draws.weight))).max() > 10


def test_few_counts_make_no_weight_infinite(tmp_path: Path):
    graph = uneven_graph(True)
    sampler = SaintWalkSampler(graph, 15, 2, coverage=0.01, cache_dir=tmp_path)
    draws = draw(sampler, graph.num_nodes, 100)
    # One subgraph was counted: with the one that is weighted, that makes a count of 1 or 2.
    assert draws.weight.min() >= 1
    assert draws.weight.max() <= 2
    assert draws.seed_weight.max() <= 2


# What a mini-batch is.


@names
@given(graph=csc_graphs(), seed=st.integers(0, 2**32))
def test_a_mini_batch_is_an_induced_subgraph_of_any_graph(
    name: str, graph: CSCGraph, seed: int, tmp_path_factory: pytest.TempPathFactory
):
    sampler = SAMPLERS[name](graph, cache_dir=tmp_path_factory.getbasetemp() / "counts", coverage=5, edge_ids=True)
    assert isinstance(sampler, EpochSampler)
    batch = sampler.sample_batch(0, seed)
    (block,) = batch.blocks
    nodes = batch.node_ids
    assert torch.equal(batch.seed_nodes, nodes)
    assert block.num_src == block.num_dst == nodes.numel() == nodes.unique().numel() > 0
    is_in = torch.isin(torch.arange(graph.num_nodes), nodes)
    src, dst = graph.to_edge_index()
    inside = (is_in[src] & is_in[dst]).nonzero().view(-1)
    ids = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids
    assert sorted(block.edge_ids.tolist()) == sorted(ids[inside].tolist())
    drawn = Counter(zip(nodes[block.indices].tolist(), nodes[block.dst_index].tolist(), strict=True))
    assert drawn == Counter(zip(src[inside].tolist(), dst[inside].tolist(), strict=True))
    assert torch.equal(block.src_degree, graph.degree[nodes])
    assert bool(block.inclusion_weight.isfinite().all() and (block.inclusion_weight > 0).all())
    assert bool(batch.seed_weight.isfinite().all() and (batch.seed_weight >= 1).all())
    if name in CLOSED_FORMS:
        assert bool((block.inclusion_weight[block.indices == block.dst_index] == 1).all())


@names
def test_a_mini_batch_depends_on_its_number_and_seed_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    graph = uneven_graph(True)
    sampler = SAMPLERS[name](graph, cache_dir=tmp_path / "one", num_batches=8)
    numbers = [(batch, seed) for seed in range(5) for batch in range(8)]
    expected = [digest([sampler.sample_batch(*number)]) for number in numbers]
    assert len(set(expected)) == len(expected)

    monkeypatch.setattr(saint.os, "cpu_count", lambda: 3)
    again = SAMPLERS[name](graph, cache_dir=tmp_path / "other", num_batches=8)
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda number: digest([again.sample_batch(*number)]), reversed(numbers)))
    assert made[::-1] == expected


def test_drawing_takes_memory_by_what_is_drawn_not_by_the_graph():
    for num_nodes in (1_000, 100_000):
        indptr = 20 * torch.arange(num_nodes + 1)
        graph = CSCGraph(indptr, torch.randint(num_nodes, (20 * num_nodes,), dtype=torch.int32))
        for name, make in SAMPLERS.items():
            sampler = make(graph, normalization=None)
            sampler._draw(0)
            tracemalloc.start()
            sampler._draw(1)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 10_000, f"{name}, {num_nodes} nodes"


@names
def test_an_epoch_takes_about_as_many_nodes_as_there_are(name: str, tmp_path: Path):
    graph = uneven_graph(True)
    for normalization in {"exact" if name in CLOSED_FORMS else "estimated", None}:
        sampler = SAMPLERS[name](graph, normalization=normalization, cache_dir=tmp_path)
        sizes = [sampler.sample_batch(batch, 0).num_nodes for batch in range(sampler.num_batches)]
        assert graph.num_nodes * 0.85 < sum(sizes) < graph.num_nodes * 1.15 + max(sizes)
        batch = sampler.sample_batch(0, 0)
        assert (batch.seed_weight is None) == (batch.blocks[0].inclusion_weight is None) == (normalization is None)
    assert SAMPLERS[name](graph, num_batches=7, cache_dir=tmp_path).num_batches == 7


@names
def test_only_training_nodes_and_the_edges_among_them(name: str, tmp_path: Path):
    graph = uneven_graph(True)
    graph = CSCGraph(graph.indptr, graph.indices, edge_ids=1000 + torch.arange(graph.num_edges))
    train = torch.randperm(graph.num_nodes, generator=torch.Generator().manual_seed(0))[:90]
    more = {"seed_nodes": train, "train_only": True, "edge_ids": True, "cache_dir": tmp_path}
    sampler = SAMPLERS[name](graph, **more)
    src, dst = graph.to_edge_index()
    counts = torch.zeros(graph.num_nodes)
    for seed in range(50):
        batch = sampler.sample_batch(0, seed)
        (block,) = batch.blocks
        counts[batch.node_ids] += 1
        assert torch.equal(src[block.edge_ids - 1000], block.src_nodes[block.indices])
        assert torch.equal(dst[block.edge_ids - 1000], batch.node_ids[block.dst_index])
        assert int(block.src_degree.max()) <= int((torch.isin(src, train) & torch.isin(dst, train)).sum())
    assert set(counts.nonzero().view(-1).tolist()) <= set(train.tolist())
    assert sampler.law.unbiased == ()
    if name in CLOSED_FORMS:
        inclusion = sampler.law.node_inclusion()
        assert set(inclusion.nonzero().view(-1).tolist()) == set(train.tolist())
        assert float(counts[train].mean() / 50) == pytest.approx(float(inclusion[train].mean()), rel=0.1)


@names
@pytest.mark.parametrize("train_only", [False, True])
def test_nodes_can_be_drawn_alone(name: str, train_only: bool, tmp_path: Path):
    train = torch.arange(150, 60, -1)
    sampler = SAMPLERS[name](
        uneven_graph(True), num_batches=2, train_only=train_only, seed_nodes=train, cache_dir=tmp_path
    )
    for batch in range(2):
        nodes = sampler.draw_nodes(derive_seed(5, batch))
        assert torch.equal(nodes, sampler.sample_batch(batch, 5).node_ids)


@names
def test_weights_of_all_are_those_of_subgraphs(name: str, tmp_path: Path):
    graph = uneven_graph(True)
    sampler = SAMPLERS[name](graph, cache_dir=tmp_path, edge_ids=True)
    node_weight, edge_weight = sampler.weights_of_all()
    batch = sampler.sample_batch(0, 0)
    assert torch.equal(node_weight[batch.node_ids], batch.seed_weight)
    torch.testing.assert_close(edge_weight[batch.blocks[0].edge_ids], batch.blocks[0].inclusion_weight)
    assert SAMPLERS[name](graph, normalization=None).weights_of_all() is None


def test_an_edge_that_no_subgraph_can_hold_has_infinite_weight():
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1, 1], [0, 0, 2]]), 3)
    assert SaintNodeSampler(graph, 1).weights_of_all()[1].tolist() == [1, torch.inf, torch.inf]


# Counts on disk.


@pytest.fixture
def num_counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry with every count of subgraphs."""
    counted: list[int] = []
    count = saint.count_subgraphs
    monkeypatch.setattr(saint, "count_subgraphs", lambda *arguments: (counted.append(1), count(*arguments))[1])
    return counted


def test_counts_are_kept_until_the_graph_or_a_parameter_changes(tmp_path: Path, num_counted: list[int]):
    graph = uneven_graph(True)
    same = uneven_graph(True)
    indices = graph.indices.clone()
    indices[0] = (indices[0] + 1) % graph.num_nodes
    weighted = CSCGraph(graph.indptr, graph.indices, edge_weight=torch.ones(graph.num_edges))
    reweighted = CSCGraph(graph.indptr, graph.indices, edge_weight=torch.full((graph.num_edges,), 2.0))
    train = torch.arange(100)

    def walk(of: CSCGraph = graph, roots: int = 15, length: int = 2, **more: object) -> SaintWalkSampler:
        return SaintWalkSampler(of, roots, length, cache_dir=tmp_path, **more)

    different = [
        lambda: walk(),
        lambda: walk(CSCGraph(graph.indptr, indices)),
        lambda: walk(weighted),
        lambda: walk(reweighted),
        lambda: walk(roots=16),
        lambda: walk(length=3),
        lambda: walk(coverage=49),
        lambda: walk(train_only=True, seed_nodes=train),
        lambda: SaintMultiWalkSampler(graph, 15, 45, cache_dir=tmp_path),
        lambda: SaintMultiWalkSampler(graph, 15, 46, cache_dir=tmp_path),
        lambda: SaintMultiWalkSampler(graph, 16, 45, cache_dir=tmp_path),
        lambda: SaintNodeSampler(graph, 40, normalization="estimated", cache_dir=tmp_path),
        lambda: SaintNodeSampler(graph, 41, normalization="estimated", cache_dir=tmp_path),
        lambda: SaintNodeSampler(graph, 40, "norm", normalization="estimated", cache_dir=tmp_path),
        lambda: SaintEdgeSampler(graph, 40, normalization="estimated", cache_dir=tmp_path),
    ]
    for number, make in enumerate(different, 1):
        make()
        assert len(num_counted) == number
    first = [digest([make().sample_batch(0, 1)]) for make in different]
    assert [digest([make().sample_batch(0, 1)]) for make in different] == first
    walk(same, num_batches=3, edge_ids=True, seed_nodes=train)
    assert len(num_counted) == len(different)


class SubclassOfTheSameName:
    """Namespace of a walk sampler called as its parent is, which draws otherwise."""

    class SaintWalkSampler(SaintWalkSampler):
        def _draw(self, key: int) -> np.ndarray:
            return super()._draw(key)[:20]


def test_a_subclass_does_not_take_its_parents_counts(tmp_path: Path, num_counted: list[int]):
    graph = uneven_graph(True)
    own = SubclassOfTheSameName.SaintWalkSampler(graph, 15, 2, cache_dir=tmp_path / "own").sample_batch(0, 0)
    SaintWalkSampler(graph, 15, 2, cache_dir=tmp_path)
    after = SubclassOfTheSameName.SaintWalkSampler(graph, 15, 2, cache_dir=tmp_path).sample_batch(0, 0)
    assert len(num_counted) == 3
    assert digest([after]) == digest([own])


def test_damaged_counts_are_counted_anew(tmp_path: Path, num_counted: list[int]):
    graph = uneven_graph(True)
    expected = digest([SaintWalkSampler(graph, 15, 2, cache_dir=tmp_path).sample_batch(0, 0)])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:200])
    assert digest([SaintWalkSampler(graph, 15, 2, cache_dir=tmp_path).sample_batch(0, 0)]) == expected
    assert len(num_counted) == 2


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda graph: SaintNodeSampler(graph, 0), "num_nodes must be a whole number"),
        (lambda graph: SaintNodeSampler(graph, 3, "uniform"), "probability must be"),
        (lambda graph: SaintEdgeSampler(graph, 2.5), "num_edges must be a whole number"),
        (lambda graph: SaintWalkSampler(graph, 3, 0), "walk_length must be"),
        (lambda graph: SaintWalkSampler(graph, 3, 2, normalization="exact"), "normalization must be one of"),
        (lambda graph: SaintWalkSampler(graph, 3, 2, coverage=0), "coverage must be positive"),
        (lambda graph: SaintMultiWalkSampler(graph, 3, 2), "budget counts the nodes of the frontier"),
        (lambda graph: SaintNodeSampler(graph, 3, num_batches=0), "num_batches must be at least 1"),
        (lambda graph: SaintNodeSampler(graph, 3, train_only=True), "needs seed_nodes"),
        (
            lambda graph: SaintNodeSampler(graph, 3, train_only=True, seed_nodes=torch.tensor([1, 1])),
            "seed_nodes must be distinct",
        ),
        *(
            (
                lambda graph, node=node: SaintNodeSampler(
                    graph, 3, train_only=True, seed_nodes=torch.tensor([1, 2, node])
                ),
                f"holds node {node}",
            )
            for node in (-3, 10**8)
        ),
        (
            lambda _: SaintNodeSampler(CSCGraph(torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.int32))),
            "no node",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message: str):
    with pytest.raises(ValueError, match=message):
        make(uneven_graph(True))
