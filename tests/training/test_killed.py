"""A run whose process is killed again and again, and goes on each time."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_resume import left_by

TRAINING = """
import hashlib, json, sys
import torch
from gnnfast.datasets import synthetic
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.sampler import NeighborSampler
from gnnfast.training import TrainingSettings, train

class Watch:
    def step(self, epoch, step, num_seeds):
        print(json.dumps(epoch * len(loader) + step + 1), flush=True)

    def epoch(self, row):
        pass

torch.set_num_threads(1)
torch.manual_seed(0)
dataset = synthetic(3_000, 30_000, num_features=16, num_classes=5, attainable_hops=0)
loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=64, num_threads=2)
model = GNN(16, 64, 2, 5, conv="sage", dropout=0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
settings = TrainingSettings(epochs=20, accelerator="cpu", evaluate_every=2, checkpoint_steps=CHECKPOINT_STEPS)
train(model, loader, optimizer, settings, scheduler, sys.argv[1], Watch(), resume=True)
weights = [tensor.numpy().tobytes() for tensor in model.state_dict().values()]
print(json.dumps({"weights": hashlib.sha256(b"".join(weights)).hexdigest()}))
"""
CHECKPOINT_STEPS = 7


def start(folder: Path) -> subprocess.Popen[str]:
    code = TRAINING.replace("CHECKPOINT_STEPS", str(CHECKPOINT_STEPS))
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> list[Any]:
    """The steps that a process has taken, and at last the digest of its weights."""
    assert process.stdout is not None
    with process.stdout as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


@pytest.mark.parametrize(
    "num_kills",
    [pytest.param(4, marks=[pytest.mark.slow, pytest.mark.timing]), pytest.param(20, marks=pytest.mark.faults)],
)
def test_a_run_killed_again_and_again_ends_as_the_unbroken_one(num_kills: int, tmp_path: Path):
    unbroken = start(tmp_path / "unbroken")
    *steps, expected = said(unbroken)
    assert unbroken.wait() == 0
    generator = random.Random(0)
    reached = 0
    lost = []
    for _ in range(num_kills):
        process = start(tmp_path / "killed")
        assert process.stdout is not None
        taken = [json.loads(process.stdout.readline()) for _ in range(generator.randrange(1, len(steps) // 15))]
        # Anywhere in a step, an evaluation or the writing of a checkpoint.
        time.sleep(generator.uniform(0, 0.02))
        process.kill()
        taken += said(process)
        assert process.wait() == -signal.SIGKILL, "the run was over before it was killed often enough"
        lost.append(reached - (taken[0] - 1))
        reached = taken[-1]
    last = start(tmp_path / "killed")
    *taken, weights = said(last)

    assert last.wait() == 0
    lost.append(reached - (taken[0] - 1))
    assert weights == expected
    assert left_by(tmp_path / "killed") == left_by(tmp_path / "unbroken")
    print(f"steps lost to each kill: {lost[1:]}")
    assert 0 < max(lost) <= CHECKPOINT_STEPS


@pytest.mark.slow
@pytest.mark.timing
def test_the_command_line_goes_on_after_kills_and_signals(tmp_path: Path):
    command = [sys.executable, "-m", "gnnfast", "train"]
    options = ["training.epochs=60", "training.accelerator=cpu", "loader.batch_size=32", "training.checkpoint_steps=5"]
    subprocess.run([*command, "hydra.run.dir=unbroken", *options], cwd=tmp_path, check=True, capture_output=True)

    arguments = ["hydra.run.dir=run", *options]
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        before = newest(tmp_path / "run")
        process = subprocess.Popen([*command, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        while newest(tmp_path / "run") < before + 100:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        output, _ = process.communicate()
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 128 + number
            assert "to go on: gnnfast train resume=run" in output
        arguments = ["resume=run"]
    subprocess.run([*command, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (rows, result), (expected_rows, expected) = (left_by(tmp_path / name) for name in ("run", "unbroken"))
    assert rows == expected_rows
    assert result["test"] == expected["test"]


def newest(folder: Path) -> int:
    """Optimizer steps of the newest checkpoint."""
    return max((int(path.stem.partition("-")[2]) for path in (folder / "checkpoints").glob("step-*.pt")), default=0)
