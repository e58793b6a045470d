from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import random_walk as cpu
from gnnfast.kernels.reference import random_walk as reference
from tests.chi_square import equal_cells_p_value, independence_p_value
from tests.strategies import csc_graphs

keys = st.integers(0, 2**64 - 1)


def walks(graph: CSCGraph, roots: torch.Tensor, length: int, key: int) -> np.ndarray:
    out = np.full((roots.numel(), length + 1), -1)
    cpu.random_walks(graph.indptr.numpy(), graph.indices.numpy(), roots.numpy(), length, np.uint64(key), out)
    return out


@given(graph=csc_graphs(), length=st.integers(0, 4), key=keys, data=st.data())
def test_walks_equal_the_reference(graph: CSCGraph, length: int, key: int, data: st.DataObject):
    some_nodes = st.lists(st.integers(0, graph.num_nodes - 1), max_size=70)
    roots = torch.tensor(data.draw(some_nodes), dtype=torch.int64)
    expected = reference.random_walks(graph.indptr, graph.indices, roots, length, key)
    assert walks(graph, roots, length, key).tolist() == expected.tolist()


def test_every_walk_is_equally_likely():
    # Each of four nodes hears the other three: 27 walks of three steps.
    others = torch.tensor([[u for u in range(4) if u != v] for v in range(4)])
    graph = CSCGraph(3 * torch.arange(5), others.view(-1).int())
    drawn = walks(graph, torch.zeros(100_000, dtype=torch.int64), 3, 5)
    _, counts = np.unique(drawn @ [64, 16, 4, 1], return_counts=True)
    assert counts.size == 27
    assert equal_cells_p_value(counts) > 1e-4


def test_neighboring_walks_are_independent():
    graph = CSCGraph(torch.tensor([0, 16] + 16 * [16]), 1 + torch.arange(16))
    drawn = walks(graph, torch.zeros(100_000, dtype=torch.int64), 1, 9)[:, 1] - 1
    assert independence_p_value(drawn[::2], drawn[1::2], 16) > 1e-4


def test_a_walk_stays_where_nobody_is_heard():
    graph = CSCGraph.from_edge_index(torch.tensor([[2], [1]]), 3)
    assert walks(graph, torch.tensor([1, 0]), 3, 0).tolist() == [[1, 2, 2, 2], [0, 0, 0, 0]]


@given(
    graph=csc_graphs(),
    fanout=st.integers(1, 6),
    num_walks=st.integers(1, 20),
    walk_length=st.integers(1, 4),
    restart=st.sampled_from([0.0, 0.3, 1.0]),
    key=keys,
    data=st.data(),
)
def test_neighborhoods_equal_the_reference(
    graph: CSCGraph, fanout: int, num_walks: int, walk_length: int, restart: float, key: int, data: st.DataObject
):
    nodes = torch.tensor(data.draw(st.permutations(range(graph.num_nodes))), dtype=torch.int64)
    size = graph.num_nodes * min(fanout, num_walks * walk_length)
    indptr, visited, weight = (
        np.empty(nodes.numel() + 1, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.float32),
    )
    cpu.visit_neighborhoods(
        *(tensor.numpy() for tensor in (graph.indptr, graph.indices, graph.degree, nodes)),
        *(np.uint64(key), fanout, num_walks, walk_length, restart),
        *(indptr, visited, weight),
    )
    arguments = (nodes, key, fanout, num_walks, walk_length, restart)
    for i, expected in enumerate(reference.visit_neighborhoods(graph.indptr, graph.indices, *arguments)):
        first, last = indptr[i : i + 2]
        assert visited[first:last].tolist() == [node for node, _ in expected]
        total = sum(count for _, count in expected)
        degree = float(graph.degree[nodes[i]]) or len(expected)
        assert np.allclose(weight[first:last], [count / total * degree for _, count in expected], rtol=1e-6)


def test_visits_follow_the_law_of_walks_with_restart():
    # 0 hears 1 and 2, both hear 3, which hears nobody: a walk meets 1 or 2, then 3 unless it ends before.
    graph = CSCGraph.from_edge_index(torch.tensor([[1, 2, 3, 3], [0, 0, 1, 2]]), 4)
    num_walks = 100_000
    indptr, visited, weight = np.empty(2, np.int64), np.empty(3, np.int64), np.empty(3, np.float32)
    cpu.visit_neighborhoods(
        *(tensor.numpy() for tensor in (graph.indptr, graph.indices, graph.degree, torch.tensor([0]))),
        *(np.uint64(3), 3, num_walks, 5, 0.7),
        *(indptr, visited, weight),
    )
    share = dict(zip(visited.tolist(), (weight / weight.sum()).tolist(), strict=True))
    # A node met with probability p in a walk has the share p / 1.3.
    for node, p in ((1, 0.5), (2, 0.5), (3, 0.3)):
        assert abs(share[node] * 1.3 - p) < 5 * (p * (1 - p) / num_walks) ** 0.5
    assert weight.sum() == pytest.approx(2)
