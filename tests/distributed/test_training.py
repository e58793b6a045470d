from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.test_launch import results, start
from tests.distributed.trainings import NUM_STEPS
from tests.training.test_resume import assert_left_alike


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.parametrize("name", ["pubmed", "synthetic"])
def test_steps_on_several_ranks_are_those_of_one(name: str, tmp_path: Path):
    told = {}
    for num_ranks in (1, 2, 4):
        folder = tmp_path / str(num_ranks)
        folder.mkdir()
        start(num_ranks, "steps", str(folder), name)
        told[num_ranks] = results(folder, num_ranks)

    (one,) = told[1]
    assert len(one["losses"]) == len(one["edges"]) == NUM_STEPS
    for num_ranks in (2, 4):
        for step in range(NUM_STEPS):
            for layer, edges in enumerate(one["edges"][step]):
                union = set().union(*(rank["edges"][step][layer] for rank in told[num_ranks]))
                assert union == set(edges)
            loss = sum(rank["losses"][step] for rank in told[num_ranks])
            assert abs(loss - one["losses"][step]) / 64 <= 1e-5
        for rank in told[num_ranks]:
            for what in ("val", "test", "loss"):
                for metric, value in one[what].items():
                    assert rank[what][metric] == pytest.approx(value, abs=1e-12), (num_ranks, what, metric)


@pytest.mark.faults
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_uneven_splits_never_wait_for_ever(num_ranks: int, tmp_path: Path):
    start(num_ranks, "uneven", str(tmp_path), 100)

    told = results(tmp_path, num_ranks)
    assert len(told[0]) == 100
    assert all(other == told[0] for other in told)


def test_a_few_uneven_runs_end(tmp_path: Path):
    start(3, "uneven", str(tmp_path), 8)

    told = results(tmp_path, 3)
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("kind", ["history", "running statistics"])
def test_each_rank_goes_on_with_what_is_its_own(kind: str, tmp_path: Path):
    start(2, "resume", str(tmp_path), kind)

    assert_left_alike(tmp_path)
