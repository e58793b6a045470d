"""The training loop, from top to bottom."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gnnfast.distributed import World, world
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.loader import DataLoader
from gnnfast.runtime.bfloat16 import has_bfloat16
from gnnfast.runtime.memory import peak_gpu_memory_bytes, peak_memory_bytes, reset_peak_memory
from gnnfast.runtime.versions import versions
from gnnfast.training.checkpointing import CheckpointWriter
from gnnfast.training.data_parallel import data_parallel, synchronize_batch_norm
from gnnfast.training.epoch import Progress, train_epoch
from gnnfast.training.evaluation import evaluation_interval
from gnnfast.training.loss_guard import LossGuard
from gnnfast.training.memory_check import check_memory
from gnnfast.training.profile import Profiler
from gnnfast.training.result import TrainingResult
from gnnfast.training.run_folder import RunFolder
from gnnfast.training.run_state import RunState
from gnnfast.training.settings import TrainingSettings
from gnnfast.training.stage_clock import StageClock
from gnnfast.training.stopping import StopSignals
from gnnfast.training.tasks import task_of

log = logging.getLogger("gnnfast")


def train(
    model: Any,
    loader: DataLoader,
    optimizer: Optimizer,
    settings: TrainingSettings | None = None,
    scheduler: LRScheduler | None = None,
    run_folder: str | Path | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    stop: StopSignals | None = None,
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
        resume: Whether to go on from the newest whole checkpoint in the run folder, as if the run had never stopped.
            Everything else must be as it was, but `settings.epochs` may grow. Without a checkpoint it begins anew.
        stop: What may ask the run to stop; it ends after the step under way, with a checkpoint.

    Raises:
        ValueError: If there is nothing to train on, model and sampler do not fit together, there is no run folder for
            the trace that is asked for, or the checkpoints in it are damaged or of another run.
        FloatingPointError: If the loss is no longer finite.
        OSError: If a checkpoint cannot be written; the one before it is untouched.
        Stopped: If it was asked to stop.
    """
    settings = settings or TrainingSettings()
    check_fit(model, loader, settings, scheduler)
    _check_clipping(optimizer, settings)
    if run_folder is None and (resume or settings.profile == "trace"):
        what = "resume reads a checkpoint from" if resume else "training.profile=trace writes trace.json into"
        raise ValueError(f"{what} the run folder: give train a run_folder")
    reset_peak_memory()
    ranks = world()
    folder = RunFolder(run_folder) if run_folder is not None and ranks.rank == 0 else None
    task = task_of(loader.dataset, settings)
    metric = task.default_metric if settings.metric == "auto" else settings.metric
    fabric = _launch(settings, ranks)
    if ranks.size > 1:
        loader.share(ranks.rank, ranks.size)
        synchronize_batch_norm(model, fabric.device)
    if settings.precision == "64-true":
        model.double()
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    loader.device = fabric.device
    if ranks.size > 1:
        # The weights are drawn alike on all ranks; what is dropped is not.
        torch.manual_seed(derive_seed(loader.seed, ranks.rank) % 2**63)
    evaluator = task.evaluator(model, fabric.device, loader, ranks)
    clock = _clock(loader, settings, fabric.device, folder)
    batch_loss = task.batch_loss(model, loader, fabric.device)
    state = RunState(model, optimizer, scheduler, loader, task.history, fabric, world=ranks)
    stop = stop or StopSignals()
    checkpoints = CheckpointWriter(folder, state, settings, clock, stop, is_kept=run_folder is not None)
    guard = LossGuard(state, settings, batch_loss, checkpoints)
    if resume:
        _go_on(folder, state, settings)
    check_memory(model, loader, optimizer, settings, batch_loss, evaluator, fabric.autocast())

    with stop.deferred():
        while not state.is_over(settings.epochs, settings.patience):
            epoch = state.epoch
            loader.set_epoch(epoch)
            learning_rate = optimizer.param_groups[0]["lr"]
            with clock.epoch(epoch), loader.rounding_to(task.input_dtype):
                train_epoch(
                    wrapped, wrapped_optimizer, state, settings, clock, progress, batch_loss, guard, checkpoints
                )
            train_loss = state.sums.mean_loss(ranks)
            if epoch == 0:
                with clock("evaluate"):
                    work = int(ranks.sum(torch.tensor(state.sums.work)))
                    state.interval = evaluation_interval(settings.evaluate_every, evaluator.work("val"), work)
            is_due = epoch % state.interval == 0 or epoch + 1 == settings.epochs
            improved = False
            val: dict[str, float] = {}
            if is_due:
                with checkpoints.interruptible(), clock("evaluate"), fabric.autocast():
                    # Of the last step each rank has running statistics of its own.
                    ranks.copy_from_first(list(model.buffers()))
                    val = ranks.agree(evaluator.evaluate(model, "val", (metric,)))
                with clock("checkpoint"):
                    improved = state.best.offer(_score(val, metric, epoch), epoch)
                state.evaluated_epoch = epoch
            _step_schedule(scheduler, state.best.latest_score if is_due else None)
            state.end_epoch(
                {
                    "epoch": epoch,
                    "train_loss": train_loss,
                    "learning_rate": learning_rate,
                    "val_loss": val.get("loss"),
                    f"val_{metric}": val.get(metric),
                    "seconds": state.seconds(),
                }
            )
            if is_due:
                if folder:
                    with clock("checkpoint"):
                        folder.write_metrics(state.rows)
                if improved:
                    checkpoints.write_best()
                checkpoints.write()
            if progress:
                with clock("record"):
                    progress.epoch(state.rows[-1])

        train_seconds = state.seconds()
        profile = clock.profile(state.interval, optimizer) if isinstance(clock, Profiler) else None
        model.load_state_dict(state.best.weights)
        # What training came to is in the last checkpoint.
        with stop.at_once() if ranks.size == 1 else nullcontext(), clock("evaluate"), fabric.autocast():
            final = {split: ranks.agree(evaluator.evaluate(model, split)) for split in ("val", "test")}
        result = TrainingResult(
            loss={split: values.pop("loss") for split, values in final.items() if "loss" in values},
            val=final["val"],
            test=final["test"],
            best_epoch=state.best.epoch,
            epochs=len(state.rows),
            train_seconds=train_seconds,
            stage_seconds=state.stage_seconds(clock.seconds()),
            history=state.rows,
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


def _launch(settings: TrainingSettings, ranks: World) -> Any:
    from lightning.fabric import Fabric

    num_devices = settings.devices
    if num_devices not in (1, ranks.size):
        raise ValueError(
            f"training.devices={num_devices} takes as many processes, but there {'is' if ranks.size == 1 else 'are'} "
            f"{ranks.size}: start the script with torchrun --nproc-per-node {num_devices}, or train with "
            f"gnnfast train training.devices={num_devices}"
        )
    accelerator = settings.resolved_accelerator()
    # Fabric would round a float64 model's output to float32.
    precision = "32-true" if settings.precision == "64-true" else settings.precision
    per_host = ranks.place.local_world_size
    fabric = Fabric(
        accelerator=accelerator,
        devices=per_host,
        num_nodes=ranks.size // per_host,
        strategy="auto" if ranks.size == 1 else data_parallel(),
        precision=precision,
    )
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


def _go_on(folder: RunFolder | None, state: RunState, settings: TrainingSettings) -> None:
    """Takes the run up where its newest checkpoint has it; from the beginning where there is none yet.

    Args:
        folder: Of the run; the first rank's alone.
        state: Of the run.
        settings: Of the run.
    """
    stored = state.world.agree(folder.load_newest() if folder else None)
    if stored is None:
        log.info("no checkpoint was written yet: the run begins anew")
        return
    state.load_state_dict(stored)
    if state.epoch + (state.batches > 0) > settings.epochs:
        raise ValueError(f"training.epochs={settings.epochs}, but the run is in epoch {state.epoch + 1} already")
    if folder and state.rows:
        folder.write_metrics(state.rows)
        folder.save_checkpoint("best", state.best.state_dict())
    log.info(f"going on after step {state.steps}, in epoch {state.epoch + 1} of {settings.epochs}")


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
