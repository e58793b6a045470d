"""The training loop, from top to bottom."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gnnfast.graph import MiniBatch
from gnnfast.loader import DataLoader
from gnnfast.runtime.bfloat16 import has_bfloat16
from gnnfast.runtime.memory import peak_gpu_memory_bytes, peak_memory_bytes, reset_peak_memory
from gnnfast.runtime.versions import versions
from gnnfast.training.checkpoint import Best, Checkpoint
from gnnfast.training.evaluation import evaluation_interval
from gnnfast.training.profile import Profiler
from gnnfast.training.result import TrainingResult
from gnnfast.training.run_folder import RunFolder
from gnnfast.training.settings import TrainingSettings
from gnnfast.training.stage_clock import StageClock
from gnnfast.training.tasks import BatchLoss, task_of

log = logging.getLogger("gnnfast")


class Progress(Protocol):
    """Who is told how training goes."""

    def step(self, epoch: int, step: int, num_seeds: int) -> None:
        """After every mini-batch."""

    def epoch(self, row: dict[str, float | None]) -> None:
        """After every epoch, with its line of `metrics.csv`."""


def train(
    model: Any,
    loader: DataLoader,
    optimizer: Optimizer,
    settings: TrainingSettings | None = None,
    scheduler: LRScheduler | None = None,
    run_folder: str | Path | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Trains a model on mini-batches and leaves it with the weights of its best validation epoch.

    Args:
        model: Trained in place: a `GNN`, or for pairs of nodes a `LinkModel`.
        loader: Mini-batches of training seeds; its data set has the validation and test nodes, or pairs.
        optimizer: Of the model's parameters.
        settings: When to stop, what to measure; the defaults if None.
        scheduler: Stepped once per epoch; `ReduceLROnPlateau` with the validation metric, after each evaluation.
        run_folder: Where checkpoints, metrics, curves and the result go; None writes nothing.
        progress: Is told about steps and epochs.

    Raises:
        ValueError: If there is nothing to train on, model and sampler do not fit together, or there is no run folder
            for the trace that is asked for.
        FloatingPointError: If the loss is no longer finite.
    """
    settings = settings or TrainingSettings()
    check_fit(model, loader, settings, scheduler)
    _check_clipping(optimizer, settings)
    if settings.profile == "trace" and run_folder is None:
        raise ValueError("training.profile=trace writes trace.json into the run folder: give train a run_folder")
    reset_peak_memory()
    folder = None if run_folder is None else RunFolder(run_folder)
    task = task_of(loader.dataset, settings)
    metric = task.default_metric if settings.metric == "auto" else settings.metric
    fabric = _launch(settings)
    if settings.precision == "64-true":
        model.double()
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    loader.device = fabric.device
    evaluator = task.evaluator(model, fabric.device, loader)
    clock = _clock(loader, settings, fabric.device, folder)
    best = Best(model)
    history: list[dict[str, float | None]] = []
    interval = 1
    started_at = perf_counter()
    batch_loss = task.batch_loss(model, loader, fabric.device)
    checkpoint = Checkpoint(model, optimizer, scheduler, loader, task.history)

    for epoch in range(settings.epochs):
        loader.set_epoch(epoch)
        learning_rate = optimizer.param_groups[0]["lr"]
        with clock.epoch(epoch), loader.rounding_to(task.input_dtype):
            train_loss, work = _train_epoch(
                wrapped, wrapped_optimizer, loader, settings, fabric, clock, progress, model.num_layers, batch_loss
            )
        if epoch == 0:
            with clock("evaluate"):
                interval = evaluation_interval(settings.evaluate_every, evaluator.work("val"), work)
        is_due = epoch % interval == 0 or epoch + 1 == settings.epochs
        val: dict[str, float] = {}
        if is_due:
            with clock("evaluate"), fabric.autocast():
                val = evaluator.evaluate(model, "val", (metric,))
            with clock("checkpoint"):
                improved = best.offer(_score(val, metric, epoch), epoch)
        _step_schedule(scheduler, best.latest_score if is_due else None)
        history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                "learning_rate": learning_rate,
                "val_loss": val.get("loss"),
                f"val_{metric}": val.get(metric),
                "seconds": perf_counter() - started_at,
            }
        )
        if folder and is_due:
            with clock("checkpoint"):
                folder.write_metrics(history)
                for name in ("best", "last") if improved else ("last",):
                    folder.save_checkpoint(name, checkpoint.at(epoch))
        if progress:
            with clock("record"):
                progress.epoch(history[-1])
        if settings.patience is not None and is_due and epoch - best.epoch >= settings.patience:
            break

    train_seconds = perf_counter() - started_at
    profile = clock.profile(interval, optimizer) if isinstance(clock, Profiler) else None
    model.load_state_dict(best.weights)
    with clock("evaluate"), fabric.autocast():
        final = {split: evaluator.evaluate(model, split) for split in ("val", "test")}
    result = TrainingResult(
        loss={split: values.pop("loss") for split, values in final.items() if "loss" in values},
        val=final["val"],
        test=final["test"],
        best_epoch=best.epoch,
        epochs=len(history),
        train_seconds=train_seconds,
        stage_seconds=clock.seconds(),
        history=history,
        metric=metric,
        profile=profile,
    )
    if folder:
        _write_result(folder, result, model, loader, settings, fabric.world_size)
    return result


