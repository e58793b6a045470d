from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import labor as cpu
from gnnfast.kernels.reference import labor as reference
from tests.strategies import csc_graphs

keys = st.integers(0, 2**64 - 1)
fanouts = st.sampled_from([-1, 1, 2, 3, 5])


def float64(size: int) -> np.ndarray:
    return np.full(size, np.nan)


def importance_of(graph: CSCGraph, seed: int) -> Tensor:
    """Positive, over several orders of magnitude, some of it equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.exp2(torch.randint(-12, 12, (graph.num_nodes,), generator=generator).double() / 2)


def solve(graph: CSCGraph, importance: Tensor, fanout: int) -> Tensor:
    scale = torch.empty(graph.num_nodes, dtype=torch.float64)
    arrays = (tensor.numpy() for tensor in (graph.indptr, graph.indices.int(), importance))
    cpu.solve_scales(*arrays, fanout, scale.numpy())
    return scale


@given(graph=csc_graphs(), fanout=fanouts, key=keys, data=st.data())
def test_evenly_kept_edges_equal_the_reference(graph: CSCGraph, fanout: int, key: int, data: st.DataObject):
    dst_nodes = torch.tensor(data.draw(st.permutations(range(graph.num_nodes))), dtype=torch.int64)
    indptr, edges, weights = reference.keep_evenly(graph.indptr, graph.indices, dst_nodes, key, fanout)
    expected, largest = cpu.expected_draws(graph.indptr.numpy(), dst_nodes.numpy(), fanout)
    assert (expected, largest) == reference.expected_draws(graph.indptr, dst_nodes, fanout)
    out_indptr = torch.full_like(indptr, -1)
    out_edges, out_weight = torch.empty(graph.num_edges, dtype=torch.int64), torch.empty(graph.num_edges)
    arrays = [tensor.numpy() for tensor in (graph.indptr, graph.indices, dst_nodes)]
    out = [tensor.numpy() for tensor in (out_indptr, out_edges, out_weight)]
    assert cpu.keep_evenly(*arrays, np.uint64(key), fanout, 0, *out) == dst_nodes.numel()
    assert torch.equal(out_indptr, indptr)
    assert torch.equal(out_edges[: edges.numel()], edges)
    assert torch.equal(out_weight[: edges.numel()], weights)


@given(graph=csc_graphs(), fanout=fanouts, key=keys)
def test_a_full_buffer_stops_before_the_destination_that_does_not_fit(graph: CSCGraph, fanout: int, key: int):
    nodes = torch.arange(graph.num_nodes)
    indptr, edges, _ = reference.keep_evenly(graph.indptr, graph.indices, nodes, key, fanout)
    out_indptr = np.full(graph.num_nodes + 1, -1)
    arrays = [tensor.numpy() for tensor in (graph.indptr, graph.indices, nodes)]
    done, out_edges = 0, np.empty(0, np.int64)
    while done < graph.num_nodes:
        # One place more each time: exactly what the next destination may need, at last.
        out_edges = np.append(out_edges, -1)
        out_weight = np.empty(out_edges.size, np.float32)
        before, done = done, cpu.keep_evenly(*arrays, np.uint64(key), fanout, done, out_indptr, out_edges, out_weight)
        assert done >= before
    assert out_indptr.tolist() == indptr.tolist()
    assert out_edges[: edges.numel()].tolist() == edges.tolist()


@given(nodes=st.lists(st.integers(0, 2**40), max_size=8), key=keys, other=keys, angle=st.floats(0, np.pi / 2))
def test_numbers_of_nodes_equal_the_reference(nodes: list[int], key: int, other: int, angle: float):
    ids, out = torch.tensor(nodes, dtype=torch.int64), float64(len(nodes))
    cpu.draw_units(np.uint64(key), ids.numpy(), out)
    assert out.tolist() == reference.draw_units(key, ids).tolist()
    cpu.draw_turned_units(np.uint64(key), np.uint64(other), angle, ids.numpy(), out)
    np.testing.assert_allclose(out, reference.draw_turned_units(key, other, angle, ids).numpy(), rtol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2])
def test_turned_numbers_are_uniform(angle: float):
    out = float64(50_000)
    cpu.draw_turned_units(np.uint64(3), np.uint64(4), angle, np.arange(out.size), out)
    assert kstest(out, "uniform").pvalue > 1e-4


def test_turned_numbers_leave_those_of_one_key_for_those_of_the_other():
    nodes = np.arange(20_000)
    start, middle, end, other = (float64(nodes.size) for _ in range(4))
    for angle, out in ((0.0, start), (np.pi / 4, middle), (np.pi / 2, end)):
        cpu.draw_turned_units(np.uint64(3), np.uint64(4), angle, nodes, out)
    cpu.draw_turned_units(np.uint64(4), np.uint64(5), 0.0, nodes, other)
    np.testing.assert_allclose(end, other, rtol=1e-9)
    # Normals at an angle of 45 degrees correlate by its cosine, uniforms by 6 / pi asin(cosine / 2) of it.
    expected = 6 / np.pi * np.arcsin(np.cos(np.pi / 4) / 2)
    assert np.corrcoef(start, middle)[0, 1] == pytest.approx(expected, abs=0.02)
    assert abs(np.corrcoef(start, end)[0, 1]) < 0.03


@given(graph=csc_graphs(), fanout=fanouts, seed=st.integers(0, 1000))
def test_scales_equal_the_reference(graph: CSCGraph, fanout: int, seed: int):
    importance = importance_of(graph, seed)
    expected = reference.solve_scales(graph.indptr, graph.indices, importance, fanout)
    torch.testing.assert_close(solve(graph, importance, fanout), expected, rtol=1e-6, atol=0)
    scale = torch.empty(graph.num_nodes, dtype=torch.float64)
    cpu.even_scales(graph.indptr.numpy(), fanout, scale.numpy())
    assert torch.equal(scale, reference.even_scales(graph.indptr, fanout))


@given(graph=csc_graphs(max_nodes=8, max_edges=60), fanout=st.integers(1, 5), seed=st.integers(0, 1000))
def test_scales_solve_their_equation(graph: CSCGraph, fanout: int, seed: int):
    importance = importance_of(graph, seed)
    scale = solve(graph, importance, fanout)
    for node, degree in enumerate(graph.in_degree.tolist()):
        sources = graph.indices[graph.indptr[node] : graph.indptr[node + 1]].long()
        kept = (scale[node] * importance[sources]).clamp(max=1)
        if degree > fanout:
            assert float((1 / kept).sum()) == pytest.approx(degree**2 / fanout, rel=1e-4)
            assert float(kept.sum()) >= fanout * (1 - 1e-6)
        else:
            assert bool((kept >= 1 - 1e-12).all())


@given(graph=csc_graphs(), fanout=fanouts, seed=st.integers(0, 1000))
@example(graph=CSCGraph(torch.zeros(3, dtype=torch.int64), torch.empty(0, dtype=torch.int32)), fanout=2, seed=0)
def test_raised_importance_and_probabilities_equal_the_reference(graph: CSCGraph, fanout: int, seed: int):
    importance = importance_of(graph, seed)
    scale = reference.solve_scales(graph.indptr, graph.indices, importance, fanout)
    raised, out, scratch = importance.clone(), torch.empty(graph.num_edges, dtype=torch.float64), float64(12)
    indptr, candidates = graph.indptr.numpy(), graph.indices.int().numpy()
    total = cpu.raise_importance(indptr, candidates, scale.numpy(), raised.numpy(), scratch[: graph.num_nodes])
    expected, expected_total = reference.raise_importance(graph.indptr, graph.indices, scale, importance)
    assert torch.equal(raised, expected)
    assert total == pytest.approx(expected_total)
    cpu.probabilities(indptr, candidates, importance.numpy(), scale.numpy(), fanout, out.numpy())
    assert torch.equal(out, reference.probabilities(graph.indptr, graph.indices, importance, scale, fanout))


@given(graph=csc_graphs(), seed=st.integers(0, 1000))
def test_likely_edges_equal_the_reference(graph: CSCGraph, seed: int):
    generator = torch.Generator().manual_seed(seed)
    units = torch.rand(graph.num_nodes, dtype=torch.float64, generator=generator)
    probability = torch.rand(graph.num_edges, dtype=torch.float64, generator=generator) + 0.1
    edges = torch.randperm(graph.num_edges, generator=generator)
    out = torch.empty_like(graph.indptr), torch.empty_like(edges), torch.empty(edges.numel())
    inputs = (graph.indptr, edges, graph.indices.int(), units, probability)
    cpu.keep_likely(*(tensor.numpy() for tensor in (*inputs, *out)))
    indptr, kept, weight = reference.keep_likely(*inputs)
    assert torch.equal(out[0], indptr)
    assert torch.equal(out[1][: kept.numel()], kept)
    torch.testing.assert_close(out[2][: kept.numel()], weight, rtol=1e-6, atol=0)
