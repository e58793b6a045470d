"""Where the time of a run went."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from gnnfast.loader import DataLoader

STAGES = ("sample", "gather", "transfer", "forward", "backward", "optimizer", "wait", "evaluate")


@dataclass
class StageClock:
    """Time by stage of the loop; the loader counts its own stages, from `before` on."""

    before: dict[str, float]
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started_at = perf_counter()
        yield
        self.seconds[stage] += perf_counter() - started_at

    def with_loader(self, loader: DataLoader) -> dict[str, float]:
        return self.seconds | {stage: loader.stage_seconds[stage] - self.before[stage] for stage in self.before}
