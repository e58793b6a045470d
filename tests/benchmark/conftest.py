"""A graph that is small, and machine limits that take no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gnnfast.benchmark import GraphFiles, machine, synthetic_files
from gnnfast.benchmark.graphs import seed_batches
from gnnfast.benchmark.peers.request import Request


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> GraphFiles:
    return synthetic_files("tiny", tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="session")
def request_for(tiny: GraphFiles, tmp_path_factory: pytest.TempPathFactory):
    """Makes requests on the tiny graph, with batches of 64 seeds."""
    seeds = tmp_path_factory.mktemp("seeds") / "seeds.npy"
    np.save(seeds, seed_batches(tiny.array("train"), 64, 4).numpy())

    def make(stage: str, **values) -> Request:
        return Request(stage, str(tiny.folder), str(seeds), [3, 2], 1, hidden_channels=8, heads=2, **values)

    return make


@pytest.fixture
def quick_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_STREAM_BYTES", 1 << 16)
    monkeypatch.setattr(machine, "_TRIES", 1)


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of the command line go to a folder of the test; compiled kernels stay where they are."""
    monkeypatch.setattr("gnnfast.benchmark.graphs.user_cache_dir", lambda: tmp_path / "cache")
