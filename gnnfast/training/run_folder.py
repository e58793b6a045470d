"""What a run leaves behind: checkpoints, metrics, curves, its result."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gnnfast.training.checkpoint import read_checkpoint, write_checkpoint, write_whole

log = logging.getLogger("gnnfast")


class RunFolder:
    """Files of one training run. Each is replaced as a whole, so that none is ever found half written.

    Args:
        path: Made if it is not there.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    def checkpoint_path(self, name: str) -> Path:
        """Where a checkpoint is: "best", the weights of the best epoch, or "step-N", all it takes to go on."""
        return self.path / "checkpoints" / f"{name}.pt"

    def save_checkpoint(self, name: str, state: dict[str, Any]) -> None:
        """Writes tensors and plain values; `load_checkpoint` reads them without executing anything."""
        path = self.checkpoint_path(name)
        path.parent.mkdir(exist_ok=True)
        write_checkpoint(path, state)

    def save_step(self, step: int, state: dict[str, Any], keep: int) -> None:
        """Writes a checkpoint to go on from, and removes all but the last ones.

        Args:
            step: Optimizer steps so far.
            state: What to write.
            keep: How many to keep.
        """
        self.save_checkpoint(f"step-{step}", state)
        # What claims to be of a later step is damaged, or was written by an attempt that this one takes over from.
        later = [number for number in self.steps() if number > step]
        for number in self.steps()[: -keep - len(later)] + later:
            self.checkpoint_path(f"step-{number}").unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """Optimizer steps that there are checkpoints of, in order."""
        names = (path.name for path in (self.path / "checkpoints").glob("step-*.pt"))
        return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d+)\.pt", name)))

    def load_checkpoint(self, name: str) -> dict[str, Any]:
        """Reads a checkpoint to the CPU; "last" is the newest one to go on from.

        Raises:
            FileNotFoundError: If there is none of that name.
            ValueError: If the file is damaged or holds something else than tensors and plain values.
        """
        if name == "last":
            state = self.load_newest()
            if state is None:
                raise FileNotFoundError(f"{self.path} has no checkpoint yet: has the run been evaluated once?")
            return state
        path = self.checkpoint_path(name)
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: has the run finished an epoch?")
        return read_checkpoint(path)

    def load_newest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint to go on from; says so where a newer one is damaged. None where there is none.

        Raises:
            ValueError: If there are some, but all of them are damaged.
        """
        errors: list[str] = []
        for step in reversed(self.steps()):
            try:
                state = self.load_checkpoint(f"step-{step}")
            except (ValueError, OSError) as error:
                errors.append(str(error))
                continue
            for message in errors:
                log.warning(f"{message}; step-{step}.pt, the one before it, is used")
            return state
        if errors:
            raise ValueError(f"no checkpoint in {self.path} is whole, so there is none to go on from: {errors[0]}")
        return None

    def write_metrics(self, rows: Sequence[dict[str, float | None]]) -> None:
        """Writes `metrics.csv`, one line per epoch, empty where nothing was evaluated."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path / "metrics.csv", lambda file: file.write(text.getvalue().encode()))

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes `result.json`."""
        text = json.dumps(result, indent=2) + "\n"
        write_whole(self.path / "result.json", lambda file: file.write(text.encode()))

    def draw_curves(self, rows: Sequence[dict[str, float | None]], metric: str) -> None:
        """Draws `curves.png`: losses, and the validation metric, by epoch."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.5), layout="constrained")
        loss_axes, metric_axes = figure.subplots(1, 2)
        for axes, columns in ((loss_axes, ("train_loss", "val_loss")), (metric_axes, (f"val_{metric}",))):
            for column in columns:
                points = [(row["epoch"], row[column]) for row in rows if row.get(column) is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), label=column.replace("_", " "))
            axes.set_xlabel("epoch")
            if axes.lines:
                axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
        loss_axes.set_ylabel("loss")
        metric_axes.set_ylabel(metric.replace("_", " "))
        figure.savefig(self.path / "curves.png", dpi=120)
