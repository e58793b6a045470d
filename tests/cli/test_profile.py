import json
from pathlib import Path

from tests.cli.command import gnnfast, result_of

QUICK = ("training.epochs=3", "training.accelerator=cpu", "hydra.run.dir=run")


def test_a_run_says_where_its_time_went_and_what_to_change(tmp_path: Path):
    run = gnnfast("train", *QUICK, "training.profile=true", folder=tmp_path)

    assert run.exit_code == 0, run.stderr
    profile = result_of(tmp_path / "run")["profile"]
    assert "profile of epochs 2 to 3, " in run.stdout
    for stage in ("wait", "forward", "backward", "optimizer", "evaluate"):
        assert f"  {stage} " in run.stdout
    assert profile["bottleneck"] in run.stdout


def test_without_asking_nothing_is_said_of_it(tmp_path: Path):
    run = gnnfast("train", *QUICK, folder=tmp_path)

    assert "profile" not in run.stdout
    assert "profile" not in result_of(tmp_path / "run")


def test_a_trace_is_one_word_away_and_goes_with_the_run_that_it_is_of(tmp_path: Path):
    traced = gnnfast("train", *QUICK, "training.profile=trace", folder=tmp_path)

    trace = tmp_path / "run" / "trace.json"
    assert (traced.exit_code, traced.stderr) == (0, "")
    assert json.loads(trace.read_text())["traceEvents"]
    gnnfast("train", *QUICK, folder=tmp_path)
    assert not trace.exists()


def test_another_word_is_refused(tmp_path: Path):
    run = gnnfast("train", *QUICK, "training.profile=chrome", folder=tmp_path)

    assert "training.profile must be true, false or trace, got 'chrome'" in run.stderr
