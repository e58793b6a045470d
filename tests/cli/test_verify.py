from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import gnnfast

FAST = ("draws=100", "num_nodes=60")

MINE = """
import torch

from gnnfast.sampler import NeighborSampler


class Mine(NeighborSampler):
    pass


class Forgetful(NeighborSampler):
    def sample(self, seed_nodes, seed):
        return super().sample(seed_nodes, int(torch.randint(2**62, ())))
"""


def reports(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / "runs").rglob("verify.json"))]


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module of samplers in the working folder; another one for every test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"samplers_of_{request.node.name.split('[')[0]}"
    (tmp_path / f"{name}.py").write_text(MINE)
    return name


def test_a_right_sampler_passes_and_leaves_its_report(tmp_path: Path):
    run = gnnfast("verify", "sampler=neighbor", *FAST, folder=tmp_path)

    assert run.exit_code == 0, run.stderr + run.stdout
    (report,) = reports(tmp_path)
    assert report["passed"]
    assert report["name"] == "neighbor"
    assert report["settings"]["fanouts"] == [5, 5]
    assert report["num_draws"] == 100
    assert {"python", "torch"} <= set(report["versions"])
    assert "edge inclusion" in run.stdout
    assert "neighbor: passed" in run.stdout


def test_settings_of_the_command_line_go_before_those_for_small_graphs(tmp_path: Path):
    gnnfast("verify", "sampler=neighbor", "sampler.fanouts=[3]", *FAST, folder=tmp_path)

    assert reports(tmp_path)[0]["settings"]["fanouts"] == [3]


def test_a_sampler_of_ones_own_is_verified(tmp_path: Path, own_module: str):
    run = gnnfast("verify", f"sampler._target_={own_module}.Mine", *FAST, folder=tmp_path)

    assert run.exit_code == 0, run.stderr + run.stdout
    assert reports(tmp_path)[0]["name"] == "Mine"


def test_each_failed_check_is_named_in_a_line(tmp_path: Path, own_module: str):
    run = gnnfast("verify", f"sampler._target_={own_module}.Forgetful", *FAST, folder=tmp_path)

    assert run.exit_code == 1
    lines = run.stderr.splitlines()
    assert "gnnfast verify: Forgetful: same seed failed: 24 of 24 differ, must be 0 (directed)" in lines
    (report,) = reports(tmp_path)
    assert len(lines) == len([row for row in report["rows"] if row["verdict"] == "failed"])
    assert not report["passed"]


def test_several_samplers_end_with_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = gnnfast("verify", "sampler=glob(*neighbor,exclude=link*)", *FAST, folder=tmp_path)

    assert run.exit_code == 0, run.stderr
    assert [report["name"] for report in reports(tmp_path)] == ["neighbor", "weighted_neighbor"]
    assert "ms per mini-batch" in run.stdout


@pytest.mark.parametrize(
    ("argument", "exit_code", "hint"),
    [
        ("sampler=neighbour", 2, "did you mean neighbor?"),
        ("drawss=100", 2, "did you mean draws?"),
        ("draws=10", 1, "num_draws must be at least 100"),
        ("seed=abc", 1, "seed must be an integer"),
        ("sampler.fanouts=[0]", 1, "fanouts must be positive"),
        ("sampler._target_=collections.OrderedDict", 1, ""),
    ],
)
def test_a_mistake_is_answered_in_a_line(tmp_path: Path, argument: str, exit_code: int, hint: str):
    run = gnnfast("verify", argument, folder=tmp_path)

    assert run.exit_code == exit_code
    assert hint in run.stderr
    assert run.stderr.count("\n") == 1
    assert not reports(tmp_path)


@pytest.mark.slow
def test_every_sampler_keeps_its_law(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = gnnfast("verify", "sampler=glob(*)", folder=tmp_path)

    assert run.exit_code == 0, run.stderr
