from __future__ import annotations

import pytest
import torch

from gnnfast.datasets import synthetic
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.sampler import NeighborSampler
from gnnfast.training import TrainingSettings, train
from gnnfast.training.precision import as_input


def test_rows_in_the_type_of_the_computation_are_not_widened():
    half, single = torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(2, 3)
    assert as_input(half, torch.float32, "bf16-mixed") is half
    assert as_input(half, torch.float32).dtype == torch.float32
    assert as_input(half, torch.float32, "16-mixed").dtype == torch.float32
    assert as_input(single, torch.float64, "bf16-mixed").dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert as_input(half, torch.float32) is half


@pytest.mark.parametrize("conv", ["gcn", "sage", "gin", "gat"])
def test_half_precision_features_train_like_those_that_are_rounded_on_the_way(conv: str):
    losses = []
    for feature_dtype in (torch.float32, torch.bfloat16):
        dataset = synthetic(num_nodes=600, seed=2)
        # What float32 rows hold is rounded beforehand, so that both see the same numbers.
        rows = dataset.features.rows.bfloat16()
        dataset.features = type(dataset.features)(rows.to(feature_dtype))
        torch.manual_seed(0)
        model = GNN(dataset.num_features, 16, 2, dataset.num_classes, conv=conv)
        loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=128, num_threads=0)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        result = train(model, loader, optimizer, TrainingSettings(epochs=3, precision="bf16-mixed", evaluate_every=1))
        losses.append([(row["train_loss"], row["val_loss"]) for row in result.history])
    assert torch.allclose(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=2e-2)


@pytest.mark.parametrize("has_it", [True, False])
def test_bfloat16_that_is_imitated_is_warned_of(
    has_it: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("gnnfast.training.loop.has_bfloat16", lambda device: has_it)
    dataset = synthetic(num_nodes=60, num_edges=400, seed=2)
    model = GNN(dataset.num_features, 4, 1, dataset.num_classes)
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5]), num_threads=0)
    train(model, loader, torch.optim.Adam(model.parameters()), TrainingSettings(epochs=1, precision="bf16-mixed"))
    assert ("imitates it" in caplog.text) is not has_it
