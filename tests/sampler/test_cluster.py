from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.nn import GCNConv
from gnnfast.sampler import ClusterSampler, EpochSampler
from tests.minibatches import digest
from tests.strategies import csc_graphs

seeds = st.integers(0, 2**64 - 1)
normalizations = st.sampled_from(["batch", "full"])


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}):
        yield


def grid(side: int = 20) -> CSCGraph:
    """A torus whose nodes hear the next one to the right and the next one below."""
    node = torch.arange(side * side)
    right, below = node // side * side + (node + 1) % side, (node + side) % (side * side)
    return CSCGraph.from_edge_index(torch.stack([torch.cat([right, below]), node.repeat(2)]))


def some_sampler(graph: CSCGraph, data: st.DataObject, normalization: str = "batch") -> ClusterSampler:
    num_parts = data.draw(st.integers(1, graph.num_nodes))
    parts_per_batch = data.draw(st.integers(1, num_parts))
    return ClusterSampler(graph, num_parts, parts_per_batch, "grow", normalization, edge_ids=True)


def seen_edges(sampler: ClusterSampler, epoch_seed: int) -> Tensor:
    """Positions in `indices` of all edges of an epoch, of a graph without edge ids."""
    batches = [sampler.sample_batch(batch, epoch_seed) for batch in range(sampler.num_batches)]
    return torch.cat([batch.blocks[0].edge_ids for batch in batches])


@given(graph=csc_graphs(), normalization=normalizations, seed=seeds, data=st.data())
def test_an_epoch_has_every_node_once_with_all_edges_inside_its_mini_batch(
    graph: CSCGraph, normalization: str, seed: int, data: st.DataObject
):
    sampler = some_sampler(graph, data, normalization)
    src, dst = graph.to_edge_index()
    position_of = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids.argsort()
    nodes = []
    for number in range(sampler.num_batches):
        batch = sampler.sample_batch(number, seed)
        (block,) = batch.blocks
        assert batch.seed_rows is None
        assert batch.num_nodes == block.num_src == block.num_dst > 0
        assert torch.equal(batch.seed_nodes, batch.node_ids)
        assert torch.equal(block.src_nodes, batch.node_ids)
        nodes.append(batch.node_ids)
        # The edges among the nodes, and the right ones.
        inside = torch.isin(src, batch.node_ids) & torch.isin(dst, batch.node_ids)
        positions = position_of[block.edge_ids]
        assert torch.equal(positions.sort().values, inside.nonzero().view(-1))
        assert torch.equal(torch.stack([src[positions], dst[positions]]), batch.node_ids[block.edge_index])
        # Whole parts, of which there are at most so many.
        parts = sampler.partition.part_of[batch.node_ids].unique()
        assert 1 <= parts.numel() <= sampler.parts_per_batch
        assert batch.num_nodes == int(sampler.partition.sizes[parts].sum())
    assert torch.cat(nodes).sort().values.tolist() == list(range(graph.num_nodes))


@given(graph=csc_graphs(), normalization=normalizations, seed=seeds, data=st.data())
def test_degrees_are_those_of_the_mini_batch_or_of_the_graph(
    graph: CSCGraph, normalization: str, seed: int, data: st.DataObject
):
    sampler = some_sampler(graph, data, normalization)
    batch = sampler.sample_batch(0, seed)
    (block,) = batch.blocks
    inside = CSCGraph(block.indptr, block.indices, edge_weight=block.edge_weight)
    expected = inside.degree if normalization == "batch" else graph.degree[batch.node_ids]
    assert torch.equal(block.src_degree, expected)
    loops = graph.self_loop_weight
    assert (block.self_loop_weight is None) == (loops is None)
    assert loops is None or torch.equal(block.self_loop_weight, loops[batch.node_ids])


def test_gcn_is_normalized_by_the_mini_batch_as_if_that_were_the_graph():
    graph = grid()
    batch = ClusterSampler(graph, 20, 3).sample_batch(0, 5)
    (block,) = batch.blocks
    conv, x = GCNConv(4, 3), torch.randn(batch.num_nodes, 4)
    alone = CSCGraph(block.indptr, block.indices).to_block()
    torch.testing.assert_close(conv(x, block), conv(x, alone))


