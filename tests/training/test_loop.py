import csv
import json

import pytest
import torch

from gnnfast.graph import Dataset
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.sampler import NeighborSampler
from gnnfast.training import RunFolder, TrainingResult, TrainingSettings, train
from gnnfast.training.evaluation import evaluation_interval
from tests.training.graphs import easy_dataset

ON_CPU = {"accelerator": "cpu"}


def run(
    dataset: Dataset, folder=None, settings=None, conv="sage", lr=0.01, scheduler=None, num_threads=1, **options
) -> tuple[TrainingResult, GNN]:
    torch.manual_seed(0)
    model = GNN(dataset.num_features, 16, 2, dataset.num_classes, conv=conv, dropout=0.3, **options)
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=32, num_threads=num_threads)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    settings = settings or TrainingSettings(epochs=8, **ON_CPU)
    scheduler = scheduler(optimizer) if scheduler else None
    return train(model, loader, optimizer, settings, scheduler, folder), model


@pytest.mark.parametrize("conv", ["gcn", "sage", "gin", "gat", "gatv2"])
def test_every_convolution_learns(conv):
    result, _ = run(easy_dataset(), conv=conv, settings=TrainingSettings(epochs=15, **ON_CPU))

    assert result.test["accuracy"] > 0.8
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_several_labels_per_node_are_learned():
    result, _ = run(easy_dataset(multilabel=True), settings=TrainingSettings(epochs=15, **ON_CPU))

    assert result.metric == "f1_micro"
    assert result.test["f1_micro"] > 0.7


def test_the_curve_repeats_bit_for_bit_whatever_the_threads():
    curves = []
    for num_threads in (0, 1, 3, 1):
        result, model = run(easy_dataset(), num_threads=num_threads)
        row = [{key: row[key] for key in row if key != "seconds"} for row in result.history]
        curves.append((row, [tensor.tolist() for tensor in model.state_dict().values()]))

    assert all(curve == curves[0] for curve in curves)


def test_the_model_is_left_at_its_best_epoch_as_the_checkpoint_has_it(tmp_path):
    result, model = run(easy_dataset(), tmp_path, TrainingSettings(epochs=12, evaluate_every=1, **ON_CPU))

    best = RunFolder(tmp_path).load_checkpoint("best")
    scores = [row["val_accuracy"] for row in result.history]
    assert result.best_epoch == scores.index(max(scores)) == best["epoch"]
    assert result.val["accuracy"] == max(scores)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, best["model"][name])
    assert RunFolder(tmp_path).load_checkpoint("last")["loader"]["epoch"] == 12


def test_a_run_folder_holds_result_metrics_and_curves(tmp_path):
    result, model = run(easy_dataset(), tmp_path)

    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["test"] == result.test
    assert set(stored) >= {
        "status", "test", "val", "best_epoch", "epochs", "train_seconds", "stage_seconds", "peak_memory_bytes",
        "num_parameters", "seed", "world_size", "versions",
    }  # fmt: skip
    assert set(stored["stage_seconds"]) == {
        "sample", "gather", "transfer", "forward", "backward", "optimizer", "wait", "evaluate", "checkpoint", "record"
    }  # fmt: skip
    assert stored["num_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(8))
    assert float(rows[-1]["train_loss"]) == result.history[-1]["train_loss"]
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_training_stops_when_validation_no_longer_improves():
    settings = TrainingSettings(epochs=200, patience=3, evaluate_every=1, **ON_CPU)

    result, _ = run(easy_dataset(), settings=settings)

    assert result.epochs == result.best_epoch + 1 + 3 < 200


def test_patience_waits_for_the_next_evaluation():
    settings = TrainingSettings(epochs=21, patience=1, evaluate_every=10, **ON_CPU)

    result, _ = run(easy_dataset(), settings=settings)

    assert result.epochs in (11, 21)


@pytest.mark.parametrize("small", [25, 40])
def test_accumulated_small_batches_take_the_step_of_one_large_batch(small: int):
    dataset = easy_dataset()
    weights = []
    # With 40 the last batch is a smaller one.
    for batch_size, accumulate in ((150, 1), (small, -(-150 // small))):
        torch.manual_seed(0)
        model = GNN(8, 16, 2, 3, conv="sage").double()
        sampler = NeighborSampler(dataset.graph, [-1, -1])
        loader = DataLoader(dataset, sampler, batch_size=batch_size, shuffle=False)
        settings = TrainingSettings(epochs=1, accumulate=accumulate, precision="64-true", **ON_CPU)
        train(model, loader, torch.optim.SGD(model.parameters(), lr=0.1), settings)
        weights.append(torch.cat([parameter.detach().view(-1) for parameter in model.parameters()]))

    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-12)


def test_gradients_are_clipped():
    dataset = easy_dataset()
    torch.manual_seed(0)
    model = GNN(8, 16, 2, 3, conv="sage")
    before = torch.cat([parameter.detach().clone().view(-1) for parameter in model.parameters()])
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=150)
    settings = TrainingSettings(epochs=1, gradient_clip=0.001, **ON_CPU)

    train(model, loader, torch.optim.SGD(model.parameters(), lr=1.0), settings)

    after = torch.cat([parameter.detach().view(-1) for parameter in model.parameters()])
    assert 0 < float((after - before).norm()) <= 0.00101


def test_gradients_that_a_fused_optimizer_scales_cannot_be_clipped():
    dataset = easy_dataset()
    model = GNN(dataset.num_features, 4, 2, dataset.num_classes)
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=150)
    settings = TrainingSettings(epochs=1, gradient_clip=1.0, precision="16-mixed")
    with pytest.raises(ValueError, match="fused optimizer"):
        train(model, loader, torch.optim.Adam(model.parameters(), fused=True), settings)


def test_the_learning_rate_follows_its_schedule():
    settings = TrainingSettings(epochs=4, **ON_CPU)

    result, _ = run(
        easy_dataset(), settings=settings, scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2)
    )

    assert [row["learning_rate"] for row in result.history] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_a_schedule_that_waits_for_the_metric_to_fall_is_refused():
    with pytest.raises(ValueError, match="mode='max'"):
        run(easy_dataset(), scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau)


