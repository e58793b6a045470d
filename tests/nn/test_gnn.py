"""The stack: PyG's models on any form of the graph."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.nn import PairNorm

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.nn import GNN
from gnnfast.sampler import NeighborSampler
from tests.nn.layers import MODELS, awkward_graph, features, randomize

EXACT = {"rtol": 0, "atol": 1e-10}
CONFIGS = [
    path
    for path in sorted((Path(__file__).parents[2] / "configs" / "model").glob("*.yaml"))
    if "gnnfast.nn.GNN" in path.read_text()
]


def make_model(conv: str, **options: Any) -> GNN:
    heads = {"heads": 2} if conv.startswith("gat") else {}
    model = GNN(6, 8, 3, 4, conv=conv, **heads, **options).double().eval()
    randomize(model)
    return model


@pytest.fixture(scope="module")
def graph() -> CSCGraph:
    return awkward_graph()


@pytest.fixture(scope="module")
def x(graph: CSCGraph) -> Tensor:
    return features(graph.num_nodes, 6)


@pytest.fixture(scope="module")
def complete_batch(graph: CSCGraph) -> MiniBatch:
    return NeighborSampler(graph, [-1, -1, -1]).sample(torch.tensor([29, 3, 8, 0, 17]), 0)


@pytest.mark.parametrize("jk", [None, "last", "cat", "max", "lstm"])
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("conv", MODELS)
def test_state_dicts_of_pyg_load_and_give_its_output(conv: str, norm: str | None, jk: str | None, graph: CSCGraph):
    pyg_class, options = MODELS[conv]
    norm_kwargs = {"mode": "node"} if norm == "layer" else None
    theirs = pyg_class(6, 8, 3, 4, norm=norm, norm_kwargs=norm_kwargs, jk=jk, **options)
    ours = GNN(6, 8, 3, 4, conv=conv, norm=norm, jk=jk, heads=options.get("heads", 1))
    ours.load_state_dict(theirs.state_dict())
    x, edge_index, weight = features(graph.num_nodes, 6).float(), graph.to_edge_index(), graph.edge_weight.float()
    for mode in (True, False):  # batch statistics, then running ones
        expected = theirs.train(mode)(x, edge_index, edge_weight=weight if conv == "gcn" else None)
        in_float32 = CSCGraph(graph.indptr, graph.indices, edge_weight=weight)
        ours.train(mode)
        assert_close(ours(x, in_float32.to_block()), expected, rtol=1e-5, atol=1e-5)
    assert_close(ours(x, edge_index, weight), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"norm": "layer", "residual": True}, {"jk": "cat"}, {"jk": "lstm"}], ids=str)
@pytest.mark.parametrize("conv", MODELS)
def test_trimmed_blocks_give_the_untrimmed_output(
    conv: str, options: dict[str, Any], graph: CSCGraph, x: Tensor, complete_batch: MiniBatch
):
    model = make_model(conv, **options)
    full = model(x, graph.to_block())
    in_batch = model(x[complete_batch.node_ids], complete_batch.blocks)
    assert_close(in_batch, full[complete_batch.seed_nodes], **EXACT)
    assert_close(model(x, [graph.to_block()] * 3), full, **EXACT)
    assert_close(model(x, graph.to_edge_index(), graph.edge_weight), full, **EXACT)


@pytest.mark.parametrize("options", [{}, {"norm": "batch", "residual": True}, {"jk": "max"}], ids=str)
@pytest.mark.parametrize("conv", MODELS)
def test_layers_run_one_by_one_give_the_output(conv: str, options: dict[str, Any], graph: CSCGraph, x: Tensor):
    model = make_model(conv, **options)
    sampler = NeighborSampler(graph, [-1])
    outputs, rows = [], x
    for i in range(model.num_layers):
        parts = [sampler.sample(nodes, 0) for nodes in torch.arange(graph.num_nodes).split(7)]
        rows = torch.cat([model.layer(i, rows[part.node_ids], part.blocks[0]) for part in parts])
        outputs.append(rows)
    assert_close(model.readout(outputs), model(x, graph.to_block()), **EXACT)


def test_residuals_add_the_input_of_each_layer(graph: CSCGraph, x: Tensor):
    model = make_model("sage", residual=True, act=None)
    rows = x
    for conv, residual in zip(model.convs, model.residuals, strict=True):
        rows = conv(rows, graph.to_block()) + residual(rows)
    assert_close(model(x, graph.to_block()), rows, **EXACT)
    assert [type(residual).__name__ for residual in model.residuals] == ["Linear", "Identity", "Linear"]


def test_normalization_by_layer_treats_rows_one_by_one(graph: CSCGraph, x: Tensor):
    model = make_model("sage", norm="layer")
    alone = [model.norms[0](row[None]) for row in features(5, 8)]
    assert_close(model.norms[0](features(5, 8)), torch.cat(alone), **EXACT)


@pytest.mark.parametrize("norm", ["layer", "Layer", "LayerNorm", "layer_norm", "layer-norm", "LAYER NORM"])
@pytest.mark.parametrize("conv", ["sage", "gin"])
def test_every_name_of_layer_norm_keeps_rows_apart(
    conv: str, norm: str, graph: CSCGraph, x: Tensor, complete_batch: MiniBatch
):
    model = make_model(conv, norm=norm)
    full = model(x, graph.to_block())
    assert_close(model(x[complete_batch.node_ids], complete_batch.blocks), full[complete_batch.seed_nodes], **EXACT)


@pytest.mark.parametrize(
    "norm", ["pair", "PairNorm", "graph_norm", "instance", "mean_subtraction", "DiffGroupNorm", "graph_size"]
)
def test_norms_that_mix_rows_are_refused_by_name(norm: str):
    with pytest.raises(ValueError, match=f"norm='{norm}' .* sampled mini-batches need row-wise norms"):
        GNN(6, 8, 2, 4, norm=norm)


def test_layer_norm_over_all_rows_is_refused():
    with pytest.raises(ValueError, match=r"'mode': 'graph'.* mixes the rows"):
        GNN(6, 8, 2, 4, norm="layer", norm_kwargs={"mode": "graph"})


def test_norms_passed_as_modules_are_taken_as_they_are():
    model = GNN(6, 8, 2, 4, norm=PairNorm())
    assert isinstance(model.norms[0], PairNorm)


@pytest.mark.parametrize(
    "options", [{}, {"norm": "layer", "residual": True}, {"jk": "cat"}, {"jk": "max"}, {"jk": "lstm"}], ids=str
)
@pytest.mark.parametrize("conv", MODELS)
def test_a_mini_batch_without_seeds_runs_forward_and_backward(conv: str, options: dict[str, Any], graph: CSCGraph):
    model = make_model(conv, dropout=0.5, input_dropout=0.5, **options).train()
    batch = NeighborSampler(graph, [5, 5, 5]).sample(torch.empty(0, dtype=torch.int64), 0)
    x = features(0, 6).requires_grad_()
    out = model(x, batch.blocks)
    out.sum().backward()
    assert out.shape == (0, 4)
    assert x.grad.shape == x.shape
    assert all(parameter.grad is None or parameter.grad.eq(0).all() for parameter in model.parameters())


@pytest.mark.parametrize("conv", MODELS)
def test_edge_weights_beside_blocks_are_refused(conv: str, graph: CSCGraph, x: Tensor):
    with pytest.raises(ValueError, match="GNN takes no edge_weight"):
        make_model(conv)(x, graph.to_block(), graph.edge_weight)


@pytest.mark.parametrize(
    ("conv", "options", "expected"),
    [
        ("gcn", {}, [0, 0, 0]),
        ("sage", {"aggr": "max"}, [0, 0, 0]),
        ("gin", {}, [0, 0, 0]),
        ("gat", {"heads": 4, "output_heads": 3}, [4, 4, 3]),
        ("gatv2", {"heads": 4, "output_heads": 3}, [4, 4, 3]),
        ("gatv2", {"heads": 4, "jk": "cat"}, [4, 4, 4]),
    ],
)
def test_message_channels_bound_the_tensors_with_a_row_per_edge(
    conv: str, options: dict[str, Any], expected: list[int], graph: CSCGraph
):
    model = GNN(6, 8, 3, 3, conv=conv, **options).eval()
    assert [model.message_channels(i) for i in range(3)] == expected

    block = graph.to_block()
    block.inclusion_weight = torch.ones(block.num_edges)
    for i, channels in enumerate(expected):
        with torch.no_grad(), _NumbersPerEdge(block.num_edges) as seen:
            model.layer(i, torch.zeros(block.num_src, 8 if i else 6), block)
        assert seen.most <= max(channels, 1)


@pytest.mark.parametrize(
    ("conv", "expected"), [("gcn", [20, 8, 8]), ("sage", [20, 8, 8]), ("gat", [8, 8, 6]), ("gatv2", [8, 8, 6])]
)
def test_message_channels_count_whole_messages_off_the_cpu(conv: str, expected: list[int]):
    model = GNN(20, 8, 3, 3, conv=conv, heads=2 if conv.startswith("gat") else 1).to("meta")
    assert [model.message_channels(i) for i in range(3)] == expected


class _NumbersPerEdge(TorchDispatchMode):
    """The most numbers per edge in a result whose rows are the edges."""

    def __init__(self, num_edges: int):
        super().__init__()
        self.num_edges = num_edges
        self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        out = function(*arguments, **(options or {}))
        if isinstance(out, Tensor) and out.dim() > 0 and out.shape[0] == self.num_edges:
            self.most = max(self.most, out.numel() // self.num_edges)
        return out


def test_dropout_is_drawn_in_training_only(graph: CSCGraph, x: Tensor):
    for options in ({"dropout": 0.5}, {"input_dropout": 0.5}):
        model = make_model("gcn", **options)
        assert torch.equal(model(x, graph.to_block()), model(x, graph.to_block()))
        model.train()
        assert not torch.equal(model(x, graph.to_block()), model(x, graph.to_block()))


def test_output_heads_are_averaged(graph: CSCGraph, x: Tensor):
    model = GNN(6, 8, 2, 3, conv="gat", heads=4, output_heads=5)
    assert [(conv.heads, conv.concat) for conv in model.convs] == [(4, True), (5, False)]
    assert model(x.float(), graph.to_block()).shape == (graph.num_nodes, 3)


def test_a_single_layer_gives_the_output(graph: CSCGraph, x: Tensor):
    assert GNN(6, 8, 1, 4, residual=True)(x.float(), graph.to_block()).shape == (graph.num_nodes, 4)


def test_all_parameters_receive_gradients_and_reset(graph: CSCGraph, x: Tensor):
    model = make_model("gin", residual=True, norm="batch", jk="cat").train()
    model(x, graph.to_block()).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in model.named_parameters() if "nn" not in name)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    model.reset_parameters()
    assert not any(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv": "cheb"}, "conv must be one of gcn, gat, gatv2, gin, sage, got 'cheb'"),
        ({"conv": "gin", "heads": 2}, "conv='gin' has no heads"),
        ({"conv": "sage", "normalization": "batch"}, "conv='sage' has no normalization by degrees"),
        ({"conv": "gat", "heads": 3}, "heads=3 must divide the width of the layer, 8"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        GNN(6, 8, 2, 4, **options)


def test_a_wrong_number_of_blocks_is_named(complete_batch: MiniBatch, x: Tensor):
    message = "the model has 2 layers but the mini-batch has 3 blocks: sampler.fanouts needs one entry per layer"
    with pytest.raises(ValueError, match=message):
        GNN(6, 8, 2, 4)(x.float(), complete_batch.blocks)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_keys_of_a_config_are_the_models_arguments(path: Path, graph: CSCGraph, x: Tensor):
    config = yaml.safe_load(path.read_text())
    assert config.pop("_target_") == "gnnfast.nn.GNN"
    assert config["conv"] == path.stem
    inspect.signature(GNN).bind(in_channels=6, out_channels=4, **config)
    model = GNN(in_channels=6, out_channels=4, **config).double().eval()
    assert model(x, graph.to_block()).shape == (graph.num_nodes, 4)


def test_every_convolution_has_a_config():
    assert {path.stem for path in CONFIGS} == set(MODELS)
