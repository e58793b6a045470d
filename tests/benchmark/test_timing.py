from __future__ import annotations

from time import sleep

import pytest

from gnnfast.benchmark.timing import Timing, in_turns


class Recorded:
    """Writes down its calls; call i takes i seconds, it says."""

    def __init__(self, name: str, log: list[tuple[str, int]], pause: float = 0.0):
        self.facts: dict = {}
        self.name, self.log, self.pause = name, log, pause

    def run(self, first_call: int, num_calls: int) -> list[float]:
        calls = range(first_call, first_call + num_calls)
        self.log.extend((self.name, i) for i in calls)
        sleep(self.pause)
        return [float(i) for i in calls]


def test_sides_take_turns_after_a_round_that_does_not_count():
    log: list[tuple[str, int]] = []
    timings = in_turns({name: Recorded(name, log) for name in "ab"}, repeats=2, max_seconds=60, calls_in_a_row=2)

    assert "".join(name for name, _ in log) == "aabbaabbaabb"
    assert [i for name, i in log if name == "b"] == [0, 1, 2, 3, 4, 5]
    assert timings["a"].seconds == [2.0, 3.0, 4.0, 5.0]


def test_without_a_warm_up_all_rounds_count():
    timings = in_turns({"a": Recorded("a", [])}, repeats=2, max_seconds=60, warm_up=False)

    assert len(timings["a"].seconds) == 2


@pytest.mark.parametrize("min_rounds", [1, 3])
def test_time_ends_the_rounds_but_not_before_some_are_done(min_rounds: int):
    case = Recorded("a", [], pause=0.01)
    timings = in_turns({"a": case}, repeats=50, max_seconds=0.005, min_rounds=min_rounds)

    assert len(timings["a"].seconds) == min_rounds


def test_median_and_spread():
    timing = Timing([5.0, 1.0, 2.0, 4.0, 3.0])

    assert (timing.median, timing.spread) == (3.0, 2.0)