def test_one_loader_serves_runs_of_different_precision():
    dataset = easy_dataset()
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=32)
    for precision in ("64-true", "32-true"):
        model = GNN(8, 16, 2, 3)
        settings = TrainingSettings(epochs=1, precision=precision, **ON_CPU)
        train(model, loader, torch.optim.Adam(model.parameters()), settings)
        assert next(model.parameters()).dtype == (torch.float64 if precision == "64-true" else torch.float32)


def test_mixed_precision_learns():
    settings = TrainingSettings(epochs=15, precision="bf16-mixed", **ON_CPU)

    for conv in ("gcn", "gat", "gin", "sage"):
        result, model = run(easy_dataset(), settings=settings, conv=conv)
        assert result.test["accuracy"] > 0.8
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_sampled_evaluation_is_labelled_so(tmp_path):
    run(easy_dataset(), tmp_path, TrainingSettings(epochs=3, evaluation="sampled", **ON_CPU))

    assert json.loads((tmp_path / "result.json").read_text())["evaluation"] == "sampled"


def test_a_data_set_without_validation_nodes_keeps_the_last_epoch():
    dataset = easy_dataset()
    dataset.val_ids = dataset.val_ids[:0]

    result, _ = run(dataset)

    assert result.val == {}
    assert result.best_epoch == result.epochs - 1


def test_an_empty_training_split_is_named():
    dataset = easy_dataset()
    dataset.train_ids = dataset.train_ids[:0]

    with pytest.raises(ValueError, match="the training split is empty"):
        run(dataset)


def test_fanouts_and_layers_must_match():
    dataset = easy_dataset()
    model = GNN(8, 16, 3, 3)
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]))

    with pytest.raises(ValueError, match=r"2 blocks .* but the model has 3 layers"):
        train(model, loader, torch.optim.Adam(model.parameters()))


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(FloatingPointError, match="training loss is"):
        run(easy_dataset(), lr=1e30)


def test_evaluation_keeps_under_a_fifth_of_the_work():
    for evaluation_work, epoch_work in ((1000, 10), (10, 1000), (77, 33)):
        interval = evaluation_interval("auto", evaluation_work, epoch_work)
        assert evaluation_work <= 0.2 * (evaluation_work + interval * 3 * epoch_work) + 1e-9
    assert evaluation_interval("auto", 10, 1000) == 1
    assert evaluation_interval(7, 10, 1000) == 7


def test_a_damaged_checkpoint_is_named(tmp_path):
    run(easy_dataset(), tmp_path, TrainingSettings(epochs=1, **ON_CPU))
    path = tmp_path / "checkpoints" / "best.pt"
    path.write_bytes(path.read_bytes()[:300])

    with pytest.raises(ValueError, match=r"best\.pt is not a whole checkpoint"):
        RunFolder(tmp_path).load_checkpoint("best")


def test_a_checkpoint_executes_nothing(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoint_path("best").parent.mkdir()
    torch.save({"model": print}, folder.checkpoint_path("best"))

    with pytest.raises(ValueError, match="not a whole checkpoint"):
        folder.load_checkpoint("best")


def test_several_devices_need_several_processes():
    dataset = easy_dataset()
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [3, 3]))
    model = GNN(8, 8, 2, 3, conv="sage")
    settings = TrainingSettings(devices=2, accelerator="cpu")

    with pytest.raises(ValueError, match="start the script with torchrun --nproc-per-node 2, or train with gnnfast"):
        train(model, loader, torch.optim.Adam(model.parameters()), settings)
