from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import shadow as cpu
from gnnfast.kernels.reference import shadow as reference
from tests.strategies import csc_graphs

hop_keys = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3)


def draw(
    graph: CSCGraph, seed_nodes: Tensor, keys: list[int], budget: int, replace: bool, room: int
) -> list[list[int]]:
    """The nodes of each ego, in lists that are too short at first."""
    ego_ptr = np.zeros(seed_nodes.numel() + 1, np.int64)
    others = np.empty(room, np.int64)
    done = calls = 0
    while True:
        done = cpu.draw_egos(
            graph.indptr.numpy(),
            graph.indices.numpy(),
            seed_nodes.numpy(),
            done,
            np.array(keys, np.uint64),
            budget,
            replace,
            ego_ptr,
            others,
        )
        if done == seed_nodes.numel():
            break
        calls += 1
        assert calls < 20
        others = np.concatenate([others[: ego_ptr[done]], np.empty(2 * others.size, np.int64)])
    return [
        [seed_node, *others[first:last].tolist()]
        for seed_node, first, last in zip(seed_nodes.tolist(), ego_ptr, ego_ptr[1:], strict=False)
    ]


def induce(graph: CSCGraph, egos: list[list[int]], is_sorted: bool, room: int) -> tuple[Tensor, Tensor, Tensor]:
    """(indptr, rows of sources, positions), in lists that are too short at first."""
    num_egos = len(egos)
    ego_ptr = np.cumsum([0] + [len(nodes) - 1 for nodes in egos])
    others = np.array([node for nodes in egos for node in nodes[1:]], np.int64)
    seed_ptr, other_ptr = np.zeros(num_egos + 1, np.int64), np.zeros(others.size + 1, np.int64)
    lists = [np.empty(room, dtype) for dtype in (np.int32, np.int64, np.int32, np.int64)]
    done = calls = 0
    while True:
        done = cpu.induce_egos(
            graph.indptr.numpy(),
            graph.indices.numpy(),
            is_sorted,
            np.array([nodes[0] for nodes in egos], np.int64),
            ego_ptr,
            others,
            done,
            seed_ptr,
            *lists[:2],
            other_ptr,
            *lists[2:],
        )
        if done == num_egos:
            break
        calls += 1
        assert calls < 20
        used = [seed_ptr[done]] * 2 + [other_ptr[ego_ptr[done]]] * 2
        lists = [
            np.concatenate([values[:n], np.empty(2 * values.size, values.dtype)])
            for values, n in zip(lists, used, strict=True)
        ]
    indptr = np.concatenate([seed_ptr, other_ptr[1:] + seed_ptr[-1]])
    rows = np.concatenate([lists[0][: seed_ptr[-1]], lists[2][: other_ptr[-1]]])
    edges = np.concatenate([lists[1][: seed_ptr[-1]], lists[3][: other_ptr[-1]]])
    return torch.from_numpy(indptr), torch.from_numpy(rows), torch.from_numpy(edges)


def some_nodes(data: st.DataObject, graph: CSCGraph) -> Tensor:
    return torch.tensor(data.draw(st.lists(st.integers(0, graph.num_nodes - 1), max_size=6)), dtype=torch.int64)


@given(
    graph=csc_graphs(max_nodes=14, max_edges=60),
    keys=hop_keys,
    budget=st.sampled_from([-1, 1, 2, 3]),
    replace=st.booleans(),
    room=st.sampled_from([1, 5, 100]),
    data=st.data(),
)
def test_drawn_egos_equal_the_reference(
    graph: CSCGraph, keys: list[int], budget: int, replace: bool, room: int, data: st.DataObject
):
    seed_nodes = some_nodes(data, graph)
    expected = reference.draw_egos(graph.indptr, graph.indices, seed_nodes, keys, budget, replace)
    assert draw(graph, seed_nodes, keys, budget, replace, room) == expected


@given(graph=csc_graphs(max_nodes=14, max_edges=60), keys=hop_keys, room=st.sampled_from([1, 5, 100]), data=st.data())
def test_induced_egos_equal_the_reference(graph: CSCGraph, keys: list[int], room: int, data: st.DataObject):
    egos = reference.draw_egos(graph.indptr, graph.indices, some_nodes(data, graph), keys, 2, False)
    for is_sorted in {False, bool(cpu.are_columns_sorted(graph.indptr.numpy(), graph.indices.numpy()))}:
        got = induce(graph, egos, is_sorted, room)
        for tensor, expected in zip(got, reference.induce_egos(graph.indptr, graph.indices, egos), strict=True):
            assert torch.equal(tensor.long(), expected)


@given(seed=st.integers(0, 2**32 - 1))
def test_large_egos_in_long_sorted_columns_equal_the_reference(seed: int):
    # 40 nodes draw from columns of up to 4000 edges with many parallel ones: columns are searched, tables grow.
    rng = np.random.default_rng(seed)
    dst = np.minimum(rng.geometric(0.2, 6000) - 1, 299)
    edge_index = torch.from_numpy(np.stack([rng.integers(0, 300, 6000), dst]))
    graph = CSCGraph.from_edge_index(edge_index[:, edge_index[0].argsort(stable=True)], 300)
    assert cpu.are_columns_sorted(graph.indptr.numpy(), graph.indices.numpy())
    seed_nodes = torch.from_numpy(rng.integers(0, 40, 3))
    egos = reference.draw_egos(graph.indptr, graph.indices, seed_nodes, [seed, 1], 6, False)
    assert draw(graph, seed_nodes, [seed, 1], 6, False, 1000) == egos
    expected = reference.induce_egos(graph.indptr, graph.indices, egos)
    for is_sorted in (False, True):
        for tensor, by_reference in zip(induce(graph, egos, is_sorted, 100), expected, strict=True):
            assert torch.equal(tensor.long(), by_reference)


@given(graph=csc_graphs())
def test_columns_are_sorted_if_no_source_is_below_the_one_before(graph: CSCGraph):
    columns = [graph.indices[first:last].tolist() for first, last in zip(graph.indptr, graph.indptr[1:], strict=False)]
    expected = all(column == sorted(column) for column in columns)
    assert cpu.are_columns_sorted(graph.indptr.numpy(), graph.indices.numpy()) == expected
