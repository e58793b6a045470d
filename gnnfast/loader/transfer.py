"""Moving mini-batches to the model's device while it computes."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import torch
from torch import Tensor

from gnnfast.graph import MiniBatch


def transfer_ahead(
    batches: Iterator[MiniBatch], device: torch.device, stage_seconds: dict[str, float]
) -> Iterator[MiniBatch]:
    """Yields the mini-batches on `device`; on CUDA the next one is copied on a stream of its own meanwhile."""
    if device.type == "cpu":
        yield from batches
        return
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    stream = torch.cuda.Stream(device)
    ahead: tuple[MiniBatch, torch.cuda.Event] | None = None
    for batch in batches:
        started_at = perf_counter()
        with torch.cuda.stream(stream):
            moved = _pinned(batch).to(device, non_blocking=True)
            copied = stream.record_event()
        stage_seconds["transfer"] += perf_counter() - started_at
        if ahead is not None:
            yield _handed_over(*ahead, device)
        ahead = moved, copied
    if ahead is not None:
        yield _handed_over(*ahead, device)


def _pinned(batch: MiniBatch) -> MiniBatch:
    """The features in page-locked memory, which a copy stream can read; the rest is small."""
    if batch.x is not None:
        batch.x = batch.x.pin_memory()
    return batch


def _handed_over(batch: MiniBatch, copied: torch.cuda.Event, device: torch.device) -> MiniBatch:
    """The batch for use on the current stream: copied, and not freed while that stream still reads it."""
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    for tensor in _tensors(batch):
        tensor.record_stream(current)
    return batch


def _tensors(batch: MiniBatch) -> Iterator[Tensor]:
    for owner in (batch, *batch.blocks):
        yield from (value for value in vars(owner).values() if isinstance(value, Tensor))
