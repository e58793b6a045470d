from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.reference.ppr import exact_ppr, keep_largest, merge_pairs, push_ppr
from gnnfast.nn import GCNConv
from gnnfast.sampler import EpochSampler, IBMBSampler
from gnnfast.sampler.subgraph import ibmb
from tests.minibatches import digest
from tests.strategies import csc_graphs


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def rings(num_rings: int, length: int) -> CSCGraph:
    """Circles without any edge between them; both directions."""
    node = torch.arange(num_rings * length).view(num_rings, length)
    edge_index = torch.stack([node, node.roll(1, 1)]).flatten(1)
    return CSCGraph.from_edge_index(torch.cat([edge_index, edge_index.flip(0)], 1), num_rings * length)


def random_graph(num_nodes: int = 300, num_edges: int = 1500) -> CSCGraph:
    generator = torch.Generator().manual_seed(1)
    return CSCGraph.from_edge_index(torch.randint(num_nodes, (2, num_edges), generator=generator), num_nodes)


def some_outputs(data: st.DataObject, graph: CSCGraph) -> torch.Tensor:
    nodes = data.draw(st.lists(st.integers(0, graph.num_nodes - 1), min_size=1, max_size=12))
    return torch.tensor(nodes, dtype=torch.int64)


def make(graph: CSCGraph, outputs: torch.Tensor, mode: str, max_outputs: int = 3, **kwargs) -> IBMBSampler:
    return IBMBSampler(graph, outputs, mode, max_outputs, method="grow", **kwargs)


@pytest.mark.parametrize("mode", ["node", "batch"])
@given(graph=csc_graphs(), max_outputs=st.integers(1, 5), epoch_seed=st.integers(0, 2**64 - 1), data=st.data())
def test_every_output_node_is_a_seed_once_in_an_epoch(
    mode: str, graph: CSCGraph, max_outputs: int, epoch_seed: int, data: st.DataObject
):
    outputs = some_outputs(data, graph)
    sampler = make(graph, outputs, mode, max_outputs, edge_ids=True)
    batches = [sampler.sample_batch(number, epoch_seed) for number in range(sampler.num_batches)]
    assert sorted(torch.cat([batch.seed_nodes for batch in batches]).tolist()) == outputs.unique().tolist()
    src, dst = graph.to_edge_index()
    ids = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids
    for batch in batches:
        (block,) = batch.blocks
        assert batch.num_seeds > 0
        assert mode == "batch" or batch.num_seeds <= max_outputs
        assert batch.seed_rows is None
        assert torch.equal(batch.node_ids[: batch.num_seeds], batch.seed_nodes)
        assert batch.node_ids.unique().numel() == batch.num_nodes == block.num_dst == block.num_src
        inside = torch.isin(src, batch.node_ids) & torch.isin(dst, batch.node_ids)
        assert sorted(block.edge_ids.tolist()) == sorted(ids[inside].tolist())
        assert torch.equal(block.src_degree, graph.degree[batch.node_ids])


@given(graph=csc_graphs(max_edges=60), top_k=st.integers(1, 4), max_outputs=st.integers(1, 5), data=st.data())
def test_outputs_are_grouped_by_their_influence_and_bring_the_nodes_they_hear_most(
    graph: CSCGraph, top_k: int, max_outputs: int, data: st.DataObject
):
    outputs = some_outputs(data, graph).unique().tolist()
    sampler = make(graph, torch.tensor(outputs), "node", max_outputs, top_k=top_k, eps=1e-3)
    most = {}
    for node in outputs:
        found, _ = push_ppr(graph.indptr, graph.indices, node, 0.2, 1e-3)
        most[node] = dict(keep_largest(found, node, top_k))
    between = {
        (i, j): most[u].get(v, 0.0) + most[v].get(u, 0.0)
        for i, u in enumerate(outputs)
        for j, v in enumerate(outputs)
        if i < j and (v in most[u] or u in most[v])
    }
    pairs = sorted(between, key=lambda pair: (-between[pair], pair))
    groups = [{outputs[i] for i in group} for group in merge_pairs(pairs, max_outputs, len(outputs))]
    batches = [sampler.sample_batch(number, 5) for number in range(sampler.num_batches)]
    for group in groups:
        assert sum(group <= set(batch.seed_nodes.tolist()) for batch in batches) == 1
    for batch in batches:
        brought = set().union(*(most[node] for node in batch.seed_nodes.tolist()))
        assert set(batch.node_ids.tolist()) == brought | set(batch.seed_nodes.tolist())


def test_parts_bring_the_nodes_of_largest_influence_on_all_their_outputs():
    graph = random_graph(60, 240)
    outputs = torch.arange(0, 60, 2)
    sampler = make(graph, outputs, "batch", num_parts=4)
    exact = exact_ppr(graph.indptr, graph.indices, 0.2)
    for number in range(sampler.num_batches):
        batch = sampler.sample_batch(number, 0)
        influence = exact[batch.seed_nodes].mean(0)
        most = influence.argsort(descending=True)[: math.ceil(60 / 4)].tolist()
        assert set(batch.node_ids.tolist()) == set(most) | set(batch.seed_nodes.tolist())


