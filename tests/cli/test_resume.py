"""`gnnfast train resume=RUN`, and what ends a run."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from gnnfast.training import RunFolder
from tests.cli.command import Run, gnnfast, result_of
from tests.training.test_resume import assert_equal

RUN = ("training.epochs=6", "training.accelerator=cpu", "loader.batch_size=64", "loader.num_threads=1")
HERE = ("hydra.run.dir=run", *RUN)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    run = gnnfast("train", *HERE, folder=folder)
    assert run.exit_code == 0, run.stderr
    return folder / "run"


def broken_off(folder: Path, step: int, number: signal.Signals = signal.SIGTERM, times: int = 1) -> Run:
    """Trains until a signal arrives in the given step."""
    from gnnfast.cli.progress import TrainingProgress

    with pytest.MonkeyPatch.context() as patch:
        count = iter(range(step, 0, -1))

        def receive(self: TrainingProgress, epoch: int, step: int, num_seeds: int) -> None:
            if next(count, None) == 1:
                os.kill(os.getpid(), number)

        patch.setattr(TrainingProgress, "step", receive)
        return gnnfast("train", *HERE, folder=folder)


def left_by(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def assert_equals(run: Path, unbroken: Path) -> None:
    results = [result_of(folder) for folder in (run, unbroken)]
    for key in ("status", "test", "val", "loss", "best_epoch", "epochs", "seed", "metric"):
        assert results[0][key] == results[1][key]
    assert left_by(run) == left_by(unbroken)
    for name in ("best", "last"):
        first, second = (RunFolder(folder).load_checkpoint(name)["model"] for folder in (run, unbroken))
        assert_equal(first, second)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_that_then_goes_on(number, exit_code: int, unbroken: Path, tmp_path: Path):
    stopped = broken_off(tmp_path, 29, number)
    assert stopped.exit_code == exit_code
    assert f"stopped by {number.name}; to go on: gnnfast train resume=run" in stopped.stdout
    assert stopped.stderr == ""
    assert result_of(tmp_path / "run") == {"status": "interrupted", "error": f"stopped by {number.name}"}
    assert RunFolder(tmp_path / "run").steps()[-1] == 29
    # A run that was broken off can be used as it is.
    assert gnnfast("evaluate", "run=run", folder=tmp_path).exit_code == 0

    resumed = gnnfast("train", "resume=run", folder=tmp_path)
    assert resumed.exit_code == 0, resumed.stderr
    assert "going on after step 29, in epoch 2 of 6" in resumed.stdout
    assert "going on after step 29" in (tmp_path / "run" / "train.log").read_text()
    assert_equals(tmp_path / "run", unbroken)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_signals_are_the_systems_again_after_a_run(tmp_path: Path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    broken_off(tmp_path, 3)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_run_in_another_thread_receives_no_signals(tmp_path: Path):
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(gnnfast("train", *HERE, "training.epochs=1", folder=tmp_path)))
    thread.start()
    thread.join()
    assert runs[0].exit_code == 0, runs[0].stderr


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path):
    """The first one waits for a step that never ends."""
    code = (
        "import os, signal, time\n"
        "from gnnfast.training import StopSignals\n"
        "with StopSignals() as stop, stop.deferred():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print(stop.received, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "2\n")


def test_a_signal_outside_of_the_steps_is_obeyed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While the data set is read, no checkpoint is there yet: the run begins anew."""

    def interrupt(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("gnnfast.cli.train.build_sampler", interrupt)
        stopped = gnnfast("train", *HERE, folder=tmp_path)
    assert stopped.exit_code == 143
    assert "to go on: gnnfast train resume=run" in stopped.stdout

    resumed = gnnfast("train", "resume=run", folder=tmp_path)
    assert resumed.exit_code == 0, resumed.stderr
    assert "no checkpoint was written yet: the run begins anew" in resumed.stdout


def test_a_signal_ends_a_sweep_and_its_job_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from gnnfast.cli.progress import TrainingProgress

    count = iter(range(21, 0, -1))  # of which the first job has 17

    def receive(*_: object) -> None:
        if next(count, None) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    sweep = ("train", "-m", "seed=0,1,2", "hydra.sweep.dir=sweep", *RUN, "training.epochs=1")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "step", receive)
        stopped = gnnfast(*sweep, folder=tmp_path)
    assert stopped.exit_code == 143
    assert "to go on: gnnfast train resume=sweep/1" in stopped.stdout
    assert result_of(tmp_path / "sweep" / "0")["status"] == "finished"
    assert not (tmp_path / "sweep" / "2").exists()

    whole = gnnfast("train", "resume=sweep", folder=tmp_path)
    assert whole.exit_code == 1
    assert "sweep is the folder of several runs: choose one of sweep/0, sweep/1" in whole.stderr
    resumed = gnnfast("train", "resume=sweep/1", folder=tmp_path)
    assert resumed.exit_code == 0, resumed.stderr
    assert result_of(tmp_path / "sweep" / "1")["seed"] == 1


