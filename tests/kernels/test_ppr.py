from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import ppr as cpu
from gnnfast.kernels.reference import ppr as reference
from tests.strategies import csc_graphs

alphas = st.sampled_from([0.1, 0.2, 0.5, 0.85])
accuracies = st.sampled_from([0.3, 0.05, 1e-2, 1e-4])


def push(graph: CSCGraph, starts: list[int], alpha: float, eps: float, top_k: int) -> list[list[tuple[int, float]]]:
    """For each start the (node, influence) pairs that the kernel finds."""
    ptr = np.empty(len(starts) + 1, np.int64)
    nodes, scores = np.empty(len(starts) * top_k, np.int64), np.empty(len(starts) * top_k)
    graph_arrays = graph.indptr.numpy(), graph.indices.numpy()
    cpu.push_ppr(*graph_arrays, np.array(starts, np.int64), alpha, eps, top_k, ptr, nodes, scores)
    pairs = list(zip(nodes.tolist(), scores.tolist(), strict=True))
    return [pairs[first:last] for first, last in pairwise(ptr)]


def large_graph(seed: int) -> CSCGraph:
    """700 nodes, some without in-edges; heavy tails."""
    rng = np.random.default_rng(seed)
    dst = (600 * rng.random(4000) ** 2).astype(np.int64)
    return CSCGraph.from_edge_index(torch.from_numpy(np.stack([rng.integers(0, 700, 4000), dst])), 700)


@given(graph=csc_graphs(), alpha=alphas, eps=accuracies, top_k=st.integers(1, 8))
def test_the_largest_influences_equal_the_reference(graph: CSCGraph, alpha: float, eps: float, top_k: int):
    # Every node twice, in both orders: nothing of one search may reach another.
    starts = [*range(graph.num_nodes), *reversed(range(graph.num_nodes))]
    for start, got in zip(starts, push(graph, starts, alpha, eps, top_k), strict=True):
        found, _ = reference.push_ppr(graph.indptr, graph.indices, start, alpha, eps)
        assert got == reference.keep_largest(found, start, top_k)


@pytest.mark.parametrize("eps", [1e-2, 1e-3, 1e-4])
def test_searches_that_outgrow_their_memory_equal_the_reference(eps: float):
    graph = large_graph(3)
    starts = [5, 699, 350, 5, 20]
    got = push(graph, starts, 0.15, eps, 700)
    for start, pairs in zip(starts, got, strict=True):
        found, _ = reference.push_ppr(graph.indptr, graph.indices, start, 0.15, eps)
        assert pairs == reference.keep_largest(found, start, 700)
    assert len(got[0]) > 64 or eps > 1e-4


@given(graph=csc_graphs(), alpha=alphas, eps=accuracies)
def test_what_is_missing_is_what_was_not_walked(graph: CSCGraph, alpha: float, eps: float):
    exact = reference.exact_ppr(graph.indptr, graph.indices, alpha)
    for start, pairs in enumerate(push(graph, list(range(graph.num_nodes)), alpha, eps, graph.num_nodes)):
        _, rest = reference.push_ppr(graph.indptr, graph.indices, start, alpha, eps)
        missing = sum(r * exact[node] for node, r in rest.items())
        approximate = dict(pairs)
        for node in set(range(graph.num_nodes)) - {start}:
            difference = float(exact[start, node]) - approximate.get(node, 0.0)
            assert difference == pytest.approx(float(missing[node]), abs=1e-12)
            # In any orientation: r(v) <= eps * in-degree(v), and pi >= 0.
            bound = eps * float(graph.in_degree.double() @ exact[:, node])
            assert -1e-12 <= difference <= bound + 1e-12


@given(graph=csc_graphs(weighted=False), alpha=alphas, eps=accuracies)
def test_the_error_is_below_eps_times_the_degree_where_edges_go_both_ways(graph: CSCGraph, alpha: float, eps: float):
    graph = graph.to_undirected()
    exact = reference.exact_ppr(graph.indptr, graph.indices, alpha)
    for start, pairs in enumerate(push(graph, list(range(graph.num_nodes)), alpha, eps, graph.num_nodes)):
        for node, influence in pairs:
            difference = float(exact[start, node]) - influence
            assert -1e-12 <= difference <= eps * int(graph.in_degree[node]) + 1e-12


@given(graph=csc_graphs(), alpha=alphas, data=st.data())
def test_power_iteration_converges_to_the_mean_of_exact_influences(graph: CSCGraph, alpha: float, data: st.DataObject):
    starts = data.draw(st.lists(st.integers(0, graph.num_nodes - 1), min_size=1, unique=True))
    exact = reference.exact_ppr(graph.indptr, graph.indices, alpha)[starts].mean(0)
    score = np.empty(graph.num_nodes)
    for rounds in (5, 50):
        cpu.iterate_ppr(graph.indptr.numpy(), graph.indices.numpy(), np.array(starts), alpha, rounds, score)
        assert score.sum() == pytest.approx(1.0)
        assert np.abs(score - exact.numpy()).sum() <= 2 * (1 - alpha) ** rounds + 1e-12


@given(pairs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30), max_size=st.integers(1, 6))
def test_merged_groups_equal_the_reference(pairs: list[tuple[int, int]], max_size: int):
    group_of = np.empty(12, np.int64)
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
    cpu.merge_pairs(first, second, max_size, group_of)
    groups = {root: {i for i in range(12) if group_of[i] == root} for root in group_of.tolist()}
    expected = reference.merge_pairs(pairs, max_size, 12)
    assert sorted(map(sorted, groups.values())) == sorted(map(sorted, expected))
    assert all(root in members for root, members in groups.items())
