"""Differentiable attention: gradients, types, dropout, and what threads may not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import gnnfast.nn
from gnnfast.graph import Block, CSCGraph
from gnnfast.nn import GATConv
from gnnfast.nn.attention import gat_attention, gatv2_attention
from gnnfast.nn.conv.attention import attends_first
from tests.nn.layers import awkward_graph, conv_pair, features, randomize
from tests.strategies import csc_graphs


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def weighted_block(graph: CSCGraph) -> Block:
    block = graph.to_block()
    block.inclusion_weight = torch.arange(graph.num_edges, dtype=torch.float64) % 3 + 1
    return block


@pytest.fixture
def block() -> Block:
    """Six sources, four destinations: one hears nothing, one hears itself, one hears node 5 twice."""
    indptr, indices = torch.tensor([0, 3, 3, 4, 7]), torch.tensor([4, 1, 2, 2, 5, 5, 0], dtype=torch.int32)
    weight = torch.tensor([2.0, 1, 1, 3, 1, 1, 4], dtype=torch.float64)
    return Block(indptr, indices, num_src=6, inclusion_weight=weight)


@pytest.fixture
def many_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@settings(max_examples=25, deadline=None)
@given(
    graph=csc_graphs(max_nodes=6, max_edges=12),
    heads=st.integers(1, 2),
    is_shared=st.booleans(),
    has_self=st.booleans(),
    dropout=st.sampled_from([0.0, 0.4]),
)
def test_gat_has_the_right_gradients(graph: CSCGraph, heads: int, is_shared: bool, has_self: bool, dropout: float):
    block = weighted_block(graph)
    rows = random(graph.num_nodes, 1 if is_shared else heads, 3)
    src_score, dst_score = random(graph.num_nodes, heads, seed=1), random(graph.num_nodes, heads, seed=2)

    def attend(*inputs: Tensor) -> Tensor:
        torch.manual_seed(0)
        return gat_attention(*inputs, block, 0.2, has_self, dropout)

    assert torch.autograd.gradcheck(attend, (rows, src_score, dst_score))
    assert torch.autograd.gradcheck(lambda *scores: attend(rows.detach(), *scores), (src_score, dst_score))


@settings(max_examples=25, deadline=None)
@given(
    graph=csc_graphs(max_nodes=6, max_edges=12),
    heads=st.integers(1, 2),
    has_self=st.booleans(),
    dropout=st.sampled_from([0.0, 0.4]),
)
def test_gatv2_has_the_right_gradients(graph: CSCGraph, heads: int, has_self: bool, dropout: float):
    block = weighted_block(graph)
    rows, asking = (random(graph.num_nodes, heads, 3, seed=seed) for seed in (0, 1))

    def attend(*inputs: Tensor) -> Tensor:
        torch.manual_seed(0)
        return gatv2_attention(*inputs, block, 0.2, has_self, dropout)

    assert torch.autograd.gradcheck(attend, (rows, asking, random(heads, 3, seed=2)))


def test_the_operators_keep_the_promises_of_torch_operators(block: Block):
    x, scores = random(6, 2, 5), (random(6, 2, seed=1), random(4, 2, seed=2))
    arrays = (block.indptr, block.indices)
    options = (block.inclusion_weight, True, 0.2, 20_000, 7)
    torch.library.opcheck(torch.ops.gnnfast.gat, (x, *scores, *arrays, *options, *block.transpose))
    torch.library.opcheck(torch.ops.gnnfast.gat, (x.detach(), *scores, *arrays, *options, None, None, None))
    with torch.no_grad():
        x, *scores = (t.detach() for t in (x, *scores))
        outputs = torch.ops.gnnfast.gat(x, *scores, *arrays, *options, *block.transpose)
        g = random(4, 2, 5).detach()
        for transpose in (block.transpose, (None, None, None)):
            arguments = (g, x, *scores, *outputs, *arrays, *transpose, 0.2, 1.5)
            torch.library.opcheck(torch.ops.gnnfast.gat_backward, arguments)


def test_the_operators_of_gatv2_keep_the_promises_of_torch_operators(block: Block):
    inputs = random(6, 2, 5), random(4, 2, 5, seed=1), random(2, 5, seed=2)
    arrays = (block.indptr, block.indices)
    options = (block.inclusion_weight, True, 0.2, 20_000, 7)
    torch.library.opcheck(torch.ops.gnnfast.gatv2, (*inputs, *arrays, *options, *block.transpose))
    with torch.no_grad():
        inputs = tuple(tensor.detach() for tensor in inputs)
        outputs = torch.ops.gnnfast.gatv2(*inputs, *arrays, *options, *block.transpose)
        arguments = (random(4, 2, 5).detach(), *inputs, *outputs, *arrays, *block.transpose, 0.2, 1.5)
        torch.library.opcheck(torch.ops.gnnfast.gatv2_backward, arguments)


def inputs_of(attend: Callable[..., Tensor]) -> list[Tensor]:
    """For a block of six sources and four destinations, two heads."""
    if attend is gat_attention:
        return [random(6, 2, 5), random(6, 2, seed=1), random(4, 2, seed=2)]
    return [random(6, 2, 5), random(4, 2, 5, seed=1), random(2, 5, seed=2)]


@pytest.mark.parametrize("attend", [gat_attention, gatv2_attention])
def test_second_derivatives_are_refused_by_name(attend: Callable[..., Tensor], block: Block):
    inputs = inputs_of(attend)
    gradients = torch.autograd.grad(attend(*inputs, block).square().sum(), inputs, create_graph=True)
    for tensor in inputs:
        with pytest.raises(RuntimeError, match=r"differentiated once.* run the layers on block.edge_index"):
            torch.autograd.grad(sum(g.square().sum() for g in gradients), tensor, retain_graph=True)


@pytest.mark.parametrize("attend", [gat_attention, gatv2_attention])
def test_a_node_without_edges_attends_to_itself_or_to_nothing(attend: Callable[..., Tensor], block: Block):
    inputs = inputs_of(attend)
    assert_close(attend(*inputs, block, add_self_loops=True)[1], inputs[0][1])
    assert attend(*inputs, block, add_self_loops=False)[1].eq(0).all()


@pytest.mark.parametrize("attend", [gat_attention, gatv2_attention])
@pytest.mark.parametrize("add_self_loops", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_path_of_other_devices_is_that_of_the_kernels(
    attend: Callable[..., Tensor], add_self_loops: bool, dropout: float, block: Block, monkeypatch: pytest.MonkeyPatch
):
    results = []
    for is_cpu in (True, False):
        inputs = inputs_of(attend)
        torch.manual_seed(0)
        with monkeypatch.context() as patch:
            if not is_cpu:
                patch.setattr(Tensor, "is_cpu", False)
            out = attend(*inputs, block, 0.2, add_self_loops, dropout)
        results.append((out, *torch.autograd.grad((out * out.detach()).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("class_name", ["GATConv", "GATv2Conv"])
@pytest.mark.parametrize("in_channels", [1, 100])
@pytest.mark.parametrize("out_channels", [1, 1000])
@pytest.mark.parametrize("concat", [True, False])
def test_a_layer_of_any_width_is_pygs_on_a_full_block(
    class_name: str, in_channels: int, out_channels: int, concat: bool
):
    import torch_geometric.nn as pyg

    options = {"heads": 3, "concat": concat, "residual": True}
    ours, theirs = (getattr(package, class_name)(in_channels, out_channels, **options) for package in (gnnfast.nn, pyg))
    randomize(theirs.double())
    ours.double().load_state_dict(theirs.state_dict())
    graph = awkward_graph(weighted=False)
    x = features(graph.num_nodes, in_channels)
    assert_close(ours(x, graph.to_block()), theirs(x, graph.to_edge_index()), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("x_needs_gradient", [True, False])
@pytest.mark.parametrize("rows_per_source", [1, 2])
@pytest.mark.usefixtures("many_threads")
def test_values_and_gradients_are_the_same_bits_for_any_number_of_threads(x_needs_gradient: bool, rows_per_source: int):
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(0, 2000, (2, 20_000), generator=generator)
    edge_index[1, ::3] = 7
    block = CSCGraph.from_edge_index(edge_index).to_block()
    x = torch.randn(2000, rows_per_source, 40, generator=generator, requires_grad=x_needs_gradient)
    scores = [torch.randn(2000, 2, generator=generator, requires_grad=True) for _ in range(2)]
    inputs = [tensor for tensor in (x, *scores) if tensor.requires_grad]
    results = []
    for num_threads in (1, 2, 3, 8):
        torch.set_num_threads(num_threads)
        torch.manual_seed(0)
        out = gat_attention(x, *scores, block, dropout=0.3)
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), inputs)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.usefixtures("many_threads")
def test_gatv2_gives_the_same_bits_for_any_number_of_threads():
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(0, 5000, (2, 20_000), generator=generator)
    edge_index[1, ::3] = 7
    block = CSCGraph.from_edge_index(edge_index, 5000).to_block()
    shapes = ((5000, 2, 40), (5000, 2, 40), (2, 40))
    inputs = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    results = []
    for num_threads in (1, 2, 3, 8):
        torch.set_num_threads(num_threads)
        torch.manual_seed(0)
        out = gatv2_attention(*inputs, block, dropout=0.3)
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), inputs)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("x_needs_gradient", [True, False])
@pytest.mark.parametrize("attends_first", [True, False])
def test_both_orders_are_pygs_layer(
    concat: bool, x_needs_gradient: bool, attends_first: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gnnfast.nn.conv.gat.attends_first", lambda *_: attends_first)
    ours, theirs = conv_pair("gat" if concat else "gat-mean", 5, 4)
    graph = awkward_graph()
    x = features(graph.num_nodes, 5).requires_grad_(x_needs_gradient)
    outs = ours(x, graph.to_block()), theirs(x, graph.to_edge_index())
    assert_close(*outs)
    gradients = []
    for out, conv in zip(outs, (ours, theirs), strict=True):
        inputs = [*([x] if x_needs_gradient else []), *conv.parameters()]
        gradients.append(torch.autograd.grad((out * features(*out.shape)).sum(), inputs))
    for our, their in zip(*gradients, strict=True):
        assert_close(our, their)


def test_rows_are_averaged_first_where_that_is_cheaper():
    def block(num_src: int, num_dst: int) -> Block:
        indptr = torch.arange(num_dst + 1) * 5
        return Block(indptr, torch.arange(5 * num_dst, dtype=torch.int32) % num_src, num_src)

    x = torch.zeros(6000, 256)
    assert attends_first(block(6000, 1000), x, 4, 64)
    assert attends_first(block(6000, 1000), x.requires_grad_(), 4, 64)
    # A width that all heads together do not reach, and as many destinations as sources.
    assert not attends_first(block(6000, 1000), torch.zeros(6000, 1024), 4, 8)
    assert not attends_first(block(6000, 6000), x, 16, 16)
    assert not attends_first(block(6000, 1000).to("meta"), x.to("meta"), 4, 64)


def test_dropout_follows_the_seed_keeps_the_mean_and_scales_what_is_kept():
    # Without self-loops and with equal scores all weights are 1 / 8: rows of ones count those that are kept.
    block = CSCGraph.from_edge_index(torch.randint(0, 1, (2, 8)), 1).to_block()
    x, score = torch.ones(1, 64, 1), torch.zeros(1, 64)

    def counts(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return gat_attention(x, score, score, block, add_self_loops=False, dropout=0.25).flatten() * 8 * 0.75

    assert torch.equal(counts(1), counts(1))
    assert not torch.equal(counts(1), counts(2))
    drawn = torch.cat([counts(seed) for seed in range(50)])
    assert_close(drawn, drawn.round(), rtol=0, atol=1e-4)
    # 25,600 draws of probability 3/4: four standard deviations of their mean are 0.011.
    assert abs(drawn.mean() / 8 - 0.75) < 0.011
    assert gat_attention(x, score, score, block, dropout=1.0).eq(0).all()


def test_evaluation_draws_no_random_numbers():
    graph = awkward_graph()
    conv = GATConv(5, 4, dropout=0.5).double().eval()
    before = torch.get_rng_state()
    conv(features(30, 5), graph.to_block())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype):
    # The mean of 5000 rows: weights of 1 / 5000, added in half precision, would stop growing at 1 / 256.
    graph = CSCGraph.from_edge_index(torch.stack([torch.arange(5000), torch.zeros(5000, dtype=torch.int64)]))
    block = graph.to_block()
    x = torch.ones(5000, 1, 2, dtype=dtype, requires_grad=True)
    score = torch.zeros(5000, 3, dtype=dtype, requires_grad=True)
    out = gat_attention(x, score, score, block)
    assert out.dtype == dtype
    assert_close(out, torch.ones_like(out))
    for gradient, like in zip(torch.autograd.grad(out.sum(), [x, score]), (x, score), strict=True):
        assert gradient.dtype == dtype
        assert gradient.shape == like.shape


def test_the_softmax_of_large_scores_does_not_overflow(block: Block):
    x, score = random(6, 1, 3), torch.tensor([[900.0], [-900], [0], [5], [901], [880]], dtype=torch.float64)
    assert gat_attention(x, score, score[:4], block).isfinite().all()


@pytest.mark.parametrize("wanted", ["x", "scores"])
def test_no_rows_give_no_rows_and_no_gradient(wanted: str):
    block = Block(torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.int32), num_src=0)
    x, scores = random(0, 2, 3), [random(0, 2), random(0, 2)]
    out = gat_attention(x if wanted == "x" else x.detach(), *scores, block)
    inputs: list[Any] = [x, *scores] if wanted == "x" else scores
    assert out.shape == (0, 2, 3)
    assert [g.shape for g in torch.autograd.grad(out.sum(), inputs)] == [t.shape for t in inputs]


def test_sources_without_edges_get_no_gradient():
    block = Block(torch.zeros(3, dtype=torch.int64), torch.empty(0, dtype=torch.int32), num_src=5)
    x, src_score, dst_score = random(5, 2, 3), random(5, 2), random(2, 2)
    out = gat_attention(x, src_score, dst_score, block)
    gradients = torch.autograd.grad((out * out.detach()).sum(), [x, src_score, dst_score])
    assert_close(gradients[0][:2], x[:2].detach())
    assert all(gradient[2:].eq(0).all() for gradient in gradients)
