"""What a run keeps of its model: the best weights, and all it takes to go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gnnfast.loader import DataLoader
from gnnfast.training.history import History


@dataclass
class Checkpoint:
    """Everything a checkpoint holds, read off when one is written.

    Args:
        model, optimizer, scheduler, loader: Of the run; `scheduler` None where it has none.
        history: Historical rows, where mini-batches need them: a run without them would begin with other ones.
    """

    model: Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    loader: DataLoader
    history: History | None = None

    def at(self, epoch: int) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "loader": self.loader.state_dict(),
            "history": None if self.history is None else self.history.state_dict(),
            "epoch": epoch,
        }


class Best:
    """The weights of the best epoch so far."""

    def __init__(self, model: Module):
        self.model = model
        self.score = self.latest_score = -math.inf
        self.epoch = 0
        self.weights = self._copy()

    def offer(self, score: float, epoch: int) -> bool:
        """Keeps the model's weights if the score is better than any before; says whether it was."""
        self.latest_score = score
        if score <= self.score:
            return False
        self.score, self.epoch, self.weights = score, epoch, self._copy()
        return True

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