def check_fit(model: Any, loader: DataLoader, settings: TrainingSettings, scheduler: LRScheduler | None = None) -> None:
    """Raises ValueError if model, sampler, data set and schedule do not fit together, before any time is spent."""
    dataset = loader.dataset
    if isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode != "max":
        raise ValueError("ReduceLROnPlateau is stepped with a metric that should grow: give it mode='max'")
    if loader.num_seeds == 0:
        raise ValueError(f"{dataset.name}: the training split is empty")
    if len(loader) == 0:
        raise ValueError(f"{loader.num_seeds} training seeds make no batch of {loader.batch_size} with drop_last")
    num_hops = getattr(loader.sampler, "num_layers", model.num_layers)
    if num_hops != model.num_layers:
        raise ValueError(
            f"the sampler makes {num_hops} blocks (sampler.fanouts has one entry per layer) "
            f"but the model has {model.num_layers} layers (model.num_layers): make them equal"
        )
    task_of(dataset, settings).check(model, loader)


def _check_clipping(optimizer: Optimizer, settings: TrainingSettings) -> None:
    is_fused = any(group.get("fused") for group in optimizer.param_groups)
    if is_fused and settings.precision == "16-mixed" and settings.gradient_clip is not None:
        raise ValueError(
            "with training.precision=16-mixed a fused optimizer scales gradients back by itself, after they would be "
            "clipped: set optimizer.fused=false, or training.gradient_clip=null"
        )


def _launch(settings: TrainingSettings) -> Any:
    from lightning.fabric import Fabric

    accelerator = settings.resolved_accelerator()
    # Fabric would round a float64 model's output to float32.
    precision = "32-true" if settings.precision == "64-true" else settings.precision
    fabric = Fabric(accelerator=accelerator, devices=settings.devices, precision=precision)
    fabric.launch()
    if settings.precision == "bf16-mixed" and not has_bfloat16(fabric.device):
        name = fabric.device.type.upper()
        log.warning(f"this {name} has no bfloat16 arithmetic and imitates it: training.precision=32-true is faster")
    return fabric


def _clock(
    loader: DataLoader, settings: TrainingSettings, device: torch.device, folder: RunFolder | None
) -> StageClock:
    if not settings.profile:
        return StageClock(loader)
    trace_path = folder.path / "trace.json" if folder and settings.profile == "trace" else None
    return Profiler(loader, settings, device, trace_path)


