"""What a run leaves behind: checkpoints, metrics, curves, its result."""

from __future__ import annotations

import csv
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


class RunFolder:
    """Files of one training run. Each is replaced as a whole, so that none is ever found half written.

    Args:
        path: Made if it is not there.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    def checkpoint_path(self, name: str) -> Path:
        """Where the checkpoint "best" or "last" is."""
        return self.path / "checkpoints" / f"{name}.pt"

    def save_checkpoint(self, name: str, state: dict[str, Any]) -> None:
        """Writes tensors and plain values; `load_checkpoint` reads them without executing anything."""
        path = self.checkpoint_path(name)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load_checkpoint(self, name: str) -> dict[str, Any]:
        """Reads a checkpoint to the CPU.

        Raises:
            FileNotFoundError: If there is none of that name.
            ValueError: If the file is damaged or holds something else than tensors and plain values.
        """
        path = self.checkpoint_path(name)
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: has the run finished an epoch?")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is not a whole checkpoint: {str(error).splitlines()[0]}") from error
        if not isinstance(state, dict) or "model" not in state:
            raise ValueError(f"{path} is not a checkpoint of gnnfast: it holds no model")
        return state

    def write_metrics(self, rows: Sequence[dict[str, float | None]]) -> None:
        """Writes `metrics.csv`, one line per epoch, empty where nothing was evaluated."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        temporary = self.path / "metrics.csv.tmp"
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path / "metrics.csv")

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes `result.json`."""
        temporary = self.path / "result.json.tmp"
        temporary.write_text(json.dumps(result, indent=2) + "\n")
        os.replace(temporary, self.path / "result.json")

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
