import json
from dataclasses import replace

import pytest
import torch

from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.nn.linear import linear
from gnnfast.sampler import NeighborSampler
from gnnfast.training import TrainingResult, TrainingSettings, train
from gnnfast.training.advice import Run, advise
from gnnfast.training.product_clock import ProductClock
from gnnfast.training.profile import Profile
from tests.training.graphs import easy_dataset


def run(folder=None, num_threads: int = 1, conv: str = "sage", **settings) -> TrainingResult:
    torch.manual_seed(0)
    dataset = easy_dataset(num_nodes=3000)
    model = GNN(dataset.num_features, 256, 2, dataset.num_classes, conv=conv)
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=300, num_threads=num_threads)
    settings = TrainingSettings(**{"epochs": 6, "accelerator": "cpu", "profile": True, **settings})
    return train(model, loader, torch.optim.Adam(model.parameters()), settings, run_folder=folder)


def profile_of(result: TrainingResult) -> Profile:
    assert result.profile is not None
    return result.profile


@pytest.mark.parametrize(("num_threads", "epochs"), [(1, 6), (0, 6), (2, 1)])
def test_the_stages_account_for_the_time(tmp_path, num_threads: int, epochs: int):
    result = run(tmp_path, num_threads, epochs=epochs)

    profile = profile_of(result)
    named = sum(profile.stage_seconds.values()) - profile.stage_seconds["other"]
    assert 0.95 * profile.seconds <= named <= profile.seconds
    # What is missing from the run's time is the first epoch, a checkpoint included.
    after_first = result.train_seconds - (result.history[0]["seconds"] if epochs > 1 else 0.0)
    assert 0.8 * after_first < profile.seconds <= after_first
    assert (profile.first_epoch, profile.last_epoch) == ((2, 6) if epochs > 1 else (1, 1))


def test_stages_of_loader_threads_are_told_from_those_of_training(tmp_path):
    threaded, alone = profile_of(run(num_threads=1)), profile_of(run(num_threads=0))

    assert set(threaded.loader_seconds) == {"sample", "gather"}
    assert not set(threaded.stage_seconds) & set(threaded.loader_seconds)
    assert "beside them, on 1 loader thread" in threaded.lines()
    assert alone.loader_seconds == {}
    assert alone.stage_seconds["sample"] > 0
    # Nothing is waited for that the thread does itself, but for the few calls around it.
    assert alone.stage_seconds["wait"] < alone.stage_seconds["sample"]


def test_a_profile_changes_no_curve():
    curves = [
        [{key: row[key] for key in row if key != "seconds"} for row in run(profile=profile).history]
        for profile in (False, True)
    ]

    assert curves[0] == curves[1]


def test_the_result_says_what_was_measured(tmp_path):
    result = run(tmp_path)

    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["profile"] == profile_of(result).summary()
    assert stored["profile"]["bottleneck"] == profile_of(result).lines()[-1]
    run(tmp_path, profile=False)
    assert "profile" not in json.loads((tmp_path / "result.json").read_text())


def test_products_of_matrices_are_found_in_forward_and_backward(monkeypatch):
    measured = []
    monkeypatch.setattr("gnnfast.training.profile.advise", lambda run: measured.append(run) or ("", None))

    run()

    shares = measured[0].shares
    assert 0 < measured[0].products_share < shares["forward"] + shares["backward"]


def test_a_trace_shows_stages_and_operations_of_the_second_epoch(tmp_path):
    result = run(tmp_path, profile="trace")

    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = [event["name"] for event in events if event.get("ph") == "X"]
    assert names.count("gnnfast: forward") == names.count("gnnfast: optimizer") == 5  # of an epoch with five steps
    assert {"gnnfast::linear", "aten::addmm"} & set(names)
    assert profile_of(result).seconds < result.train_seconds


def test_a_trace_needs_a_folder():
    with pytest.raises(ValueError, match="give train a run_folder"):
        run(profile="trace")


