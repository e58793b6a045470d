"""Calls taken in turns, and what their times come to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)


class Case(Protocol):
    """Something that can be called again and again."""

    facts: dict[str, Any]

    def run(self, first_call: int, num_calls: int) -> list[float]:
        """Makes calls number `first_call` and following; the seconds that each took."""
        ...


@dataclass(frozen=True)
class Timing:
    """Seconds of many calls."""

    seconds: list[float] = field(repr=False)

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """The interquartile range."""
        low, high = np.quantile(self.seconds, [0.25, 0.75])
        return float(high - low)


def in_turns(
    cases: Mapping[Key, Case],
    repeats: int,
    max_seconds: float,
    calls_in_a_row: int = 1,
    warm_up: bool = True,
    min_rounds: int = 3,
) -> dict[Key, Timing]:
    """Times all cases in rounds: whatever slows the machine down for a while slows down all of them.

    A call of a millisecond is of the caches that it finds: in a row, those that calls of its own kind have left.

    Args:
        cases: What is called.
        repeats: Rounds, in each of which every case makes `calls_in_a_row` calls.
        max_seconds: After which, once there are `min_rounds`, no more rounds are made.
        warm_up: Whether a first round does not count.
        min_rounds: Made however long they take.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in cases}
    started_at = perf_counter()
    for turn in range(-1 if warm_up else 0, repeats):
        if turn >= min_rounds and perf_counter() - started_at > max_seconds:
            break
        for key, case in cases.items():
            measured = case.run((turn + 1) * calls_in_a_row, calls_in_a_row)
            if turn >= 0:
                seconds[key] += measured
    return {key: Timing(measured) for key, measured in seconds.items()}
