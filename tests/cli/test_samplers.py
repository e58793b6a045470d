"""A sampler counts as done once its config has trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import gnnfast as gnnfast_command
from tests.cli.command import result_of, run_folders
from tests.samplers import SAMPLERS


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_config_trains(name: str, tmp_path: Path):
    done = gnnfast_command(
        "train", f"sampler={name}", "training.epochs=2", folder=tmp_path, XDG_CACHE_HOME=str(tmp_path)
    )
    assert done.exit_code == 0, done.stderr
    # Chance is 0.1.
    assert result_of(run_folders(tmp_path)[0])["test"]["accuracy"] > 0.3


def test_a_sweep_reads_a_data_set_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import gnnfast.datasets

    calls = []
    read = gnnfast.datasets.digits
    monkeypatch.setattr(gnnfast.datasets, "digits", lambda **settings: calls.append(settings) or read(**settings))

    arguments = ("-m", "dataset.split_seed=0,1", "seed=0,1", "training.epochs=1")
    done = gnnfast_command("train", *arguments, folder=tmp_path)

    assert done.exit_code == 0, done.stderr
    assert [settings["split_seed"] for settings in calls] == [0, 1]
