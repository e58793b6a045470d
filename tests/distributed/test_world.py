from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.distributed import Place, World, place
from gnnfast.distributed.environment import tasks_per_node
from gnnfast.distributed.rank import is_lost_peer


@given(work=st.lists(st.integers(0, 9), max_size=20), size=st.integers(1, 6))
def test_bounds_cut_all_rows_into_shares_of_about_the_same_work(work: list[int], size: int):
    bounds = World(Place(0, size)).bounds(torch.tensor(work))

    assert bounds[0] == 0
    assert bounds[-1] == len(work)
    assert len(bounds) == size + 1
    assert bounds == sorted(bounds)
    for rank in range(size):
        share = sum(work[bounds[rank] : bounds[rank + 1]])
        assert share <= sum(work) / size + max(work, default=0)


def test_a_world_of_one_keeps_everything_as_it_is():
    alone = World()
    rows = torch.ones(3)
    assert alone.exchange(rows, [0, 3]) is rows
    assert alone.sum(rows) is rows
    assert alone.largest([3, 0]) == [3, 0]
    assert alone.gather("x") == ["x"]


def test_the_place_is_what_torchrun_says():
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1"}

    assert place(environment) == Place(5, 8, 1, 4, 1)
    assert place({}) == Place()
    with pytest.raises(ValueError, match="do not fit together: start the processes with torchrun"):
        place({**environment, "RANK": "8"})


def test_tasks_per_node_reads_slurms_short_form():
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    assert tasks_per_node("4") == [4]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"), True),
        (ConnectionResetError("reset"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("connection closed"), False),
    ],
)
def test_errors_about_a_lost_peer_are_told_from_others(error: Exception, expected: bool):
    assert is_lost_peer(error) == expected
