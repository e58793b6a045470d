"""A run that goes on from a checkpoint is the unbroken run, bit for bit."""

from __future__ import annotations

import csv
import itertools
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gnnfast.loader import DataLoader
from gnnfast.nn import GNN, DotDecoder, LightGCN, LinkModel, NodeEmbedding
from gnnfast.sampler import ClusterSampler, GASSampler, LinkNeighborSampler, NeighborSampler, SaintWalkSampler
from gnnfast.training import Evaluator, RowAdam, RunFolder, Stopped, StopSignals, TrainingSettings, train
from tests.training.graphs import easy_dataset
from tests.training.link_graphs import easy_recommendations

SETTINGS = {"accelerator": "cpu", "epochs": 4, "evaluate_every": 1}
TIMES = {"seconds", "train_seconds", "stage_seconds", "peak_memory_bytes"}


class StopAfter:
    """Asks a run to stop once some mini-batches are done, as a signal would."""

    def __init__(self, batches: int):
        self.left = batches
        self.signals = StopSignals()

    def step(self, epoch: int, step: int, num_seeds: int) -> None:
        self.left -= 1
        if self.left == 0:
            self.signals.received = signal.SIGTERM

    def epoch(self, row: dict[str, float | None]) -> None:
        pass


def node_run(folder: Path, sampler=None, scheduler=None, conv="sage", batch_size=32, threads=1, model=None, **settings):
    """What trains on nodes: a function of when to stop and whether to go on."""
    dataset = easy_dataset()

    def go(stop_after: int | None = None, resume: bool = False, folder: Path = folder, **more: Any) -> GNN:
        torch.manual_seed(0)
        network = GNN(dataset.num_features, 16, 2, dataset.num_classes, conv=conv, dropout=0.3, **(model or {}))
        made = sampler(dataset) if sampler else NeighborSampler(dataset.graph, [5, 5])
        loader = DataLoader(dataset, made, batch_size=batch_size, num_threads=threads)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-3)
        return finish(network, loader, optimizer, scheduler, folder, stop_after, resume, SETTINGS | settings | more)

    return go


def finish(model, loader, optimizer, scheduler, folder, stop_after, resume, settings):
    schedule = scheduler(optimizer) if scheduler else None
    watch = StopAfter(stop_after or -1)
    train(model, loader, optimizer, TrainingSettings(**settings), schedule, folder, watch, resume, watch.signals)
    return model


def assert_resumes(go, tmp_path: Path, *stops: int) -> None:
    """Broken off after so many mini-batches of each attempt, the run leaves what the unbroken one does."""
    unbroken, resumed = unbroken_and_resumed(go, tmp_path, *stops)
    assert_equal(unbroken.state_dict(), resumed.state_dict())
    assert_left_alike(tmp_path)


def unbroken_and_resumed(go, tmp_path: Path, *stops: int) -> tuple[Any, Any]:
    """The model of a run from beginning to end, and that of one broken off."""
    unbroken = go(folder=tmp_path / "unbroken")
    for attempt, stop in enumerate(stops):
        torch.rand(attempt + 1)  # another process, with other random states
        with pytest.raises(Stopped):
            go(stop, resume=attempt > 0, folder=tmp_path / "resumed")
    return unbroken, go(resume=True, folder=tmp_path / "resumed")


def assert_left_alike(tmp_path: Path) -> None:
    """Both runs have left the same files."""
    assert left_by(tmp_path / "unbroken") == left_by(tmp_path / "resumed")
    for name in ("best", "last"):
        stored = [RunFolder(tmp_path / run).load_checkpoint(name) for run in ("unbroken", "resumed")]
        assert_equal(*({key: value for key, value in state.items() if key not in TIMES | {"rows"}} for state in stored))


