import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str, folder: Path, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return result.stdout


@pytest.mark.slow
def test_a_wheel_runs_from_any_folder_with_its_own_configs(tmp_path: Path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run("build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT), folder=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    run("pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel), folder=tmp_path)

    shown = run("gnnfast", "train", "training.epochs=1", folder=elsewhere, PYTHONPATH=str(site))
    where = run("gnnfast.cli.main", "train", "--info", "searchpath", folder=elsewhere, PYTHONPATH=str(site))

    assert "run folder: runs" in shown
    assert str(site / "gnnfast" / "configs") in where


@pytest.mark.slow
def test_an_editable_install_runs_from_any_folder(tmp_path: Path):
    shown = run("gnnfast", "train", "training.epochs=1", folder=tmp_path)

    assert "run folder: runs" in shown
