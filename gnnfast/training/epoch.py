"""One epoch's steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

from gnnfast.graph import MiniBatch
from gnnfast.loader import DataLoader
from gnnfast.training.checkpointing import CheckpointWriter
from gnnfast.training.loss_guard import LossGuard
from gnnfast.training.run_state import RunState
from gnnfast.training.settings import TrainingSettings
from gnnfast.training.stage_clock import StageClock
from gnnfast.training.tasks import BatchLoss


class Progress(Protocol):
    """Who is told how training goes."""

    def step(self, epoch: int, step: int, num_seeds: int) -> None:
        """After every mini-batch."""

    def epoch(self, row: dict[str, float | None]) -> None:
        """After every epoch, with its line of `metrics.csv`."""


def train_epoch(
    model: Any,
    optimizer: Any,
    state: RunState,
    settings: TrainingSettings,
    clock: StageClock,
    progress: Progress | None,
    batch_loss: BatchLoss,
    guard: LossGuard,
    checkpoints: CheckpointWriter,
) -> None:
    """Takes the steps that are left of the epoch under way, and adds up in `state` what they come to.

    Args:
        model, optimizer: As the launcher wraps them.
        state: Of the run; its loader makes the mini-batches.
        settings: How steps are taken.
        clock: Counts the time of each stage.
        progress: Is told about steps.
        batch_loss: Of the task.
        guard: Decides whether a step may be taken.
        checkpoints: Writes one between steps, when it is due.

    Raises:
        FloatingPointError: If the loss is no longer finite.
        Stopped: If the run is asked to stop.
    """
    fabric = state.fabric
    model.train()
    for group in _groups(state.loader, settings.accumulate, clock):
        guard.before_step()
        # What a step's gradient is divided by is known once its last mini-batch is.
        num_step_seeds = max(sum(_step_seeds(batch) for batch in group), 1)
        losses = []
        for i, batch in enumerate(group, 1):
            with fabric.no_backward_sync(model, enabled=i < len(group)):
                with clock("forward"):
                    loss = batch_loss(model, batch)
                with clock("backward"):
                    fabric.backward(loss * (fabric.world_size / num_step_seeds))
            losses.append(loss.detach())
        takes_step = guard.admits(group, losses)
        with clock("optimizer"):
            if takes_step:
                if settings.gradient_clip is not None:
                    fabric.clip_gradients(model, optimizer, max_norm=settings.gradient_clip, error_if_nonfinite=False)
                optimizer.step()
            optimizer.zero_grad()
        with clock("record"):
            for batch, loss in zip(group, losses, strict=True):
                if takes_step:
                    state.sums.add(loss, _step_seeds(batch))
                state.sums.work += _work(batch, state.num_layers)
                if progress:
                    shown = batch.num_seeds if batch.seed_edges is None else _step_seeds(batch) // fabric.world_size
                    progress.step(state.epoch, state.batches, shown * fabric.world_size)
                state.batches += 1
            state.steps += 1
        try:
            checkpoints.after_step()
        except FloatingPointError:
            # A loss that was not looked at yet says where it began.
            guard.look()
            raise
    guard.look()


def _groups(loader: DataLoader, size: int, clock: StageClock) -> Iterator[list[MiniBatch]]:
    """The mini-batches of each optimizer step."""
    batches = iter(loader)
    while True:
        with clock("wait"):
            group = list(islice(batches, size))
        if not group:
            return
        yield group


def _step_seeds(batch: MiniBatch) -> int:
    return batch.num_seeds if batch.num_step_seeds is None else batch.num_step_seeds


def _work(batch: MiniBatch, num_layers: int) -> int:
    """Rows and edges that the layers go through; one block may serve all of them."""
    once = batch.num_edges + sum(block.num_src for block in batch.blocks)
    return once * num_layers // len(batch.blocks)
