"""The training loop, from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gnnfast.graph import MiniBatch
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.runtime.memory import peak_gpu_memory_bytes, peak_memory_bytes
from gnnfast.runtime.versions import versions
from gnnfast.training.evaluation import Evaluator, evaluation_interval
from gnnfast.training.metrics import default_metric, summed_loss
from gnnfast.training.run_folder import RunFolder
from gnnfast.training.settings import TrainingSettings

STAGES = ("sample", "gather", "transfer", "forward", "backward", "optimizer", "wait", "evaluate")


class Progress(Protocol):
    """Who is told how training goes."""

    def step(self, epoch: int, step: int, num_seeds: int) -> None:
        """After every mini-batch."""

    def epoch(self, row: dict[str, float | None]) -> None:
        """After every epoch, with its line of `metrics.csv`."""


@dataclass
class TrainingResult:
    """What came of a run. Metrics are those of the best validation epoch's model, which `train` leaves in place.

    Args:
        val, test: `loss` and metrics in [0, 1] by name.
        history: One row per epoch, as in `metrics.csv`.
        stage_seconds: Time by stage; "sample" and "gather" add up over the loader's threads and run beside the others.
    """

    val: dict[str, float]
    test: dict[str, float]
    best_epoch: int
    epochs: int
    train_seconds: float
    stage_seconds: dict[str, float]
    history: list[dict[str, float | None]]
    metric: str

    def summary(self) -> dict[str, Any]:
        """What `result.json` says of it."""
        return {
            "test": self.test,
            "val": self.val,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "metric": self.metric,
            "train_seconds": self.train_seconds,
            "stage_seconds": self.stage_seconds,
        }


def train(
    model: GNN,
    loader: DataLoader,
    optimizer: Optimizer,
    settings: TrainingSettings | None = None,
    scheduler: LRScheduler | None = None,
    run_folder: str | Path | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Trains a model on mini-batches and leaves it with the weights of its best validation epoch.

    Args:
        model: Trained in place.
        loader: Mini-batches of training seeds; its data set has the validation and test nodes.
        optimizer: Of the model's parameters.
        settings: When to stop, what to measure; the defaults if None.
        scheduler: Stepped once per epoch; `ReduceLROnPlateau` with the validation metric, after each evaluation.
        run_folder: Where checkpoints, metrics, curves and the result go; None writes nothing.
        progress: Is told about steps and epochs.

    Raises:
        ValueError: If there is nothing to train on, or model and sampler do not fit together.
        FloatingPointError: If the loss is no longer finite.
    """
    settings = settings or TrainingSettings()
    check_fit(model, loader)
    folder = None if run_folder is None else RunFolder(run_folder)
    dataset = loader.dataset
    metric = default_metric(dataset) if settings.metric == "auto" else settings.metric
    state = _State(model, optimizer, scheduler, loader)
    fabric = _launch(settings)
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    loader.device = fabric.device
    loader.dtype = loader.dtype or next(model.parameters()).dtype
    sampler = loader.sampler if settings.evaluation == "sampled" else None
    evaluator = Evaluator(dataset, model.num_layers, fabric.device, sampler, loader.seed, loader.batch_size)
    clock = _StageClock()
    history: list[dict[str, float | None]] = []
    best_score, best_epoch, best_weights = -math.inf, 0, _copy(model)
    interval = 1
    started_at = perf_counter()

    for epoch in range(settings.epochs):
        loader.set_epoch(epoch)
        train_loss, work = _train_epoch(wrapped, wrapped_optimizer, loader, settings, fabric, clock, progress)
        row: dict[str, float | None] = {
            "epoch": epoch,
            "train_loss": train_loss,
            "learning_rate": optimizer.param_groups[0]["lr"],
            "val_loss": None,
            f"val_{metric}": None,
        }
        if epoch == 0:
            interval = evaluation_interval(settings.evaluate_every, evaluator.work("val"), work)
        is_last = epoch + 1 == settings.epochs
        if is_last or epoch % interval == 0:
            with clock("evaluate"), fabric.autocast():
                val = evaluator.evaluate(model, "val", (metric,))
            row |= {f"val_{name}": value for name, value in val.items()}
            # Without validation nodes the last epoch is the best one.
            score = val.get(metric, float(epoch))
            if score > best_score:
                best_score, best_epoch, best_weights = score, epoch, _copy(model)
                if folder:
                    folder.save_checkpoint("best", state.at(epoch))
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(score)
        if scheduler is not None and not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
        row["seconds"] = perf_counter() - started_at
        history.append(row)
        if folder and row["val_loss"] is not None:
            folder.save_checkpoint("last", state.at(epoch))
            folder.write_metrics(history)
        if progress:
            progress.epoch(row)
        if settings.patience is not None and epoch - best_epoch >= settings.patience:
            break

    train_seconds = perf_counter() - started_at
    if folder:
        folder.save_checkpoint("last", state.at(len(history) - 1))
    model.load_state_dict(best_weights)
    with clock("evaluate"), fabric.autocast():
        final = {split: evaluator.evaluate(model, split) for split in ("val", "test")}
    stage_seconds = clock.seconds | {name: loader.stage_seconds[name] for name in loader.stage_seconds}
    result = TrainingResult(
        val=final["val"],
        test=final["test"],
        best_epoch=best_epoch,
        epochs=len(history),
        train_seconds=train_seconds,
        stage_seconds={name: stage_seconds[name] for name in STAGES},
        history=history,
        metric=metric,
    )
    if folder:
        _write_result(folder, result, model, loader, settings, fabric.world_size)
    return result


