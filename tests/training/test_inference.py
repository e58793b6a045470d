import pytest
import torch

from gnnfast.graph import CSCGraph, FeatureStore
from gnnfast.nn import GNN
from gnnfast.runtime.buffers import pooling_from
from gnnfast.sampler import NeighborSampler
from gnnfast.training import LayerwiseInference
from tests.training.graphs import awkward_graph

CONVS = ["gcn", "sage", "gin", "gat", "gatv2"]


def double_model(conv: str, **options: object) -> GNN:
    torch.manual_seed(0)
    heads = {"heads": 2} if conv.startswith("gat") else {}
    model = GNN(6, 8, 3, 4, conv=conv, dropout=0.5, **heads, **options)
    return model.double().eval()


@pytest.fixture(scope="module")
def features() -> FeatureStore:
    return FeatureStore(torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("conv", CONVS)
def test_layer_wise_full_graph_and_complete_mini_batch_agree(conv, weighted, features):
    graph = awkward_graph(weighted=weighted)
    model = double_model(conv)
    full = model(features.rows, graph.to_block())
    nodes = torch.arange(40).flip(0)

    batch = NeighborSampler(graph, [-1, -1, -1]).sample(nodes, 0)
    in_batch = batch.at_seeds(model(features.gather(batch.node_ids), batch.blocks))
    layer_wise = LayerwiseInference(graph, features, nodes, 3)(model)

    torch.testing.assert_close(in_batch, full[nodes], rtol=0, atol=1e-10)
    torch.testing.assert_close(layer_wise, full[nodes], rtol=0, atol=1e-10)


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("options", [{"norm": "batch"}, {"norm": "layer", "residual": True}, {"jk": "cat"}])
def test_options_of_the_stack_keep_inference_exact(conv, options, features):
    graph = awkward_graph()
    model = double_model(conv, **options)
    nodes = torch.tensor([7, 3, 39, 3])

    layer_wise = LayerwiseInference(graph, features, nodes, 3)(model)

    torch.testing.assert_close(layer_wise, model(features.rows, graph.to_block())[nodes], rtol=0, atol=1e-10)


@pytest.mark.parametrize("weighted", [True, False])
def test_gcn_trained_with_degrees_of_the_batch_is_inferred_with_those_of_the_graph(weighted, features):
    graph = awkward_graph(weighted=weighted)
    model = double_model("gcn", normalization="batch")
    nodes = torch.arange(40).flip(0)
    full = model(features.rows, graph.to_block())

    for chunk_bytes in (1024, 2 << 30):
        layer_wise = LayerwiseInference(graph, features, nodes, 3, chunk_bytes=chunk_bytes)(model)
        torch.testing.assert_close(layer_wise, full[nodes], rtol=0, atol=1e-10)


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("nodes", [torch.arange(40), torch.tensor([7, 3, 12, 39])])
def test_small_chunks_give_the_same_outputs(conv, nodes, features):
    graph = awkward_graph()
    model = double_model(conv)
    whole = LayerwiseInference(graph, features, nodes, 3)
    chunked = LayerwiseInference(graph, features, nodes, 3, chunk_bytes=1024)
    calls = []
    model.convs[0].register_forward_hook(lambda *_: calls.append(None))

    torch.testing.assert_close(chunked(model), whole(model), rtol=0, atol=1e-10)
    torch.testing.assert_close(chunked(model), whole(model), rtol=0, atol=1e-10)

    pieces = len(calls) or sum(len(columns._kept) for columns in chunked._columns.values())
    assert pieces > 3


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("nodes", [torch.arange(40), torch.tensor([7, 3, 12, 39])])
def test_layers_run_on_mini_batches_where_they_have_no_halves(conv, nodes, features, monkeypatch):
    graph = awkward_graph()
    model = double_model(conv)
    monkeypatch.setattr("gnnfast.training.inference.split_conv", lambda *_: None)

    for chunk_bytes in (1024, 2 << 30):
        layer_wise = LayerwiseInference(graph, features, nodes, 3, chunk_bytes=chunk_bytes)(model)

        torch.testing.assert_close(layer_wise, model(features.rows, graph.to_block())[nodes], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("conv", "options"),
    [
        ("sage", {"aggr": "max"}),
        ("sage", {"aggr": "sum", "root_weight": False}),
        ("sage", {"project": True}),
        ("sage", {"normalize": True, "bias": False}),
        ("gcn", {"bias": False}),
        ("gcn", {"normalize": False}),
        ("gin", {"train_eps": True, "norm": "batch"}),
        ("gat", {"residual": True, "add_self_loops": False}),
        ("gat", {"bias": False, "output_heads": 1}),
    ],
)
@pytest.mark.parametrize("nodes", [torch.arange(40), torch.tensor([7, 3, 12, 39])])
def test_options_of_the_convolutions_keep_inference_exact(conv, options, nodes, features):
    graph = awkward_graph()
    model = double_model(conv, **options)

    layer_wise = LayerwiseInference(graph, features, nodes, 3)(model)

    torch.testing.assert_close(layer_wise, model(features.rows, graph.to_block())[nodes], rtol=0, atol=1e-10)


def test_improved_gcn_is_inferred_exactly_and_refuses_self_loops(features):
    model = double_model("gcn", improved=True)
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1, 2, 5], [1, 2, 0, 0]]), 40)

    layer_wise = LayerwiseInference(graph, features, torch.arange(40), 3)(model)

    torch.testing.assert_close(layer_wise, model(features.rows, graph.to_block()), rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="improved=False"):
        LayerwiseInference(awkward_graph(), features, torch.arange(40), 3)(model)


