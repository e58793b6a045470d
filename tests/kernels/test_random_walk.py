from __future__ import annotations

import numpy as np
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
