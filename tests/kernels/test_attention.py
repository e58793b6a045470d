"""Attention kernels against plain torch: values, gradients, draws."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import attention as cpu
from gnnfast.kernels.reference import attention as reference
from gnnfast.kernels.reference.random import random_bits
from tests.strategies import csc_graphs

SLOPE = 0.3


def rows(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]


attention_cases = partial(
    given,
    graph=csc_graphs(weighted=True),
    num_heads=st.integers(1, 5),
    is_shared=st.booleans(),
    num_channels=st.sampled_from([1, 5, 16, 33]),
    is_weighted=st.booleans(),
    has_self=st.booleans(),
    drop_level=st.sampled_from([0, 20_000, 65_536]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)


class Case:
    """The arguments of one kernel, and their reference's result with its gradients."""

    def __init__(self, graph, num_heads, is_shared, num_channels, is_weighted, has_self, drop_level, dtype):
        num_nodes, num_edges = graph.num_nodes, graph.num_edges
        draw = partial(rows, dtype=dtype)
        self.graph = graph
        self.x = draw(num_nodes, 1 if is_shared else num_heads, num_channels, seed=1)
        self.src_score, self.dst_score = draw(num_nodes, num_heads, seed=2), draw(num_nodes, num_heads, seed=3)
        self.g = draw(num_nodes, num_heads, num_channels, seed=4)
        self.inclusion = graph.edge_weight.to(dtype) if is_weighted else torch.empty(0, dtype=dtype)
        self.weight = torch.full((num_edges, num_heads), torch.nan, dtype=dtype)
        self.self_weight = torch.full((num_nodes if has_self else 0, num_heads), torch.nan, dtype=dtype)
        self.out = torch.full_like(self.g, torch.nan)
        # Of dropping everything, the reference divides by 0: there is nothing to compare with, but zeros.
        self.keep_scale = 65_536 / (65_536 - drop_level) if drop_level < 65_536 else 0
        self.drop_level = drop_level
        inputs = [tensor.clone().requires_grad_() for tensor in (self.x, self.src_score, self.dst_score)]
        x, src_score, dst_score = inputs
        edges = graph.to_edge_index()
        score = F.leaky_relu(src_score[edges[0]] + dst_score[edges[1]], SLOPE)
        self_score = F.leaky_relu(src_score + dst_score, SLOPE) if has_self else None
        inclusion = self.inclusion if is_weighted else None
        self.expected = reference.attend(
            graph.indptr, graph.indices, score, self_score, inclusion, min(drop_level, 65_535), 9, x
        )
        if drop_level == 65_536:
            self.expected = self.expected * 0
        self.gradients = torch.autograd.grad((self.expected * self.g).sum(), inputs)

    def forward(self) -> None:
        scalar = self.x.numpy().dtype.type
        cpu.gat(
            0,
            self.graph.num_nodes,
            *arrays(self.graph.indptr, self.graph.indices, self.src_score, self.dst_score, self.inclusion),
            scalar(SLOPE),
            np.uint64(self.drop_level),
            scalar(self.keep_scale),
            np.uint64(9),
            *arrays(self.x, self.weight, self.self_weight, self.out),
        )

    def backward(self, with_x: bool) -> tuple[Tensor, Tensor, Tensor]:
        scalar, num_nodes = self.x.numpy().dtype.type, self.graph.num_nodes
        mean = torch.full_like(self.dst_score, torch.nan)
        cpu.row_dots(0, num_nodes, *arrays(self.g, self.out, mean))
        shared = [
            *arrays(self.src_score, self.dst_score),
            scalar(SLOPE),
            scalar(self.keep_scale),
            *arrays(self.x, self.weight, self.self_weight, self.g),
        ]
        gradients = (self.weight, self.self_weight, self.src_score, self.x, self.dst_score)
        edge, own, src, x, dst = (torch.full_like(tensor, torch.nan) for tensor in gradients)
        if with_x:
            transpose = arrays(*self.graph.to_block().transpose)
            cpu.gat_backward(0, num_nodes, *transpose, *shared, *arrays(mean, edge, own, src, x))
        else:
            block = arrays(self.graph.indptr, self.graph.indices)
            cpu.gat_score_backward(0, num_nodes, *block, *shared, *arrays(edge, own))
            cpu.sum_by_source(0, num_nodes, *arrays(self.graph.indices, edge, own, src))
        cpu.sum_by_destination(0, num_nodes, *arrays(self.graph.indptr, edge, own, dst))
        return x, src, dst


@attention_cases()
def test_gat_equals_its_reference(graph: CSCGraph, **options):
    case = Case(graph, **options)
    case.forward()
    assert_close(case.out, case.expected.detach(), rtol=1e-4, atol=1e-5)


@attention_cases(with_x=st.booleans())
def test_the_backward_kernels_are_the_gradient_of_the_reference(graph: CSCGraph, with_x: bool, **options):
    case = Case(graph, **options)
    case.forward()
    x, src, dst = case.backward(with_x)
    if with_x:
        assert_close(x, case.gradients[0], rtol=1e-4, atol=1e-4)
    assert_close(src, case.gradients[1], rtol=1e-4, atol=1e-4)
    assert_close(dst, case.gradients[2], rtol=1e-4, atol=1e-4)