def test_a_finished_run_is_left_alone_unless_epochs_grow(unbroken: Path, tmp_path: Path):
    shutil.copytree(unbroken, tmp_path / "run")
    before = (tmp_path / "run" / "result.json").read_text()

    done = gnnfast("train", "resume=run", folder=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "the run in run is finished: training.epochs=12 would train it further" in done.stdout
    assert (tmp_path / "run" / "result.json").read_text() == before

    grown = gnnfast("train", "resume=run", "training.epochs=8", "loader.num_threads=0", folder=tmp_path)
    assert grown.exit_code == 0, grown.stderr
    assert result_of(tmp_path / "run")["epochs"] == len(left_by(tmp_path / "run")) == 8
    assert left_by(tmp_path / "run")[:6] == left_by(unbroken)
    stored = yaml.safe_load((tmp_path / "run" / ".hydra" / "config.yaml").read_text())
    assert (stored["training"]["epochs"], stored["loader"]["num_threads"]) == (8, 0)
    overrides = yaml.safe_load((tmp_path / "run" / ".hydra" / "overrides.yaml").read_text())
    assert overrides == ["training.epochs=8", *RUN[1:3], "loader.num_threads=0"]


def test_a_failed_run_goes_on_once_its_cause_is_gone(unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save = RunFolder.save_step

    def fail(self: RunFolder, step: int, *arguments: object, **options: object) -> None:
        if step == 51:
            raise OSError("cannot write")
        save(self, step, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_step", fail)
        failed = gnnfast("train", *HERE, folder=tmp_path)
    assert failed.exit_code == 1
    assert result_of(tmp_path / "run")["status"] == "failed"

    resumed = gnnfast("train", "resume=run", folder=tmp_path)
    assert resumed.exit_code == 0, resumed.stderr
    assert_equals(tmp_path / "run", unbroken)


@pytest.mark.parametrize(
    ("arguments", "hint", "exit_code"),
    [
        (["resume=run", "seed=1"], "leave out seed; only training.epochs, training.devices", 2),
        (["resume=run", "model=gcn"], "leave out model;", 2),
        (["resume=run", "hydra.run.dir=other"], "leave out hydra.run.dir;", 2),
        (["resume=run", "-m"], "leave out -m", 2),
        (["-m", "resume=run,other"], "leave out -m", 2),
        (["resume=run", "--cfg", "job"], "leave out --cfg", 2),
        (["resume=run", "resume=run"], "leave out a second one", 2),
        (["resume=run", "training.epochs=7,8"], "training.epochs=7,8 names no value", 2),
        (["resume=run", "+training.epochs=7"], "+training.epochs=7 names no value", 2),
        (["resume=run", "training.epochs=none"], "training.epochs must be an integer, got 'none'", 1),
        (["resume=nowhere"], "nowhere is not a run folder: it has no .hydra/config.yaml", 1),
        (["resume=.."], "is not a run folder", 1),
        (["++resume=run"], "resume=RUN stands on the command line, not in a config", 1),
    ],
    ids=str,
)
def test_what_cannot_be_resumed_says_why(
    arguments: list[str], hint: str, exit_code: int, unbroken: Path, tmp_path: Path
):
    (tmp_path / "here").mkdir()
    shutil.copytree(unbroken, tmp_path / "here" / "run")
    run = gnnfast("train", *arguments, folder=tmp_path / "here")

    assert run.exit_code == exit_code
    assert hint in run.stderr
    assert run.stderr.count("\n") == 1
    assert result_of(tmp_path / "here" / "run")["status"] == "finished"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("seed: 1\n", "config.yaml is of another version of gnnfast, or no run's: it has no dataset, sampler"),
        ("seed: [1\n", "config.yaml is damaged: "),
        ("- 1\n", "config.yaml is of another version of gnnfast, or no run's"),
    ],
)
def test_a_damaged_configuration_is_named(text: str, hint: str, unbroken: Path, tmp_path: Path):
    shutil.copytree(unbroken, tmp_path / "run")
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text(text)

    for command in (("train", "resume=run"), ("evaluate", "run=run")):
        run = gnnfast(*command, folder=tmp_path)
        assert run.exit_code == 1
        assert hint in run.stderr
        assert run.stderr.count("\n") == 1


def test_a_checkpoint_that_lacks_something_is_named(unbroken: Path, tmp_path: Path):
    shutil.copytree(unbroken, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    state = folder.load_checkpoint("last")
    del state["ranks"]
    folder.save_step(folder.steps()[-1], state, keep=1)

    run = gnnfast("train", "resume=run", "training.epochs=7", folder=tmp_path)
    assert run.exit_code == 1
    assert "the checkpoint is of another version of gnnfast: it has no ranks" in run.stderr


def test_a_run_can_be_resumed_by_a_path_that_hydra_could_not_parse(tmp_path: Path):
    odd = tmp_path / "a=1,b [x] run"
    broken_off(tmp_path, 3)
    (tmp_path / "run").rename(odd)

    resumed = gnnfast("train", f"resume={odd}", folder=tmp_path)
    assert resumed.exit_code == 0, resumed.stderr
    assert result_of(odd)["status"] == "finished"
    assert (odd / "train.log").read_text().count("run folder: ") == 1


def test_an_early_last_checkpoint_can_be_evaluated(tmp_path: Path):
    broken_off(tmp_path, 3)
    evaluated = gnnfast("evaluate", "run=run", "checkpoint=last", folder=tmp_path)
    assert evaluated.exit_code == 0, evaluated.stderr


@pytest.mark.parametrize("arguments", [("hydra.run.dir=run",), ("resume=run", "training.epochs=8")])
def test_two_commands_do_not_train_in_one_folder(arguments: tuple[str, ...], unbroken: Path, tmp_path: Path):
    shutil.copytree(unbroken, tmp_path / "run")
    kept = {path: path.read_bytes() for path in (tmp_path / "run").glob("*/*.pt")}
    with FileLock(tmp_path / "run" / ".lock"):
        second = gnnfast("train", *arguments, folder=tmp_path)

    assert second.exit_code == 1
    assert second.stderr.startswith("gnnfast train: another process is training in ")
    assert "hydra.run.dir=DIR" in second.stderr
    assert result_of(tmp_path / "run")["status"] == "finished"
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*/*.pt")} == kept
    # Once that has ended, the folder is free.
    assert gnnfast("train", "resume=run", folder=tmp_path).exit_code == 0
