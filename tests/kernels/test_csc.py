from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import csc as cpu
from gnnfast.kernels.reference import csc as reference
from tests.strategies import csc_graphs, edge_lists

NO_WEIGHTS = np.empty(0)


@given(
    edges=st.integers(1, 10).flatmap(edge_lists),
    in_dtype=st.sampled_from([torch.int32, torch.int64]),
    out_dtype=st.sampled_from([torch.int32, torch.int64]),
    keep_positions=st.booleans(),
)
def test_sorting_edges_equals_the_reference(
    edges: list[tuple[int, int]], in_dtype: torch.dtype, out_dtype: torch.dtype, keep_positions: bool
):
    num_nodes = 10
    src, dst = torch.tensor(edges, dtype=in_dtype).view(-1, 2).T.contiguous()
    indptr = torch.empty(num_nodes + 1, dtype=torch.int64)
    indices = torch.empty(len(edges), dtype=out_dtype)
    positions = torch.empty(len(edges) if keep_positions else 0, dtype=torch.int64)
    cpu.edges_to_csc(src.numpy(), dst.numpy(), indptr.numpy(), indices.numpy(), positions.numpy())
    expected_indptr, expected_indices, expected_positions = reference.edges_to_csc(src, dst, num_nodes)
    assert torch.equal(indptr, expected_indptr)
    assert torch.equal(indices.long(), expected_indices.long())
    assert not keep_positions or torch.equal(positions, expected_positions)


@given(graph=csc_graphs(), num_extra=st.integers(0, 3), keep_edges=st.booleans())
def test_transposing_equals_the_reference(graph: CSCGraph, num_extra: int, keep_edges: bool):
    num_src = graph.num_nodes + num_extra
    indptr = torch.empty(num_src + 1, dtype=torch.int64)
    indices = torch.empty_like(graph.indices)
    edges = torch.empty_like(graph.indices if keep_edges else graph.indices[:0])
    cpu.transpose_csc(graph.indptr.numpy(), graph.indices.numpy(), indptr.numpy(), indices.numpy(), edges.numpy())
    expected_indptr, expected_indices, expected_edges = reference.transpose_csc(graph.indptr, graph.indices, num_src)
    assert torch.equal(indptr, expected_indptr)
    assert torch.equal(indices.long(), expected_indices)
    assert not keep_edges or torch.equal(edges.long(), expected_edges)


@given(graph=csc_graphs())
def test_merging_parallel_edges_equals_the_reference(graph: CSCGraph):
    indptr, sources, _ = reference.transpose_csc(graph.indptr, graph.indices, graph.num_nodes)
    expected_indptr, expected_sources, expected_weight = reference.merge_parallel_edges(
        indptr, sources, graph.edge_weight
    )
    merged = torch.empty_like(indptr)
    weight = NO_WEIGHTS if graph.edge_weight is None else graph.edge_weight.numpy().copy()
    sources = sources.clone()
    cpu.merge_parallel_edges(indptr.numpy(), sources.numpy(), weight, merged.numpy())
    num_edges = int(merged[-1])
    assert torch.equal(merged, expected_indptr)
    assert torch.equal(sources[:num_edges], expected_sources)
    if expected_weight is not None:
        assert torch.equal(torch.from_numpy(weight[:num_edges]), expected_weight)


@given(graph=csc_graphs())
def test_summing_columns_equals_the_reference(graph: CSCGraph):
    degree, self_loop = torch.empty(2, graph.num_nodes, dtype=torch.float64)
    weight = NO_WEIGHTS if graph.edge_weight is None else graph.edge_weight.double().numpy()
    num_loops = cpu.sum_columns(graph.indptr.numpy(), graph.indices.numpy(), weight, degree.numpy(), self_loop.numpy())
    expected_degree, expected_loop, expected_num_loops = reference.sum_columns(
        graph.indptr, graph.indices, graph.edge_weight
    )
    assert torch.equal(degree, expected_degree)
    assert torch.equal(self_loop, expected_loop)
    assert num_loops == expected_num_loops