@pytest.mark.parametrize(("num_parts", "parts_per_batch"), [(20, 4), (20, 3), (20, 6), (7, 7), (9, 1)])
def test_the_share_left_out_is_that_of_the_mean_epoch(num_parts: int, parts_per_batch: int):
    graph = grid()
    sampler = ClusterSampler(graph, num_parts, parts_per_batch, edge_ids=True)
    part_of, (src, dst) = sampler.partition.part_of, graph.to_edge_index()
    assert sampler.cut_share == float((part_of[src] != part_of[dst]).double().mean())
    shares = torch.tensor([1 - seen_edges(sampler, seed).numel() / graph.num_edges for seed in range(300)])
    standard_error = float(shares.std()) / 300**0.5
    assert abs(float(shares.mean()) - sampler.left_out_share) <= 4 * standard_error + 1e-6


def test_more_parts_per_mini_batch_leave_fewer_edges_out():
    shares = [ClusterSampler(grid(), 20, parts_per_batch).left_out_share for parts_per_batch in (1, 2, 5, 10, 20)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == ClusterSampler(grid(), 20, 1).cut_share > 0
    assert shares[-1] == 0


@pytest.mark.parametrize("parts_per_batch", [2, 3, 4])
def test_full_normalization_keeps_sums_unbiased(parts_per_batch: int):
    graph = grid(6)
    sampler = ClusterSampler(graph, 10, parts_per_batch, normalization="full")
    assert sampler.law.unbiased == ("sum",)
    x = torch.randn(graph.num_nodes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    src, dst = graph.to_edge_index()
    expected = torch.zeros(36, dtype=torch.float64).index_add(0, dst, x[src])
    sums: list[list[float]] = [[] for _ in range(36)]
    for seed in range(2000):
        batch = sampler.sample_batch(0, seed)
        (block,) = batch.blocks
        local_src, local_dst = block.edge_index
        messages = x[batch.node_ids[local_src]] * block.inclusion_weight
        found = torch.zeros(batch.num_nodes, dtype=torch.float64).index_add(0, local_dst, messages)
        for node, value in zip(batch.node_ids.tolist(), found.tolist(), strict=True):
            sums[node].append(value)
    for node in range(36):
        values = torch.tensor(sums[node], dtype=torch.float64)
        assert abs(values.mean() - expected[node]) <= 5 * values.std() / len(values) ** 0.5 + 1e-6


@pytest.mark.parametrize(("num_parts", "parts_per_batch"), [(20, 6), (20, 4)])
def test_every_node_is_as_likely_in_every_mini_batch(num_parts: int, parts_per_batch: int):
    sampler = ClusterSampler(grid(), num_parts, parts_per_batch)
    probability = sampler.law.node_inclusion()
    assert probability.tolist() == [1 / sampler.num_batches] * 400
    # One node per part: the others go with it.
    for batch in (0, sampler.num_batches - 1):
        counts = torch.zeros(400)
        for seed in range(1500):
            counts[sampler.sample_batch(batch, seed).node_ids] += 1
        p = 1 / sampler.num_batches
        assert ((counts / 1500 - p).abs() < 4.5 * (p * (1 - p) / 1500) ** 0.5).all()


def test_an_epoch_is_a_function_of_its_seed_on_any_threads():
    sampler = ClusterSampler(grid(), 20, 3, edge_ids=True)

    def epoch(seed: int) -> str:
        return digest(sampler.sample_batch(batch, seed) for batch in range(sampler.num_batches))

    alone = [epoch(seed) for seed in range(20)]
    assert len(set(alone)) == 20
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(epoch, range(20))) == alone


def test_the_partition_follows_its_own_seed():
    parts = [ClusterSampler(grid(), 20, 2, "grow", partition_seed=seed).partition.part_of for seed in (0, 1, 0)]
    assert torch.equal(parts[0], parts[2])
    assert not torch.equal(parts[0], parts[1])


def test_it_keeps_the_protocol_and_declares_its_bias():
    sampler = ClusterSampler(grid(), 20, 5)
    assert isinstance(sampler, EpochSampler)
    assert sampler.num_batches == 4
    assert sampler.law.unbiased == ()
    assert f"{sampler.left_out_share:.1%} of the edges" in sampler.law.bias
    assert ClusterSampler(grid(), 20, 20).law.unbiased == ("sum", "mean")
    assert ClusterSampler(grid(), 20, 1, normalization="full").law.unbiased == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_parts": 5, "parts_per_batch": 6}, "parts_per_batch must be from 1 to num_parts, 5; got 6"),
        ({"parts_per_batch": 0}, "parts_per_batch must be from 1"),
        ({"num_parts": 401}, "num_parts must be from 1 to the 400 nodes of the graph, got 401"),
        ({"normalization": "none"}, "normalization must be 'full' or 'batch'"),
        ({"method": "best"}, "method must be one of"),
    ],
)
def test_settings_that_make_no_epoch_are_refused(settings: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        ClusterSampler(grid(), **settings)  # type: ignore[arg-type]
