from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.sampler.subgraph.induce import Inducer
from tests.strategies import csc_graphs


@given(graph=csc_graphs(), data=st.data())
def test_a_block_holds_what_the_graph_holds_among_its_nodes(graph, data):
    nodes = torch.tensor(data.draw(st.lists(st.integers(0, graph.num_nodes - 1))), dtype=torch.int64)
    block, edges = Inducer(graph, edge_ids=True).induce_with_edges(nodes)
    kept = list(dict.fromkeys(nodes.tolist()))
    assert block.src_nodes.tolist() == kept
    assert block.num_src == block.num_dst == len(kept)
    ends = graph.to_edge_index()
    expected = [e for v in kept for e in range(graph.indptr[v], graph.indptr[v + 1]) if int(ends[0, e]) in kept]
    assert edges.tolist() == expected
    assert torch.equal(block.edge_ids, edges if graph.edge_ids is None else graph.edge_ids[edges])
    assert torch.equal(block.src_nodes[block.edge_index], ends[:, edges])
    assert torch.equal(block.src_degree, graph.degree[kept])
    for name in ("edge_weight", "self_loop_weight"):
        whole = getattr(graph, name)
        part = getattr(block, name)
        assert (whole is None) == (part is None)
        if whole is not None:
            assert torch.equal(part, whole[edges if name == "edge_weight" else kept])


def test_degrees_inside_the_batch_count_its_own_edges_only():
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1, 2, 3, 3], [3, 3, 3, 0, 3]]), 4)
    assert Inducer(graph, normalization="batch").induce(torch.tensor([3, 0])).src_degree.tolist() == [1, 1]
    assert Inducer(graph).induce(torch.tensor([3, 0])).src_degree.tolist() == [3, 1]


def test_threads_do_not_disturb_each_other():
    generator = torch.Generator().manual_seed(0)
    graph = CSCGraph.from_edge_index(torch.randint(500, (2, 5000), generator=generator), 500)
    inducer = Inducer(graph)
    choices = [torch.randperm(500, generator=generator)[:200] for _ in range(64)]
    alone = [inducer.induce(nodes).indices for nodes in choices]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda nodes: inducer.induce(nodes).indices, choices))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_an_unknown_normalization_is_refused():
    with pytest.raises(ValueError, match="'full' or 'batch', got 'rows'"):
        Inducer(CSCGraph(torch.tensor([0]), torch.tensor([])[:0].long()), normalization="rows")
