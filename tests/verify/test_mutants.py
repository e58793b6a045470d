"""A sampler that is wrong in one way fails the checks that look there, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from gnnfast.verify import verify
from tests.verify import mutants

SUMS = {"unbiased sum"}
MEANS = {"unbiased sum", "unbiased mean"}
REPEATED = {"same seed", "order of calls", "threads", "loader threads", "ranks", "resume"}

FAILED: dict[type[Any], set[str]] = {
    mutants.ExclusiveFloyd: {"edge inclusion"} | MEANS,
    mutants.ShortRemainder: {"hub inclusion"},
    mutants.NoWeights: SUMS,
    mutants.LaborWithoutWeights: SUMS,
    mutants.FewerThanClaimed: {"edge inclusion", "hub inclusion"},
    mutants.InvertedSaintEdge: {"node inclusion", "loss weights"} | SUMS,
    mutants.SourceCounts: SUMS,
    mutants.UnitLossWeights: {"loss weights"},
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
    mutants.StumblesOverNothing: {"no seeds"},
    mutants.LeavesSeedEdges: {"excluded edges"},
    mutants.NegativesFirst: {"pairs and labels", "ranks"},
}


@pytest.mark.parametrize("mutant", FAILED, ids=lambda mutant: mutant.__name__)
def test_a_wrong_sampler_fails_where_it_is_wrong(mutant: type[Any]):
    report = verify(mutant, num_draws=150)

    assert set(report.failed) == FAILED[mutant], str(report)


def test_memory_that_is_used_again_is_noticed():
    # Threads that write into it at once may spoil anything.
    assert "kept mini-batches" in verify(mutants.SharedScratch, num_draws=150).failed
