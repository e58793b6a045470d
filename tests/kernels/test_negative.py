from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import alias, exclude, negative
from gnnfast.kernels.reference import exclude as exclude_reference
from gnnfast.kernels.reference import negative as reference
from tests.strategies import csc_graphs, edge_lists

keys = st.integers(0, 2**64 - 1)


@given(
    graph=csc_graphs(min_nodes=2),
    num_negatives=st.integers(0, 3),
    key=keys,
    draws_sources=st.booleans(),
    by_weight=st.booleans(),
    avoid=st.booleans(),
    data=st.data(),
)
def test_negatives_equal_the_reference(
    graph: CSCGraph,
    num_negatives: int,
    key: int,
    draws_sources: bool,
    by_weight: bool,
    avoid: bool,
    data: st.DataObject,
):
    num_nodes = graph.num_nodes
    edges = torch.tensor(data.draw(edge_lists(num_nodes, 6)), dtype=torch.int64).view(-1, 2).T.contiguous()
    first = data.draw(st.integers(0, num_nodes - 1))
    dst_range = (first, data.draw(st.integers(first + 1, num_nodes)))
    src_range = (0, num_nodes) if draws_sources else (0, 0)
    table = np.empty(0), np.empty(0, np.int64)
    if by_weight:
        weights = np.arange(dst_range[1] - dst_range[0]) + 1.0
        table = np.empty(weights.size), np.empty(weights.size, np.int64)
        alias.build_alias(weights, *table)
    ascending = [column.sort().values for column in graph.indices.tensor_split(graph.indptr[1:-1])]
    out = np.full((2, edges.shape[1] * num_negatives), -1)
    negative.draw_negatives(
        *(edges.numpy(), num_negatives, np.uint64(key), src_range, dst_range, *table, avoid),
        *(graph.indptr.numpy(), torch.cat(ascending).numpy(), out),
    )
    expected = reference.draw_negatives(
        *(edges, num_negatives, key, src_range, dst_range),
        tuple(torch.from_numpy(part) for part in table) if by_weight else None,
        set(zip(*graph.to_edge_index().tolist(), strict=True)) if avoid else None,
    )
    assert out.tolist() == expected.tolist()


@given(graph=csc_graphs(), data=st.data())
def test_kept_edges_equal_the_reference(graph: CSCGraph, data: st.DataObject):
    pairs = torch.tensor(data.draw(edge_lists(graph.num_nodes, 8)), dtype=torch.int64).view(-1, 2).T.contiguous()
    # Local ids that are not the global ones.
    src_nodes = torch.tensor(data.draw(st.permutations(range(graph.num_nodes))))
    slots = np.full(16, -1)
    exclude.enter_pairs(pairs.numpy(), slots)
    indptr, edges = np.empty(graph.num_nodes + 1, np.int64), np.empty(graph.num_edges, np.int64)
    block = (graph.indptr.numpy(), graph.indices.numpy(), src_nodes.numpy())
    exclude.keep_others(*block, pairs.numpy(), slots, indptr, edges)
    expected_indptr, expected = exclude_reference.keep_others(graph.indptr, graph.indices, src_nodes, pairs)
    assert indptr.tolist() == expected_indptr.tolist()
    assert edges[: indptr[-1]].tolist() == expected.tolist()