def check_fit(model: GNN, loader: DataLoader) -> None:
    """Raises ValueError if model, sampler and data set do not fit together, before any time is spent."""
    dataset = loader.dataset
    if loader.seeds.numel() == 0:
        raise ValueError(f"{dataset.name}: the training split is empty")
    if len(loader) == 0:
        raise ValueError(f"{loader.seeds.numel()} training nodes make no batch of {loader.batch_size} with drop_last")
    num_hops = getattr(loader.sampler, "num_layers", model.num_layers)
    if num_hops != model.num_layers:
        raise ValueError(
            f"the sampler makes {num_hops} blocks (sampler.fanouts has one entry per layer) "
            f"but the model has {model.num_layers} layers (model.num_layers): make them equal"
        )
    if model.in_channels != dataset.num_features:
        raise ValueError(f"the model takes {model.in_channels} features but {dataset.name} has {dataset.num_features}")
    if model.out_channels < dataset.num_classes:
        raise ValueError(f"the model has {model.out_channels} outputs for {dataset.num_classes} classes")


def _launch(settings: TrainingSettings) -> Any:
    from lightning.fabric import Fabric

    accelerator = settings.resolved_accelerator()
    fabric = Fabric(accelerator=accelerator, devices=settings.devices, precision=settings.precision)
    fabric.launch()
    return fabric


def _train_epoch(
    model: Any,
    optimizer: Any,
    loader: DataLoader,
    settings: TrainingSettings,
    fabric: Any,
    clock: _StageClock,
    progress: Progress | None,
) -> tuple[float, int]:
    """One pass over the training seeds: (mean loss per seed, rows and edges gone through)."""
    model.train()
    total_loss = torch.zeros((), device=fabric.device)
    num_seeds = work = 0
    epoch = loader.epoch
    for step, batch in enumerate(loader):
        assert batch.y is not None
        assert batch.num_step_seeds is not None
        ends_group = (step + 1) % settings.accumulate == 0 or step + 1 == len(loader)
        with fabric.no_backward_sync(model, enabled=not ends_group):
            with clock("forward"):
                loss = summed_loss(batch.at_seeds(model(batch.x, batch.blocks)), batch.y)
            with clock("backward"):
                group = min(settings.accumulate, len(loader) - step // settings.accumulate * settings.accumulate)
                fabric.backward(loss * (fabric.world_size / (batch.num_step_seeds * group)))
        if ends_group:
            with clock("optimizer"):
                if settings.gradient_clip is not None:
                    fabric.clip_gradients(model, optimizer, max_norm=settings.gradient_clip, error_if_nonfinite=False)
                optimizer.step()
                optimizer.zero_grad()
        total_loss += loss.detach()
        num_seeds += batch.num_seeds
        work += _work(batch)
        if progress:
            progress.step(epoch, step, batch.num_seeds)
    mean_loss = float(total_loss) / num_seeds
    if not math.isfinite(mean_loss):
        raise FloatingPointError(f"the training loss is {mean_loss} in epoch {epoch}: try a smaller optimizer.lr")
    return mean_loss, work


def _work(batch: MiniBatch) -> int:
    """Rows and edges that the layers go through."""
    return batch.num_edges + sum(block.num_src for block in batch.blocks)


def _copy(model: GNN) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _write_result(
    folder: RunFolder, result: TrainingResult, model: GNN, loader: DataLoader, settings: TrainingSettings, ranks: int
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


@dataclass
class _State:
    """Everything a checkpoint holds, read off when one is written."""

    model: GNN
    optimizer: Optimizer
    scheduler: LRScheduler | None
    loader: DataLoader

    def at(self, epoch: int) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "loader": self.loader.state_dict(),
            "epoch": epoch,
        }


@dataclass
class _StageClock:
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started_at = perf_counter()
        yield
        self.seconds[stage] += perf_counter() - started_at
