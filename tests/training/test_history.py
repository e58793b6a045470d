from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, FeatureStore
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.sampler import GASSampler, NeighborSampler
from gnnfast.training import History, RunFolder, TrainingSettings, train
from gnnfast.training.history import history_for
from tests.training.graphs import awkward_graph, easy_dataset

MODELS = {
    "gcn": {"conv": "gcn"},
    "gcn, normalized and residual": {"conv": "gcn", "norm": "batch", "residual": True},
    "sage": {"conv": "sage", "norm": "layer"},
    "sage, jumping": {"conv": "sage", "jk": "cat"},
    "gat": {"conv": "gat", "heads": 2},
    "gin": {"conv": "gin", "jk": "max"},
}


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}):
        yield


def model_of(name: str, num_layers: int = 3, **settings: object) -> GNN:
    torch.manual_seed(0)
    return GNN(5, 8, num_layers, 4, **{**MODELS[name], **settings}).eval()  # type: ignore[arg-type]


def features(graph: CSCGraph) -> Tensor:
    return torch.randn(graph.num_nodes, 5, generator=torch.Generator().manual_seed(1))


def epoch_outputs(
    model: GNN, graph: CSCGraph, x: Tensor, history: Callable[[int, Block, Tensor], Tensor], seed: int
) -> Tensor:
    """What the mini-batches of one epoch give out, by node."""
    sampler = GASSampler(graph, 10, 3, "grow")
    out = torch.full((graph.num_nodes, 4), torch.nan)
    for number in range(sampler.num_batches):
        batch = sampler.sample_batch(number, seed)
        out[batch.seed_nodes] = model(x[batch.node_ids], batch.blocks, history=history)
    return out


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_with_weights_that_stay_outputs_become_those_of_the_full_graph(name: str):
    graph = awkward_graph(weighted=False)
    model, x = model_of(name), features(graph)
    expected = model(x, graph.to_block())
    history = History(model, graph.num_nodes)
    errors = [float((epoch_outputs(model, graph, x, history, seed) - expected).abs().max()) for seed in range(3)]
    # Layer l is right from its l-th epoch on: before the third there are rows of zeros, or made of such.
    assert errors[0] > 1e-3
    assert errors[2] < 1e-5
    inputs = x
    for layer, table in enumerate(history.tables):
        inputs = model.layer(layer, inputs, graph.to_block())
        torch.testing.assert_close(table, inputs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_once_filled_the_first_epoch_is_exact(name: str):
    graph = awkward_graph(weighted=False)
    model, x = model_of(name), features(graph)
    history = History(model, graph.num_nodes)
    history.fill(model, graph, FeatureStore(x))
    torch.testing.assert_close(
        epoch_outputs(model, graph, x, history, 0), model(x, graph.to_block()), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_filling_leaves_the_model_in_its_mode():
    graph = awkward_graph()
    model = model_of("gcn", dropout=0.5).train()
    tables = []
    for _ in range(2):
        history = History(model, graph.num_nodes)
        history.fill(model, graph, FeatureStore(features(graph)))
        tables.append(history.tables)
    assert model.training
    assert all(torch.equal(*pair) for pair in zip(*tables, strict=True))


def test_gradients_flow_through_the_rows_of_the_mini_batch_alone():
    """The gradient is that of a forward in which the halo's hidden rows are given numbers."""
    graph = awkward_graph(weighted=False)
    model, x = model_of("sage", num_layers=2), features(graph)
    history = History(model, graph.num_nodes)
    history.fill(model, graph, FeatureStore(x))
    given = history.tables[0].clone()
    batch = GASSampler(graph, 10, 3, "grow").sample_batch(0, 0)
    (block,) = batch.blocks
    assert block.num_src > block.num_dst

    model(x[batch.node_ids], batch.blocks, history=history).square().sum().backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    hidden = model.layer(0, x[batch.node_ids], block)
    halo = given[batch.node_ids[block.num_dst :]]
    model.layer(1, torch.cat([hidden, halo]), block).square().sum().backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
    assert not any(table.requires_grad for table in history.tables)


def test_rows_are_kept_as_they_were_before_dropout():
    graph = awkward_graph(weighted=False)
    model, x = model_of("gcn", num_layers=2, dropout=0.5), features(graph)
    batch = GASSampler(graph, 10, 3, "grow").sample_batch(0, 0)
    undropped = model.layer(0, x[batch.node_ids], batch.blocks[0]).detach()
    history = History(model, graph.num_nodes)
    history.tables[0].fill_(1.0)
    seen = []
    model.convs[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    model.train()
    model(x[batch.node_ids], batch.blocks, history=history)
    torch.testing.assert_close(history.tables[0][batch.seed_nodes], undropped)
    # What is read is dropped anew: doubled or nothing.
    halo = seen[0][batch.blocks[0].num_dst :]
    assert halo.numel() > 20
    assert sorted(halo.unique().tolist()) == [0.0, 2.0]


@torch.no_grad()
def test_blocks_that_do_not_chain_take_what_is_missing_from_history():
    """One block per layer, the last of which hears nodes that the first does not compute."""
    graph = awkward_graph(weighted=False)
    model, x = model_of("gcn", num_layers=2), features(graph)
    history = History(model, graph.num_nodes)
    history.fill(model, graph, FeatureStore(x))
    nodes = torch.tensor([3, 7, 20])
    (block,) = NeighborSampler(graph, [-1]).sample(nodes, 0).blocks
    (first,) = NeighborSampler(graph, [-1]).sample(block.src_nodes[:5], 0).blocks
    assert block.num_src > 5
    out = model(x[first.src_nodes], [first, block], history=history)
    torch.testing.assert_close(out, model(x, graph.to_block())[nodes], atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_blocks", [2, 1])
def test_without_a_history_blocks_that_do_not_chain_are_refused(num_blocks: int):
    graph = awkward_graph(weighted=False)
    batch = GASSampler(graph, 10, 3, "grow").sample_batch(0, 0)
    message = "gnnfast.training.History" if num_blocks == 2 else "2 layers but the mini-batch has 1 blocks"
    with pytest.raises(ValueError, match=message):
        model_of("gcn", num_layers=2)(torch.zeros(batch.num_nodes, 5), batch.blocks * num_blocks)


def test_more_rows_than_the_next_layer_reads_are_refused_with_a_history_too():
    graph = awkward_graph(weighted=False)
    model = model_of("gcn", num_layers=2)
    (small,) = NeighborSampler(graph, [-1]).sample(torch.tensor([3]), 0).blocks
    (large,) = NeighborSampler(graph, [-1]).sample(torch.arange(40), 0).blocks
    with pytest.raises(ValueError, match="layer 1 computes 40 rows and the next one reads"):
        model(torch.zeros(large.num_src, 5), [large, small], history=History(model, 40))


def test_a_block_that_does_not_name_its_sources_is_refused():
    graph = awkward_graph(weighted=False)
    model = model_of("gcn", num_layers=2)
    with pytest.raises(ValueError, match="no src_nodes"):
        model(features(graph), [graph.to_block()], history=History(model, 40))


@torch.no_grad()
def test_half_precision_takes_half_of_the_memory_and_stays_close():
    graph = awkward_graph(weighted=False)
    model, x = model_of("sage"), features(graph)
    full, half = History(model, graph.num_nodes), History(model, graph.num_nodes, torch.float16)
    assert full.num_bytes == 2 * half.num_bytes == 2 * 40 * 8 * 4
    outputs = []
    for history in (full, half):
        history.fill(model, graph, FeatureStore(x))
        outputs.append(epoch_outputs(model, graph, x, history, 0))
    assert outputs[1].dtype == torch.float32
    assert 0 < float((outputs[0] - outputs[1]).abs().max()) < 0.02


@pytest.mark.parametrize("model_name", ["gcn", "sage, jumping"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_training_learns_in_any_precision(model_name: str, precision: str):
    dataset = easy_dataset()
    torch.manual_seed(0)
    model = GNN(8, 16, 3, 3, dropout=0.2, **MODELS[model_name])  # type: ignore[arg-type]
    loader = DataLoader(dataset, GASSampler(dataset.graph, 12, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    settings = TrainingSettings(epochs=15, precision=precision, accelerator="cpu")  # type: ignore[arg-type]
    result = train(model, loader, optimizer, settings)
    # Chance is 1/3, the features alone give 0.6.
    assert result.test["accuracy"] > 0.75


def test_a_run_repeats_itself():
    def losses(num_threads: int) -> list[float | None]:
        dataset = easy_dataset()
        torch.manual_seed(0)
        model = GNN(8, 16, 2, 3, conv="sage", dropout=0.5)
        loader = DataLoader(dataset, GASSampler(dataset.graph, 12, 3), num_threads=num_threads)
        result = train(
            model, loader, torch.optim.Adam(model.parameters(), 0.01), TrainingSettings(epochs=3, accelerator="cpu")
        )
        return [row["train_loss"] for row in result.history]

    assert losses(0) == losses(2)


def test_a_run_leaves_its_history_in_its_checkpoint(tmp_path: Path):
    dataset = easy_dataset()
    torch.manual_seed(0)
    model = GNN(8, 16, 3, 3)
    sampler = GASSampler(dataset.graph, 12, 3)
    settings = TrainingSettings(epochs=2, accelerator="cpu")
    train(model, DataLoader(dataset, sampler), torch.optim.Adam(model.parameters()), settings, run_folder=tmp_path)
    state = RunFolder(tmp_path).load_checkpoint("last")
    restored = History(model, dataset.num_nodes)
    restored.load_state_dict(state["ranks"][0]["history"])
    # What the last epoch computed of each node is there, and no filling by the final weights.
    model.load_state_dict(state["model"])
    filled = History(model, dataset.num_nodes)
    filled.fill(model, dataset.graph, dataset.features)
    for table, late in zip(restored.tables, filled.tables, strict=True):
        assert table.any(1).double().mean() > 0.9
        assert 0 < float((table - late).abs().max()) < 1


def test_a_history_goes_on_from_its_state():
    graph = awkward_graph(weighted=False)
    model, x = model_of("gcn"), features(graph)
    unbroken, stopped, resumed = (History(model, graph.num_nodes) for _ in range(3))
    with torch.no_grad():
        epoch_outputs(model, graph, x, unbroken, 0)
        epoch_outputs(model, graph, x, stopped, 0)
        resumed.load_state_dict(stopped.state_dict())
        expected = epoch_outputs(model, graph, x, unbroken, 1)
        assert torch.equal(epoch_outputs(model, graph, x, resumed, 1), expected)
        assert not torch.equal(epoch_outputs(model, graph, x, History(model, graph.num_nodes), 1), expected)
    with pytest.raises(ValueError, match="is it of another model or graph"):
        History(model, graph.num_nodes + 1).load_state_dict(stopped.state_dict())


def test_runs_without_a_history_have_none_in_their_checkpoint(tmp_path: Path):
    dataset = easy_dataset()
    model = GNN(8, 16, 2, 3)
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [2, 2]))
    settings = TrainingSettings(epochs=1, accelerator="cpu")
    train(model, loader, torch.optim.Adam(model.parameters()), settings, run_folder=tmp_path)
    assert RunFolder(tmp_path).load_checkpoint("last")["ranks"][0]["history"] is None


def test_a_model_in_float64_has_its_history_in_float64():
    dataset = easy_dataset()
    for history_dtype, dtype in (("float32", torch.float64), ("float16", torch.float16)):
        loader = DataLoader(dataset, GASSampler(dataset.graph, 12, 3, history_dtype=history_dtype))
        assert history_for(loader, GNN(8, 16, 2, 3).double(), "cpu")["history"].tables[0].dtype == dtype


def test_the_sampler_says_how_its_history_is_kept():
    dataset = easy_dataset()
    model = GNN(8, 16, 2, 3)
    sampler = GASSampler(dataset.graph, 12, 3, history_dtype="bfloat16", fill_history=False)
    empty = history_for(DataLoader(dataset, sampler), model, "cpu")["history"]
    assert empty.tables[0].dtype == torch.bfloat16
    assert not empty.tables[0].any()
    filled = history_for(DataLoader(dataset, GASSampler(dataset.graph, 12, 3)), model, "cpu")["history"]
    assert filled.tables[0].any(1).double().mean() > 0.9
    assert history_for(DataLoader(dataset, NeighborSampler(dataset.graph, [2, 2])), model, "cpu") == {}
