"""Convolutions on blocks against PyG's on edge_index."""

import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from gnnfast.graph import Block, CSCGraph
from gnnfast.nn import GATConv, GATv2Conv, GCNConv, GINConv, SAGEConv
from gnnfast.sampler import NeighborSampler
from tests.nn.layers import CONVS, awkward_graph, conv_pair, features
from tests.strategies import csc_graphs

EXACT = {"rtol": 0, "atol": 1e-10}


def in_double(graph: CSCGraph) -> CSCGraph:
    weight = None if graph.edge_weight is None else graph.edge_weight.double()
    return CSCGraph(graph.indptr, graph.indices, edge_weight=weight)


def run_pyg(conv: torch.nn.Module, x: Tensor, graph: CSCGraph | Block, edge_index: Tensor) -> Any:
    weighted = isinstance(conv, GCNConv.__base__) and graph.edge_weight is not None
    return conv(x, edge_index, graph.edge_weight) if weighted else conv(x, edge_index)


@pytest.mark.parametrize("name", CONVS)
@settings(max_examples=20)
@given(graph=csc_graphs(max_nodes=8), out_channels=st.sampled_from([2, 9]))
def test_a_layer_on_a_block_is_pygs_on_the_graph(name: str, graph: CSCGraph, out_channels: int):
    graph = in_double(graph)
    ours, theirs = conv_pair(name, 5, out_channels)
    x = features(graph.num_nodes, 5)
    edge_index = graph.to_edge_index()
    expected = run_pyg(theirs, x, graph, edge_index)
    assert_close(ours(x, graph.to_block()), expected, **EXACT)
    assert_close(run_pyg(ours, x, graph, edge_index), expected, **EXACT)


@pytest.mark.parametrize("name", [name for name in CONVS if name != "sage-max"])
@pytest.mark.parametrize("out_channels", [2, 9])
def test_gradients_on_a_block_are_pygs_on_the_graph(name: str, out_channels: int):
    graph = awkward_graph()
    x = features(graph.num_nodes, 5).requires_grad_()
    gradients = []
    for conv, graph_form in zip(conv_pair(name, 5, out_channels), (graph.to_block(), None), strict=True):
        out = run_pyg(conv, x, graph, graph.to_edge_index()) if graph_form is None else conv(x, graph_form)
        inputs = [x, *conv.parameters()]
        gradients.append(torch.autograd.grad((out * features(*out.shape)).sum(), inputs))
    for ours, theirs in zip(*gradients, strict=True):
        assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("weighted", [True, False])
def test_a_block_of_all_neighbors_gives_the_rows_of_the_full_graph(name: str, weighted: bool):
    graph = awkward_graph(weighted=weighted)
    ours, _ = conv_pair(name, 5, 4)
    x = features(graph.num_nodes, 5)
    batch = NeighborSampler(graph, [-1]).sample(torch.tensor([29, 3, 8, 0, 17]), 0)
    full = ours(x, graph.to_block())
    assert_close(ours(x[batch.node_ids], batch.blocks[0]), full[batch.seed_nodes], **EXACT)


@pytest.mark.parametrize("name", CONVS)
def test_an_inclusion_weight_of_k_counts_as_k_parallel_edges(name: str):
    graph = awkward_graph()
    copies = torch.arange(graph.num_edges) % 3 + 1
    is_loop = graph.to_edge_index()[0] == graph.to_edge_index()[1]
    copies[is_loop] = 1
    block = graph.to_block()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), copies.cumsum(0)])
    repeated = Block(
        offsets[graph.indptr],
        graph.indices.repeat_interleave(copies),
        block.num_src,
        edge_weight=graph.edge_weight.repeat_interleave(copies),
        src_degree=block.src_degree,
        self_loop_weight=block.self_loop_weight,
    )
    block.inclusion_weight = copies.float()
    ours, _ = conv_pair(name, 5, 4)
    x = features(graph.num_nodes, 5)
    assert_close(ours(x, block), ours(x, repeated), **EXACT)


