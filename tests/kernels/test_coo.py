from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import coo as cpu
from gnnfast.kernels.reference import coo as reference
from tests.strategies import csc_graphs


@given(graph=csc_graphs(edge_ids=None), first_dst=st.integers(0, 5), data=st.data())
def test_listed_edges_are_those_of_the_reference(graph: CSCGraph, first_dst: int, data: st.DataObject):
    edge_ids = torch.empty(0, dtype=torch.int64) if graph.edge_ids is None else graph.edge_ids
    edges = torch.tensor(data.draw(st.permutations(range(graph.num_edges))), dtype=torch.int64)
    src, dst, ids = (np.empty(graph.num_edges, np.int64) for _ in range(3))
    sources = graph.indices.int()

    cpu.list_edges(graph.indptr.numpy(), sources.numpy(), edges.numpy(), edge_ids.numpy(), first_dst, src, dst, ids)

    expected = reference.list_edges(graph.indptr, sources, edges, edge_ids, first_dst)
    for ours, theirs in zip((src, dst, ids), expected, strict=True):
        assert torch.equal(torch.from_numpy(ours), theirs)


@given(graph=csc_graphs(), data=st.data())
def test_edges_among_nodes_are_those_of_the_reference_and_marks_are_taken_back(graph: CSCGraph, data: st.DataObject):
    chosen = data.draw(st.lists(st.integers(0, graph.num_nodes - 1), unique=True))
    nodes = torch.tensor(chosen, dtype=torch.int64)
    edge_ids = torch.empty(0, dtype=torch.int64) if graph.edge_ids is None else graph.edge_ids
    marks, numbers = np.zeros(graph.num_nodes // 8 + 1, np.uint8), np.empty(graph.num_nodes, np.int32)
    columns = graph.indptr.numpy(), graph.indices.numpy()
    mark = nodes.numpy(), marks, numbers

    room = 1 + int(graph.in_degree[nodes].sum())
    assert cpu.find_edges_among(*columns, *mark, np.empty(0, np.int64), np.empty(0, np.int32)) == -room
    found = np.empty(room, np.int64), np.empty(room, np.int32)
    count = cpu.find_edges_among(*columns, *mark, *found)
    src, dst, ids = (np.empty(count, np.int64) for _ in range(3))
    cpu.list_edges_among(columns[1], edge_ids.numpy(), *mark, *found, src, dst, ids)

    expected = reference.list_edges_among(graph.indptr, graph.indices, edge_ids, nodes)
    for ours, theirs in zip((src, dst, ids), expected, strict=True):
        assert torch.equal(torch.from_numpy(ours), theirs)
    assert not marks.any()
