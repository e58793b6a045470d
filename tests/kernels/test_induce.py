from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.kernels.reference.induce import induced_edges
from gnnfast.sampler.node_map import DenseNodeMap, HashNodeMap
from tests.strategies import csc_graphs


@given(graph=csc_graphs(), data=st.data())
def test_edges_among_nodes_are_those_of_the_reference(graph, data):
    nodes = torch.tensor(data.draw(st.lists(st.integers(0, graph.num_nodes - 1), unique=True)), dtype=torch.int64)
    indptr, indices, edges = induced_edges(graph.indptr, graph.indices, nodes)
    for node_map in (DenseNodeMap(graph.num_nodes), HashNodeMap()):
        node_map.start(nodes.numpy())
        out_indptr = torch.empty(nodes.numel() + 1, dtype=torch.int64)
        node_map.count_induced(graph.indptr.numpy(), graph.indices.numpy(), out_indptr.numpy())
        assert torch.equal(out_indptr, indptr)
        out, out_edges = torch.empty_like(indices), torch.empty_like(edges)
        node_map.fill_induced(
            graph.indptr.numpy(), graph.indices.numpy(), out_indptr.numpy(), out.numpy(), out_edges.numpy()
        )
        assert torch.equal(out, indices)
        assert torch.equal(out_edges, edges)
