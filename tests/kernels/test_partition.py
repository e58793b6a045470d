from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import partition as kernels
from gnnfast.kernels.reference import partition as reference
from gnnfast.partition.neighborhood import Neighborhood
from tests.strategies import csc_graphs


def sorted_columns(graph: CSCGraph) -> CSCGraph:
    src, dst = graph.to_edge_index()
    return CSCGraph.from_edge_index(torch.stack([src, dst])[:, src.argsort()], graph.num_nodes)


def as_tensors(links: Neighborhood) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.from_numpy(links.indptr), torch.from_numpy(links.indices), torch.from_numpy(links.counts)


@given(graph=csc_graphs(weighted=False, edge_ids=False))
def test_parallel_edges_are_counted_as_by_the_reference(graph: CSCGraph):
    graph = sorted_columns(graph)
    expected = reference.join_parallel_edges(graph.indptr, graph.indices)
    indices = graph.indices.numpy().copy()
    indptr, counts = np.empty(graph.num_nodes + 1, np.int64), np.empty(graph.num_edges, np.int64)
    kernels.join_parallel_edges(graph.indptr.numpy(), indices, indptr, counts)
    assert indptr.tolist() == expected[0].tolist()
    assert indices[: indptr[-1]].tolist() == expected[1].tolist()
    assert counts[: indptr[-1]].tolist() == expected[2].tolist()


@given(graph=csc_graphs(weighted=False), data=st.data())
def test_parts_grow_and_are_refined_as_by_the_reference(graph: CSCGraph, data: st.DataObject):
    links = Neighborhood.of(graph)
    num_parts = data.draw(st.integers(1, graph.num_nodes))
    order = np.array(data.draw(st.permutations(range(graph.num_nodes))))
    arrays = (links.indptr, links.indices, links.counts)
    part_of = np.empty(graph.num_nodes, np.int64)
    kernels.grow_parts(*arrays, order, num_parts, part_of)
    grown = reference.grow_parts(*as_tensors(links), order.tolist(), num_parts)
    assert part_of.tolist() == grown
    sizes = np.bincount(part_of, minlength=num_parts)
    assert sizes.max() - sizes.min() <= 1

    cut_before, _ = kernels.count_cut_edges(graph.indptr.numpy(), graph.indices.numpy(), part_of)
    largest, smallest = int(sizes.max()) + data.draw(st.integers(0, 2)), data.draw(st.integers(1, int(sizes.min())))
    saved = kernels.refine_parts(*arrays, order, largest, smallest, 3, part_of, sizes)
    refined = reference.refine_parts(*as_tensors(links), order.tolist(), largest, smallest, 3, grown, num_parts)
    assert (part_of.tolist(), saved) == refined
    assert sizes.tolist() == np.bincount(part_of, minlength=num_parts).tolist()
    assert sizes.max() <= largest
    assert sizes.min() >= smallest
    # `saved` counts an edge at both of its ends.
    cut_after, _ = kernels.count_cut_edges(graph.indptr.numpy(), graph.indices.numpy(), part_of)
    assert 2 * (cut_before - cut_after) == saved


@given(graph=csc_graphs(), data=st.data())
def test_cut_edges_are_those_of_the_reference(graph: CSCGraph, data: st.DataObject):
    parts = st.lists(st.integers(0, 3), min_size=graph.num_nodes, max_size=graph.num_nodes)
    part_of = torch.tensor(data.draw(parts), dtype=torch.int64)
    expected = reference.count_cut_edges(graph.indptr, graph.indices, part_of)
    assert kernels.count_cut_edges(graph.indptr.numpy(), graph.indices.numpy(), part_of.numpy()) == expected
