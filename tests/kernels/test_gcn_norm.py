"""GCN's normalization against its reference and PyG's."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from torch_geometric.nn.conv.gcn_conv import gcn_norm as pyg_gcn_norm

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu.gcn_norm import gcn_norm
from gnnfast.kernels.reference import gcn_norm as reference
from tests.strategies import csc_graphs


@given(
    graph=csc_graphs(weighted=True),
    has_edge_weight=st.booleans(),
    has_inclusion_weight=st.booleans(),
    drop_self_loops=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_gcn_norm_equals_its_reference(
    graph: CSCGraph, has_edge_weight: bool, has_inclusion_weight: bool, drop_self_loops: bool, dtype: torch.dtype
):
    scale = torch.rand(graph.num_nodes, dtype=dtype)
    edge_weight = graph.edge_weight if has_edge_weight else None
    inclusion_weight = graph.edge_weight.flip(0) if has_inclusion_weight else None
    expected = reference.gcn_norm(graph.indptr, graph.indices, edge_weight, inclusion_weight, scale, drop_self_loops)
    out, empty = torch.full((graph.num_edges,), torch.nan, dtype=dtype), torch.empty(0)
    weights = (empty if weight is None else weight for weight in (edge_weight, inclusion_weight))
    tensors = (graph.indptr, graph.indices, *weights, scale)
    gcn_norm(*(tensor.numpy() for tensor in tensors), drop_self_loops, out.numpy())
    assert_close(out, expected)


@given(graph=csc_graphs(weighted=True))
def test_edge_and_self_weights_are_those_of_pyg(graph: CSCGraph):
    weight = graph.edge_weight.double()
    degree, self_loop = reference.count_degrees(graph.indptr, graph.indices, weight, graph.num_nodes, torch.float64)
    self_loop = torch.ones_like(degree) if self_loop is None else self_loop
    scale = (degree + self_loop).pow(-0.5)
    ours = reference.gcn_norm(graph.indptr, graph.indices, weight, None, scale, True)
    edge_index = graph.to_edge_index()
    is_loop = edge_index[0] == edge_index[1]
    # PyG drops self-loops and appends one for every node.
    _, theirs = pyg_gcn_norm(edge_index, weight, graph.num_nodes)
    assert_close(torch.cat([ours[~is_loop], self_loop * scale.square()]), theirs)


@given(graph=csc_graphs())
def test_counted_degrees_are_those_of_the_graph(graph: CSCGraph):
    degree, self_loop = reference.count_degrees(
        graph.indptr, graph.indices, graph.edge_weight, graph.num_nodes, torch.float32
    )
    assert_close(degree, graph.degree)
    if graph.self_loop_weight is None:
        assert self_loop is None
    else:
        assert_close(self_loop, graph.self_loop_weight)