def assert_equal(first: Any, second: Any) -> None:
    if isinstance(first, Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second


def left_by(folder: Path) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The folder's metrics and result, without times."""
    with open(folder / "metrics.csv") as file:
        rows = [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]
    result = json.loads((folder / "result.json").read_text())
    return rows, {key: value for key, value in result.items() if key not in TIMES}


# Five steps an epoch: inside the first, at an epoch's end, at its beginning, in the last step of all.
@pytest.mark.parametrize("stops", [(2,), (5,), (6,), (3, 1, 1, 9), (20,), (19, 1)])
def test_a_run_broken_off_anywhere_goes_on_as_if_it_had_not_been(stops: tuple[int, ...], tmp_path: Path):
    assert_resumes(node_run(tmp_path), tmp_path, *stops)


def cosine(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)


def plateau(optimizer):
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=0, factor=0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": cosine},
        {"scheduler": plateau, "epochs": 8},
        {"accumulate": 2, "gradient_clip": 0.1},
        {"patience": 2, "epochs": 30},
        {"precision": "bf16-mixed"},
        {"evaluate_every": "auto", "batch_size": 64},
        {"evaluate_every": 3},
        {"evaluation": "sampled"},
        {"conv": "gat", "threads": 3},
        {"threads": 0, "model": {"norm": torch.nn.BatchNorm1d(16)}},
        {"sampler": lambda dataset: SaintWalkSampler(dataset.graph, 40, 2)},
        {"sampler": lambda dataset: ClusterSampler(dataset.graph, num_parts=12, parts_per_batch=2)},
        {"sampler": lambda dataset: GASSampler(dataset.graph, num_parts=12, parts_per_batch=2), "conv": "gcn"},
    ],
    ids=" ".join,
)
def test_schedules_samplers_and_settings_go_on_exactly(options: dict[str, Any], tmp_path: Path):
    assert_resumes(node_run(tmp_path, **options), tmp_path, 4, 3)


@pytest.mark.parametrize("sparse", [False, True])
def test_pairs_with_drawn_negatives_go_on_exactly(sparse: bool, tmp_path: Path):
    dataset = easy_recommendations()

    def go(stop_after: int | None = None, resume: bool = False, folder: Path = tmp_path) -> LinkModel:
        torch.manual_seed(0)
        model = LinkModel(LightGCN(8, 2), DotDecoder(), NodeEmbedding(70, 8, sparse=sparse))
        sampler = LinkNeighborSampler(dataset.graph, [5, 5], 2, negatives="per_source", dst_range=(40, 69))
        loader = DataLoader(dataset, sampler, batch_size=64, num_threads=2)
        optimizer = RowAdam(model.parameters(), lr=0.05)
        return finish(model, loader, optimizer, None, folder, stop_after, resume, SETTINGS | {"loss": "bpr"})

    assert_resumes(go, tmp_path, 3, 4)


def test_a_run_stopped_while_it_is_evaluated_goes_on_with_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    go = node_run(tmp_path)
    unbroken = go(folder=tmp_path / "unbroken")
    # After the first epoch, after the last one, and of the test split in the end.
    for attempt, evaluation in enumerate((1, 4, 3)):
        with monkeypatch.context() as patch:
            patch.setattr(Evaluator, "evaluate", stopping_in(evaluation, itertools.count(1)))
            with pytest.raises(Stopped):
                go(resume=attempt > 0, folder=tmp_path / "resumed")
    resumed = go(resume=True, folder=tmp_path / "resumed")

    assert_equal(unbroken.state_dict(), resumed.state_dict())
    assert left_by(tmp_path / "unbroken") == left_by(tmp_path / "resumed")


def stopping_in(evaluation: int, count: itertools.count[int]) -> Any:
    """An `evaluate` that a signal breaks off the given time it is called."""
    evaluate = Evaluator.evaluate

    def broken_off(self: Evaluator, *arguments: Any, **options: Any) -> dict[str, float]:
        if next(count) == evaluation:
            raise Stopped(signal.SIGINT)
        return evaluate(self, *arguments, **options)

    return broken_off


def test_a_finished_run_trains_further_where_epochs_grow(tmp_path: Path):
    go = node_run(tmp_path)
    longer = go(folder=tmp_path / "longer", epochs=7)
    go(folder=tmp_path / "grown")
    grown = go(folder=tmp_path / "grown", epochs=7, resume=True)

    # Every epoch is evaluated, the last one or not.
    assert_equal(longer.state_dict(), grown.state_dict())
    assert left_by(tmp_path / "longer") == left_by(tmp_path / "grown")
    with pytest.raises(ValueError, match=r"training\.epochs=3, but the run is in epoch 8 already"):
        go(folder=tmp_path / "grown", epochs=3, resume=True)


def test_times_add_up_over_attempts(tmp_path: Path):
    go = node_run(tmp_path)
    with pytest.raises(Stopped):
        go(12)
    stored = RunFolder(tmp_path).load_checkpoint("last")
    go(resume=True)

    result = json.loads((tmp_path / "result.json").read_text())
    assert result["train_seconds"] > stored["seconds"] > 0
    assert all(result["stage_seconds"][stage] >= spent for stage, spent in stored["stage_seconds"].items())


