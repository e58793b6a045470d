"""Aggregation kernels against plain torch, and the sharing of their rows among threads."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import parallel
from gnnfast.kernels.cpu import segment as cpu
from gnnfast.kernels.reference import segment as reference
from tests.strategies import csc_graphs

FLOATS = st.sampled_from([torch.float32, torch.float64])


def rows(num_rows: int, num_heads: int, num_channels: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, num_heads, num_channels, dtype=dtype, generator=generator)


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tensors]


@given(
    graph=csc_graphs(),
    num_heads=st.integers(1, 3),
    num_channels=st.sampled_from([1, 5, 16, 33]),
    is_weighted=st.booleans(),
    num_own=st.sampled_from([0, 1, None]),
    dtype=FLOATS,
)
def test_segment_sum_equals_its_reference(
    graph: CSCGraph, num_heads: int, num_channels: int, is_weighted: bool, num_own: int | None, dtype: torch.dtype
):
    x = rows(graph.num_nodes, num_heads, num_channels, dtype, 1)
    weight = rows(graph.num_edges if is_weighted else 0, num_heads, 1, dtype, 2)[:, :, 0].contiguous()
    self_weight = rows(graph.num_nodes, num_heads, 1, dtype, 3)[:num_own, :, 0].contiguous()
    out = torch.full_like(x, torch.nan)
    tensors = arrays(graph.indptr, graph.indices, weight, self_weight, x)
    cpu.segment_sum(0, graph.num_nodes, *tensors, 0, out.numpy())
    expected = reference.segment_sum(graph.indptr, graph.indices, weight if is_weighted else None, self_weight, x)
    assert_close(out, expected)


@given(
    graph=csc_graphs(),
    num_heads=st.integers(1, 3),
    num_channels=st.sampled_from([1, 5, 16, 33]),
    is_weighted=st.booleans(),
    num_own=st.sampled_from([0, 1, None]),
)
def test_bfloat16_is_summed_in_single_precision(
    graph: CSCGraph, num_heads: int, num_channels: int, is_weighted: bool, num_own: int | None
):
    x = rows(graph.num_nodes, num_heads, num_channels, torch.float32, 1).bfloat16()
    weight = rows(graph.num_edges if is_weighted else 0, num_heads, 1, torch.float32, 2)[:, :, 0].contiguous()
    self_weight = rows(graph.num_nodes, num_heads, 1, torch.float32, 3)[:num_own, :, 0].contiguous()
    out = torch.full_like(x, torch.nan)
    bits = [tensor.view(torch.uint16).numpy() for tensor in (x, out)]
    tensors = arrays(graph.indptr, graph.indices, weight, self_weight)
    cpu.segment_sum(0, graph.num_nodes, *tensors, bits[0], 0, bits[1])
    wide = reference.segment_sum(graph.indptr, graph.indices, weight if is_weighted else None, self_weight, x.float())
    # Rounded once, at the end: where sums in another order fall on either side of a tie, by one bit.
    assert_close(out.float(), wide, rtol=2**-8, atol=1e-6)


@given(graph=csc_graphs(), num_channels=st.sampled_from([1, 16, 33]), dtype=FLOATS)
def test_parts_of_rows_are_summed_and_copied(graph: CSCGraph, num_channels: int, dtype: torch.dtype):
    x = rows(graph.num_nodes, 2, num_channels, dtype, 1)
    weight, own = rows(graph.num_edges, 1, 1, dtype, 2)[:, :, 0], rows(graph.num_nodes, 1, 1, dtype, 3)[:, :, 0]
    out = torch.full_like(x, torch.nan)
    tensors = arrays(graph.indptr, graph.indices, weight.contiguous(), own.contiguous(), x)
    cpu.segment_sum(0, graph.num_nodes, *tensors, 1, out.numpy())
    sums = reference.segment_sum(graph.indptr, graph.indices, weight, None, x[:, :1])
    assert_close(out[:, :1], sums + own.unsqueeze(-1) * x[:, 1:])
    assert torch.equal(out[:, 1:], x[:, :1])


@given(graph=csc_graphs(), num_heads=st.integers(1, 3), num_channels=st.sampled_from([1, 16, 37]), dtype=FLOATS)
def test_segment_dot_equals_its_reference(graph: CSCGraph, num_heads: int, num_channels: int, dtype: torch.dtype):
    g, x = (rows(graph.num_nodes, num_heads, num_channels, dtype, seed) for seed in (1, 2))
    out = torch.full((graph.num_edges, num_heads), torch.nan, dtype=dtype)
    cpu.segment_dot(0, graph.num_nodes, *arrays(graph.indptr, graph.indices, g, x, out))
    assert_close(out, reference.segment_dot(graph.indptr, graph.indices, g, x))


@given(graph=csc_graphs(), num_channels=st.sampled_from([1, 16, 37]), dtype=FLOATS, has_ties=st.booleans())
def test_segment_max_and_its_backward_equal_their_references(
    graph: CSCGraph, num_channels: int, dtype: torch.dtype, has_ties: bool
):
    x = rows(graph.num_nodes, 1, num_channels, dtype, 1)[:, 0].contiguous()
    x = x.round() if has_ties else x
    out, source = torch.full_like(x, torch.nan), graph.indices.new_empty(x.shape)
    cpu.segment_max(0, graph.num_nodes, *arrays(graph.indptr, graph.indices, x, out, source))
    expected, expected_source = reference.segment_max(graph.indptr, graph.indices, x)
    assert torch.equal(out, expected)
    assert torch.equal(source, expected_source)

    g = rows(graph.num_nodes, 1, num_channels, dtype, 2)[:, 0].contiguous()
    gradient = torch.full_like(x, torch.nan)
    cpu.segment_max_backward(0, num_channels, *arrays(source, g, gradient))
    assert_close(gradient, reference.segment_max_backward(source, g, graph.num_nodes))


def test_the_maximum_with_nan_is_nan():
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1, 2, 1, 0], [0, 0, 0, 1, 1]]), 3)
    x = torch.tensor([[1.0], [torch.nan], [2.0]])
    out, source = torch.empty_like(x), graph.indices.new_empty(x.shape)
    cpu.segment_max(0, 3, *arrays(graph.indptr, graph.indices, x, out, source))
    assert_close(out, torch.tensor([[torch.nan], [torch.nan], [0.0]]), equal_nan=True)
    assert source.flatten().tolist() == [1, 1, -1]


@given(graph=csc_graphs(weighted=True), dtype=FLOATS)
def test_mean_weights_are_weights_divided_by_their_sum(graph: CSCGraph, dtype: torch.dtype):
    weight = graph.edge_weight.to(dtype)
    out = torch.full_like(weight, torch.nan)
    cpu.mean_weights(graph.indptr.numpy(), weight.numpy(), out.numpy())
    assert_close(out, reference.mean_weights(graph.indptr, weight))
    cpu.mean_weights(graph.indptr.numpy(), weight[:0].numpy(), out.numpy())
    assert_close(out, reference.mean_weights(graph.indptr, torch.ones_like(weight)))


def test_mean_weights_that_sum_to_zero_are_zero():
    weight, out = np.array([0.0, 0.0, 2.0]), np.full(3, np.nan)
    cpu.mean_weights(np.array([0, 2, 3]), weight, out)
    assert out.tolist() == [0, 0, 1]
    assert reference.mean_weights(torch.tensor([0, 2, 3]), torch.from_numpy(weight)).tolist() == [0, 0, 1]


@pytest.fixture(scope="module")
def hub_graph() -> CSCGraph:
    """20,000 edges of which one destination has half, and many destinations have none."""
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(0, 3000, (2, 20_000), generator=generator)
    edge_index[1, ::2] = 7
    return CSCGraph.from_edge_index(edge_index, 4000)


def sum_in_threads(graph: CSCGraph, x: Tensor, num_threads: int) -> Tensor:
    out, empty = torch.full_like(x, torch.nan), x.new_empty(0, 1)
    tensors = arrays(graph.indptr, graph.indices, empty, empty, x)
    parallel.run_by_column(cpu.segment_sum, num_threads, x[0].nbytes, *tensors, 0, out.numpy())
    return out


@pytest.mark.parametrize("num_threads", [2, 3, 8])
def test_sums_do_not_depend_on_the_number_of_threads(hub_graph: CSCGraph, num_threads: int):
    x = rows(hub_graph.num_nodes, 1, 64, torch.float32, 0)
    assert torch.equal(sum_in_threads(hub_graph, x, num_threads), sum_in_threads(hub_graph, x, 1))


def test_kernels_may_share_their_threads_from_several_threads_at_once(hub_graph: CSCGraph):
    x = rows(hub_graph.num_nodes, 1, 64, torch.float32, 0)
    expected = sum_in_threads(hub_graph, x, 1)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: sum_in_threads(hub_graph, x, 2), range(12)))
    assert all(torch.equal(result, expected) for result in results)


@given(graph=csc_graphs(), num_threads=st.integers(1, 20))
def test_ranges_of_columns_are_disjoint_and_cover_all(graph: CSCGraph, num_threads: int):
    visits = np.zeros(graph.num_nodes, dtype=np.int64)

    def visit(first: int, last: int, indptr: np.ndarray) -> None:
        visits[first:last] += 1

    parallel.run_by_column(visit, num_threads, 1 << 20, graph.indptr.numpy())
    assert (visits == 1).all()


def test_an_error_in_a_thread_reaches_the_caller():
    def fail(first: int, last: int) -> None:
        if first > 0:
            raise MemoryError("here")

    with pytest.raises(MemoryError, match="here"):
        parallel.run_by_range(fail, 4, 100, 1 << 30)


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_threads_work_in_a_forked_child():
    script = """
import os
from gnnfast.kernels.cpu.parallel import run_by_range
def count():
    sizes = []
    run_by_range(lambda first, last: sizes.append(last - first), 4, 100, 1 << 30)
    return sum(sizes)
assert count() == 100
child = os.fork()
if child == 0:
    os._exit(0 if count() == 100 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)
