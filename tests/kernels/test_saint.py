from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import saint as cpu
from gnnfast.kernels.reference import saint as reference
from tests.chi_square import equal_cells_p_value
from tests.strategies import csc_graphs

keys = st.integers(0, 2**64 - 1)
NO_JOINT = np.empty(0)


@given(num_nodes=st.integers(1, 1000), num_draws=st.integers(0, 50), key=keys)
def test_drawn_nodes_equal_the_reference(num_nodes: int, num_draws: int, key: int):
    out = np.empty(num_draws, np.int64)
    cpu.draw_nodes(num_nodes, np.uint64(key), out)
    assert out.tolist() == reference.draw_nodes(num_nodes, key, num_draws).tolist()


@given(graph=csc_graphs(), num_draws=st.integers(1, 80), key=keys)
def test_drawn_edge_ends_equal_the_reference(graph: CSCGraph, num_draws: int, key: int):
    out = np.empty((num_draws, 2), np.int64)
    cpu.draw_edge_ends(graph.indptr.numpy(), graph.indices.numpy(), np.uint64(key), out)
    assert out.tolist() == reference.draw_edge_ends(graph.indptr, graph.indices, key, num_draws).tolist()


@given(graph=csc_graphs(), num_walks=st.integers(1, 9), num_steps=st.integers(0, 20), key=keys, data=st.data())
def test_a_walk_of_many_heads_equals_the_reference(
    graph: CSCGraph, num_walks: int, num_steps: int, key: int, data: st.DataObject
):
    nodes = st.lists(st.integers(0, graph.num_nodes - 1), min_size=num_walks, max_size=num_walks)
    frontier = torch.tensor(data.draw(nodes))
    out = np.empty(num_steps, np.int64)
    taken = cpu.frontier_walk(graph.indptr.numpy(), graph.indices.numpy(), frontier.numpy().copy(), np.uint64(key), out)
    expected = reference.frontier_walk(graph.indptr, graph.indices, frontier, key, num_steps)
    assert out[:taken].tolist() == expected.tolist()


def test_the_head_of_most_edges_steps_most_often():
    # Heads at nodes of 1, 2, 3, 0 and 4 in-edges: the first step takes each of the ten edges alike.
    graph = CSCGraph(torch.tensor([0, 1, 3, 6, 6, 10]), torch.tensor([0, 0, 1, 0, 1, 2, 0, 1, 2, 3]))
    sources = CSCGraph(torch.tensor([0, 1, 3, 6, 6, 10, *[10] * 10]), torch.arange(5, 15))
    out, counts = np.empty(1, np.int64), np.zeros(10, np.int64)
    for key in range(20_000):
        cpu.frontier_walk(sources.indptr.numpy(), sources.indices.numpy(), np.arange(5), np.uint64(key), out)
        counts[out[0] - 5] += 1
    assert graph.num_edges == counts.size
    assert equal_cells_p_value(counts) > 1e-4


