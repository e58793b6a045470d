from __future__ import annotations

import json
from pathlib import Path

import pytest

from gnnfast.benchmark import machine
from tests.cli.command import gnnfast

QUICK = ("repeats=1", "max_seconds=0", "fanouts=[3,2]", "batch_size=64", "num_threads=1")


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_STREAM_BYTES", 1 << 16)
    monkeypatch.setattr(machine, "_TRIES", 1)
    monkeypatch.setattr("gnnfast.benchmark.graphs.user_cache_dir", lambda: tmp_path / "cache")


def figures(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / "runs").rglob("bench.json"))]


def test_sides_are_timed_in_processes_of_their_own(tmp_path: Path):
    pytest.importorskip("torch_sparse")
    run = gnnfast("bench", "size=tiny", *QUICK, "peer.systems=[torch_sparse,graphbolt]", folder=tmp_path)

    assert run.exit_code == 0, run.stderr + run.stdout
    assert "tiny, 3,000 nodes" in run.stdout
    assert "graphbolt took no part: " in run.stdout
    assert "of limit" in run.stdout
    (written,) = figures(tmp_path)
    assert set(written) == {"settings", "graph", "machine", "limits", "versions", "missing", "stages"}
    assert written["settings"]["fanouts"] == [3, 2]
    assert written["graph"]["num_nodes"] == 3000
    assert {"cpu", "cores", "memory_bytes", "torch_build", "date", "load"} <= set(written["machine"])
    assert {"torch", "torch_geometric", "torch_sparse", "numba"} <= set(written["versions"])
    rows = written["stages"]["sampler"]["rows"]
    assert [(row["system"], row["drawn"]) for row in rows] == [
        ("gnnfast", "once"),
        ("gnnfast", "layer"),
        ("torch_sparse", "once"),
    ]
    for row in rows:
        assert row["median_seconds"] > 0
        assert len(row["seconds"]) == 5
        assert row["interquartile_range_seconds"] >= 0
        assert row["limit"]["num_bytes"] > 0
        assert row["share_of_limit"] > 0
    assert str(next((tmp_path / "runs").rglob("bench.json"))) in run.stdout


def test_a_data_set_may_be_given(tmp_path: Path):
    run = gnnfast("bench", "dataset=digits", *QUICK, "peer.systems=[]", folder=tmp_path)

    assert run.exit_code == 0, run.stderr + run.stdout
    assert figures(tmp_path)[0]["graph"]["num_nodes"] == 1797
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("argument", "exit_code", "hint"),
    [
        ("stage=stepp", 1, "stage must be one of sampler, loader, kernel, step, epoch, memory, all, got 'stepp'"),
        ("size=reddit", 1, "size must be one of tiny, arxiv, products, papers-mini, got 'reddit'"),
        ("models=[gta]", 1, "models must be one of sage, gcn, gin, gat, got 'gta'"),
        ("peer.systems=[dgl]", 1, "peer.systems must be one of torch_sparse, pyg_lib, graphbolt, got 'dgl'"),
        ("batch_size=many", 1, "batch_size must be a positive integer, got 'many'"),
        ("sizes=arxiv", 2, "did you mean size?"),
        ("dataset=pubmedd", 2, "did you mean pubmed?"),
    ],
)
def test_a_mistake_is_answered_in_a_line(tmp_path: Path, argument: str, exit_code: int, hint: str):
    run = gnnfast("bench", argument, folder=tmp_path)

    assert run.exit_code == exit_code
    assert hint in run.stderr
    assert run.stderr.count("\n") == 1
    assert not figures(tmp_path)
