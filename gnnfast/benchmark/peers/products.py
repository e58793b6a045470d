"""How much of a step is not matrix products."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from gnnfast.training.product_clock import ProductClock


def seconds_outside_products(step: Callable[[Any], object], batch: Any) -> float:
    """Of a step, outside of operators that multiply matrices."""
    with ProductClock(torch.device("cpu")) as clock:
        started_at = perf_counter()
        step(batch)
        seconds = perf_counter() - started_at
    return seconds - float(clock.seconds)
