from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import neighbor as cpu
from gnnfast.kernels.reference import neighbor as reference
from gnnfast.kernels.reference.random import node_key, random_below
from tests.chi_square import equal_cells_p_value, inclusion_p_value, independence_p_value, subset_counts
from tests.strategies import csc_graphs

NUM_DRAWS = 100_000
keys = st.integers(0, 2**64 - 1)


def draw(
    indptr: torch.Tensor, dst_nodes: torch.Tensor, layer_key: int, fanout: int, replace: bool = False
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """(out_indptr, edges, whether all edges were drawn once) as the kernels give them."""
    out_indptr = torch.empty(dst_nodes.numel() + 1, dtype=torch.int64)
    nodes, spans = dst_nodes.numpy(), np.empty((dst_nodes.numel(), 2), np.int64)
    complete = cpu.count_neighbors(indptr.numpy(), nodes, fanout, replace, out_indptr.numpy(), spans)
    edges = torch.empty(int(out_indptr[-1]), dtype=torch.int64)
    key = np.uint64(layer_key)
    cpu.sample_neighbors(nodes, spans, key, fanout, replace, out_indptr.numpy(), edges.numpy())
    return out_indptr, edges, complete


def draws_of_one_node(degree: int, fanout: int, replace: bool = False) -> np.ndarray:
    """Positions `(NUM_DRAWS, fanout)` that a node draws under as many keys."""
    spans, node = np.array([[0, degree]]), np.zeros(1, np.int64)
    out_indptr = np.array([0, fanout])
    edges = np.empty((NUM_DRAWS, fanout), np.int64)
    for key in range(NUM_DRAWS):
        cpu.sample_neighbors(node, spans, np.uint64(key), fanout, replace, out_indptr, edges[key])
    return edges


def draws_of_many_nodes(degree: int, fanout: int, replace: bool = False) -> np.ndarray:
    """Positions `(NUM_DRAWS, fanout)` that as many nodes draw under one key."""
    indptr, nodes = degree * torch.arange(NUM_DRAWS + 1), torch.arange(NUM_DRAWS)
    _, edges, _ = draw(indptr, nodes, 7, fanout, replace)
    return (edges.view(-1, fanout) - indptr[:-1, None]).numpy()


@given(graph=csc_graphs(), fanout=st.sampled_from([-1, 1, 2, 3, 5, 8]), replace=st.booleans(), key=keys, data=st.data())
def test_drawn_edges_equal_the_reference(graph: CSCGraph, fanout: int, replace: bool, key: int, data: st.DataObject):
    dst_nodes = torch.tensor(data.draw(st.permutations(range(graph.num_nodes))), dtype=torch.int64)
    out_indptr, edges, complete = draw(graph.indptr, dst_nodes, key, fanout, replace)
    expected_indptr, expected_complete = reference.count_neighbors(graph.indptr, dst_nodes, fanout, replace)
    assert torch.equal(out_indptr, expected_indptr)
    assert complete == expected_complete
    assert torch.equal(edges, reference.sample_neighbors(graph.indptr, dst_nodes, key, fanout, replace))


@given(graph=csc_graphs(), fanout=st.integers(1, 8), key=keys)
def test_each_node_gets_distinct_edges_of_its_own_column(graph: CSCGraph, fanout: int, key: int):
    out_indptr, edges, _ = draw(graph.indptr, torch.arange(graph.num_nodes), key, fanout)
    for node in range(graph.num_nodes):
        first, last = graph.indptr[node : node + 2].tolist()
        drawn = edges[out_indptr[node] : out_indptr[node + 1]].tolist()
        assert len(set(drawn)) == len(drawn) == min(fanout, last - first)
        assert all(first <= edge < last for edge in drawn)


@given(graph=csc_graphs(), fanout=st.integers(1, 8), key=keys)
def test_with_replacement_only_isolated_nodes_get_fewer_edges(graph: CSCGraph, fanout: int, key: int):
    out_indptr, edges, _ = draw(graph.indptr, torch.arange(graph.num_nodes), key, fanout, replace=True)
    count = out_indptr[1:] - out_indptr[:-1]
    assert torch.equal(count, torch.where(graph.in_degree > 0, fanout, 0))
    dst = torch.repeat_interleave(torch.arange(graph.num_nodes), count)
    assert bool((edges >= graph.indptr[dst]).all() and (edges < graph.indptr[dst + 1]).all())


@given(degree=st.integers(30, 300), fanout=st.integers(25, 80), key=keys)
def test_the_hash_table_draws_what_the_scan_draws(degree: int, fanout: int, key: int):
    # A node that comes twice meets its own edges unless the table forgets them.
    indptr, nodes = torch.tensor([0, degree, 2 * degree]), torch.tensor([1, 0, 1])
    _, edges, _ = draw(indptr, nodes, key, fanout)
    assert torch.equal(edges, reference.sample_neighbors(indptr, nodes, key, fanout, False))


def test_a_fanout_beyond_every_degree_costs_no_memory():
    indptr, nodes = torch.tensor([0, 40, 43]), torch.tensor([1, 0])
    _, edges, complete = draw(indptr, nodes, 0, fanout=2**40)
    assert complete
    assert edges.tolist() == [40, 41, 42, *range(40)]


@given(graph=csc_graphs(), fanout=st.sampled_from([-1, 1, 2, 5]), replace=st.booleans())
def test_inclusion_weights_are_degree_over_drawn(graph: CSCGraph, fanout: int, replace: bool):
    nodes = torch.arange(graph.num_nodes)
    out_indptr, edges, _ = draw(graph.indptr, nodes, 1, fanout, replace)
    weight = torch.empty(edges.numel())
    spans = torch.stack([graph.indptr[:-1], graph.in_degree], 1)
    cpu.inclusion_weights(spans.numpy(), out_indptr.numpy(), weight.numpy())
    assert torch.equal(weight, reference.inclusion_weights(graph.indptr, nodes, out_indptr))


@pytest.mark.parametrize("draws", [draws_of_one_node, draws_of_many_nodes])
@pytest.mark.parametrize(("degree", "fanout"), [(5, 2), (6, 3), (7, 1), (10, 9)])
def test_every_set_of_neighbors_is_equally_likely(draws, degree: int, fanout: int):
    assert equal_cells_p_value(subset_counts(draws(degree, fanout), degree)) > 1e-4


def test_every_sequence_with_replacement_is_equally_likely():
    drawn = draws_of_one_node(degree=5, fanout=3, replace=True)
    assert equal_cells_p_value(np.bincount(drawn @ [25, 5, 1], minlength=125)) > 1e-4


@pytest.mark.parametrize(("degree", "fanout"), [(10, 4), (1_000, 10), (1_000, 40), (50_000, 10), (50_000, 40)])
def test_draws_are_uniform_from_degree_10_to_50000(degree: int, fanout: int):
    counts = np.bincount(draws_of_one_node(degree, fanout).ravel(), minlength=degree)
    assert inclusion_p_value(counts, fanout) > 1e-4


@pytest.mark.parametrize("degree", [10, 1_000, 50_000])
def test_draws_with_replacement_are_uniform_from_degree_10_to_50000(degree: int):
    counts = np.bincount(draws_of_one_node(degree, 10, replace=True).ravel(), minlength=degree)
    assert equal_cells_p_value(counts) > 1e-4


def test_draws_of_neighboring_nodes_and_keys_are_independent():
    by_node = draws_of_many_nodes(degree=16, fanout=1).ravel()
    by_key = draws_of_one_node(degree=16, fanout=1).ravel()
    for drawn in (by_node, by_key):
        assert independence_p_value(drawn[0::2], drawn[1::2], 16) > 1e-4
    assert independence_p_value(by_node, by_key, 16) > 1e-4


def test_an_exclusive_bound_in_floyds_algorithm_fails_the_law():
    def faulty_floyd(key: int) -> list[int]:
        first, second = random_below(key, 0, 3), random_below(key, 1, 4)
        return [first, 4 if second == first else second]

    drawn = np.array([faulty_floyd(node_key(key, 0)) for key in range(20_000)])
    assert equal_cells_p_value(subset_counts(drawn, 5)) < 1e-100
    # Closed form: pairs within {0, 1, 2} 1/6 each, pairs of one of them with 3 or 4 1/12 each, the pair {3, 4} never.
    among_first_three = (drawn < 3).all(axis=1).mean()
    assert among_first_three == pytest.approx(1 / 2, abs=0.02)
    assert not (drawn >= 3).all(axis=1).any()
