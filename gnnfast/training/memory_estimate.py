"""How much memory a run will take, before it takes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gnnfast.graph import Block, MiniBatch
from gnnfast.loader import DataLoader
from gnnfast.runtime.buffers import pooled_bytes
from gnnfast.runtime.memory import held_bytes
from gnnfast.sampler.node_map import NodeMapPool
from gnnfast.training.evaluation import Evaluator
from gnnfast.training.evaluation_memory import inference_bytes
from gnnfast.training.miniature import step_bytes
from gnnfast.training.settings import TrainingSettings
from gnnfast.training.tasks import BatchLoss, Measure

_SAMPLES = 3
_SAMPLING_SECONDS = 0.3
_ADAM_NUMBERS = 2  # per weight
# What malloc leaves unused between tensors of many sizes: measured on samplers and models of all kinds.
_GAPS = 1.1


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run needs at most, by what needs them; without what is held before it begins.

    Args:
        held: Resident in this process when the run begins.
        weights: Gradients, the optimizer's state, and copies of the weights.
        batches: Mini-batches made ahead, and the memory that they come in.
        step: Forward and backward of the largest mini-batch seen.
        evaluation: Of all that evaluation holds at once.
        kept: Part of `evaluation` that stays while training goes on.
        on_gpu: Whether weights and steps are on a GPU.
        on_gpu_at_once: Of mini-batches that are on the GPU: in use, and copied ahead.
    """

    held: int
    weights: int
    batches: int
    step: int
    evaluation: int
    kept: int
    on_gpu: bool = False
    on_gpu_at_once: int = 0

    @property
    def host(self) -> int:
        """What this process will take of the host's memory beyond what it holds."""
        if self.on_gpu:
            return self.batches + self.evaluation
        # What a step frees serves the evaluation, and the other way round.
        return self.weights + round(_GAPS * self.batches) + max(round(_GAPS * self.step) + self.kept, self.evaluation)

    @property
    def peak(self) -> int:
        """Resident memory of this process at its most."""
        return self.held + self.host

    @property
    def device(self) -> int:
        """What the run will take of the GPU's memory."""
        return self.weights + self.step + self.on_gpu_at_once if self.on_gpu else 0


def estimate_memory(
    model: Any,
    loader: DataLoader,
    optimizer: Optimizer,
    settings: TrainingSettings,
    batch_loss: BatchLoss,
    evaluator: Measure,
    autocast: AbstractContextManager[Any] | None = None,
) -> MemoryEstimate:
    """Samples some mini-batches, counts what a step on the largest holds, and plans what evaluation will hold.

    Args:
        model: Not wrapped by a launcher.
        loader: Of the training; where it stands it stays.
        optimizer: Of the model's parameters.
        settings: Of the run.
        batch_loss: Of the task.
        evaluator: Of the run; what it would set up later is set up now.
        autocast: In which the model computes.
    """
    on_gpu = loader.device.type == "cuda"
    before = held_bytes().get("resident", 0)
    shared = _storages(loader)
    batches = [_Size.of(batch, shared) for batch in sampled(loader)]
    largest = max(batches, key=lambda size: size.num_bytes)
    assert largest.batch is not None
    # Without the history, which would take the likeness's rows for those of nodes.
    loss = _loss_without_history if getattr(loader.sampler, "needs_history", False) else batch_loss
    with autocast or nullcontext():
        step, walked = step_bytes(model, largest.batch.to(loader.device), loss)
    batch_bytes = largest.num_bytes + largest.transposed_bytes(walked)
    num_ahead = min(loader._num_ahead(largest.batch) if loader.num_threads else 0, len(loader))
    num_alive = min(num_ahead + settings.accumulate + 1, len(loader))
    # While a thread draws, it holds about as much again as the blocks that it makes.
    scratch = loader.num_threads * largest.block_bytes + _map_bytes(loader)
    batches_bytes = num_alive * batch_bytes + scratch
    # The loader's kernels and the model's are in memory now, and so is a mini-batch.
    for size in batches:
        size.batch = None
    del largest
    loaded = max(held_bytes().get("resident", 0) - before - batch_bytes, 0)
    evaluation, kept = _evaluation_bytes(model, evaluator, batch_bytes, num_alive, step)
    weights = _weight_bytes(model, optimizer)
    return MemoryEstimate(before + loaded, weights, batches_bytes, step, evaluation, kept, on_gpu, 3 * batch_bytes)


def _loss_without_history(model: Any, batch: MiniBatch) -> Tensor:
    def pad(layer: int, block: Block, rows: Tensor) -> Tensor:
        return torch.cat([rows, rows.new_zeros(block.num_src - rows.shape[0], rows.shape[1])])

    assert batch.x is not None
    x = batch.x.to(next(model.parameters()).dtype)
    total: Tensor = model(x, batch.blocks, history=pad).float().square().sum()
    return total


