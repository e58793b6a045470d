"""What `verify` reports of samplers that are right, and how it is called."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gnnfast.datasets import digits
from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.sampler import (
    ClusterSampler,
    EgoSampler,
    FastGCNSampler,
    FullGraphSampler,
    LaborSampler,
    LinkNeighborSampler,
    NeighborSampler,
    PLadiesSampler,
    SaintNodeSampler,
    SaintWalkSampler,
)
from gnnfast.verify import Report, Row, verify
from gnnfast.verify.graphs import awkward_dataset

NUM_DRAWS = 100
NUM_NODES = 80

# A check that each of them must pass, not skip.
RIGHT: dict[str, tuple[Any, tuple[str, ...]]] = {
    "all neighbors": (partial(NeighborSampler, fanouts=[-1, -1]), ("edge inclusion", "unbiased sum")),
    "neighbors with replacement": (partial(NeighborSampler, fanouts=[4], replace=True), ("edge inclusion",)),
    "neighbors once": (partial(NeighborSampler, fanouts=[5, 5], expand="once"), ("ranks", "unbiased sum")),
    "whole layers": (partial(PLadiesSampler, num_nodes=[60, 60], normalise="ht"), ("edge inclusion", "unbiased sum")),
    "fixed layers": (partial(FastGCNSampler, num_nodes=[60, 60], normalise="ht"), ("edge inclusion", "unbiased sum")),
    "ego graphs": (EgoSampler, ("exact outputs", "ranks")),
    "subgraphs": (partial(SaintNodeSampler, num_nodes=80), ("node inclusion", "unbiased sum", "loss weights")),
    "subgraphs of training nodes": (
        partial(SaintNodeSampler, num_nodes=80, train_only=True, edge_ids=True),
        ("degrees", "edges of the graph", "loss weights", "node inclusion"),
    ),
    "walks": (partial(SaintWalkSampler, num_roots=30, coverage=200), ("estimated weights", "loss weights")),
    "steps": (partial(LaborSampler, fanouts=[5], batch_dependency=4), ("edge inclusion", "unbiased sum")),
    "the whole graph": (FullGraphSampler, ("exact outputs",)),
    "pairs": (
        partial(LinkNeighborSampler, fanouts=[5], avoid_edges=True, exclude_seed_edges=True, num_negatives=3),
        ("pairs and labels", "negatives", "excluded edges"),
    ),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


# What the others check, samplers of the same classes, or with more to leave out, check as well.
LATE = ("all neighbors", "neighbors with replacement", "whole layers", "ego graphs", "subgraphs")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LATE)) for name in RIGHT])
def test_a_right_sampler_passes(name: str):
    factory, checks = RIGHT[name]

    report = verify(factory, num_draws=NUM_DRAWS, num_nodes=NUM_NODES)

    assert report.passed, str(report)
    assert all(report[check].verdict == "passed" for check in checks), str(report)
    assert all(row.note for row in report.rows if row.verdict == "skipped")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["whole layers", "subgraphs", "neighbors once", "walks", "steps"])
def test_a_right_sampler_passes_for_every_seed(name: str, seed: int):
    report = verify(RIGHT[name][0], seed=seed, num_draws=1000)

    assert report.passed, str(report)


class LastNeighbor:
    """Claims nothing, chooses nothing at random."""

    def __init__(self, graph: CSCGraph):
        self.graph = graph

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        nodes = torch.tensor(list(dict.fromkeys(seed_nodes.tolist())), dtype=torch.int64)
        row_of = {int(node): row for row, node in enumerate(nodes)}
        rows = torch.tensor([row_of[int(node)] for node in seed_nodes], dtype=torch.int64)
        count = self.graph.in_degree[nodes].clamp(max=1)
        edges = self.graph.indptr[nodes + 1][count > 0] - 1
        block = self.graph.block(nodes, torch.nn.functional.pad(count.cumsum(0), (1, 0)), edges)
        return MiniBatch(seed_nodes, block.src_nodes, [block], rows if nodes.numel() < rows.numel() else None)


def test_memory_of_pools_goes_round_though_graphs_are_small():
    report = verify(partial(NeighborSampler, fanouts=[5]), num_draws=100, num_nodes=50)

    for check in ("kept mini-batches", "threads", "memory"):
        assert "pooled memory went round" in report[check].note


def test_what_is_not_claimed_is_skipped_and_says_so():
    report = verify(LastNeighbor, num_draws=NUM_DRAWS, num_nodes=50)

    assert report.passed, str(report)
    assert report["unbiased sum"].verdict == "skipped"
    assert report["other seeds"].note.startswith("every seed gives the same mini-batch")
    assert report["edge inclusion"].note == "the law names no probabilities of edges (edge_inclusion)"


def test_one_seed_gives_one_report():
    def rows(seed: int) -> list[str]:
        report = verify(partial(NeighborSampler, fanouts=[5]), seed=seed, num_draws=NUM_DRAWS, num_nodes=50)
        return [f"{row.measured} {row.note}" for row in report.rows if row.check != "memory"]

    assert rows(3) == rows(3) != rows(4)


def test_a_data_set_of_ones_own_is_sampled_from():
    report = verify(partial(ClusterSampler, num_parts=20, cache_dir=None), dataset=digits(), num_draws=100)

    assert report.passed, str(report)
    assert report["node inclusion"].note == "digits"


def test_a_factory_gets_what_its_parameters_ask_for():
    seen: dict[str, Any] = {}

    def make(graph: CSCGraph, labels: Tensor, seed_nodes: Tensor) -> NeighborSampler:
        seen.update(labels=labels, seed_nodes=seed_nodes)
        return NeighborSampler(graph, [3])

    dataset = awkward_dataset()
    verify(make, dataset=dataset, num_draws=100)

    # The last graph it was made on is the one without edges.
    assert seen["labels"].shape == (30,)
    assert seen["seed_nodes"].shape == (18,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_draws": 10}, ValueError, "num_draws must be at least 100, got 10"),
        ({"num_nodes": 10}, ValueError, "num_nodes must be at least 50"),
        ({"graph": awkward_dataset().graph, "dataset": awkward_dataset()}, ValueError, "not both"),
    ],
)
def test_what_cannot_be_verified_is_refused(arguments: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        verify(partial(NeighborSampler, fanouts=[5]), **arguments)


def test_what_is_no_sampler_is_refused():
    with pytest.raises(TypeError, match="object is no sampler: it has neither sample"):
        verify(lambda graph: object())


def test_a_report_reads_as_one_line_per_check():
    report = Report("S", [Row("threads", "failed", "3 of 4 differ", "0", "directed")], seed=0, num_draws=100)

    assert not report.passed
    assert str(report["threads"]) == "threads failed: 3 of 4 differ, must be 0 (directed)"
    assert report.to_dict()["rows"][0]["verdict"] == "failed"
    with pytest.raises(KeyError, match="there are threads"):
        report["thread"]
