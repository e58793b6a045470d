"""A sampler counts as done once its config has trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import gnnfast, result_of, run_folders
from tests.samplers import NODE_SAMPLERS


@pytest.mark.parametrize("name", NODE_SAMPLERS)
def test_every_sampler_config_trains(name: str, tmp_path: Path):
    done = gnnfast("train", f"sampler={name}", "training.epochs=2", folder=tmp_path, XDG_CACHE_HOME=str(tmp_path))
    assert done.exit_code == 0, done.stderr
    # Chance is 0.1.
    assert result_of(run_folders(tmp_path)[0])["test"]["accuracy"] > 0.3