def test_without_a_checkpoint_the_run_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "gnnfast")
    go = node_run(tmp_path)
    unbroken = go(folder=tmp_path / "unbroken")
    begun = go(folder=tmp_path / "begun", resume=True)

    assert_equal(unbroken.state_dict(), begun.state_dict())
    assert "no checkpoint was written yet: the run begins anew" in caplog.text


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    go = node_run(tmp_path, checkpoint_steps=3)
    unbroken = go(folder=tmp_path / "unbroken")
    folder = RunFolder(tmp_path / "damaged")
    with pytest.raises(Stopped):
        go(13, folder=folder.path)
    before, newest = folder.steps()
    path = folder.checkpoint_path(f"step-{newest}")
    path.write_bytes(path.read_bytes()[:-1000])
    resumed = go(folder=folder.path, resume=True)

    assert f"step-{newest}.pt is not a whole checkpoint" in caplog.text
    assert f"step-{before}.pt, the one before it, is used" in caplog.text
    assert_equal(unbroken.state_dict(), resumed.state_dict())
    assert left_by(tmp_path / "unbroken") == left_by(folder.path)


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(tmp_path: Path):
    go = node_run(tmp_path)
    with pytest.raises(Stopped):
        go(7)
    for step in RunFolder(tmp_path).steps():
        RunFolder(tmp_path).checkpoint_path(f"step-{step}").write_bytes(b"PK")

    with pytest.raises(ValueError, match=r"no checkpoint in .* is whole"):
        go(resume=True)


def test_the_last_checkpoints_are_kept(tmp_path: Path):
    node_run(tmp_path, checkpoint_steps=2, keep_checkpoints=3)()

    assert RunFolder(tmp_path).steps() == [16, 18, 20]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "best.pt", "step-16.pt", "step-18.pt", "step-20.pt"
    ]  # fmt: skip


def test_what_a_stale_attempt_left_behind_does_not_push_out_what_is_newer(tmp_path: Path):
    folder = RunFolder(tmp_path)
    for step in (10, 20, 30):
        folder.save_step(step, {"model": {}, "step": step}, keep=2)
    folder.checkpoint_path("step-30").write_bytes(b"damaged")
    folder.save_step(25, {"model": {}, "step": 25}, keep=2)

    assert folder.steps() == [20, 25]


def test_time_brings_checkpoints_inside_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written = []
    monkeypatch.setattr(RunFolder, "save_step", lambda self, step, state, keep: written.append(step))
    node_run(tmp_path, epochs=1, checkpoint_minutes=1e-9)()
    assert written == [1, 2, 3, 4, 5, 5]

    written.clear()
    node_run(tmp_path, epochs=1)()
    assert written == [5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 16}, "is not of this loader"),
        ({"model": {"act": "elu", "jk": "cat"}}, "of another model or optimizer: "),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(Stopped):
        node_run(tmp_path)(7)
    with pytest.raises(ValueError, match=message):
        node_run(tmp_path, **change)(resume=True)


def test_a_checkpoint_of_another_version_names_what_it_lacks(tmp_path: Path):
    go = node_run(tmp_path)
    with pytest.raises(Stopped):
        go(7)
    folder = RunFolder(tmp_path)
    state = folder.load_checkpoint("last")
    del state["counters"], state["scaler"]
    folder.save_step(8, state, keep=1)

    with pytest.raises(ValueError, match="of another version of gnnfast: it has no counters, scaler"):
        go(resume=True)


def test_to_go_on_takes_a_run_folder():
    with pytest.raises(ValueError, match="give train a run_folder"):
        node_run(None)(resume=True, folder=None)


def test_a_profile_is_of_what_was_left_to_do(tmp_path: Path):
    go = node_run(tmp_path, profile=True)
    with pytest.raises(Stopped):
        go(8)
    go(resume=True)
    profile = json.loads((tmp_path / "result.json").read_text())["profile"]
    assert (profile["first_epoch"], profile["last_epoch"]) == (3, 4)

    go(resume=True)
    assert "profile" not in json.loads((tmp_path / "result.json").read_text())


def test_without_signals_nothing_changes_and_random_states_are_whole(tmp_path: Path):
    """What a checkpoint is written for draws nothing."""
    with_checkpoints = node_run(tmp_path, checkpoint_steps=1)()
    after = torch.rand(3)
    without = node_run(None)(folder=None)

    assert_equal(with_checkpoints.state_dict(), without.state_dict())
    assert torch.equal(after, torch.rand(3))
