"""How much of a step goes to matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.profiler import ProfilerActivity, profile

_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_addmm_activation", "aten::mkldnn_linear")


def seconds_in_products(step: Callable[[Any], object], batches: Iterable[Any]) -> float:
    """Seconds per call inside of torch's matrix products, by its profiler, after a first call that does not count."""
    first, *others = batches
    step(first)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for batch in others:
            step(batch)
    microseconds = sum(event.self_cpu_time_total for event in profiler.key_averages() if event.key in _PRODUCTS)
    return float(microseconds) * 1e-6 / len(others)
