"""Saying before a run that it needs more memory than there is, and with which settings it would not."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch.optim import Optimizer

from gnnfast.distributed import place
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.runtime.memory import available_memory_bytes
from gnnfast.sampler import Sampler
from gnnfast.training.memory_estimate import MemoryEstimate, estimate_memory, sampled
from gnnfast.training.settings import TrainingSettings
from gnnfast.training.tasks import BatchLoss, Measure

log = logging.getLogger("gnnfast")

_SURELY = 0.25  # of free memory that a bound may reach where nothing is estimated


def check_memory(
    model: Any,
    loader: DataLoader,
    optimizer: Optimizer,
    settings: TrainingSettings,
    batch_loss: BatchLoss,
    evaluator: Measure,
    autocast: AbstractContextManager[Any] | None = None,
) -> None:
    """Before a run begins, compares what it will need with what is free, as `training.memory_check` says.

    Arguments as of `estimate_memory`. A run that is small beyond doubt is not estimated: its first mini-batch tells.
    Nor is one of a model that is no `GNN`, of whose layers nothing is known.

    Raises:
        ValueError: If that is "error" and the run needs more than there is.
    """
    is_known = isinstance(getattr(model, "encoder", model), GNN)
    if settings.memory_check == "off" or not is_known or _surely_fits(model, loader):
        return
    estimate = estimate_memory(model, loader, optimizer, settings, batch_loss, evaluator, autocast)
    log.info(f"estimated peak of memory: {_gb(estimate.peak)}")
    compare_with_free(estimate, Fitting(model, loader, settings, estimate), place().local_world_size)


def _surely_fits(model: Any, loader: DataLoader) -> bool:
    """Whether even a generous bound is a small part of what is free."""
    free = available_memory_bytes()
    if free is None or loader.device.type == "cuda":
        return free is None
    batch = next(sampled(loader))
    dataset, num_layers = loader.dataset, max(len(batch.blocks), getattr(model, "num_layers", 1))
    widest = max([dataset.num_features, *(max(weight.shape, default=1) for weight in model.parameters())])
    rows = sum(block.num_src for block in batch.blocks) * (num_layers if len(batch.blocks) == 1 else 1)
    step = rows * widest * 4 * 32 + batch.num_edges * num_layers * 256
    ahead = (loader.prefetch + loader.num_threads + 4) * 4 * (batch.num_nodes * (widest + 16) + 8 * batch.num_edges)
    evaluation = dataset.num_nodes * widest * 4 * 12 + dataset.graph.num_edges * 64
    weights = 8 * sum(weight.nbytes for weight in model.parameters())
    bound = (step + ahead + evaluation + weights) * loader.world_size
    return bool(bound < _SURELY * free)


def compare_with_free(estimate: MemoryEstimate, run: Fitting, ranks_on_host: int = 1) -> None:
    """Warns if a run needs more than is free, or refuses it.

    Args:
        estimate: Of this process.
        run: Finds settings that would fit.
        ranks_on_host: Processes of the run on this host, each of which needs as much.

    Raises:
        ValueError: If `training.memory_check` is "error" and the run needs more than there is.
    """
    ranks = f" on each of {ranks_on_host} ranks" if ranks_on_host > 1 else ""
    for name, needed, free in (
        ("memory", estimate.host * ranks_on_host, available_memory_bytes()),
        ("GPU memory", estimate.device, _free_gpu_bytes() if estimate.on_gpu else None),
    ):
        if free is None or needed <= free:
            continue
        message = (
            f"the run will take about {_gb(needed)} more {name}{ranks and ' in all'} than is in use now, "
            f"but {_gb(free)} are free (a peak of {_gb(estimate.peak)}{ranks}); {run.advice(needed, free, name)}; "
            "training.memory_check=off skips this check"
        )
        if run.settings.memory_check == "error":
            raise ValueError(message)
        log.warning(message)


@dataclass
class Fitting:
    """Looks for settings with which a run needs no more memory than there is.

    Args:
        model, loader, settings: Of the run.
        estimate: What it needs as it is.
    """

    model: Any
    loader: DataLoader
    settings: TrainingSettings
    estimate: MemoryEstimate

    def advice(self, needed: int, free: int, name: str) -> str:
        """The settings that would fit, each by itself, as on the command line."""
        settings = (self._batch_size, self._fanouts, self._hidden, self._evaluation)
        fitting = [text for setting in settings if (text := setting(free / needed, name))]
        return f"this would fit: {' or '.join(fitting)}" if fitting else "no single setting is known to make it fit"

    def _bytes(self, name: str, batches: float = 1, step: float = 1, evaluation: float = 1) -> float:
        """What the run would take with other settings, these being shares of what they need now."""
        scaled = replace(
            self.estimate,
            batches=round(self.estimate.batches * batches),
            on_gpu_at_once=round(self.estimate.on_gpu_at_once * batches),
            step=round(self.estimate.step * step),
            evaluation=round(self.estimate.evaluation * evaluation),
            kept=round(self.estimate.kept * evaluation),
        )
        return scaled.device if name == "GPU memory" else scaled.host

    def _fits(self, share: float, name: str, **shares: float) -> bool:
        return self._bytes(name, **shares) <= share * self._bytes(name)

    def _batch_size(self, share: float, name: str) -> str | None:
        """The largest power of two: mini-batches are drawn to see what they come to."""
        sampler = self.loader.sampler
        if not isinstance(sampler, Sampler) or self.loader.seeds.dim() != 1:
            return None
        size = 1 << (min(self.loader.batch_size, self.loader.num_seeds) - 1).bit_length()
        whole = self._rows(sampler, min(self.loader.batch_size, self.loader.num_seeds))
        while size > 1:
            size //= 2
            part = self._rows(sampler, size) / whole
            if self._fits(share, name, batches=part, step=part):
                return f"loader.batch_size={size}"
        return None

    def _fanouts(self, share: float, name: str) -> str | None:
        """Fanouts halved as often as it takes: their products bound what is drawn."""
        sampler = self.loader.sampler
        fanouts = list(getattr(sampler, "fanouts", ()))
        if not isinstance(sampler, Sampler) or not fanouts or min(fanouts) < 0:
            return None
        seeds = min(self.loader.batch_size, self.loader.num_seeds)
        whole = self._rows(sampler, seeds)
        while max(fanouts) > 1:
            fanouts = [max(fanout // 2, 1) for fanout in fanouts]
            most = seeds * sum(prod(fanouts[: hop + 1]) for hop in range(-1, len(fanouts)))
            part = min(most / whole, 1)
            if self._fits(share, name, batches=part, step=part):
                return f"sampler.fanouts=[{','.join(str(fanout) for fanout in fanouts)}]"
        return None

    def _hidden(self, share: float, name: str) -> str | None:
        """A width halved as often as it takes, of which heads take a whole number of channels each."""
        width: int = getattr(self.model, "hidden_channels", 0)
        heads = max(getattr(getattr(self.model, "convs", [None])[0], "heads", 1), 1)
        smaller = width
        while smaller % 2 == 0 and smaller // 2 >= 8 and (smaller // 2) % heads == 0:
            smaller //= 2
            part = smaller / width
            if self._fits(share, name, step=part, evaluation=part):
                return f"model.hidden_channels={smaller}"
        return None

    def _evaluation(self, share: float, name: str) -> str | None:
        if self.settings.evaluation == "sampled" or not isinstance(self.loader.sampler, Sampler):
            return None
        if self.loader.seeds.dim() != 1:
            return None
        # Each split has a loader of its own then.
        part = 2 * self.estimate.batches / max(self.estimate.evaluation, 1)
        return "training.evaluation=sampled" if self._fits(share, name, evaluation=part) else None

    def _rows(self, sampler: Sampler, num_seeds: int) -> int:
        """Rows of all blocks of a mini-batch."""
        batch = sampler.sample(self.loader.seeds[:num_seeds].unique(), 0)
        return batch.num_nodes


def _free_gpu_bytes() -> int:
    # What torch holds without using it counts as free.
    free: int = torch.cuda.mem_get_info()[0]
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.3g} GB"
