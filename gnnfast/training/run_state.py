"""All that a run has done so far, and needs to go on as if it had never stopped."""

from __future__ import annotations

import logging
import math
import random
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gnnfast.distributed import World
from gnnfast.loader import DataLoader
from gnnfast.training.history import History

log = logging.getLogger("gnnfast")

_COUNTERS = ("interval", "evaluated_epoch", "skipped_in_a_row", "steps")


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

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint has it."""
        return {"model": self.weights, "epoch": self.epoch, "score": self.score, "latest_score": self.latest_score}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        for name, tensor in self.weights.items():
            tensor.copy_(state["model"][name])
        self.epoch, self.score, self.latest_score = state["epoch"], state["score"], state["latest_score"]

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}


@dataclass
class EpochSums:
    """What the steps of an epoch add up to.

    Args:
        loss: Summed over the seeds of this rank, float64, on the device.
        num_seeds: Of all ranks.
        work: Rows and edges gone through.
    """

    loss: Tensor
    num_seeds: int = 0
    work: int = 0

    def add(self, loss: Tensor, num_seeds: int) -> None:
        """Adds a mini-batch's."""
        self.loss += loss
        self.num_seeds += num_seeds

    def mean_loss(self, world: World) -> float:
        """Mean loss per seed, over the seeds of all ranks."""
        return float(world.sum(self.loss.clone())) / max(self.num_seeds, 1)


@dataclass
class RunState:
    """Where a run stands between two optimizer steps, with all that the next one depends on.

    Args:
        model, optimizer, scheduler, loader: Of the run; `scheduler` None where it has none.
        history: Historical rows, where mini-batches need them.
        fabric: Launched; has the loss scaler, the ranks and the device.
        epoch: The one under way.
        batches: Its mini-batches whose optimizer step is done, on every rank.
        steps: Optimizer steps since the run began.
        interval: Epochs from one evaluation to the next.
        evaluated_epoch: The last epoch that was evaluated, -1 before the first.
        skipped_in_a_row: Optimizer steps left out since the last one taken, for a loss that was not finite.
        rows: Of `metrics.csv`, one per epoch.
        earlier_seconds: Time that earlier attempts took.
        earlier_stage_seconds: The same by stage.
        world: The ranks that train the model. What is said of `loss` and of random states is each rank's own.
    """

    model: Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    loader: DataLoader
    history: History | None
    fabric: Any
    epoch: int = 0
    batches: int = 0
    steps: int = 0
    interval: int = 1
    evaluated_epoch: int = -1
    skipped_in_a_row: int = 0
    rows: list[dict[str, float | None]] = field(default_factory=list)
    earlier_seconds: float = 0.0
    earlier_stage_seconds: dict[str, float] = field(default_factory=dict)
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        self.best = Best(self.model)
        self.sums = self._no_sums()
        self.num_layers: int = self.model.num_layers  # type: ignore[assignment]
        self._started_at = perf_counter()

    def seconds(self) -> float:
        """Time that the run has taken, earlier attempts included."""
        return self.earlier_seconds + perf_counter() - self._started_at

    def stage_seconds(self, of_this_attempt: dict[str, float]) -> dict[str, float]:
        """Time by stage, earlier attempts included."""
        return {stage: self.earlier_stage_seconds.get(stage, 0.0) + own for stage, own in of_this_attempt.items()}

    def is_over(self, epochs: int, patience: int | None) -> bool:
        """Whether there is nothing left to train."""
        has_stalled = patience is not None and self.evaluated_epoch - self.best.epoch >= patience
        return self.epoch >= epochs or (has_stalled and self.evaluated_epoch >= 0)

    def end_epoch(self, row: dict[str, float | None]) -> None:
        """Moves on to the next epoch."""
        self.rows.append(row)
        self.epoch, self.batches, self.sums = self.epoch + 1, 0, self._no_sums()

    def state_dict(self, stage_seconds: dict[str, float]) -> dict[str, Any]:
        """Tensors, not copied, and plain values; every rank has to ask, and gets the same.

        Args:
            stage_seconds: Time by stage of this attempt.
        """
        is_best = self.rows and self.batches == 0 and self.best.epoch == self.epoch - 1
        model = self.model.state_dict()
        best = self.best.state_dict()
        return {
            "model": model,
            # The same tensors are written once.
            "best": best | {"model": model} if is_best else best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            # The loader itself is ahead of the optimizer while the mini-batches of a step are used.
            "loader": {**self.loader.state_dict(), "epoch": self.epoch, "step": self.batches},
            "num_seeds": self.sums.num_seeds,
            "work": self.sums.work,
            "ranks": self.world.gather(self._own()),
            "rows": self.rows,
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "seconds": self.seconds(),
            "stage_seconds": self.stage_seconds(stage_seconds),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where the state was taken, on this or another number of ranks.

        Raises:
            ValueError: If it is of another version of gnnfast, of another data set, or of another model.
        """
        own = self.state_dict({})
        if missing := own.keys() - state.keys():
            raise ValueError(f"the checkpoint is of another version of gnnfast: it has no {', '.join(sorted(missing))}")
        self.loader.load_state_dict(state["loader"])
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.best.load_state_dict(state["best"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the checkpoint is of another model or optimizer: {reason}") from error
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.epoch, self.batches = state["loader"]["epoch"], state["loader"]["step"]
        self.sums = self._no_sums()
        self.sums.num_seeds, self.sums.work = state["num_seeds"], state["work"]
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        self.rows = state["rows"]
        self.earlier_seconds, self.earlier_stage_seconds = state["seconds"], state["stage_seconds"]
        self._started_at = perf_counter()
        self._load_rank(state["ranks"])

    def _own(self) -> dict[str, Any]:
        """What each rank has of its own."""
        # Running statistics are of a rank's own rows until they are evaluated.
        buffers = dict(self.model.named_buffers()) if self.world.size > 1 else {}
        return {
            "loss": float(self.sums.loss),
            "random": random_state(self.fabric.device),
            "buffers": {name: buffer.cpu() for name, buffer in buffers.items()},
            "history": None if self.history is None else self.history.state_dict(),
        }

    def _load_rank(self, ranks: list[dict[str, Any]]) -> None:
        """Takes over what each rank has of its own."""
        rank, num_ranks = self.fabric.global_rank, self.fabric.world_size
        if len(ranks) == num_ranks:
            self.sums.loss += ranks[rank]["loss"]
        elif rank == 0:
            log.warning(
                f"the run goes on with {num_ranks} ranks after {len(ranks)}: dropout differs from the unbroken run's"
            )
            self.sums.loss += sum(own["loss"] for own in ranks)
        if rank < len(ranks):
            set_random_state(ranks[rank]["random"], self.fabric.device)
        # A rank that was not there begins with what the first one had.
        own = ranks[rank if rank < len(ranks) else 0]
        for name, buffer in self.model.named_buffers():
            if name in own["buffers"]:
                buffer.copy_(own["buffers"][name])
        if self.history is not None:
            self.history.load_state_dict(own["history"])

    def _no_sums(self) -> EpochSums:
        return EpochSums(torch.zeros((), device=self.fabric.device, dtype=torch.float64))


def nonfinite_weights(model: Module) -> list[str]:
    """Names of the weights that are not all finite."""
    return [name for name, weight in model.named_parameters() if not bool(weight.detach().isfinite().all())]


def random_state(device: torch.device) -> dict[str, Any]:
    """Of all generators that this process draws from: torch's, numpy's and Python's."""
    name, key, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [name, torch.from_numpy(np.asarray(key).astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Sets all generators to what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    name, key, *rest = state["numpy"]
    np.random.set_state((name, key.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
