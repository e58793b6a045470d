"""What came of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gnnfast.training.profile import Profile


@dataclass
class TrainingResult:
    """What came of a run. Metrics are those of the best validation epoch's model, which `train` leaves in place.

    Args:
        val, test: Metrics in [0, 1] by name; nothing where there are no nodes.
        loss: Mean loss by split.
        history: One row per epoch, as in `metrics.csv`.
        stage_seconds: Time by stage; "sample" and "gather" add up over the loader's threads and run beside the others.
        profile: Where the time of the epochs went; None unless it was asked for.
    """

    val: dict[str, float]
    test: dict[str, float]
    loss: dict[str, float]
    best_epoch: int
    epochs: int
    train_seconds: float
    stage_seconds: dict[str, float]
    history: list[dict[str, float | None]]
    metric: str
    profile: Profile | None = None

    def summary(self) -> dict[str, Any]:
        """What `result.json` says of it."""
        return {
            "test": self.test,
            "val": self.val,
            "loss": self.loss,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "metric": self.metric,
            "train_seconds": self.train_seconds,
            "stage_seconds": self.stage_seconds,
            **({"profile": self.profile.summary()} if self.profile else {}),
        }
