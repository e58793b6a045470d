from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import closure as cpu
from gnnfast.kernels.reference import closure as reference
from tests.strategies import csc_graphs


def some_nodes(data: st.DataObject, graph: CSCGraph) -> torch.Tensor:
    return torch.tensor(data.draw(st.lists(st.integers(0, graph.num_nodes - 1), max_size=12)), dtype=torch.int64)


def offsets(degree: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), degree.cumsum(0)])


@given(graph=csc_graphs(), data=st.data())
def test_marked_nodes_equal_the_reference(graph: CSCGraph, data: st.DataObject):
    nodes = some_nodes(data, graph)
    marked = torch.zeros(graph.num_nodes, dtype=torch.bool)
    expected = reference.mark_in_neighbors(graph.indptr, graph.indices, nodes, marked)

    cpu.mark_in_neighbors(graph.indptr.numpy(), graph.indices.numpy(), nodes.numpy(), marked.numpy())

    assert torch.equal(marked, expected)


@given(graph=csc_graphs(), data=st.data())
def test_joined_columns_equal_the_reference_in_two_ranges(graph: CSCGraph, data: st.DataObject):
    nodes = some_nodes(data, graph)
    indptr = offsets(graph.in_degree[nodes])
    out = graph.indices.new_empty(int(indptr[-1]))
    arrays = [tensor.numpy() for tensor in (indptr, graph.indptr, nodes, graph.indices, out)]

    cpu.join_columns(0, nodes.numel() // 2, *arrays)
    cpu.join_columns(nodes.numel() // 2, nodes.numel(), *arrays)

    assert torch.equal(out, reference.join_columns(graph.indptr, nodes, graph.indices))


@given(graph=csc_graphs(), data=st.data())
def test_columns_joined_with_each_node_itself_equal_the_reference_in_two_ranges(graph: CSCGraph, data: st.DataObject):
    nodes = some_nodes(data, graph)
    degree = torch.empty_like(nodes)
    arrays = [tensor.numpy() for tensor in (nodes, graph.indptr, graph.indices, degree)]
    cpu.count_columns_with_self(0, nodes.numel(), *arrays)
    assert torch.equal(degree, reference.count_columns_with_self(nodes, graph.indptr, graph.indices))
    indptr = offsets(degree)
    out = graph.indices.new_empty(int(indptr[-1]))
    arrays = [tensor.numpy() for tensor in (indptr, graph.indptr, nodes, graph.indices, out)]

    cpu.join_columns_with_self(0, nodes.numel() // 2, *arrays)
    cpu.join_columns_with_self(nodes.numel() // 2, nodes.numel(), *arrays)

    assert torch.equal(out, reference.join_columns_with_self(graph.indptr, nodes, graph.indices))


@given(graph=csc_graphs())
def test_rows_of_ids_equal_the_reference(graph: CSCGraph):
    ids = graph.indices.clone()
    row_of = torch.arange(graph.num_nodes, dtype=ids.dtype).flip(0) * 3

    cpu.take_rows_of(0, ids.numel(), row_of.numpy(), ids.numpy())

    assert torch.equal(ids, reference.take_rows_of(row_of, graph.indices))
