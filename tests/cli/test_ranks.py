"""`gnnfast train` on several ranks, as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gnnfast.training import RunFolder
from tests.cli.command import result_of, run_folders
from tests.distributed.ranks import ROOT
from tests.distributed.test_launch import is_alive, wait_for

TINY = (
    "training.accelerator=cpu",
    "loader.num_threads=1",
    "training.epochs=3",
    "loader.batch_size=256",
    "model.dropout=0.3",
)

BY_ITSELF = (pytest.mark.slow, pytest.mark.timing)

GNNFAST = (sys.executable, "-m", "gnnfast")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "gnnfast")


def groups(number: int) -> list[Any]:
    """The first one is tried every time, the others where there is more time."""
    return [pytest.param(i, marks=BY_ITSELF if i == 0 else pytest.mark.faults) for i in range(number)]


def start(*arguments: str, folder: Path, command: tuple[str, ...] = GNNFAST) -> subprocess.Popen[str]:
    """The command in a process of its own, whose output is read at its end."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if argument not in flags]
    return subprocess.Popen(
        [*command, "train", *flags, *(() if overrides[0].startswith("resume=") else TINY), *overrides],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(folder))), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, folder: Path, **options: Any) -> tuple[int, str, str]:
    process = start(*arguments, folder=folder, **options)
    stdout, stderr = process.communicate(timeout=600)
    return process.returncode, stdout, stderr


def losses(folder: Path) -> list[float]:
    with open(folder / "metrics.csv") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = RunFolder(folder).load_checkpoint("best")["model"]
    return loaded


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def leftovers() -> set[str]:
    """What other processes could find of this one's memory."""
    return {path.name for path in Path("/dev/shm").glob("*")} if Path("/dev/shm").exists() else set()


