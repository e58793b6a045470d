"""Mini-batches in order, made ahead of time by threads of this process."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor

from gnnfast.graph import Dataset, LinkDataset, MiniBatch
from gnnfast.loader.seed_weights import WeightedDraws, class_balancing_weights
from gnnfast.loader.steps import EpochSteps, SeedSteps
from gnnfast.loader.transfer import transfer_ahead
from gnnfast.runtime.buffers import BufferPool
from gnnfast.runtime.cores import own_cores
from gnnfast.sampler import EpochSampler, LinkSampler, Sampler

_PREFETCHED_BYTES = 3 << 27  # of features in mini-batches made ahead; and of memory that came back
STAGES = ("sample", "gather", "transfer", "wait")


class DataLoader:
    """Iterates over an epoch's mini-batches, with features and labels, on the device that wants them.

    A mini-batch depends on (seed, epoch, step) alone: not on threads, prefetching or what ran before. Every complete
    pass moves on to the next epoch; `set_epoch` chooses one.

    Args:
        dataset: Features and labels; the graph is the sampler's.
        sampler: What turns seeds into mini-batches. One that chooses its own nodes (`EpochSampler`) decides how many
            mini-batches an epoch has and which seeds come together; `batch_size`, `shuffle` and `drop_last` are then
            without effect.
        seeds: Global ids, int64, `(num_seeds,)`, or the name of a split: "train", "val" or "test".
        batch_size: Seeds per optimizer step, over all ranks together.
        seed: Of the order of seeds and of every draw.
        shuffle: Whether each epoch visits the seeds in a new order.
        drop_last: Whether to leave out a last batch with fewer seeds.
        num_threads: Threads that make mini-batches; 0 makes each when it is asked for, "auto" takes one per core, of a
            rank's share of them, up to four: those that are ahead of the training sleep.
        prefetch: Mini-batches made ahead; at least one per thread, and fewer where their features would fill more than
            half a gigabyte.
        device: Where mini-batches go.
        dtype: What features are converted to; None leaves them as they are stored.
        rank: Which share of every step's seeds this loader makes, in [0, world_size).
        world_size: Number of shares.
        class_balanced: Whether each epoch draws its seeds anew, as many as there are, with replacement and every class
            alike, in place of visiting each once.
        seed_weights: Draws them in proportion to these instead, floating, `(num_seeds,)`.

    Raises:
        ValueError: If an argument is out of range, a seed is not a node, or weights cannot be drawn by.
    """

    def __init__(
        self,
        dataset: Dataset | LinkDataset,
        sampler: Sampler | EpochSampler | LinkSampler,
        seeds: Tensor | str = "train",
        batch_size: int = 1024,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        num_threads: int | Literal["auto"] = "auto",
        prefetch: int = 4,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        rank: int = 0,
        world_size: int = 1,
        class_balanced: bool = False,
        seed_weights: Tensor | None = None,
    ):
        if num_threads == "auto":
            num_threads = min(own_cores(), 4)
        if (
            batch_size < 1
            or not isinstance(num_threads, int)
            or num_threads < 0
            or prefetch < 1
            or not 0 <= rank < world_size
        ):
            raise ValueError(
                "batch_size and prefetch must be at least 1, num_threads auto or at least 0, rank below world_size; "
                f"got {batch_size=}, {prefetch=}, {num_threads=}, {rank=}, {world_size=}"
            )
        self.dataset = dataset
        self.sampler = sampler
        self.seeds = _checked_seeds(dataset, seeds)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.num_threads = num_threads
        self.prefetch = prefetch
        self.device = torch.device(device)
        self.dtype = dtype
        self.rank = rank
        self.world_size = world_size
        self._draws = self._weighted_draws(class_balanced, seed_weights)
        self._steps = self._steps_of(sampler)
        self.epoch = 0
        self.stage_seconds = dict.fromkeys(STAGES, 0.0)
        self._next_step = 0  # of the epoch under way: where a loader restored from a state begins
        self._resumes = False
        self._buffers = BufferPool(_PREFETCHED_BYTES)
        self._rounded_to: torch.dtype | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._transposed: frozenset[int] = frozenset()

    def __len__(self) -> int:
        """Mini-batches per epoch, on every rank."""
        return len(self._steps)

    @property
    def num_seeds(self) -> int:
        """Nodes, or pairs of nodes, that an epoch trains on."""
        return self.seeds.shape[-1]

    def __iter__(self) -> Iterator[MiniBatch]:
        first = self._next_step if self._resumes else 0
        self._resumes = False
        self._next_step = first
        epoch = self.epoch
        batches = transfer_ahead(self._made_batches(epoch, first), self.device, self.stage_seconds)
        for step, batch in enumerate(batches, first):
            self._next_step = step + 1
            yield batch
            # What the model has asked of this mini-batch is made ahead for those to come.
            self._transposed = frozenset(i for i, block in enumerate(batch.blocks) if "transpose" in vars(block))
        self.epoch, self._next_step = epoch + 1, 0

    def share(self, rank: int, world_size: int) -> None:
        """From the next pass on makes one rank's share of every step's seeds.

        Args:
            rank: In [0, world_size).
            world_size: Number of shares.
        """
        self.rank, self.world_size = rank, world_size
        self._steps = self._steps_of(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next pass. Naming the one that a restored state stands in keeps its step."""
        if epoch != self.epoch:
            self.epoch, self._next_step, self._resumes = epoch, 0, False

    @contextmanager
    def rounding_to(self, dtype: torch.dtype | None) -> Iterator[None]:
        """Meanwhile gathers single-precision features in `dtype`, where the loader was not given one."""
        before, self._rounded_to = self._rounded_to, dtype
        try:
            yield
        finally:
            self._rounded_to = before

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands: the batches handed out so far, whatever has been made ahead."""
        return {**self._identity(), "epoch": self.epoch, "step": self._next_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on, in the next pass, with the batch after the last one handed out when the state was taken.

        Where that was the last of its epoch, the next pass is empty: a loop over epochs then goes on with the next one.

        Raises:
            ValueError: If the state is of a loader with another seed, batch size, order or set of seeds, or its step is
                beyond the epoch's end.
        """
        identity = self._identity()
        if {name: state.get(name) for name in identity} != identity or not 0 <= state["step"] <= len(self):
            raise ValueError(f"the state, {state}, is not of this loader: {identity}, {len(self)} steps an epoch")
        self.epoch, self._next_step, self._resumes = state["epoch"], state["step"], True

    def _identity(self) -> dict[str, int]:
        """What decides which seeds a step has."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "seeds_checksum": zlib.crc32(self.seeds.numpy().tobytes()),
            "weights_checksum": 0 if self._draws is None else zlib.crc32(self._draws.sums.numpy().tobytes()),
        }

    def _made_batches(self, epoch: int, first: int) -> Iterator[MiniBatch]:
        """The epoch's mini-batches from step `first` on, in order, some of them made ahead."""
        steps = iter(range(first, len(self)))
        order = self._steps.start(epoch)
        if self.num_threads == 0:
            for step in steps:
                yield self._collect(self._make(order, epoch, step))
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.num_threads, thread_name_prefix="gnnfast-loader")
        pending: deque[Future[_Made]] = deque()
        try:
            # Until the first mini-batch shows what one takes, each thread makes one.
            for step in islice(steps, self.num_threads):
                pending.append(self._threads.submit(self._make, order, epoch, step))
            while pending:
                started_at = perf_counter()
                made = pending.popleft().result()
                self.stage_seconds["wait"] += perf_counter() - started_at
                # Before the batch goes out: the next ones are made while it is used.
                for step in islice(steps, max(self._num_ahead(made.batch) - len(pending), 0)):
                    pending.append(self._threads.submit(self._make, order, epoch, step))
                yield self._collect(made)
        finally:
            for future in pending:
                future.cancel()

    def _num_ahead(self, batch: MiniBatch) -> int:
        """Mini-batches to make ahead, where they are about as large as this one."""
        row_bytes = 0 if batch.x is None else batch.x.nbytes
        return max(min(self.prefetch, _PREFETCHED_BYTES // max(row_bytes, 1)), self.num_threads)

    def _collect(self, made: _Made) -> MiniBatch:
        self.stage_seconds["sample"] += made.sample_seconds
        self.stage_seconds["gather"] += made.gather_seconds
        return made.batch

    def _steps_of(self, sampler: Sampler | EpochSampler | LinkSampler) -> SeedSteps | EpochSteps:
        """Cuts the epoch as data set and sampler need it."""
        name, num_nodes = type(sampler).__name__, self.dataset.num_nodes
        is_link_task = self.seeds.dim() == 2
        if self._draws is not None and isinstance(sampler, EpochSampler):
            raise ValueError(f"{name} chooses its own nodes: class_balanced and seed_weights need one that takes seeds")
        if not is_link_task and isinstance(sampler, EpochSampler):
            return EpochSteps(sampler, self.seeds, num_nodes, self.seed, self.rank, self.world_size)
        if is_link_task and not isinstance(sampler, LinkSampler):
            raise TypeError(f"{name} has no sample_edges, which {self.dataset.name} needs: use sampler=link_neighbor")
        if not isinstance(sampler, Sampler | LinkSampler):
            raise TypeError(
                f"{name} is no sampler: it has neither sample(seed_nodes, seed) nor sample_batch(batch, epoch_seed)"
            )
        return SeedSteps(
            sampler,
            self.seeds,
            num_nodes,
            self.batch_size,
            self.seed,
            self.shuffle,
            self.drop_last,
            self.rank,
            self.world_size,
            self._draws,
        )

    def _weighted_draws(self, class_balanced: bool, seed_weights: Tensor | None) -> WeightedDraws | None:
        """What draws an epoch's seeds, where they are not each visited once."""
        if not class_balanced and seed_weights is None:
            return None
        if not self.shuffle or (class_balanced and seed_weights is not None):
            raise ValueError("seeds are drawn by either class_balanced or seed_weights, and with shuffle=True")
        if seed_weights is None:
            if not isinstance(self.dataset, Dataset) or self.dataset.is_multilabel:
                raise ValueError(f"class_balanced needs one class per seed, which {self.dataset.name} does not have")
            seed_weights = class_balancing_weights(self.dataset.labels[self.seeds])
        if not isinstance(seed_weights, Tensor) or seed_weights.shape != (self.num_seeds,):
            got = tuple(seed_weights.shape) if isinstance(seed_weights, Tensor) else repr(seed_weights)
            raise ValueError(f"seed_weights must be a tensor with one number per seed, {self.num_seeds}, got {got}")
        return WeightedDraws(seed_weights)

    def _make(self, order: Tensor, epoch: int, step: int) -> _Made:
        started_at = perf_counter()
        batch = self._steps.sample(order, epoch, step)
        if self.device.type == "cpu":
            for i in self._transposed.intersection(range(len(batch.blocks))):
                batch.blocks[i].transpose  # noqa: B018
        sampled_at = perf_counter()
        batch.x = self._gather(batch.node_ids)
        if isinstance(self.dataset, Dataset):
            batch.y = self.dataset.labels[batch.seed_nodes]
        return _Made(batch, sampled_at - started_at, perf_counter() - sampled_at)

    def _gather(self, node_ids: Tensor) -> Tensor | None:
        features = self.dataset.features
        if features is None:
            return None
        shape = (node_ids.numel(), features.num_features)
        return features.gather(node_ids, self._buffers.empty(shape, self.dtype or self._input_dtype(features.dtype)))

    def _input_dtype(self, stored: torch.dtype) -> torch.dtype:
        return self._rounded_to if self._rounded_to and stored == torch.float32 else stored

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a DataLoader holds threads and memory of its process: make a new one in the other process")


@dataclass
class _Made:
    batch: MiniBatch
    sample_seconds: float
    gather_seconds: float


def _checked_seeds(dataset: Dataset | LinkDataset, seeds: Tensor | str) -> Tensor:
    if isinstance(seeds, str):
        if seeds not in dataset.split_ids:
            raise ValueError(f"seeds must be node ids or one of {', '.join(dataset.split_ids)}, got {seeds!r}")
        return dataset.split_ids[seeds]
    if seeds.dtype != torch.int64 or seeds.dim() != 1:
        raise ValueError(f"seeds must be int64 of one dimension, got {seeds.dtype} of shape {tuple(seeds.shape)}")
    if seeds.numel() and (int(seeds.min()) < 0 or int(seeds.max()) >= dataset.num_nodes):
        raise ValueError(f"seeds must be nodes, 0 to {dataset.num_nodes - 1}")
    return seeds
