from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.nn import GNN
from gnnfast.sampler import EgoSampler, Sampler
from tests.minibatches import digest
from tests.strategies import csc_graphs


def random_graph(num_nodes: int, num_edges: int) -> CSCGraph:
    generator = torch.Generator().manual_seed(1)
    return CSCGraph.from_edge_index(torch.randint(num_nodes, (2, num_edges), generator=generator), num_nodes)


@given(graph=csc_graphs(), depth=st.integers(1, 3), data=st.data())
def test_the_block_is_the_graph_on_all_nodes_within_depth_hops(graph: CSCGraph, depth: int, data: st.DataObject):
    seeds = data.draw(st.lists(st.integers(0, graph.num_nodes - 1), max_size=6))
    batch = EgoSampler(graph, depth, edge_ids=True).sample(torch.tensor(seeds, dtype=torch.int64), 3)
    src, dst = graph.to_edge_index()
    hops = [set(seeds)]
    for _ in range(depth):
        hops.append(hops[-1] | {int(u) for u, v in zip(src, dst, strict=True) if int(v) in hops[-1]})
    (block,) = batch.blocks
    assert block.num_src == block.num_dst == batch.num_nodes == len(hops[-1])
    for nodes in hops:  # hop by hop, the seeds in the order of their first appearance
        assert set(batch.node_ids[: len(nodes)].tolist()) == nodes
    assert batch.node_ids[: len(hops[0])].tolist() == list(dict.fromkeys(seeds))
    assert torch.equal(batch.at_seeds(batch.node_ids), torch.tensor(seeds, dtype=torch.int64))
    assert (batch.seed_rows is None) == (len(set(seeds)) == len(seeds))
    is_inside = torch.isin(src, batch.node_ids) & torch.isin(dst, batch.node_ids)
    ids = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids
    assert sorted(block.edge_ids.tolist()) == sorted(ids[is_inside].tolist())
    local_src, local_dst = block.edge_index
    position_of = ids.argsort()[block.edge_ids] if graph.edge_ids is not None else block.edge_ids
    assert torch.equal(batch.node_ids[local_src], src[position_of])
    assert torch.equal(batch.node_ids[local_dst], dst[position_of])
    assert torch.equal(block.src_degree, graph.degree[batch.node_ids])


@pytest.mark.parametrize("conv", ["gcn", "gat", "gatv2", "gin", "sage"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_outputs_at_the_seeds_equal_those_of_the_full_graph(conv: str, weighted: bool, num_layers: int):
    graph = random_graph(80, 160)
    if weighted:
        graph = CSCGraph(graph.indptr, graph.indices, edge_weight=torch.rand(graph.num_edges) + 0.5)
    torch.manual_seed(0)
    x, model = torch.randn(80, 6), GNN(6, 8, num_layers, 3, conv=conv).eval()
    seed_nodes = torch.tensor([3, 79, 3, 0])
    batch = EgoSampler(graph, depth=3).sample(seed_nodes, 0)
    assert batch.num_nodes < 80
    out = batch.at_seeds(model(x[batch.node_ids], batch.blocks[0]))
    torch.testing.assert_close(out, model(x, graph.to_block())[seed_nodes], rtol=1e-5, atol=1e-5)
    assert EgoSampler.law.exact


def test_threads_sampling_at_once_give_the_mini_batches_of_one():
    sampler = EgoSampler(random_graph(300, 900), depth=2, edge_ids=True)

    def sample(first: int) -> str:
        return digest([sampler.sample(torch.arange(first, first + 20), first)])

    alone = [sample(first) for first in range(20)]
    assert len(set(alone)) == 20
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(sample, range(20))) == alone


def test_no_seeds_and_isolated_seeds_hear_nobody():
    sampler = EgoSampler(CSCGraph.from_edge_index(torch.tensor([[0, 1], [1, 1]]), 4))
    assert isinstance(sampler, Sampler)
    nothing = sampler.sample(torch.empty(0, dtype=torch.int64), 0)
    assert nothing.num_nodes == nothing.num_edges == 0
    batch = sampler.sample(torch.tensor([3, 1]), 0)
    assert batch.node_ids.tolist() == [3, 1, 0]
    assert batch.blocks[0].indptr.tolist() == [0, 0, 2, 2]


def test_what_is_out_of_range_is_refused():
    graph = random_graph(10, 20)
    with pytest.raises(ValueError, match="depth must be positive, got 0"):
        EgoSampler(graph, depth=0)
    with pytest.raises(ValueError, match="holds node 10"):
        EgoSampler(graph).sample(torch.tensor([10]), 0)
