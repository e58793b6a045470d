"""How much of a step goes to matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from torch.profiler import ProfilerActivity, profile

# Of torch, and of oneDNN below it.
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_addmm_activation", "mkldnn_linear", "_linear_pointwise")


def share_of_products(step: Callable[[Any], object], batches: Iterable[Any]) -> float:
    """Of the time of a step, that inside of matrix products, by torch's profiler; the first call does not count."""
    first, *others = batches
    step(first)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        started_at = perf_counter()
        for batch in others:
            step(batch)
        seconds = perf_counter() - started_at
    events = profiler.key_averages()
    inside = sum(event.cpu_time_total for event in events if event.key.rpartition("::")[2] in _PRODUCTS)
    return float(inside) * 1e-6 / seconds