@pytest.mark.parametrize("nodes", [torch.arange(40), torch.tensor([7, 3, 12, 39])])
def test_features_of_another_type_are_taken_as_the_model_computes(nodes, features):
    stored = FeatureStore(features.rows.half())
    model = double_model("sage")

    layer_wise = LayerwiseInference(awkward_graph(), stored, nodes, 3)(model)

    expected = model(stored.rows.double(), awkward_graph().to_block())[nodes]
    torch.testing.assert_close(layer_wise, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("conv", CONVS)
def test_hidden_layers_that_were_handed_out_stay_as_they_are(conv, features):
    graph = awkward_graph()
    model = double_model(conv)
    block = graph.to_block()

    layers = list(LayerwiseInference(graph, features, torch.arange(40), 3).hidden_layers(model))

    first = model.layer(0, features.rows, block)
    torch.testing.assert_close(layers[0], first, rtol=0, atol=1e-10)
    torch.testing.assert_close(layers[1], model.layer(1, first, block), rtol=0, atol=1e-10)


@pytest.mark.parametrize("conv", CONVS)
def test_outputs_and_features_outlive_the_next_call(conv, features):
    inference = LayerwiseInference(awkward_graph(), features, torch.arange(40), 3)
    before = features.rows.clone()
    with pooling_from(1):
        first = inference(double_model(conv))
        kept = first.clone()
        other = double_model(conv)
        torch.nn.init.ones_(next(other.parameters()))
        inference(other)

    assert torch.equal(first, kept)
    assert torch.equal(features.rows, before)


def test_only_the_closure_of_the_nodes_is_computed(features):
    graph = awkward_graph()
    isolated = torch.tensor([39])

    inference = LayerwiseInference(graph, features, isolated, 3)

    assert [nodes.tolist() for nodes in inference.needed] == [[39]] * 4
    assert inference.num_edges == [0, 0, 0]


def test_the_model_is_left_in_its_mode(features):
    model = double_model("sage").train()

    LayerwiseInference(awkward_graph(), features, torch.tensor([1]), 3)(model)

    assert model.training


def test_embeddings_enter_the_last_layer(features):
    graph = awkward_graph()
    model = double_model("gcn")
    nodes = torch.arange(40)

    embeddings = LayerwiseInference(graph, features, nodes, 3).embeddings(model)

    block = graph.to_block()
    torch.testing.assert_close(model.layer(2, embeddings, block), model(features.rows, block), rtol=0, atol=1e-10)


class Doubling(GNN):
    """A layer of its own making."""

    def layer(self, *arguments, **keywords):
        return 2 * super().layer(*arguments, **keywords)


@pytest.mark.parametrize("changes", ["the layer", "a convolution's output"])
def test_models_that_change_a_layer_are_inferred_as_they_are(changes: str):
    graph = awkward_graph()
    x = torch.randn(graph.num_nodes, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = (Doubling if changes == "the layer" else GNN)(5, 8, 2, 3, conv="sage").eval()
    if changes != "the layer":
        model.convs[0].register_forward_hook(lambda conv, inputs, output: 3 * output)
    outputs = LayerwiseInference(graph, FeatureStore(x), torch.arange(graph.num_nodes), 2)(model)
    torch.testing.assert_close(outputs, model(x, graph.to_block()).detach(), rtol=1e-4, atol=1e-5)
