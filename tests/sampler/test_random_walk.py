from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.nn import GCNConv, SAGEConv
from gnnfast.sampler import RandomWalkSampler, Sampler
from tests.minibatches import digest, tree
from tests.strategies import csc_graphs

all_fanouts = st.lists(st.sampled_from([-1, 1, 2, 5]), min_size=1, max_size=3)
seeds = st.integers(0, 2**64 - 1)


def some_seeds(data: st.DataObject, graph: CSCGraph, unique: bool = False) -> Tensor:
    nodes = st.lists(st.integers(0, graph.num_nodes - 1), max_size=8, unique=unique)
    return torch.tensor(data.draw(nodes), dtype=torch.int64)


def random_graph(num_nodes: int, num_edges: int) -> CSCGraph:
    generator = torch.Generator().manual_seed(1)
    return CSCGraph.from_edge_index(torch.randint(num_nodes, (2, num_edges), generator=generator), num_nodes)


@given(graph=csc_graphs(), fanouts=all_fanouts, walk_length=st.integers(1, 3), seed=seeds, data=st.data())
def test_kept_nodes_are_within_reach_and_weigh_as_much_as_the_degree(
    graph: CSCGraph, fanouts: list[int], walk_length: int, seed: int, data: st.DataObject
):
    seed_nodes = some_seeds(data, graph)
    batch = RandomWalkSampler(graph, fanouts, 10, walk_length).sample(seed_nodes, seed)
    hears = torch.zeros(graph.num_nodes, graph.num_nodes)
    src, dst = graph.to_edge_index()
    hears[dst, src] = 1
    reach = sum(torch.matrix_power(hears, steps) for steps in range(1, walk_length + 1)) > 0
    assert batch.blocks[-1].dst_nodes.tolist() == list(dict.fromkeys(seed_nodes.tolist()))
    for block, fanout in zip(batch.blocks, reversed(fanouts), strict=True):
        local_src, local_dst = block.edge_index
        ends = torch.stack([block.dst_nodes[local_dst], block.src_nodes[local_src]])
        assert bool(reach[ends[0], ends[1]].all())
        assert bool((ends[0] != ends[1]).all())
        assert ends.unique(dim=1).shape[1] == ends.shape[1]
        count = block.indptr[1:] - block.indptr[:-1]
        assert fanout == -1 or bool((count <= fanout).all())
        assert block.edge_ids is None
        assert block.edge_weight is None
        total = torch.zeros(block.num_dst).index_add(0, local_dst, block.inclusion_weight)
        assert torch.allclose(total, torch.where(count > 0, graph.degree[block.dst_nodes], 0.0))
        for first, last in zip(block.indptr[:-1], block.indptr[1:], strict=True):
            assert bool((block.inclusion_weight[first:last].diff() <= 0).all())


@given(graph=csc_graphs(), fanouts=all_fanouts, seed=seeds, data=st.data())
def test_a_seeds_tree_is_the_same_alone_and_in_any_batch(
    graph: CSCGraph, fanouts: list[int], seed: int, data: st.DataObject
):
    sampler = RandomWalkSampler(graph, fanouts, num_walks=5)
    batch = sampler.sample(some_seeds(data, graph, unique=True), seed)
    for row, seed_node in enumerate(batch.seed_nodes):
        assert tree(batch, row) == tree(sampler.sample(seed_node[None], seed), 0)


def test_many_walks_of_one_step_give_the_layers_of_all_neighbors():
    src, dst = random_graph(50, 300).merge_parallel_edges().to_edge_index()
    graph = CSCGraph.from_edge_index(torch.stack([src, dst])[:, src != dst], 50)
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    batch = RandomWalkSampler(graph, [-1], num_walks=40_000, walk_length=1).sample(torch.arange(50), 0)
    for conv in (GCNConv(6, 4), SAGEConv(6, 4), SAGEConv(6, 4, aggr="sum")):
        with torch.no_grad():
            full = conv(x, graph.to_block())
            sampled = conv(x[batch.node_ids], batch.blocks[0])
        assert (sampled - full).abs().max() < 0.05 * full.abs().max()


def test_threads_sampling_at_once_give_the_mini_batches_of_one():
    sampler = RandomWalkSampler(random_graph(2000, 40_000), [5, 10], num_walks=20)

    def sample(seed: int) -> str:
        return digest([sampler.sample(torch.arange(seed, seed + 100), seed)])

    alone = [sample(seed) for seed in range(20)]
    assert len(set(alone)) == 20
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(sample, range(20))) == alone


def test_layers_and_seeds_draw_anew():
    graph = random_graph(200, 4000)
    batch = RandomWalkSampler(graph, [3, 3], num_walks=5).sample(torch.arange(200), 0)
    other = RandomWalkSampler(graph, [3, 3], num_walks=5).sample(torch.arange(200), 1)
    drawn = [block.indices.tolist() for block in [*batch.blocks, *other.blocks]]
    assert all(first != second for i, first in enumerate(drawn) for second in drawn[:i])


def test_no_seeds_isolated_seeds_and_self_loops_give_no_edges():
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1], [0, 2]]), 4)
    sampler = RandomWalkSampler(graph, [2, 2])
    assert sampler.sample(torch.empty(0, dtype=torch.int64), 0).num_nodes == 0
    batch = sampler.sample(torch.tensor([3, 0, 1, 3]), 0)
    assert batch.node_ids.tolist() == [3, 0, 1]
    assert batch.num_edges == 0
    assert batch.seed_rows.tolist() == [0, 1, 2, 0]


def test_a_sampler_keeps_the_protocol_and_says_that_its_edges_are_walks():
    sampler = RandomWalkSampler(random_graph(5, 10), [2, 2, 2])
    assert isinstance(sampler, Sampler)
    assert sampler.num_layers == 3
    assert not sampler.law.graph_edges
    assert sampler.law.unbiased == ()


@pytest.mark.parametrize("wrong", [{"num_walks": 0}, {"walk_length": 0}, {"restart": 1.5}, {"fanouts": [0]}])
def test_walks_that_go_nowhere_are_refused(wrong: dict[str, int]):
    with pytest.raises(ValueError, match="must be"):
        RandomWalkSampler(random_graph(5, 10), **({"fanouts": [2]} | wrong))