@pytest.mark.parametrize("mode", ["node", "batch"])
def test_outputs_that_hear_each_other_come_together(mode: str):
    # Each circle holds as many outputs as a mini-batch.
    sampler = make(rings(6, 8), torch.arange(0, 48, 2), mode, 4)
    assert sampler.num_batches == 6
    for number in range(6):
        batch = sampler.sample_batch(number, 0)
        assert (batch.seed_nodes // 8).unique().numel() == 1
        assert sorted(batch.node_ids.tolist()) == list(
            range(int(batch.seed_nodes[0]) // 8 * 8, batch.node_ids.max() + 1)
        )
        assert batch.num_nodes == 8


def test_outputs_that_nobody_hears_fill_mini_batches_together():
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 20)
    sampler = make(graph, torch.arange(20), "node", 5)
    batches = [sampler.sample_batch(number, 0) for number in range(sampler.num_batches)]
    assert [batch.num_seeds for batch in batches] == [5, 5, 5, 5]
    assert {0, 1} in [set(batch.seed_nodes.tolist()) & {0, 1} for batch in batches]


@pytest.mark.parametrize("mode", ["node", "batch"])
@pytest.mark.parametrize("order", ["random", "distance"])
def test_an_epoch_is_a_permutation_of_the_mini_batches(mode: str, order: str):
    graph = random_graph()
    sampler = make(graph, torch.arange(0, 300, 2), mode, 10, order=order, labels=torch.arange(300) % 7 - 1)
    orders = []
    for epoch_seed in (1, 2, 1):
        first = [int(sampler.sample_batch(number, epoch_seed).seed_nodes[0]) for number in range(sampler.num_batches)]
        orders.append(first)
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert len(set(orders[0])) == sampler.num_batches


def test_mini_batches_with_other_labels_come_next_more_often():
    # Four mini-batches: two of label 0, two of label 1.
    labels = torch.arange(32) // 8 % 2
    sampler = make(rings(4, 8), torch.arange(32), "node", 8, order="distance", labels=labels)
    changes = num_next = 0
    for epoch_seed in range(50):
        of = [int(labels[sampler.sample_batch(number, epoch_seed).seed_nodes[0]]) for number in range(4)]
        changes += of[0] != of[1]
        num_next += 1
    assert changes == num_next
    plain = make(rings(4, 8), torch.arange(32), "node", 8)
    of_plain = [[int(labels[plain.sample_batch(n, seed).seed_nodes[0]]) for n in (0, 1)] for seed in range(50)]
    assert 20 < sum(a != b for a, b in of_plain) < 45


def test_labels_may_be_many_and_unknown():
    labels = torch.rand(300, 3, generator=torch.Generator().manual_seed(0)).round()
    labels[::5] = float("nan")
    sampler = make(random_graph(), torch.arange(300), "node", 20, order="distance", labels=labels)
    assert (
        len({int(sampler.sample_batch(n, 3).seed_nodes[0]) for n in range(sampler.num_batches)}) == sampler.num_batches
    )


def test_the_probability_of_being_an_output_is_that_of_its_mini_batch():
    outputs = torch.arange(0, 48, 2)
    sampler = make(rings(6, 8), outputs, "node", 4)
    inclusion = sampler.law.node_inclusion()
    counts = torch.zeros(48)
    for epoch_seed in range(600):
        counts[sampler.sample_batch(0, epoch_seed).seed_nodes] += 1
    assert inclusion.sum() == pytest.approx(4)
    assert bool((inclusion[1::2] == 0).all())
    assert bool(((counts / 600 - inclusion).abs() < 5 * math.sqrt(1 / 6 * 5 / 6 / 600)).all())
    assert make(rings(6, 8), outputs, "node", 4, order="distance", labels=torch.zeros(48)).law.node_inclusion is None


@pytest.mark.parametrize("mode", ["node", "batch"])
def test_threads_sampling_at_once_give_the_mini_batches_of_one(mode: str):
    graph, outputs = random_graph(), torch.arange(0, 300, 2)
    alone, together = (make(graph, outputs, mode, 10, edge_ids=True) for _ in range(2))
    numbers = list(range(alone.num_batches)) * 3
    expected = [digest([alone.sample_batch(number, 4)]) for number in numbers]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda number: digest([together.sample_batch(number, 4)]), numbers)) == expected


def test_blocks_are_made_once_and_mini_batches_are_the_callers_own():
    sampler = make(random_graph(), torch.arange(300), "node", 50)
    first, second = sampler.sample_batch(0, 1), sampler.sample_batch(0, 1)
    assert first.blocks[0].indices is second.blocks[0].indices
    assert first.blocks[0].transpose[1] is second.blocks[0].transpose[1]
    first.x = torch.zeros(1)
    assert second.x is None
    assert sampler.sample_batch(0, 1).x is None