def _train_epoch(
    model: Any,
    optimizer: Any,
    loader: DataLoader,
    settings: TrainingSettings,
    fabric: Any,
    clock: StageClock,
    progress: Progress | None,
    num_layers: int,
    batch_loss: BatchLoss,
) -> tuple[float, int]:
    """One pass over the training seeds: (mean loss per seed, rows and edges gone through)."""
    model.train()
    total_loss = torch.zeros((), device=fabric.device, dtype=torch.float64)
    num_seeds = work = 0
    epoch = loader.epoch
    for step, (batch, num_step_seeds, ends_group) in enumerate(_grouped(loader, settings.accumulate, clock)):
        with fabric.no_backward_sync(model, enabled=not ends_group):
            with clock("forward"):
                loss = batch_loss(model, batch)
            with clock("backward"):
                fabric.backward(loss * (fabric.world_size / num_step_seeds))
        if ends_group:
            with clock("optimizer"):
                if settings.gradient_clip is not None:
                    fabric.clip_gradients(model, optimizer, max_norm=settings.gradient_clip, error_if_nonfinite=False)
                optimizer.step()
                optimizer.zero_grad()
        with clock("record"):
            total_loss += loss.detach()
            num_seeds += _step_seeds(batch)
            work += _work(batch, num_layers)
            if progress:
                progress.step(epoch, step, batch.num_seeds if batch.seed_edges is None else _step_seeds(batch))
    # A restored loader may have handed out the whole epoch already.
    mean_loss = float(total_loss) / max(num_seeds, 1)
    if not math.isfinite(mean_loss):
        hint = "are all features finite? If so, try a smaller optimizer.lr"
        raise FloatingPointError(f"the training loss is {mean_loss} in epoch {epoch}: {hint}")
    return mean_loss, work


def _grouped(loader: DataLoader, size: int, clock: StageClock) -> Iterator[tuple[MiniBatch, int, bool]]:
    """Each mini-batch with the seeds of all those that make one optimizer step with it, and whether it is their last.

    What a step's gradient is divided by is known once its last mini-batch is.
    """
    batches = iter(loader)
    while True:
        with clock("wait"):
            group = list(islice(batches, size))
        if not group:
            return
        num_seeds = max(sum(_step_seeds(batch) for batch in group), 1)
        for i, batch in enumerate(group, 1):
            yield batch, num_seeds, i == len(group)


def _step_seeds(batch: MiniBatch) -> int:
    return batch.num_seeds if batch.num_step_seeds is None else batch.num_step_seeds


def _work(batch: MiniBatch, num_layers: int) -> int:
    """Rows and edges that the layers go through; one block may serve all of them."""
    once = batch.num_edges + sum(block.num_src for block in batch.blocks)
    return once * num_layers // len(batch.blocks)


def _score(val: dict[str, float], metric: str, epoch: int) -> float:
    """What the best epoch has most of: the metric, or without validation nodes the epoch's number."""
    if val and metric not in val:
        raise ValueError(
            f"training.metric={metric} is undefined on the validation split: it lacks a class, or negatives"
        )
    return val.get(metric, float(epoch))


def _step_schedule(scheduler: LRScheduler | None, score: float | None) -> None:
    if isinstance(scheduler, ReduceLROnPlateau):
        if score is not None:
            scheduler.step(score)
    elif scheduler is not None:
        scheduler.step()


def _write_result(
    folder: RunFolder,
    result: TrainingResult,
    model: Any,
    loader: DataLoader,
    settings: TrainingSettings,
    ranks: int,
) -> None:
    folder.write_metrics(result.history)
    folder.draw_curves(result.history, result.metric)
    folder.write_result(
        {
            "status": "finished",
            **result.summary(),
            "evaluation": settings.evaluation,
            "peak_memory_bytes": peak_memory_bytes(),
            "peak_gpu_memory_bytes": peak_gpu_memory_bytes(),
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
            "attainable": loader.dataset.attainable,
            "seed": loader.seed,
            "world_size": ranks,
            "versions": versions(),
        }
    )
