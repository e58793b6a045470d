"""Stages with all sides in this process: importing torch anew for each takes seconds."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module

import pytest
import torch

from gnnfast.benchmark import BenchmarkSettings, GraphFiles, benchmark, limits_lines, table
from gnnfast.benchmark.comparison import Row, Side, sizes_note
from gnnfast.benchmark.machine import machine_facts, measure_limits
from gnnfast.benchmark.peers.process import PeerError
from gnnfast.benchmark.timing import Timing

# The package's name for it is the function.
MODULE = import_module("gnnfast.benchmark.benchmark")


class Here:
    """Stands in for `Systems` and `PeerProcess`, and runs cases where it is."""

    def __init__(self, num_threads: int, dgl_python: str | None = None):
        self.peer = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def close(self):
        pass

    def process(self, system, keeps_freed_memory=True):
        from gnnfast.benchmark.peers import gnnfast, kernels

        here = Here(1)
        if system == "pyg_lib":
            return here
        if system == "torch_sparse":
            from gnnfast.benchmark.peers import pyg

            pyg._WORKERS = (0,)
        here.peer = {"gnnfast": gnnfast, "kernels": kernels}.get(system) or pyg
        return here

    def prepare(self, request):
        if self.peer is None or request.num_workers > 1:
            raise PeerError(f"{request.system}: not here")
        call, facts = self.peer.prepare(asdict(request))
        return HereCase(call, facts)


class HereCase:
    def __init__(self, call, facts):
        self.call, self.facts = call, facts

    def run(self, first_call, num_calls):
        return [self.call(i) for i in range(first_call, first_call + num_calls)]

    def forget(self):
        self.facts |= getattr(self.call, "closing_facts", dict)()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, quick_limits: None):
    monkeypatch.setattr(MODULE, "Systems", Here)
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def settings_for(stage: str, **values) -> BenchmarkSettings:
    defaults = {"fanouts": [3, 2], "batch_size": 300, "models": ["gcn"], "hidden_channels": 8, "repeats": 1}
    return BenchmarkSettings(stage=stage, max_seconds=0.0, num_threads=1, **{**defaults, "peers": [], **values})


@pytest.mark.parametrize("stage", ["sampler", "loader", "kernel", "step", "epoch", "memory"])
def test_every_stage_has_figures_and_a_table(here, tiny: GraphFiles, stage: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gnnfast.benchmark.stages.loader._WORKERS", (0, 1))
    shown = []
    result = benchmark(tiny, settings_for(stage), shown.append)

    comparison = result.comparisons[stage]
    assert shown == [comparison]
    assert all(row.timing.median > 0 for row in comparison.rows)
    assert table(comparison).row_count == len(comparison.rows)
    if stage not in ("epoch", "memory"):
        assert all(row.share is not None and row.share > 0 for row in comparison.rows)


@pytest.mark.filterwarnings("ignore:Sparse :UserWarning")
def test_pyg_takes_part_in_every_stage(here, tiny: GraphFiles, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch_sparse")
    monkeypatch.setattr("gnnfast.benchmark.stages.loader._WORKERS", (0,))
    result = benchmark(tiny, settings_for("all", peers=["torch_sparse"]))

    variants = {
        stage: {(row.side.variant, row.side.keeps_freed_memory) for row in rows if row.side.system == "torch_sparse"}
        for stage, rows in ((stage, comparison.rows) for stage, comparison in result.comparisons.items())
    }
    assert variants == {
        "sampler": {("", True)},
        "loader": {("", True)},
        "kernel": {("", True)},
        "step": {("plain", True), ("trimmed", True), ("trimmed, adj_t", True), ("plain", False)},
        "epoch": {("trimmed", True), ("plain", False)},
        "memory": set(),
    }
    assert not any("DIFFERENT" in note for comparison in result.comparisons.values() for note in comparison.notes)


def test_a_peer_that_fails_leaves_a_note(here, tiny: GraphFiles, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MODULE, "find_spec", lambda name: True)
    comparison = benchmark(tiny, settings_for("sampler", peers=["pyg_lib"])).comparisons["sampler"]

    assert {row.side.system for row in comparison.rows} == {"gnnfast"}
    assert "pyg_lib: not here" in comparison.notes


def test_a_peer_that_is_missing_is_one_line_that_says_how_to_get_it(here, tiny: GraphFiles):
    result = benchmark(tiny, settings_for("sampler", peers=["graphbolt"]))

    assert list(result.missing) == ["graphbolt"]
    assert "peer.dgl_python=" in result.missing["graphbolt"]
    assert "\n" not in result.missing["graphbolt"]


def test_our_own_failure_is_an_error(here, tiny: GraphFiles, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gnnfast.benchmark.stages.loader._WORKERS", (2,))
    with pytest.raises(PeerError, match="gnnfast: not here"):
        benchmark(tiny, settings_for("loader"))


@pytest.mark.parametrize(("theirs", "differs"), [(1000, False), (1029, False), (1031, True), (900, True)])
def test_mini_batches_of_another_size_are_told(theirs: int, differs: bool):
    rows = [
        Row(Side("gnnfast", drawn="once"), Timing([1.0]), {"nodes": 1000, "edges": 1000}),
        Row(Side("torch_sparse", drawn="once"), Timing([1.0]), {"nodes": 1000, "edges": theirs}),
        Row(Side("graphbolt", drawn="layer"), Timing([1.0]), {"nodes": 1, "edges": 1}),
    ]
    (note,) = sizes_note(rows)

    assert ("DIFFERENT" in note) == differs


def test_limits_are_rates(quick_limits: None):
    limits = measure_limits(1, num_nodes=1000, num_edges=5000, num_features=16, product_shape=(64, 16, 16))

    assert all(rate > 0 for rate in asdict(limits).values())
    assert limits.bandwidth >= limits.copy
    assert limits.bandwidth_one >= limits.triad_one
    assert len(limits_lines(limits, 1)) == 2


def test_the_machine_is_described():
    facts = machine_facts()

    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert facts["memory_bytes"] is None or facts["memory_bytes"] > 1 << 28
    assert "PyTorch" in facts["torch_build"]