def test_two_devices_train_as_one_and_leave_one_run_folder(tmp_path: Path):
    before = leftovers()
    code, stdout, stderr = run("training.devices=2", "model.dropout=0", "hydra.run.dir=two", folder=tmp_path)
    alone = run("model.dropout=0", "hydra.run.dir=one", folder=tmp_path)

    assert (code, stderr) == (0, "")
    assert alone[0] == 0
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    assert result_of(tmp_path / "two")["test"]["accuracy"] == pytest.approx(
        result_of(tmp_path / "one")["test"]["accuracy"], abs=0.01
    )
    assert "steps of 256 seeds = 2 x 128 per epoch" in stdout
    assert stdout.count("best epoch") == 1
    assert (tmp_path / "two" / "train.log").read_text().count("best epoch") == 1
    assert result_of(tmp_path / "two")["world_size"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert leftovers() <= before


def test_a_wrong_setting_is_one_line_on_several_devices_too(tmp_path: Path):
    code, _, stderr = run("training.devices=2", "sampler.fanouts=[5]", "hydra.run.dir=r", folder=tmp_path)

    assert code == 1
    assert stderr.startswith("gnnfast train: the sampler makes 1 blocks")
    assert stderr.count("\n") == 1
    assert result_of(tmp_path / "r")["status"] == "failed"


@pytest.mark.slow
@pytest.mark.timing
def test_torchrun_trains_as_devices_do(tmp_path: Path):
    started = run("training.devices=2", "hydra.run.dir=two", folder=tmp_path)
    code, _, stderr = run("-m", "seed=0,1", "hydra.sweep.dir=sweep", folder=tmp_path, command=TORCHRUN)

    assert started[0] == 0, started[2]
    assert code == 0, stderr
    assert losses(tmp_path / "two") == losses(tmp_path / "sweep" / "0")
    assert {result_of(tmp_path / "sweep" / job)["status"] for job in "01"} == {"finished"}


@pytest.mark.slow
@pytest.mark.timing
def test_under_torchrun_a_job_of_a_sweep_may_fail_and_a_rank_may_not(tmp_path: Path):
    code, _, stderr = run("-m", "sampler.fanouts=[5],[5,5]", "hydra.sweep.dir=sweep", folder=tmp_path, command=TORCHRUN)
    assert code != 0
    assert "but the model has 2 layers" in stderr
    assert [result_of(tmp_path / "sweep" / job)["status"] for job in "01"] == ["failed", "finished"]

    (tmp_path / "failing.py").write_text(FAILING)
    began = time.monotonic()
    way = ("sampler._target_=failing.Failing", "+sampler.way=raises")
    code, _, stderr = run(*way, "hydra.run.dir=r", folder=tmp_path, command=TORCHRUN)
    assert code != 0
    assert "rank 1: RuntimeError: out of luck" in stderr or "rank 1: out of luck" in stderr
    assert time.monotonic() - began < 150


@pytest.mark.slow
@pytest.mark.timing
def test_a_sweep_of_two_jobs_on_two_devices_makes_two_whole_run_folders(tmp_path: Path):
    code, stdout, stderr = run("-m", "seed=0,1", "training.devices=2", folder=tmp_path)

    assert code == 0, stderr
    folders = run_folders(tmp_path)
    assert len(folders) == 2
    for folder in folders:
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert names >= {
            "result.json", "metrics.csv", "curves.png", "checkpoints/best.pt", ".hydra/config.yaml", "train.log",
        }  # fmt: skip
        assert result_of(folder)["status"] == "finished"
        assert (folder / "train.log").read_text().count("best epoch") == 1
    assert "2 finished" in stdout or "accuracy" in stdout


FAILING = '''
import os, pathlib, signal

from gnnfast.sampler import NeighborSampler


class Failing(NeighborSampler):
    """Ends rank 1 in some way, at its fourth mini-batch; once, where a file is to say that it has."""

    def __init__(self, graph, fanouts, way, once=None, rank=1):
        super().__init__(graph, fanouts)
        self.way, self.once, self.rank, self.calls = way, once, rank, 0

    def sample(self, seed_nodes, seed):
        self.calls += 1
        has_failed = self.once is not None and pathlib.Path(self.once).exists()
        if os.environ.get("RANK") == str(self.rank) and self.calls == 4 and not has_failed:
            if self.once is not None:
                pathlib.Path(self.once).touch()
            if self.way == "raises":
                raise RuntimeError("out of luck")
            if self.way == "leaves":
                os._exit(3)
            os.kill(os.getpid(), getattr(signal, self.way))
        return super().sample(seed_nodes, seed)
'''


@pytest.mark.parametrize("group", groups(4))
def test_a_rank_that_fails_ends_the_command_within_30_seconds_and_is_named(group: int, tmp_path: Path):
    (tmp_path / "failing.py").write_text(FAILING)
    for trial in range(5):
        way, rank = ("SIGKILL", "raises", "leaves", "SIGSEGV", "SIGKILL")[trial], (group + trial) % 2
        process = start(
            "training.devices=2", "training.epochs=10000", "hydra.run.dir=r", "sampler._target_=failing.Failing",
            f"+sampler.way={way}", f"+sampler.rank={rank}", f"+sampler.once={tmp_path / f'{trial}'}",
            folder=tmp_path,
        )  # fmt: skip
        wait_for((tmp_path / f"{trial}").exists)
        failed_at = time.monotonic()
        _, stderr = process.communicate(timeout=120)
        assert time.monotonic() - failed_at < 30
        assert process.returncode == 1
        cause = {"raises": "out of luck", "leaves": "exited with code 3"}.get(way, f"was killed by {way}")
        first = stderr.splitlines()[0]
        assert first.startswith(f"gnnfast train: rank {rank}"), stderr
        assert cause in first
        assert result_of(tmp_path / "r")["status"] == "failed"


@pytest.mark.parametrize("group", groups(5))
def test_a_restarted_run_ends_with_the_unbroken_result(group: int, tmp_path: Path):
    (tmp_path / "failing.py").write_text(FAILING)
    failing = (
        "training.devices=2",
        "training.epochs=4",
        "training.checkpoint_steps=2",
        "sampler._target_=failing.Failing",
    )
    unbroken = run(*failing, "+sampler.way=none", "+sampler.rank=9", "hydra.run.dir=unbroken", folder=tmp_path)
    assert unbroken[0] == 0, unbroken[2]
    for trial in range(4):
        way, rank = ("SIGKILL", "raises", "leaves", "SIGKILL")[trial], (group + trial) % 2
        code, stdout, stderr = run(
            *failing, f"+sampler.way={way}", f"+sampler.rank={rank}", f"+sampler.once={tmp_path / f'{trial}'}",
            "training.max_restarts=1", f"hydra.run.dir=r{trial}", folder=tmp_path,
        )  # fmt: skip
        assert code == 0, stderr
        assert "restart 1 of 1, from the newest checkpoint" in stdout
        assert losses(tmp_path / f"r{trial}") == losses(tmp_path / "unbroken")
        expected = weights(tmp_path / "unbroken")
        for name, tensor in weights(tmp_path / f"r{trial}").items():
            assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("group", groups(4))
def test_a_run_killed_at_random_and_resumed_is_the_unbroken_one(group: int, tmp_path: Path):
    """Five kills of one rank, or of the parent, each; the rest is resumed."""
    length = ("training.devices=2", "training.epochs=60", "training.checkpoint_steps=5")
    assert run(*length, "hydra.run.dir=unbroken", folder=tmp_path)[0] == 0
    seconds = result_of(tmp_path / "unbroken")["train_seconds"]
    generator = torch.Generator().manual_seed(group)
    arguments = [*length, "hydra.run.dir=r"]
    for kill in range(5):
        _kill_one(kill % 3, float(torch.rand(1, generator=generator)) * seconds / 4, arguments, tmp_path)
        arguments = ["resume=r"]
    code, _, stderr = run("resume=r", folder=tmp_path)
    assert code == 0, stderr
    expected = weights(tmp_path / "unbroken")
    for name, tensor in weights(tmp_path / "r").items():
        assert torch.equal(tensor, expected[name]), name
    assert losses(tmp_path / "r") == losses(tmp_path / "unbroken")


def _kill_one(which: int, after_seconds: float, arguments: list[str], folder: Path) -> None:
    """Starts the run or goes on with it, and kills the parent or a rank once it has been training for some time."""
    log_path = folder / "r" / "train.log"
    known = log_path.read_text().count("per epoch") if log_path.exists() else 0
    process = start(*arguments, folder=folder)

    def trains() -> bool:
        return log_path.exists() and log_path.read_text().count("per epoch") > known

    wait_for(lambda: process.poll() is not None or trains())
    time.sleep(after_seconds)
    ranks = children(process.pid)
    if process.poll() is None and len(ranks) == 2:
        os.kill([process.pid, *ranks][which], signal.SIGKILL)
    process.communicate(timeout=120)
    wait_for(lambda: not any(is_alive(rank) for rank in ranks))


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_ranks_with_a_checkpoint(signum: signal.Signals, tmp_path: Path):
    process = start("training.devices=2", "training.epochs=10000", "hydra.run.dir=r", folder=tmp_path)
    wait_for(lambda: any((tmp_path / "r" / "checkpoints").glob("step-*.pt")))
    ranks = children(process.pid)

    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=120)

    assert process.returncode == 128 + signum, stderr
    assert stderr == ""
    assert "to go on: gnnfast train resume=r" in stdout
    assert json.loads((tmp_path / "r" / "result.json").read_text())["status"] == "interrupted"
    assert not any(is_alive(rank) for rank in ranks)


@pytest.mark.slow
@pytest.mark.timing
def test_nothing_is_left_when_the_parent_is_killed(tmp_path: Path):
    before = leftovers()
    process = start("training.devices=2", "training.epochs=10000", "hydra.run.dir=r", folder=tmp_path)
    wait_for(lambda: any((tmp_path / "r" / "checkpoints").glob("step-*.pt")))
    ranks = children(process.pid)
    assert len(ranks) == 2

    process.kill()
    process.communicate(timeout=60)

    wait_for(lambda: not any(is_alive(rank) for rank in ranks), 30)
    assert leftovers() <= before
