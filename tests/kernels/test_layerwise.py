from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.graph.csc import NO_WEIGHTS
from gnnfast.kernels.cpu import layerwise as cpu
from gnnfast.kernels.reference import layerwise as reference
from tests.strategies import csc_graphs

keys = st.integers(0, 2**64 - 1)
importances = st.lists(st.sampled_from([0.0, 1e-9, 0.01, 0.5, 1.0, 3.0, 1e6]), max_size=12).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def numbered_in_edges(graph: CSCGraph, dst_nodes: Tensor) -> tuple[Tensor, int]:
    """A source's number for each in-edge, and how many there are: here the ids, backwards."""
    parts = [graph.indices[graph.indptr[v] : graph.indptr[v + 1]] for v in dst_nodes.tolist()]
    return (graph.num_nodes - 1 - torch.cat([graph.indices[:0], *parts])).int(), graph.num_nodes


def some_nodes(data: st.DataObject, graph: CSCGraph) -> Tensor:
    nodes = data.draw(st.lists(st.integers(0, graph.num_nodes - 1), unique=True, max_size=8))
    return torch.tensor(nodes, dtype=torch.int64)


@given(graph=csc_graphs(), seed=st.integers(0, 1000), data=st.data())
def test_sums_of_squares_equal_the_reference(graph: CSCGraph, seed: int, data: st.DataObject):
    dst_nodes = some_nodes(data, graph)
    sources, num_sources = numbered_in_edges(graph, dst_nodes)
    inverse = torch.rand(graph.num_nodes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    out = torch.full((num_sources,), torch.nan, dtype=torch.float64)
    weight = NO_WEIGHTS if graph.edge_weight is None else graph.edge_weight
    tensors = (graph.indptr, graph.indices, dst_nodes, sources, weight, inverse, out)
    cpu.sum_squares(*(tensor.numpy() for tensor in tensors))
    expected = reference.sum_squares(
        graph.indptr, graph.indices, dst_nodes, sources, graph.edge_weight, inverse, num_sources
    )
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=0)


@given(importance=importances, expected=st.integers(1, 12))
@example(importance=torch.ones(8, dtype=torch.float64), expected=8)
@example(importance=torch.tensor([1.0, 1.0, 1e-300], dtype=torch.float64), expected=2)
def test_poisson_probabilities_add_up_and_equal_the_reference(importance: Tensor, expected: int):
    out = torch.empty_like(importance)
    cpu.poisson_probabilities(importance.numpy(), expected, out.numpy())
    torch.testing.assert_close(out, reference.poisson_probabilities(importance, expected), rtol=1e-6, atol=1e-9)
    assert float(out.sum()) == pytest.approx(min(expected, int((importance > 0).sum())), rel=1e-4)
    assert bool(((out >= 0) & (out <= 1)).all())
    assert bool(((out > 0) == (importance > 0)).all())


@given(nodes=st.lists(st.integers(0, 2**40), max_size=8), key=keys)
def test_race_times_equal_the_reference(nodes: list[int], key: int):
    ids = torch.tensor(nodes, dtype=torch.int64)
    importance = torch.arange(len(nodes)).double()
    out = torch.empty_like(importance)
    cpu.race_times(np.uint64(key), ids.numpy(), importance.numpy(), out.numpy())
    torch.testing.assert_close(out, reference.race_times(key, ids, importance), rtol=1e-12, atol=0)


@given(graph=csc_graphs(), self_normalize=st.booleans(), seed=st.integers(0, 1000), data=st.data())
def test_kept_edges_equal_the_reference(graph: CSCGraph, self_normalize: bool, seed: int, data: st.DataObject):
    dst_nodes = some_nodes(data, graph)
    sources, num_sources = numbered_in_edges(graph, dst_nodes)
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(num_sources, dtype=torch.float64, generator=generator)
    drawn = torch.rand(num_sources, generator=generator) < 0.5
    weight = torch.where(drawn, 1 + torch.rand(num_sources, dtype=torch.float64, generator=generator), 0)
    if graph.edge_weight is not None:
        # Of both signs.
        graph.edge_weight = graph.edge_weight * (torch.arange(graph.num_edges) % 2 * 2 - 1)
    edge_weight = NO_WEIGHTS if graph.edge_weight is None else graph.edge_weight
    out = (
        torch.full((dst_nodes.numel() + 1,), -1),
        torch.empty(sources.numel(), dtype=torch.int64),
        torch.empty(sources.numel()),
    )
    columns = (graph.indptr, graph.indices, dst_nodes, sources)
    num_silent = cpu.keep_drawn(
        *(tensor.numpy() for tensor in (*columns, edge_weight, weight, scale)),
        self_normalize,
        *(tensor.numpy() for tensor in out),
    )
    indptr, edges, weights, expected_silent = reference.keep_drawn(
        *columns, graph.edge_weight, weight, scale, self_normalize
    )
    assert torch.equal(out[0], indptr)
    assert torch.equal(out[1][: edges.numel()], edges)
    torch.testing.assert_close(out[2][: edges.numel()], weights, rtol=1e-5, atol=0)
    assert num_silent == expected_silent