def test_layers_derive_their_weights_of_a_mini_batch_once():
    sampler = make(random_graph(), torch.arange(300), "node", 50)
    conv, x = GCNConv(4, 2), torch.rand(300, 4)
    first, second = sampler.sample_batch(0, 1), sampler.sample_batch(0, 1)
    conv(x[first.node_ids], first.blocks[0])
    assert first.blocks[0].derived
    assert second.blocks[0].derived is first.blocks[0].derived
    assert sampler.sample_batch(0, 1).blocks[0].derived is first.blocks[0].derived


@pytest.mark.parametrize("is_used_before", [False, True])
def test_what_is_set_on_one_block_does_not_reach_later_ones(is_used_before: bool):
    sampler = make(random_graph(), torch.arange(300), "node", 50)
    conv, x = GCNConv(4, 2), torch.rand(300, 4)
    batch = sampler.sample_batch(0, 1)
    x = x[batch.node_ids]
    expected = conv(x, make(random_graph(), torch.arange(300), "node", 50).sample_batch(0, 1).blocks[0])
    if is_used_before:
        conv(x, batch.blocks[0])
    batch.blocks[0].inclusion_weight = torch.full((batch.blocks[0].num_edges,), 3.0)
    assert not torch.allclose(conv(x, batch.blocks[0]), expected)
    batch.blocks.append(batch.blocks[0])
    (later,) = sampler.sample_batch(0, 1).blocks
    assert later.inclusion_weight is None
    assert torch.equal(conv(x, later), expected)


@pytest.mark.parametrize("mode", ["node", "batch"])
def test_the_choice_of_nodes_is_kept_on_disk_by_all_it_depends_on(mode: str, tmp_path: Path):
    graph, outputs = random_graph(), torch.arange(100)
    expected = digest([make(graph, outputs, mode, 10, cache_dir=tmp_path).sample_batch(0, 0)])
    with (
        mock.patch.object(ibmb, "_choose_by_node", side_effect=AssertionError),
        mock.patch.object(ibmb, "_choose_by_part", side_effect=AssertionError),
    ):
        assert digest([make(graph, outputs, mode, 10, cache_dir=tmp_path).sample_batch(0, 0)]) == expected
        others = [{"alpha": 0.3}, {"max_outputs": 9}]
        others += [{"top_k": 5}, {"eps": 1e-2}] if mode == "node" else [{"num_parts": 7}, {"partition_seed": 1}]
        for changed in others:
            kwargs = {"max_outputs": 10} | changed
            with pytest.raises(AssertionError):
                make(graph, outputs, mode, cache_dir=tmp_path, **kwargs)
        with pytest.raises(AssertionError):
            make(graph, outputs + 1, mode, 10, cache_dir=tmp_path)
        with pytest.raises(AssertionError):
            make(random_graph(num_edges=1501), outputs, mode, 10, cache_dir=tmp_path)


def test_normalization_in_the_batch_counts_degrees_in_the_block():
    graph = random_graph()
    batch = make(graph, torch.arange(30), "node", 10, top_k=4, normalization="batch").sample_batch(0, 0)
    (block,) = batch.blocks
    is_loop = block.edge_index[0] == block.edge_index[1]
    counted = torch.zeros(batch.num_nodes).index_add(0, block.dst_index, (~is_loop).float())
    assert torch.equal(block.src_degree, counted)
    assert not torch.equal(counted, graph.degree[batch.node_ids])


def test_it_is_an_epoch_sampler():
    sampler = make(random_graph(), torch.tensor([5, 5, 3]), "node")
    assert isinstance(sampler, EpochSampler)
    assert sampler.num_batches == 1
    assert np.array_equal(sampler.sample_batch(0, 9).seed_nodes, [3, 5])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mode": "edge"}, "mode must be 'node' or 'batch'"),
        ({"mode": "node", "order": "tsp"}, "order 'random' or 'distance'"),
        ({"mode": "node", "order": "distance"}, "pass labels"),
        ({"mode": "node", "max_outputs": 0}, "max_outputs must be positive, got 0"),
        ({"mode": "node", "top_k": 0}, "top_k must be positive"),
        ({"mode": "node", "normalization": "none"}, "normalization must be"),
        ({"mode": "batch", "num_parts": 301}, "num_parts must be from 1 to the 300 nodes"),
    ],
)
def test_what_is_out_of_range_is_refused(kwargs: dict, message: str):
    with pytest.raises(ValueError, match=message):
        make(random_graph(), torch.arange(5), **kwargs)


def test_outputs_that_are_none_or_no_nodes_are_refused():
    with pytest.raises(ValueError, match="seed_nodes is empty"):
        make(random_graph(), torch.empty(0, dtype=torch.int64), "node")
    with pytest.raises(ValueError, match="holds node 300"):
        make(random_graph(), torch.tensor([300]), "node")
