"""How much of a step goes to matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import torch

from gnnfast.training.product_clock import ProductClock


def share_of_products(step: Callable[[Any], object], batches: Iterable[Any]) -> float:
    """Of the time of a step, that inside of operators that multiply matrices; the first call does not count."""
    first, *others = batches
    with ProductClock(torch.device("cpu")) as clock:
        step(first)
        clock.seconds = 0.0
        started_at = perf_counter()
        for batch in others:
            step(batch)
        seconds = perf_counter() - started_at
    return float(clock.seconds / seconds)
