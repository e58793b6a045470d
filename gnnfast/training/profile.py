"""What training spends its time on, measured, and which setting would shorten it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.optim import Optimizer

from gnnfast.loader import DataLoader
from gnnfast.runtime.bfloat16 import has_bfloat16
from gnnfast.runtime.cores import available_cores
from gnnfast.training.advice import Run, advise
from gnnfast.training.product_clock import ProductClock, synchronize
from gnnfast.training.settings import TrainingSettings
from gnnfast.training.stage_clock import LOADER_STAGES, STAGES, StageClock

_STEPS_WATCHED = range(1, 6)  # of the first epoch: its first step loads what all others find loaded
_STEPS_TRACED = range(10)  # of the second epoch


@dataclass(frozen=True)
class Profile:
    """Where the time of a run's epochs went.

    Args:
        first_epoch, last_epoch: Epochs measured, from 1. The first one, which loads code and fills caches, is not
            among them where others follow.
        seconds: Their time, evaluation and checkpoints between them included.
        stage_seconds: That time by stage of the thread that trains; "other" is what none of them is.
        loader_seconds: Sampling and gathering on the loader's threads, added up over them, beside the stages.
        loader_threads: How many these are.
        bottleneck: What to change first, or what takes longest, in a sentence.
        setting: The setting to change, with a value; None where none is known to help.
    """

    first_epoch: int
    last_epoch: int
    seconds: float
    stage_seconds: dict[str, float]
    loader_seconds: dict[str, float]
    loader_threads: int
    bottleneck: str
    setting: str | None

    def summary(self) -> dict[str, Any]:
        """What `result.json` says of it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """A table for a person to read."""
        epochs = f"{self.first_epoch} to {self.last_epoch}" if self.last_epoch > self.first_epoch else self.first_epoch
        lines = [f"profile of epoch{'s' if self.last_epoch > self.first_epoch else ''} {epochs}, {self.seconds:.1f} s"]
        lines += [self._line(stage, seconds) for stage, seconds in self.stage_seconds.items() if seconds]
        if self.loader_seconds:
            threads = f"{self.loader_threads} loader thread{'s' if self.loader_threads > 1 else ''}"
            lines.append(f"beside them, on {threads}")
            lines += [self._line(stage, seconds) for stage, seconds in self.loader_seconds.items()]
        return [*lines, self.bottleneck]

    def _line(self, stage: str, seconds: float) -> str:
        return f"  {stage:10} {seconds / self.seconds:6.1%} {seconds:9.2f} s"


class Profiler(StageClock):
    """A clock that also finds out what the time depends on, and on request writes a trace.

    On a GPU it waits for the device after every stage, so that each is charged for its own work.

    Args:
        loader: Makes the mini-batches.
        settings: Of the run.
        device: What the model computes on.
        trace_path: Where a trace of some steps goes, for chrome://tracing or ui.perfetto.dev; None writes none.
    """

    def __init__(self, loader: DataLoader, settings: TrainingSettings, device: torch.device, trace_path: Path | None):
        super().__init__(loader)
        self.settings = settings
        self.device = device
        self.trace_path = trace_path
        self._products = ProductClock(device)
        self._watched_seconds = 0.0
        self._trace: Any = None
        self._trace_seconds = 0.0
        self._epoch = self._first_epoch = self._step = 0
        self._begun_at: int | None = None  # epoch 0, or the one that a run goes on in
        self._spent_before: dict[str, float] = {}
        self._started_at = 0.0

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        if stage == "wait":
            self._step += 1
            if self._trace is not None and self._step not in _STEPS_TRACED:
                self._end_trace()
        is_watched = stage in ("forward", "backward") and self._epoch == self._begun_at and self._step in _STEPS_WATCHED
        before = self._spent[stage]
        with super().__call__(stage), torch.profiler.record_function(f"gnnfast: {stage}"):
            with self._products if is_watched else nullcontext():
                yield
            synchronize(self.device)
        if is_watched:
            self._watched_seconds += self._spent[stage] - before

    @contextmanager
    def epoch(self, epoch: int) -> Iterator[None]:
        self._epoch, self._step = epoch, -1
        if self._begun_at is None:
            self._begun_at = epoch
        is_warm = epoch == min(self._begun_at + 1, self.settings.epochs - 1)
        if epoch == self._begun_at or is_warm:
            self._first_epoch = epoch
            self._spent_before, self._trace_seconds = self.seconds(), 0.0
            self._started_at = perf_counter()
        if is_warm and self.trace_path is not None:
            self._begin_trace()
        try:
            yield
        finally:
            if self._trace is not None:
                self._end_trace()

    def profile(self, evaluate_every: int, optimizer: Optimizer) -> Profile | None:
        """What was measured up to now; None where no epoch was left to go on with.

        Args:
            evaluate_every: Epochs from one evaluation to the next, as it came out.
            optimizer: Of the run.
        """
        if self._begun_at is None:
            return None
        seconds = perf_counter() - self._started_at - self._trace_seconds
        spent = {stage: value - self._spent_before[stage] for stage, value in self.seconds().items()}
        threads = self.loader.num_threads
        own_stages = STAGES if threads else (*LOADER_STAGES, *STAGES)
        stages = {stage: spent[stage] for stage in own_stages}
        stages["other"] = max(seconds - sum(stages.values()), 0.0)
        computing = (stages["forward"] + stages["backward"]) / seconds
        run = Run(
            shares={stage: value / seconds for stage, value in stages.items()},
            loader_share=sum(spent[stage] for stage in LOADER_STAGES) / seconds,
            products_share=computing * self._products.seconds / max(self._watched_seconds, 1e-9),
            loader_threads=threads,
            steps_per_epoch=len(self.loader),
            epochs=self.settings.epochs,
            evaluate_every=evaluate_every,
            precision=self.settings.precision,
            cores=available_cores(),
            torch_threads=torch.get_num_threads(),
            on_gpu=self.device.type == "cuda",
            has_bf16=has_bfloat16(self.device),
            can_fuse=type(optimizer) in (torch.optim.Adam, torch.optim.AdamW) and not optimizer.defaults["fused"],
        )
        bottleneck, setting = advise(run)
        return Profile(
            first_epoch=self._first_epoch + 1,
            last_epoch=self._epoch + 1,
            seconds=seconds,
            stage_seconds=stages,
            loader_seconds={stage: spent[stage] for stage in LOADER_STAGES} if threads else {},
            loader_threads=threads,
            bottleneck=bottleneck,
            setting=setting,
        )

    def _begin_trace(self) -> None:
        started_at = perf_counter()
        # Kineto announces itself on stderr.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        # Without activities: the processor's, and the GPU's where there is one.
        self._trace = torch.profiler.profile(experimental_config=_all_threads())
        self._trace.start()
        self._trace_seconds += perf_counter() - started_at

    def _end_trace(self) -> None:
        started_at = perf_counter()
        trace, self._trace = self._trace, None
        trace.stop()
        trace.export_chrome_trace(str(self.trace_path))
        self._trace_seconds += perf_counter() - started_at


def _all_threads() -> Any:
    """Has the loader's threads traced too, where torch can."""
    from torch._C._profiler import _ExperimentalConfig

    try:
        return _ExperimentalConfig(profile_all_threads=True)
    except TypeError:
        return None