@given(graph=csc_graphs(min_nodes=2), num_draws=st.integers(2, 40), with_joint=st.booleans(), data=st.data())
def test_weights_of_independent_draws_equal_inclusion_and_exclusion(
    graph: CSCGraph, num_draws: int, with_joint: bool, data: st.DataObject
):
    if with_joint:
        draw_probability = reference.edge_draw_probability(graph.indptr, graph.indices)
        joint = reference.edge_joint_probability(graph.indptr, graph.indices, graph.in_degree, graph.num_nodes)
    else:
        weights = st.lists(st.integers(1, 20), min_size=graph.num_nodes, max_size=graph.num_nodes)
        draw_probability, joint = torch.tensor(data.draw(weights), dtype=torch.float64), None
        draw_probability /= draw_probability.sum()
    out = torch.empty(graph.num_edges)
    cpu.independent_weights(
        graph.indptr.numpy(),
        graph.indices.numpy(),
        draw_probability.numpy(),
        NO_JOINT if joint is None else joint.numpy(),
        num_draws,
        out.numpy(),
    )
    expected = reference.independent_weights(graph.indptr, graph.indices, draw_probability, joint, num_draws)
    torch.testing.assert_close(out.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("p_u", [1e-12, 1e-6, 1e-3, 0.5])
@pytest.mark.parametrize("p_v", [1e-12, 3e-7, 2e-3, 0.5])
@pytest.mark.parametrize("num_draws", [2, 7, 4000])
def test_weights_keep_their_digits_where_probabilities_are_tiny(p_u: float, p_v: float, num_draws: int):
    out = np.empty(1, np.float32)
    cpu.independent_weights(
        np.array([0, 0, 1]), np.array([0], np.int32), np.array([p_u, p_v]), NO_JOINT, num_draws, out
    )
    u, v = Fraction(p_u), Fraction(p_v)
    # Of 4000 draws the exact fractions have too many digits: the first terms of the series are enough where p is tiny.
    if num_draws == 4000:
        u, v = (Fraction(p).limit_denominator(10**13) for p in (p_u, p_v))
    both = 1 - (1 - u) ** num_draws - (1 - v) ** num_draws + (1 - u - v) ** num_draws
    assert out[0] == pytest.approx(float((1 - (1 - v) ** num_draws) / both), rel=1e-5)


def test_a_node_that_every_draw_takes_leaves_its_neighbors_weight_one():
    out = np.empty(2, np.float32)
    cpu.independent_weights(
        np.array([0, 1, 2]), np.array([1, 0], np.int32), np.array([1.0, 0.25]), np.array([0.25, 0.25]), 3, out
    )
    # Node 0 is always there: node 1 never lacks it, and it has node 1 with probability 1 - 0.75 ** 3.
    np.testing.assert_allclose(out, [1 / (1 - 0.75**3), 1], rtol=1e-6)


@given(graph=csc_graphs())
def test_probabilities_of_edge_draws_equal_the_reference(graph: CSCGraph):
    taken = np.empty(graph.num_nodes)
    cpu.edge_draw_probability(graph.indptr.numpy(), graph.indices.numpy(), taken)
    np.testing.assert_allclose(taken, reference.edge_draw_probability(graph.indptr, graph.indices), rtol=1e-12)

    out_indptr, out_indices, _ = graph.to_block().transpose
    joint = np.empty(graph.num_edges)
    cpu.edge_joint_probability(
        graph.indptr.numpy(),
        graph.indices.numpy(),
        out_indptr.numpy(),
        out_indices.numpy(),
        graph.in_degree.numpy(),
        graph.num_nodes,
        joint,
    )
    expected = reference.edge_joint_probability(graph.indptr, graph.indices, graph.in_degree, graph.num_nodes)
    np.testing.assert_allclose(joint, expected, rtol=1e-12)


@given(graph=csc_graphs(), data=st.data())
def test_counts_and_their_weights_equal_the_reference(graph: CSCGraph, data: st.DataObject):
    node_count, edge_count = np.zeros(graph.num_nodes, np.int32), np.zeros(graph.num_edges, np.int32)
    edges = np.arange(graph.num_edges)
    nodes = np.array(data.draw(st.permutations(range(graph.num_nodes))), dtype=np.int64)
    for part in (nodes, nodes[::2]):
        cpu.count_inclusions(part, edges[::2], node_count, edge_count)
    expected = np.ones(graph.num_nodes)
    expected[nodes[::2]] = 2
    assert node_count.tolist() == expected.tolist()
    assert edge_count.tolist() == [2 * (edge % 2 == 0) for edge in range(graph.num_edges)]

    weight = torch.empty(graph.num_edges)
    cpu.counted_weights(graph.indptr.numpy(), edges[::-1].copy(), node_count, edge_count, weight.numpy())
    counts = torch.from_numpy(node_count), torch.from_numpy(edge_count)
    assert torch.equal(weight, reference.counted_weights(graph.indptr, torch.arange(edges.size).flip(0), *counts))


@given(graph=csc_graphs())
def test_column_norms_equal_those_of_the_dense_operator(graph: CSCGraph):
    loops = torch.ones(graph.num_nodes) if graph.self_loop_weight is None else graph.self_loop_weight
    scale = (graph.degree + loops).double().pow(-0.5)
    src, dst = graph.to_edge_index()
    weight = torch.ones(graph.num_edges) if graph.edge_weight is None else graph.edge_weight
    # Parallel edges are separate terms of a sum: their squares add up.
    terms = torch.zeros(graph.num_edges + graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    kept = src != dst
    terms[torch.arange(graph.num_edges), src] = torch.where(kept, scale[src] * weight * scale[dst], 0)
    terms[graph.num_edges :] = torch.diag(loops * scale.square())
    norms = np.empty(graph.num_nodes)
    edge_weight = np.empty(0, np.float32) if graph.edge_weight is None else graph.edge_weight.numpy()
    cpu.gcn_column_norms(
        graph.indptr.numpy(), graph.indices.numpy(), edge_weight, scale.numpy(), loops.double().numpy(), norms
    )
    np.testing.assert_allclose(norms, reference.gcn_column_norms(terms), rtol=1e-6, atol=1e-12)

    out_degree = np.empty(graph.num_nodes, np.int64)
    cpu.count_sources(graph.indices.numpy(), out_degree)
    assert out_degree.tolist() == torch.bincount(src, minlength=graph.num_nodes).tolist()
