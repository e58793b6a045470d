"""How training looks while it runs."""

from __future__ import annotations

import logging
from time import perf_counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("gnnfast")

_SECONDS_BETWEEN_LINES = 2.0


class TrainingProgress:
    """A bar on a terminal, plain lines elsewhere.

    Args:
        epochs: Epochs of the run, at most.
        steps_per_epoch: Mini-batches of each.
    """

    def __init__(self, epochs: int, steps_per_epoch: int):
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self._latest = ""
        self._num_seeds = 0
        self._started_at = perf_counter()
        self._printed_at = 0.0
        self._num_epochs = 0
        console = Console()
        self._bar = (
            Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                TextColumn("{task.fields[speed]} seeds/s"),
                TextColumn("{task.fields[latest]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> TrainingProgress:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(
                "train", total=self.epochs * self.steps_per_epoch, epoch=f"0/{self.epochs}", speed="-", latest=""
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, epoch: int, step: int, num_seeds: int) -> None:
        self._num_seeds += num_seeds
        if self._bar:
            self._bar.update(
                self._task,
                completed=epoch * self.steps_per_epoch + step + 1,
                epoch=f"{epoch + 1}/{self.epochs}",
                speed=f"{self._speed():,.0f}",
            )

    def epoch(self, row: dict[str, float | None]) -> None:
        shown = [
            f"{name.replace('_', ' ')} {value:.4f}"
            for name, value in row.items()
            if name.startswith(("train_", "val_")) and value is not None
        ]
        self._latest = ", ".join(shown)
        self._num_epochs += 1
        if self._bar:
            self._bar.update(self._task, latest=self._latest)
            return
        number = int(row["epoch"] or 0) + 1
        is_due = perf_counter() - self._printed_at >= _SECONDS_BETWEEN_LINES
        if number == self.epochs or is_due:
            self._printed_at = perf_counter()
            left = (self._printed_at - self._started_at) / self._num_epochs * (self.epochs - number)
            log.info(
                f"epoch {number}/{self.epochs}: {self._latest}, {self._speed():,.0f} seeds/s, at most {left:.0f} s left"
            )

    def _speed(self) -> float:
        return self._num_seeds / (perf_counter() - self._started_at)
