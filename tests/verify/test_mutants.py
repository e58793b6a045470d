"""A sampler that is wrong in one way fails the checks that look there, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gnnfast.verify import verify
from tests.verify import mutants

SUMS = {"unbiased sum"}
MEANS = {"unbiased sum", "unbiased mean"}
LOADED = {"loader threads", "loader rows", "ranks", "resume"}
REPEATED = {"same seed", "order of calls", "threads", "loader threads", "ranks", "resume"}

FAILED: dict[type[Any], set[str]] = {
    mutants.ExclusiveFloyd: {"edge inclusion"} | MEANS,
    mutants.ShortRemainder: {"hub inclusion"},
    mutants.NoWeights: SUMS,
    mutants.LaborWithoutWeights: SUMS,
    mutants.FewerThanClaimed: {"edge inclusion", "hub inclusion"},
    mutants.FewerInLaterSteps: {"edge inclusion"},
    mutants.InvertedSaintEdge: {"node inclusion", "loss weights"} | SUMS,
    mutants.SourceCounts: SUMS,
    mutants.UnitLossWeights: {"loss weights"},
    mutants.UncountedEdges: {"estimated weights"},
    mutants.DegreesOfTheWholeGraph: {"degrees"},
    mutants.GlobalRandomNumbers: {"global random state"} | REPEATED,
    mutants.CountedCalls: {"global random state"} | REPEATED,
    mutants.SameEverySeed: {"other seeds", "edge inclusion", "hub inclusion"} | MEANS,
    mutants.KeyedByBatch: {"ranks"},
    mutants.RecountedDegrees: {"degrees"},
    mutants.ReversedEdges: {"edges of the graph", "degrees", "edge inclusion", "hub inclusion", "isolated seeds"}
    | MEANS,
    mutants.ShuffledWeights: {"edge weights", "ranks"} | SUMS,
    mutants.Repeats: {"distinct edges", "edge inclusion"},
    mutants.SortedSeeds: {"seeds in order", "duplicate seeds", "graph without edges"},
    mutants.ForgottenDuplicates: {"duplicate seeds"},
    mutants.WrongRange: {"structure"},
    mutants.Hoarder: {"memory"},
    mutants.ClaimsToBeExact: {"exact outputs"},
    mutants.ExactForOneLayer: {"exact outputs"},
    mutants.StumblesOverNothing: {"no seeds"},
    mutants.LeavesSeedEdges: {"excluded edges"},
    mutants.NegativesFirst: {"pairs and labels"} | LOADED,
    mutants.TurnedNegatives: {"negatives"},
    mutants.OwnNegatives: {"negatives"},
    mutants.LoopNegatives: {"negatives"},
}


# The most telling ones, and the nodes that show what is wrong with them.
FEW_NODES = {
    mutants.ExclusiveFloyd: 200,
    mutants.NoWeights: 60,
    mutants.FewerInLaterSteps: 60,
    mutants.InvertedSaintEdge: 60,
    mutants.UncountedEdges: 60,
    mutants.DegreesOfTheWholeGraph: 60,
    mutants.GlobalRandomNumbers: 60,
    mutants.WrongRange: 60,
    mutants.ExactForOneLayer: 60,
    mutants.TurnedNegatives: 60,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def name_of(mutant: type[Any]) -> str:
    return mutant.__name__


@pytest.mark.parametrize("mutant", FEW_NODES, ids=name_of)
def test_a_wrong_sampler_fails_on_a_few_draws(mutant: type[Any]):
    report = verify(mutant, num_draws=100, num_nodes=FEW_NODES[mutant])

    assert set(report.failed) == FAILED[mutant], str(report)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", FAILED, ids=name_of)
def test_a_wrong_sampler_fails_where_it_is_wrong(mutant: type[Any]):
    report = verify(mutant, num_draws=150)

    assert set(report.failed) == FAILED[mutant], str(report)


@pytest.mark.slow
def test_memory_that_is_used_again_is_noticed():
    # Threads that write into it at once may spoil anything.
    assert "kept mini-batches" in verify(mutants.SharedScratch, num_draws=150).failed


def test_pooled_memory_that_comes_back_too_early_is_noticed():
    report = verify(mutants.BrokenLeases, num_draws=100, num_nodes=60)

    # Threads that write into it at once may spoil their own.
    assert "kept mini-batches" in report.failed
    assert set(report.failed) <= {"kept mini-batches", "threads"}, str(report)
