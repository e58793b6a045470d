from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.sampler import EpochSampler, RandomNodeSampler
from tests.chi_square import equal_cells_p_value
from tests.minibatches import digest
from tests.sampler.subgraph_draws import draw, sum_errors, uneven_graph
from tests.strategies import csc_graphs

NUM_DRAWS = 3_000


@given(
    graph=csc_graphs(), normalization=st.sampled_from(["batch", "full"]), seed=st.integers(0, 2**64 - 1), data=st.data()
)
def test_every_node_is_in_one_part_of_an_epoch(graph: CSCGraph, normalization: str, seed: int, data: st.DataObject):
    num_parts = data.draw(st.integers(1, graph.num_nodes))
    sampler = RandomNodeSampler(graph, num_parts, normalization)
    assert isinstance(sampler, EpochSampler)
    assert sampler.num_batches == num_parts
    batches = [sampler.sample_batch(part, seed) for part in range(num_parts)]
    assert torch.equal(torch.cat([batch.node_ids for batch in batches]).sort().values, torch.arange(graph.num_nodes))
    sizes = [batch.num_nodes for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    src, dst = graph.to_edge_index()
    for batch in batches:
        (block,) = batch.blocks
        is_in = torch.isin(torch.arange(graph.num_nodes), batch.node_ids)
        assert block.num_edges == int((is_in[src] & is_in[dst]).sum())
        assert torch.equal(batch.seed_nodes, batch.node_ids)
        assert batch.seed_weight is None
        if normalization == "full":
            assert torch.equal(block.src_degree, graph.degree[batch.node_ids])
        else:
            loops = block.indices == block.dst_index
            weight = torch.ones(block.num_edges) if block.edge_weight is None else block.edge_weight
            expected = torch.zeros(block.num_dst).index_add_(0, block.dst_index[~loops], weight[~loops].float())
            torch.testing.assert_close(block.src_degree, expected)
            assert block.inclusion_weight is None


# 200 nodes: parts of equal size, and parts of which some are larger by one.
@pytest.mark.parametrize("num_parts", [4, 7, 150])
def test_nodes_are_equally_likely_in_every_part(num_parts: int):
    graph = uneven_graph(True)
    sampler = RandomNodeSampler(graph, num_parts)
    for part in (0, num_parts - 1):
        draws = draw(sampler, graph.num_nodes, NUM_DRAWS, part)
        probability = sampler.law.node_inclusion().numpy()
        assert equal_cells_p_value(draws.node_counts()) > 1e-4
        # Sizes are drawn as well; their spread is below that of independent nodes.
        total = NUM_DRAWS * probability.sum()
        assert abs(draws.node.size - total) < 4 * (NUM_DRAWS * 0.25) ** 0.5


@pytest.mark.parametrize("undirected", [True, False])
@pytest.mark.parametrize("num_parts", [4, 7])
def test_sums_with_the_degrees_of_the_full_graph_are_unbiased(num_parts: int, undirected: bool):
    graph = uneven_graph(undirected)
    sampler = RandomNodeSampler(graph, num_parts, "full")
    assert sampler.law.unbiased == ("sum",)
    draws = draw(sampler, graph.num_nodes, NUM_DRAWS)
    assert np.abs(sum_errors(draws, graph)).max() < 3
    assert np.abs(sum_errors(draws, graph, np.ones_like(draws.weight))).max() > 10
    assert RandomNodeSampler(graph, num_parts, "batch").law.unbiased == ()


def test_the_share_of_edges_cut_is_as_expected():
    graph = uneven_graph(True)
    src, dst = graph.to_edge_index()
    num_edges = int((src != dst).sum())
    sampler = RandomNodeSampler(graph, 7)
    kept = []
    for seed in range(100):
        blocks = [sampler.sample_batch(part, seed).blocks[0] for part in range(7)]
        kept.append(sum(int((block.indices != block.dst_index).sum()) for block in blocks) / num_edges)
    assert np.mean(kept) == pytest.approx(1 - sampler.cut_share, abs=4 * np.std(kept) / 10)
    assert f"{sampler.cut_share:.1%}" in sampler.law.bias
    assert RandomNodeSampler(graph, 1).cut_share == 0


def test_parts_do_not_depend_on_threads_or_on_what_was_drawn_before():
    graph = uneven_graph(True)
    sampler = RandomNodeSampler(graph, 8)
    numbers = [(part, seed) for seed in range(5) for part in range(8)]
    expected = [digest([sampler.sample_batch(*number)]) for number in numbers]
    assert len(set(expected)) == len(expected)
    again = RandomNodeSampler(graph, 8)
    mixed = np.random.default_rng(0).permutation(len(numbers))
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda i: digest([again.sample_batch(*numbers[i])]), mixed))
    assert made == [expected[i] for i in mixed]


@pytest.mark.parametrize("num_parts", [0, 201])
def test_parts_without_nodes_are_refused(num_parts: int):
    with pytest.raises(ValueError, match="num_parts must be from 1 to the number of nodes, 200"):
        RandomNodeSampler(uneven_graph(True), num_parts)


def test_another_normalization_is_refused():
    with pytest.raises(ValueError, match="normalization must be"):
        RandomNodeSampler(uneven_graph(True), 2, "sym")
