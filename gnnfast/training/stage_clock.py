"""Where the time of a run went."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter

from gnnfast.loader import DataLoader

STAGES = ("wait", "transfer", "forward", "backward", "optimizer", "evaluate", "checkpoint", "record")
LOADER_STAGES = ("sample", "gather")


class StageClock:
    """Time by stage on the thread that trains; sampling and gathering are the loader's, which counts them itself.

    Args:
        loader: Makes the mini-batches. With threads, its stages run beside those of training; without, training does
            them itself, and what is left of the time for a mini-batch is "wait".
    """

    def __init__(self, loader: DataLoader):
        self.loader = loader
        self._before = dict(loader.stage_seconds)
        self._spent = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Counts what is done inside as that stage; "wait" is around all that a mini-batch takes to arrive."""
        started_at = perf_counter()
        yield
        self._spent[stage] += perf_counter() - started_at

    def epoch(self, epoch: int) -> AbstractContextManager[None]:
        """Is around each epoch's steps."""
        return nullcontext()

    def seconds(self) -> dict[str, float]:
        """Time by stage so far."""
        of_loader = {
            stage: self.loader.stage_seconds[stage] - self._before[stage] for stage in (*LOADER_STAGES, "transfer")
        }
        inside_wait = of_loader["transfer"]
        if self.loader.num_threads == 0:
            inside_wait += sum(of_loader[stage] for stage in LOADER_STAGES)
        return self._spent | of_loader | {"wait": max(self._spent["wait"] - inside_wait, 0.0)}