@given(
    graph=csc_graphs(weighted=True),
    num_heads=st.integers(1, 3),
    num_channels=st.sampled_from([1, 5, 33]),
    has_self=st.booleans(),
    drop_level=st.sampled_from([0, 20_000]),
)
def test_gatv2_and_its_backward_equal_their_reference(
    graph: CSCGraph, num_heads: int, num_channels: int, has_self: bool, drop_level: int
):
    check_gatv2(graph, num_heads, num_channels, has_self, drop_level)


def test_gatv2_sums_gradients_over_all_chunks_of_destinations():
    num_nodes = 2 * cpu.CHUNK + 77
    edge_index = torch.randint(0, num_nodes, (2, 4000), generator=torch.Generator().manual_seed(0))
    check_gatv2(CSCGraph.from_edge_index(edge_index, num_nodes, torch.ones(4000)), 2, 8, True, 20_000)


def check_gatv2(graph: CSCGraph, num_heads: int, num_channels: int, has_self: bool, drop_level: int) -> None:
    num_nodes, draw = graph.num_nodes, partial(rows, dtype=torch.float64)
    x, asking, g = (draw(num_nodes, num_heads, num_channels, seed=seed) for seed in (1, 2, 3))
    attention, inclusion = draw(num_heads, num_channels, seed=4), graph.edge_weight.double()
    inputs = [tensor.clone().requires_grad_() for tensor in (x, asking, attention)]
    src, dst = graph.to_edge_index()
    score = (F.leaky_relu(inputs[0][src] + inputs[1][dst], SLOPE) * inputs[2]).sum(-1)
    self_score = (F.leaky_relu(inputs[0] + inputs[1], SLOPE) * inputs[2]).sum(-1) if has_self else None
    indices = (graph.indptr, graph.indices)
    expected = reference.attend(*indices, score, self_score, inclusion, drop_level, 9, inputs[0])
    gradients = torch.autograd.grad((expected * g).sum(), inputs)

    def empty(*shape: int) -> Tensor:
        return torch.full(shape, torch.nan, dtype=torch.float64)

    weight, edge_gradient = empty(graph.num_edges, num_heads), empty(graph.num_edges, num_heads)
    own, self_gradient = (empty(num_nodes if has_self else 0, num_heads) for _ in range(2))
    out, x_gradient, asking_gradient = (torch.full_like(x, torch.nan) for _ in range(3))
    mean, chunks = empty(num_nodes, num_heads), empty(-(-num_nodes // cpu.CHUNK), num_heads, num_channels)
    block, transpose = arrays(*indices), arrays(*graph.to_block().transpose)
    scale = 65_536 / (65_536 - drop_level)
    draws = (np.uint64(drop_level), scale, np.uint64(9))
    query = arrays(asking, attention)
    cpu.gatv2(0, num_nodes, *block, *query, inclusion.numpy(), SLOPE, *draws, *arrays(x, weight, own, out))
    assert_close(out, expected.detach())
    cpu.row_dots(0, num_nodes, *arrays(g, out, mean))
    tensors = arrays(x, weight, own, g, mean, edge_gradient, self_gradient, x_gradient)
    cpu.gatv2_backward(0, num_nodes, *transpose, *query, SLOPE, scale, *tensors)
    tensors = arrays(x, edge_gradient, self_gradient, asking_gradient, chunks)
    cpu.gatv2_asking_backward(0, len(chunks), *block, *query, SLOPE, *tensors)
    for ours, theirs in zip((x_gradient, asking_gradient, chunks.sum(0)), gradients, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials_are_right_to_the_last_digits(dtype: type):
    values = np.concatenate([np.linspace(-87, 0, 100_001), [-np.inf, -88, -1000]]).astype(dtype)
    expected = np.exp(values.astype(np.float64))
    cpu._exponentials(values, np.uint64(0), np.uint64(values.size))
    error = np.abs(values - expected)[:-3] / expected[:-3]
    assert error.max() < 4 * np.finfo(dtype).eps
    assert values[-3:].max() < 1e-38
    values = np.array([np.nan], dtype=dtype)
    cpu._exponentials(values, np.uint64(0), np.uint64(1))
    assert np.isnan(values[0])


@given(graph=csc_graphs(), first=st.integers(0, 12), last=st.integers(0, 12))
def test_sums_by_source_fill_their_range_alone(graph: CSCGraph, first: int, last: int):
    first, last = sorted((min(first, graph.num_nodes), min(last, graph.num_nodes)))
    value = rows(graph.num_edges, 2, dtype=torch.float64, seed=1)
    own = rows(graph.num_nodes, 2, dtype=torch.float64, seed=2)[: graph.num_nodes // 2].contiguous()
    out = torch.full((graph.num_nodes, 2), torch.nan, dtype=torch.float64)
    cpu.sum_by_source(first, last, *arrays(graph.indices, value, own, out))
    expected = torch.zeros_like(out).index_add(0, graph.indices.long(), value)
    expected[: len(own)] += own
    assert_close(out[first:last], expected[first:last])
    assert out[:first].isnan().all()
    assert out[last:].isnan().all()


@pytest.mark.parametrize("key", [0, 12345, 2**63 - 1, 2**63 + 7])
def test_draws_are_sixteen_bits_each_of_one_hash(key: int):
    words = [random_bits(key, i) for i in range(3)]
    expected = [(word >> shift) & 0xFFFF for word in words for shift in (0, 16, 32, 48)]
    assert reference.draws(key, 12, torch.device("cpu")).tolist() == expected
    assert [cpu._draw(np.uint64(key), np.uint64(i)) for i in range(12)] == expected