def test_gcn_normalized_by_the_batch_is_pygs_on_the_batch():
    graph = awkward_graph()
    _, theirs = conv_pair("gcn", 5, 4)
    ours = GCNConv(5, 4, normalization="batch").double()
    ours.load_state_dict(theirs.state_dict())
    batch = NeighborSampler(graph, [2]).sample(torch.tensor([1, 5, 9, 20]), 3)
    block = batch.blocks[0]
    assert block.inclusion_weight is not None
    x = features(block.num_src, 5)
    assert_close(ours(x, block), theirs(x, block.edge_index, block.edge_weight)[: block.num_dst], **EXACT)


def test_gcn_normalized_by_the_batch_evaluates_with_degrees_of_the_full_graph():
    graph = awkward_graph()
    conv = GCNConv(5, 4, normalization="batch").double()
    x = features(graph.num_nodes, 5)
    batch = NeighborSampler(graph, [-1]).sample(torch.tensor([29, 3, 8, 0, 17]), 0)
    rows, block = x[batch.node_ids], batch.blocks[0]
    full = conv(x, graph.to_block())[batch.seed_nodes]
    # One block for both modes: what it keeps of the first must not enter the second.
    assert not torch.allclose(conv(rows, block), full)
    assert_close(conv.eval()(rows, block), full, **EXACT)


def test_gcn_warns_of_blocks_without_degrees_of_the_full_graph():
    block = Block(torch.tensor([0, 2]), torch.tensor([1, 2], dtype=torch.int32), num_src=3)
    conv = GCNConv(5, 4).double()
    with pytest.warns(UserWarning, match="no src_degree"):
        out = conv(features(3, 5), block)
    assert_close(out, conv(features(3, 5), block.edge_index)[:1], **EXACT)


def test_improved_gcn_gives_self_loops_weight_2():
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1, 2, 2], [1, 2, 1, 0]]), 4)
    conv = GCNConv(5, 4, improved=True).double()
    x, edge_weight = features(4, 5), torch.ones(4, dtype=torch.float64)
    assert_close(conv(x, graph.to_block()), conv(x, graph.to_edge_index(), edge_weight), **EXACT)


@pytest.mark.parametrize("options", [{"improved": True}, {"add_self_loops": False}])
def test_gcn_names_what_it_cannot_do_on_a_block_with_self_loops(options: dict[str, bool]):
    graph = awkward_graph()
    with pytest.raises(ValueError, match="add_self_loops=True and improved=False"):
        GCNConv(5, 4, **options).double()(features(graph.num_nodes, 5), graph.to_block())


def test_layers_share_the_normalized_weights_of_a_block():
    block = awkward_graph().to_block()
    first, second = GCNConv(5, 4).double(), GCNConv(4, 3).double()
    second(first(features(30, 5), block), block)
    assert len(block.derived) == 1


def test_sage_names_the_aggregations_it_has_on_blocks():
    graph = awkward_graph()
    conv = SAGEConv(5, 4, aggr="min").double()
    conv(features(30, 5), graph.to_edge_index())
    with pytest.raises(ValueError, match="'mean', 'max' or 'sum', got aggr='min'"):
        conv(features(30, 5), graph.to_block())


@pytest.mark.parametrize("name", CONVS)
def test_a_mini_batch_without_nodes_runs_forward_and_backward(name: str):
    graph = awkward_graph()
    conv, _ = conv_pair(name, 5, 4)
    batch = NeighborSampler(graph, [5]).sample(torch.empty(0, dtype=torch.int64), 0)
    x = features(0, 5).requires_grad_()
    out = conv(x, batch.blocks[0])
    assert out.shape == (0, conv(features(30, 5), graph.to_block()).shape[1])
    out.sum().backward()
    assert x.grad.shape == x.shape
    assert all(parameter.grad is None or parameter.grad.eq(0).all() for parameter in conv.parameters())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gcn", {"edge_weight": torch.ones(120)}),
        ("sage-mean", {"size": (30, 30)}),
        ("gin", {"size": (30, 30)}),
        ("gat", {"edge_attr": torch.ones(120, 2)}),
        ("gat", {"size": (30, 30)}),
        ("gat", {"return_attention_weights": True}),
        ("gatv2", {"edge_attr": torch.ones(120, 2)}),
        ("gatv2", {"return_attention_weights": True}),
    ],
)
def test_layers_name_what_they_would_ignore_on_a_block(name: str, arguments: dict[str, Any]):
    conv, _ = conv_pair(name, 5, 4)
    graph = awkward_graph()
    with pytest.raises(ValueError, match=f"{type(conv).__name__} takes no {next(iter(arguments))}: "):
        conv(features(30, 5), graph.to_block(), **arguments)


