"""What a training step holds at once, found out on a small likeness of its mini-batch."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gnnfast.graph import Block, MiniBatch

# Numbers of features and of edges that the larger of two likenesses has at most: a few milliseconds of work.
_MOST_NUMBERS = 1 << 20


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operators make, as long as anything holds them; storages count once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def ignore(self, tensor: Tensor) -> None:
        """Leaves a tensor out that was there before."""
        self._known.add(tensor.untyped_storage())

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        num_bytes = storage.nbytes()
        self.now += num_bytes
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, num_bytes).atexit = False

    def _forget(self, num_bytes: int) -> None:
        self.now -= num_bytes


def step_bytes(model: Any, batch: MiniBatch, loss: Callable[[Any, MiniBatch], Tensor]) -> tuple[int, frozenset[int]]:
    """Most memory that forward and backward hold at once beyond model and mini-batch.

    Operators are counted on two likenesses of the mini-batch, of a share of its rows and edges each; between them the
    count grows with the share, and so on to the whole. Weights, statistics, gradients and random states are left as
    they were.

    Args:
        model: Not wrapped by a launcher.
        batch: With features and labels, where the model is.
        loss: Takes the model and a mini-batch.

    Returns:
        The bytes, without gradients of weights, and the numbers of the blocks whose transpose the backward pass walks.
    """
    size = max((0 if batch.x is None else batch.x.numel()), batch.num_edges, 1)
    share = min(1.0, _MOST_NUMBERS / size)
    with _as_it_was(model):
        small = likeness(batch, share)
        peak = _peak(model, small, loss)
        walked = frozenset(i for i, block in enumerate(small.blocks) if "transpose" in vars(block))
        if share == 1:
            return peak, walked
        half = likeness(batch, share / 2)
        lower = _peak(model, half, loss)
    grown = (_size(small) - _size(half)) or 1
    slope = max(peak - lower, 0) / grown
    return round(peak + slope * (_size(batch) - _size(small))), walked


def likeness(batch: MiniBatch, share: float) -> MiniBatch:
    """A mini-batch with a share of the rows of every block and as many edges per row: not a part of the given one."""

    def of(count: int) -> int:
        return min(max(math.ceil(count * share), 1), count)

    blocks = {id(block): _like(block, of(block.num_dst), of(block.num_src)) for block in batch.blocks}
    num_inputs, num_outputs = of(batch.num_nodes), of(batch.blocks[-1].num_dst)
    num_seeds = of(batch.num_seeds)
    pairs: dict[str, Any] = {}
    if batch.edge_rows is not None and batch.edge_labels is not None:
        num_positives = int(batch.edge_labels.count_nonzero())
        per_positive = batch.edge_labels.numel() // max(num_positives, 1)
        kept = of(num_positives) * per_positive
        labels = torch.zeros_like(batch.edge_labels[:kept])
        labels[: of(num_positives)] = 1
        pairs = {"edge_rows": batch.edge_rows[:, :kept] % num_outputs, "edge_labels": labels}
    return replace(
        batch,
        seed_nodes=batch.seed_nodes[:num_seeds],
        node_ids=batch.node_ids[:num_inputs],
        blocks=[blocks[id(block)] for block in batch.blocks],
        seed_rows=None if batch.seed_rows is None else batch.seed_rows[:num_seeds] % num_outputs,
        x=None if batch.x is None else batch.x[:num_inputs].clone(),
        y=None if batch.y is None else batch.y[:num_seeds],
        seed_weight=None if batch.seed_weight is None else batch.seed_weight[:num_seeds],
        **pairs,
    )


def _like(block: Block, num_dst: int, num_src: int) -> Block:
    """Some destinations, evenly spread, with their degrees; sources are any."""
    spread = torch.arange(num_dst, device=block.device) * block.num_dst // max(num_dst, 1)
    indptr = torch.zeros(num_dst + 1, dtype=torch.int64, device=block.device)
    torch.cumsum(block.indptr.diff()[spread], 0, out=indptr[1:])
    num_edges = int(indptr[-1])

    def cut(values: Tensor | None, size: int) -> Tensor | None:
        return None if values is None else values[:size].clone()

    return Block(
        indptr,
        block.indices[:num_edges] % num_src,
        num_src,
        cut(block.src_nodes, num_src),
        cut(block.edge_ids, num_edges),
        cut(block.edge_weight, num_edges),
        cut(block.inclusion_weight, num_edges),
        cut(block.src_degree, num_src),
        cut(block.self_loop_weight, num_src),
    )


def _size(batch: MiniBatch) -> int:
    """What memory grows with: rows and, where they are many, edges of all layers."""
    return sum(8 * block.num_src + 8 * block.num_dst + block.num_edges for block in batch.blocks)


def _peak(model: Any, batch: MiniBatch, loss: Callable[[Any, MiniBatch], Tensor]) -> int:
    gradients = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    with LiveBytes() as live:
        loss(model, batch).backward()
        for parameter in model.parameters():
            parameter.grad = None
    return max(int(live.peak) - int(gradients), 0)


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    gradients = [parameter.grad for parameter in model.parameters()]
    buffers = [buffer.clone() for buffer in model.buffers()]
    was_training = model.training
    model.train()
    for parameter in model.parameters():
        parameter.grad = None
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
            yield
    finally:
        model.train(was_training)
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