def sampled(loader: DataLoader) -> Iterator[MiniBatch]:
    """The first mini-batches of an epoch, as long as they come quickly."""
    order = loader._steps.start(loader.epoch)
    started_at = perf_counter()
    for step in range(min(_SAMPLES, len(loader))):
        yield loader._make(order, loader.epoch, step).batch
        if perf_counter() - started_at > _SAMPLING_SECONDS:
            return


@dataclass
class _Size:
    """A mini-batch, and the bytes of its tensors that are its own."""

    batch: MiniBatch | None
    num_bytes: int
    feature_bytes: int
    blocks: list[tuple[int, int]]

    @classmethod
    def of(cls, batch: MiniBatch, shared: set[int]) -> _Size:
        seen = set(shared)
        num_bytes = 0
        for tensor in _tensors(batch):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                num_bytes += pooled_bytes(storage.nbytes())
        features = 0 if batch.x is None else pooled_bytes(batch.x.untyped_storage().nbytes())
        return cls(batch, num_bytes, features, [(block.num_src, block.num_edges) for block in batch.blocks])

    @property
    def block_bytes(self) -> int:
        """Of all but the features."""
        return self.num_bytes - self.feature_bytes

    def transposed_bytes(self, walked: frozenset[int]) -> int:
        return sum(8 * (num_src + 1) + 8 * edges for i, (num_src, edges) in enumerate(self.blocks) if i in walked)


def _tensors(batch: MiniBatch) -> Iterator[Tensor]:
    owners: list[MiniBatch | Block] = [batch, *batch.blocks]
    for owner in owners:
        yield from (value for value in vars(owner).values() if isinstance(value, Tensor))


def _storages(loader: DataLoader) -> set[int]:
    """Addresses of what mini-batches may share with the data set: they are there already."""
    graph, features = loader.dataset.graph, loader.dataset.features
    tensors = [graph.indptr, graph.indices, graph.edge_ids, graph.edge_weight, *vars(graph).get("_column_sums", ())]
    tensors += [None if features is None else features.rows, loader.seeds, getattr(loader.dataset, "labels", None)]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor is not None}


def _map_bytes(loader: DataLoader) -> int:
    """The tables of nodes that samplers have per thread; the first ones are there already."""
    pools = {id(pool): pool for pool in _pools(loader.sampler, depth=2)}
    return sum(4 * pool._arguments[0] * pool._arguments[1] for pool in pools.values()) * max(loader.num_threads - 1, 0)


def _pools(owner: Any, depth: int) -> Iterator[NodeMapPool]:
    for value in getattr(owner, "__dict__", {}).values():
        if isinstance(value, NodeMapPool):
            yield value
        elif depth and type(value).__module__.startswith("gnnfast."):
            yield from _pools(value, depth - 1)


def _weight_bytes(model: Any, optimizer: Optimizer) -> int:
    """Gradients, what the optimizer keeps and has in passing, and the copy for a checkpoint."""
    trained: int = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    state = sum(
        value.nbytes for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)
    )
    per_weight = _state_per_weight(optimizer)
    return trained * (2 + per_weight) - min(state, trained * per_weight)


def _state_per_weight(optimizer: Optimizer) -> int:
    """Numbers that an optimizer keeps of each weight: found out on a weight of its own."""
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.ones(4)
    try:
        twin = type(optimizer)([weight], **optimizer.defaults)
        twin.step()
        return sum(value.numel() for value in twin.state[weight].values() if isinstance(value, Tensor)) // 4
    except Exception:  # of an optimizer of the user's own making
        return _ADAM_NUMBERS


def _evaluation_bytes(model: Any, evaluator: Measure, batch_bytes: int, num_alive: int, step: int) -> tuple[int, int]:
    """What evaluation holds at most, and keeps, for validation and then test."""
    encoder = getattr(model, "encoder", model)
    if isinstance(evaluator, Evaluator) and evaluator.sampler is not None:
        # Each split has a loader of its own; outputs are computed without what a backward pass needs.
        loaders = num_alive * batch_bytes
        return 2 * loaders + step // 2, loaders
    kept = peak = 0
    for split in ("val", "test"):
        inference = _inference(evaluator, split)
        if inference is not None:
            at_most, stays = inference_bytes(inference, encoder)
            peak = max(peak, kept + at_most)
            kept += stays if split == "val" else 0
    return peak, kept


def _inference(evaluator: Any, split: str) -> Any:
    if isinstance(evaluator, Evaluator):
        return evaluator._inference(split) if evaluator.dataset.split_ids[split].numel() else None
    return getattr(evaluator, "_inference", None) if split == "val" else None