@pytest.mark.parametrize("conv_class", [GATConv, GATv2Conv])
@pytest.mark.parametrize(
    ("in_channels", "options", "named"), [(5, {"edge_dim": 2}, "edge_dim"), ((5, 5), {}, "pair_of_in_channels")]
)
def test_attention_refuses_blocks_with_parameters_they_cannot_use(
    conv_class: type, in_channels: Any, options: dict[str, int], named: str
):
    conv = conv_class(in_channels, 4, **options).double()
    with pytest.raises(ValueError, match=f"takes no {named}: "):
        conv(features(30, 5), awkward_graph().to_block())


def test_gcn_names_an_unknown_normalization():
    with pytest.raises(ValueError, match="'full' or 'batch', got 'none'"):
        GCNConv(5, 4, normalization="none")


@pytest.mark.parametrize("conv_class", [GATConv, GATv2Conv])
def test_attention_drops_weights_in_training_only(conv_class: type):
    graph = awkward_graph()
    conv = conv_class(5, 4, heads=2, dropout=0.5).double()
    x, block = features(30, 5), graph.to_block()
    assert not torch.allclose(conv(x, block), conv(x, block))
    conv.eval()
    assert_close(conv(x, block), conv(x, graph.to_edge_index()), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CONVS)
def test_layers_run_in_low_precision(name: str, dtype: torch.dtype):
    graph = awkward_graph()
    ours, _ = conv_pair(name, 5, 4)
    x = features(30, 5)
    expected = ours(x, graph.to_block())
    low = ours.to(dtype)(x.to(dtype), graph.to_block())
    assert low.dtype == dtype
    assert_close(low.double(), expected, rtol=0.1 if dtype == torch.bfloat16 else 1e-4, atol=0.1)


@pytest.mark.parametrize("name", CONVS)
def test_layers_train_under_autocast(name: str):
    graph = awkward_graph()
    conv = conv_pair(name, 5, 4)[0].float()
    x = features(30, 5).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x, graph.to_block())
    out.float().sum().backward()
    assert x.grad.isfinite().all()


def test_pickled_layers_still_work():
    conv = GINConv(torch.nn.Linear(5, 4)).double()
    x, graph = features(30, 5), awkward_graph()
    again = pickle.loads(pickle.dumps(conv))
    assert_close(again(x, graph.to_block()), conv(x, graph.to_edge_index()), **EXACT)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CONVS)
def test_layers_on_a_gpu_are_those_on_the_cpu(name: str):
    graph = awkward_graph()
    conv, _ = conv_pair(name, 5, 4)
    x = features(30, 5).requires_grad_()
    expected = conv(x, graph.to_block())
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), x)
    out = conv.cuda()(x.cuda(), graph.to_block().to("cuda"))
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    assert_close(out.cpu(), expected, **EXACT)
    assert_close(gradient, expected_gradient, **EXACT)


@pytest.mark.parametrize("conv", [GCNConv, SAGEConv, GATConv])
def test_layers_without_a_number_of_inputs_take_that_of_their_first_block(conv: type):
    block = CSCGraph.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3).to_block()
    layer = conv(-1, 4)
    assert layer(torch.randn(3, 5), block).shape == (3, 4)


@pytest.mark.parametrize("aggr", ["median", ["mean", "max"]])
def test_sage_on_a_block_names_the_aggregations_it_has(aggr: object):
    block = CSCGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 2).to_block()
    with pytest.raises(ValueError, match="by 'mean', 'max' or 'sum'"):
        SAGEConv(3, 4, aggr=aggr)(torch.randn(2, 3), block)