QUIET = {
    "wait": 0.0, "transfer": 0.0, "forward": 0.5, "backward": 0.4, "optimizer": 0.02, "evaluate": 0.05,
    "checkpoint": 0.01, "record": 0.01, "other": 0.01,
}  # fmt: skip
BUSY = Run(
    shares=QUIET,
    loader_share=0.2,
    products_share=0.5,
    loader_threads=1,
    steps_per_epoch=100,
    epochs=50,
    evaluate_every=1,
    precision="bf16-mixed",
    cores=2,
    torch_threads=2,
    on_gpu=False,
    has_bf16=True,
    can_fuse=False,
)


def with_shares(**shares: float) -> dict[str, float]:
    """Shares of which some are given, and forward is the rest."""
    shares = {**QUIET, "forward": 0.0, "backward": 0.0, **shares}
    return {**shares, "forward": 1 - sum(shares.values())}


WAITING = {"shares": with_shares(wait=0.31), "loader_share": 0.98, "torch_threads": 1}


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({}, None),
        (WAITING, "loader.num_threads=2"),
        # Where the first mini-batch is all there is, nothing is left to share.
        ({**WAITING, "steps_per_epoch": 1}, None),
        # Every core is taken already.
        ({**WAITING, "torch_threads": 2}, None),
        ({**WAITING, "loader_threads": 2}, None),
        ({**WAITING, "cores": 1}, None),
        ({"shares": with_shares(wait=0.8), "loader_share": 0.99, "cores": 16}, "loader.num_threads=5"),
        ({"shares": with_shares(sample=0.3, gather=0.2), "loader_share": 0.5, "loader_threads": 0, "torch_threads": 1},
         "loader.num_threads=1"),
        ({"shares": with_shares(evaluate=0.38, checkpoint=0.02)}, "training.evaluate_every=6"),
        ({"shares": with_shares(evaluate=0.38, checkpoint=0.02), "evaluate_every": 6}, "training.evaluate_every=10"),
        # Few epochs are left with few evaluations.
        ({"shares": with_shares(evaluate=0.38, checkpoint=0.02), "epochs": 9}, None),
        ({"precision": "32-true"}, "training.precision=bf16-mixed"),
        ({"precision": "32-true", "has_bf16": False}, None),
        ({"precision": "32-true", "products_share": 0.1}, None),
        ({"cores": 4}, "OMP_NUM_THREADS=4"),
        ({"cores": 4, "on_gpu": True}, None),
        ({"cores": 4, "torch_threads": 4}, None),
        ({"shares": with_shares(optimizer=0.3), "can_fuse": True}, "optimizer.fused=true"),
        ({"shares": with_shares(optimizer=0.3), "can_fuse": True, "precision": "16-mixed"}, None),
        ({"shares": with_shares(optimizer=0.3)}, None),
    ],
)  # fmt: skip
def test_what_is_advised_can_shorten_the_run(changes: dict, setting: str | None):
    sentence, advised = advise(replace(BUSY, **changes))

    assert advised == setting
    assert setting is None or setting in sentence


def test_of_several_settings_the_one_that_saves_most_is_named():
    shares = with_shares(evaluate=0.45, optimizer=0.2)
    run = replace(BUSY, shares=shares, can_fuse=True, precision="32-true", products_share=0.2)

    assert advise(run) == (
        "evaluation and checkpoints after every epoch take 46% of the time: try training.evaluate_every=8 (now 1)",
        "training.evaluate_every=8",
    )


def test_where_nothing_helps_the_longest_stage_is_named():
    assert advise(BUSY)[0] == (
        "90% of the time goes to forward and backward; no setting is known to shorten this run on this machine"
    )


def test_products_of_every_kind_are_timed():
    x, weight = torch.randn(4000, 64), torch.randn(64, 64)
    for product in (linear, torch.nn.functional.linear):
        with ProductClock(torch.device("cpu")) as clock:
            product(x, weight)
        assert clock.seconds > 0
