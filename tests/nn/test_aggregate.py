"""Differentiable aggregation: gradients, types, and what is computed for nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from gnnfast.graph import Block, CSCGraph
from gnnfast.kernels.reference import segment as reference
from gnnfast.nn import segment_max, segment_mean, segment_sum
from gnnfast.nn.aggregate import mean_beside_own, sum_beside_own
from tests.strategies import csc_graphs


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.fixture
def block() -> Block:
    """Six sources, four destinations: one hears nothing, one hears itself, one hears node 5 twice."""
    indptr, indices = torch.tensor([0, 3, 3, 4, 7]), torch.tensor([4, 1, 2, 2, 5, 5, 0], dtype=torch.int32)
    weight = torch.tensor([2.0, 1, 1, 3, 1, 1, 4], dtype=torch.float64)
    return Block(indptr, indices, num_src=6, inclusion_weight=weight)


@settings(max_examples=25)
@given(graph=csc_graphs(max_nodes=6, max_edges=12), num_heads=st.integers(1, 2))
def test_sums_have_the_right_gradients(graph: CSCGraph, num_heads: int):
    block = graph.to_block()
    x = random(graph.num_nodes, num_heads, 3)
    weight, self_weight = random(graph.num_edges, num_heads, seed=1), random(graph.num_nodes, num_heads, seed=2)
    assert torch.autograd.gradcheck(lambda x, *weights: segment_sum(x, block, *weights), (x, weight, self_weight))


@settings(max_examples=12)
@given(graph=csc_graphs(max_nodes=6, max_edges=12, weighted=True))
def test_means_and_maxima_have_the_right_gradients(graph: CSCGraph):
    block = graph.to_block()
    x, weight = random(graph.num_nodes, 3), graph.edge_weight.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: segment_mean(x, block), (x,))
    assert torch.autograd.gradcheck(lambda x, weight: segment_mean(x, block, weight), (x, weight))
    assert torch.autograd.gradcheck(lambda x: segment_max(x, block), (x,))


@settings(max_examples=12)
@given(graph=csc_graphs(max_nodes=6, max_edges=12, weighted=True))
def test_sums_and_means_beside_own_rows(graph: CSCGraph):
    block, x, weight = graph.to_block(), random(graph.num_nodes, 3), graph.edge_weight.double()
    for beside_own, aggregate in ((sum_beside_own, segment_sum), (mean_beside_own, segment_mean)):
        assert_close(beside_own(x, block, weight), torch.cat([aggregate(x, block, weight), x], dim=1))
        assert torch.autograd.gradcheck(lambda x, of=beside_own: of(x, block, weight), (x,))
        assert torch.autograd.gradcheck(lambda x, of=beside_own: of(x, block), (x,))


def test_weights_of_sums_beside_own_rows_get_no_gradient(block: Block):
    with pytest.raises(RuntimeError, match="use segment_sum"):
        sum_beside_own(random(6, 3), block, random(7, seed=1))


def test_operators_keep_the_promises_of_torch_operators(block: Block):
    weight, self_weight = random(7, seed=1), random(4, seed=2)
    arrays = (block.indptr, block.indices)
    torch.library.opcheck(torch.ops.gnnfast.segment_sum, (random(6, 5), *arrays, weight, self_weight, *block.transpose))
    torch.library.opcheck(torch.ops.gnnfast.segment_sum, (random(6, 5).detach(), *arrays, *[None] * 5))
    torch.library.opcheck(torch.ops.gnnfast.segment_dot, (random(4, 6).detach(), random(6, 6).detach(), *arrays, 2))
    transpose = (block.transpose[0], block.transpose[1])
    backward = (random(4, 5).detach(), *transpose, weight.detach(), self_weight.detach())
    torch.library.opcheck(torch.ops.gnnfast.segment_sum_backward, backward)
    beside_own = (random(6, 5), *arrays, weight.detach(), *block.transpose)
    torch.library.opcheck(torch.ops.gnnfast.sum_beside_own, beside_own)
    backward = (random(4, 10).detach(), *transpose, weight.detach())
    torch.library.opcheck(torch.ops.gnnfast.sum_beside_own_backward, backward)
    torch.library.opcheck(torch.ops.gnnfast.segment_max, (random(6, 5), *arrays))
    _, source = torch.ops.gnnfast.segment_max(random(6, 5), *arrays)
    torch.library.opcheck(torch.ops.gnnfast.segment_max_backward, (source, random(4, 5).detach(), 6))


def test_the_mean_divides_by_the_sum_of_the_weights(block: Block):
    x = random(6, 5)
    weight = block.inclusion_weight
    total = torch.tensor([4.0, 1, 3, 6], dtype=torch.float64)[:, None]
    assert_close(segment_mean(x, block, weight), segment_sum(x, block, weight) / total)
    assert_close(segment_mean(x, block), segment_sum(x, block) / torch.tensor([3.0, 1, 1, 3])[:, None])
    assert segment_mean(x, block)[1].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("aggregate", [segment_sum, segment_mean, segment_max])
def test_half_precision_is_summed_in_float32(aggregate, dtype: torch.dtype):
    # 4096 + 1 is no number of either type: adding one by one in half precision would stay at 4096 or below.
    graph = CSCGraph.from_edge_index(torch.stack([torch.arange(5000), torch.zeros(5000, dtype=torch.int64)]))
    x = torch.ones(5000, 2, dtype=dtype, requires_grad=True)
    out = aggregate(x, graph.to_block())
    assert out.dtype == dtype
    assert_close(out[0].float(), aggregate(x.float(), graph.to_block())[0], rtol=1e-2, atol=0)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.dtype == dtype


def test_rows_need_not_be_contiguous(block: Block):
    x = random(5, 6).T
    assert_close(segment_sum(x, block), segment_sum(x.contiguous(), block))
    assert_close(segment_max(x, block), segment_max(x.contiguous(), block))


def test_the_transpose_is_built_for_the_gradient_of_rows_alone(block: Block):
    segment_sum(random(6, 5).detach(), block, random(7))
    with torch.no_grad():
        segment_sum(random(6, 5), block)
    assert "transpose" not in vars(block)
    segment_sum(random(6, 5), block)
    assert "transpose" in vars(block)


def test_gradients_are_the_same_bits_every_time():
    generator = torch.Generator().manual_seed(0)
    block = CSCGraph.from_edge_index(torch.randint(0, 2000, (2, 20_000), generator=generator)).to_block()
    x = torch.randn(2000, 64, generator=generator, requires_grad=True)
    for aggregate in (segment_sum, segment_mean, segment_max):
        first, second = (torch.autograd.grad(aggregate(x, block).square().sum(), x)[0] for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("wanted", ["x", "weight", "self_weight"])
def test_second_derivatives_are_refused_by_name(wanted: str, block: Block):
    inputs = {"x": random(6, 5), "weight": random(7, seed=1), "self_weight": random(4, seed=2)}
    out = segment_sum(inputs["x"], block, inputs["weight"], inputs["self_weight"])
    gradients = torch.autograd.grad(out.square().sum(), list(inputs.values()), create_graph=True)
    with pytest.raises(RuntimeError, match=r"differentiated once.* run the layers on block.edge_index"):
        torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), inputs[wanted])


def test_second_derivatives_of_maxima_are_refused_by_name(block: Block):
    x = random(6, 5)
    (gradient,) = torch.autograd.grad(segment_max(x, block).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(gradient.square().sum(), x)


@pytest.mark.parametrize("shape", [(0, 3), (0, 2, 3)])
def test_no_rows_give_no_rows_and_no_gradient(shape: tuple[int, ...]):
    block = Block(torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.int32), num_src=0)
    heads = shape[1:-1]
    x, weight, self_weight = random(*shape), random(0, *heads), random(0, *heads)
    out = segment_sum(x, block, weight, self_weight)
    gradients = torch.autograd.grad(out.sum(), [x, weight, self_weight])
    assert out.shape == x.shape
    assert [gradient.shape for gradient in gradients] == [x.shape, weight.shape, self_weight.shape]


def test_compiled_functions_see_the_operators(block: Block):
    x = random(6, 5)
    arrays = (block.indptr, block.indices, None, None, *block.transpose)

    def double_sum(x: Tensor) -> Tensor:
        return 2 * torch.ops.gnnfast.segment_sum(x, *arrays)

    compiled = torch.compile(double_sum, backend="aot_eager", fullgraph=True)
    assert_close(compiled(x), 2 * segment_sum(x, block))


def test_destinations_repeat_by_their_number_of_edges():
    assert reference.destinations(torch.tensor([0, 2, 2, 3])).tolist() == [0, 0, 2]
