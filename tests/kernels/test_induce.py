from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.kernels.cpu.induce import count_in_edges
from gnnfast.kernels.reference.induce import induced_edges
from gnnfast.sampler.node_map import DenseNodeMap, HashNodeMap
from tests.strategies import csc_graphs


@given(graph=csc_graphs(), data=st.data())
def test_edges_among_nodes_are_those_of_the_reference(graph, data):
    nodes = torch.tensor(data.draw(st.lists(st.integers(0, graph.num_nodes - 1), unique=True)), dtype=torch.int64)
    indptr, indices, edges = induced_edges(graph.indptr, graph.indices, nodes)
    for node_map in (DenseNodeMap(graph.num_nodes), HashNodeMap()):
        node_map.start(nodes.numpy())
        room = count_in_edges(graph.indptr.numpy(), nodes.numpy()) + 1
        out_indptr = torch.empty_like(indptr)
        out, out_edges = torch.empty(room, dtype=torch.int32), torch.empty(room, dtype=torch.int64)
        node_map.induce(graph.indptr.numpy(), graph.indices.numpy(), out_indptr.numpy(), out.numpy(), out_edges.numpy())
        assert torch.equal(out_indptr, indptr)
        assert torch.equal(out[: indptr[-1]], indices)
        assert torch.equal(out_edges[: indptr[-1]], edges)
