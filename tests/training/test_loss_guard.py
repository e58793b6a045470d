"""What a loss that is not finite does to a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from gnnfast.graph import Dataset, FeatureStore
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.sampler import GASSampler, NeighborSampler
from gnnfast.training import RunFolder, Stopped, TrainingResult, TrainingSettings, train
from gnnfast.training.loss_guard import LossGuard
from tests.training.graphs import easy_dataset
from tests.training.test_resume import StopAfter, assert_equal

OVERFLOWS = 3e38  # is finite, but not its product with the weights


def dataset_with(num_faulty: int, value: float) -> Dataset:
    """Some training nodes have features of that value."""
    dataset = easy_dataset()
    features = dataset.features.gather(torch.arange(dataset.num_nodes))
    features[dataset.train_ids[:num_faulty]] = value
    dataset.features = FeatureStore(features)
    return dataset


def run(
    num_faulty: int,
    folder: Path | None = None,
    resume: bool = False,
    stop_after: int = -1,
    norm=None,
    value=OVERFLOWS,
    **settings,
) -> tuple[TrainingResult, GNN]:
    dataset = dataset_with(num_faulty, value)
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(16) if norm == "batch" else None
    model = GNN(dataset.num_features, 16, 2, dataset.num_classes, conv="gin", dropout=0.3, norm=norm)
    # Each seed hears itself alone: only its own mini-batch is at fault.
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [1, 1]), batch_size=8, num_threads=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    watch = StopAfter(stop_after)
    settings = TrainingSettings(**{"epochs": 3, "accelerator": "cpu"} | settings)
    return train(model, loader, optimizer, settings, None, folder, watch, resume, watch.signals), model


def place(error: FloatingPointError) -> tuple[int, int]:
    """Epoch and step that an error names."""
    found = re.search(r"in epoch (\d+), step (\d+), of seeds ", str(error))
    assert found
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_error_names_step_seeds_and_layer_and_the_state_before_is_kept(norm, accumulate: int, tmp_path: Path):
    with pytest.raises(FloatingPointError) as caught:
        run(1, tmp_path / "faulty", norm=norm, accumulate=accumulate)
    _, step = place(caught.value)
    before = step - step % accumulate
    assert re.match(r"the training loss is nan in epoch 0, step \d+, of seeds (\d+, ){7}\d+; ", str(caught.value))
    assert "the first output that is not finite is that of convs.0" in str(caught.value)
    assert f"The last good state is in {tmp_path}/faulty/checkpoints/step-{before // accumulate}.pt" in str(
        caught.value
    )
    assert before > 0

    # What is kept is what a run leaves that is asked to stop there.
    with pytest.raises(Stopped):
        run(1, tmp_path / "stopped", stop_after=before, norm=norm, accumulate=accumulate)
    kept, expected = (RunFolder(tmp_path / name).load_checkpoint("last") for name in ("faulty", "stopped"))
    for key in kept.keys() - {"seconds", "stage_seconds"}:
        assert_equal(kept[key], expected[key])


def test_a_loss_that_is_looked_at_later_is_traced_from_the_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a GPU, where the weights are lost by then."""
    with pytest.raises(FloatingPointError) as at_once:
        run(1, tmp_path / "at_once")
    _, step = place(at_once.value)
    before = LossGuard.before_step

    def look_later(self: LossGuard) -> None:
        self.looks_at_once = False
        before(self)

    monkeypatch.setattr(LossGuard, "before_step", look_later)
    with pytest.raises(FloatingPointError) as later:
        run(1, tmp_path / "later", checkpoint_steps=step)

    message = str(later.value)
    assert place(later.value) == (0, step)
    assert "the first output that is not finite is that of convs.0" in message
    assert f"The last good state is in {tmp_path}/later/checkpoints/step-{step}.pt" in message
    with pytest.raises(FloatingPointError, match=r"step \d+, of seeds .*; the weights .* are not finite"):
        run(1)


def test_to_go_on_meets_the_fault_again(tmp_path: Path):
    messages = []
    for resume in (False, True):
        with pytest.raises(FloatingPointError) as caught:
            run(1, tmp_path, resume=resume)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("norm", [None, "batch"])
def test_steps_can_be_skipped(norm, caplog: pytest.LogCaptureFixture):
    result, model = run(1, on_nonfinite="skip", norm=norm, value=torch.nan)

    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert all(row["train_loss"] < 1e6 for row in result.history)
    warnings = [record.message for record in caplog.records if "its update is skipped" in record.message]
    # The node is in a few mini-batches; not all are told.
    assert [int(re.search(r"(\d+) so far", line)[1]) for line in warnings] == [1, 2, 4]
    assert re.match(
        r"the training loss is nan in epoch 0, step \d+, of seeds .*: its update is skipped, 1 so far", warnings[0]
    )


def test_a_skipped_step_leaves_weights_and_statistics_alone(tmp_path: Path):
    options = {"on_nonfinite": "skip", "norm": "batch", "value": torch.nan}
    with pytest.raises(FloatingPointError, match="the 10th in a row"):
        run(150, tmp_path, **options, checkpoint_steps=1, keep_checkpoints=20)
    folder = RunFolder(tmp_path)
    assert folder.steps() == list(range(1, 10))
    first, last = (folder.load_checkpoint(f"step-{step}") for step in (1, 9))
    assert_equal(first["model"], last["model"])
    assert last["counters"]["skipped_in_a_row"] == 9

    with pytest.raises(
        FloatingPointError, match=r"the 10th in a row in epoch 0, step 9, of .*; the features of node \d+ are"
    ):
        run(150, tmp_path, resume=True, **options)


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path):
    """The loss is finite, the gradient is not."""

    class Root(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient * torch.nan

    dataset = easy_dataset()
    model = GNN(dataset.num_features, 16, 2, dataset.num_classes, act=Root.apply)
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=32)
    settings = TrainingSettings(epochs=3, accelerator="cpu", checkpoint_steps=1)

    with pytest.raises(FloatingPointError, match=r"after step 1 the weights convs\.0\.bias, .* are not finite"):
        train(model, loader, torch.optim.Adam(model.parameters()), settings, None, tmp_path)
    assert RunFolder(tmp_path).steps() == []


def test_weights_that_are_not_finite_are_named_by_the_next_loss():
    dataset = easy_dataset()
    model = GNN(dataset.num_features, 16, 2, dataset.num_classes, conv="gcn")
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e38, momentum=0.9)

    with pytest.raises(FloatingPointError, match=r"the training loss is nan in epoch 0, step \d, .*"):
        train(model, loader, optimizer, TrainingSettings(epochs=1, accelerator="cpu"))


def test_what_a_history_has_taken_in_cannot_be_skipped():
    dataset = easy_dataset()
    model = GNN(dataset.num_features, 16, 2, dataset.num_classes, conv="gcn")
    loader = DataLoader(dataset, GASSampler(dataset.graph, num_parts=4, parts_per_batch=1))
    settings = TrainingSettings(epochs=1, accelerator="cpu", on_nonfinite="skip")

    with pytest.raises(ValueError, match="on_nonfinite=skip cannot take back"):
        train(model, loader, torch.optim.Adam(model.parameters()), settings)
