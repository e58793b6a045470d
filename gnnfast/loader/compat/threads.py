"""torch's DataLoader with threads for its workers."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from gnnfast.kernels.reference.random import derive_seed

# What torch does to worker processes and nothing here needs.
_OF_PROCESSES = ("worker_init_fn", "multiprocessing_context", "timeout")


class ThreadedLoader(torch.utils.data.DataLoader[Any]):
    """Makes batches from positions 0, 1, ..., on `num_workers` threads of this process; base of the PyG loaders.

    The order of positions is the one that torch's DataLoader takes under the same `torch.manual_seed` and `generator`,
    pass after pass; batches are drawn from a seed that comes from there too, so they do not depend on `num_workers`.
    (With `persistent_workers` torch leaves out that seed from the second pass on, and orders differ from there.)

    Args:
        num_items: Positions to go through.
        transform: Changes each batch before it is handed out, in the thread that asks for it.
        transform_in_workers: Whether it is called by the workers instead. It must then be thread-safe.
        **kwargs: Arguments of `torch.utils.data.DataLoader`. What concerns processes only (`worker_init_fn`,
            `multiprocessing_context`, `timeout`) is ignored with a warning.
    """

    def __init__(
        self,
        num_items: int,
        transform: Callable[[Any], Any] | None = None,
        transform_in_workers: bool = False,
        **kwargs: Any,
    ):
        # Lightning passes these on when it makes a loader anew.
        kwargs.pop("dataset", None)
        kwargs.pop("collate_fn", None)
        ignored = [name for name in _OF_PROCESSES if kwargs.pop(name, None)]
        if ignored:
            warnings.warn(
                f"{type(self).__name__} ignores {', '.join(ignored)}: its workers are threads of this process",
                stacklevel=3,
            )
        self.transform = transform
        self._transform_in_workers = transform_in_workers
        self._num_items = num_items
        self._threads: ThreadPoolExecutor | None = None
        super().__init__(range(num_items), **kwargs)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        """A copy, say by `pickle`, makes threads of its own."""
        return {**self.__dict__, "_threads": None}

    def __iter__(self) -> Any:
        self._begin_epoch()
        # torch draws this number here too: everything drawn later stays what it would be there.
        epoch_seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.generator))
        return self._batches(epoch_seed)

    def __call__(self, index: Any) -> Any:
        """The batch of given positions.

        Raises:
            ValueError: If one of them is not a position of the loader.
        """
        positions = self._checked(index)
        self._begin_epoch()
        seed = int(torch.empty((), dtype=torch.int64).random_())
        return self._hand_out(self._make(positions, seed))

    def check_worker_number_rationality(self) -> None:
        """Nothing to warn of: threads cost no memory."""

    def _begin_epoch(self) -> None:
        """What a loader does once before the batches of a pass."""

    def _make_batch(self, index: Tensor, seed: int) -> Any:
        """The batch of some positions, int64, `(batch_size,)`; called from several threads at once."""
        raise NotImplementedError

    def _batches(self, epoch_seed: int) -> Iterator[Any]:
        jobs = ((index, derive_seed(epoch_seed, step)) for step, index in enumerate(self._index_batches()))
        if self.num_workers == 0:
            for index, seed in jobs:
                yield self._hand_out(self._make(index, seed))
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.num_workers, thread_name_prefix="gnnfast-loader")
        pending: deque[Future[Any]] = deque()
        try:
            for index, seed in islice(jobs, (self.prefetch_factor or 2) * self.num_workers):
                pending.append(self._threads.submit(self._make, index, seed))
            while pending:
                batch = pending.popleft().result()
                for index, seed in islice(jobs, 1):
                    pending.append(self._threads.submit(self._make, index, seed))
                yield self._hand_out(batch)
        finally:
            for future in pending:
                future.cancel()

    def _index_batches(self) -> Iterator[Tensor]:
        order, size = self._order(), self.batch_size
        if order is None or size is None:
            for positions in self._index_sampler:
                yield self._checked(positions)
            return
        is_at_end = False
        for batch in range(len(self)):
            positions = order[batch * size : (batch + 1) * size]
            if positions.numel() < size:
                is_at_end = True
                self._end_order()
            yield positions
        if not is_at_end:
            self._end_order()

    def _checked(self, index: Any) -> Tensor:
        positions = torch.as_tensor(index, dtype=torch.int64, device="cpu").reshape(-1)
        if positions.numel():
            low, high = (int(bound) for bound in torch.aminmax(positions))
            if low < 0 or high >= self._num_items:
                raise ValueError(
                    f"{type(self).__name__} has positions 0 to {self._num_items - 1}, got {low if low < 0 else high}"
                )
        return positions

    def _end_order(self) -> None:
        """Draws an order that nobody sees, as torch's sampler does when it is asked for more than all positions."""
        generator = getattr(self.sampler, "generator", None)
        if generator is not None:
            torch.randperm(self._num_items, generator=generator)

    def _order(self) -> Tensor | None:
        """All positions in this pass's order, at once; None if the caller brought an order of their own."""
        if type(self.batch_sampler) is not BatchSampler:
            return None
        num_items = self._num_items
        if type(self.sampler) is SequentialSampler:
            return torch.arange(num_items)
        sampler = self.sampler
        if type(sampler) is not RandomSampler or sampler.replacement or sampler.num_samples != num_items:
            return None
        generator = sampler.generator
        if generator is None:
            generator = torch.Generator()
            generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        return torch.randperm(num_items, generator=generator)

    def _make(self, index: Tensor, seed: int) -> Any:
        try:
            batch = self._make_batch(index, seed)
            return self.transform(batch) if self.transform is not None and self._transform_in_workers else batch
        except Exception as error:
            shown = ", ".join(str(position) for position in index[:8].tolist())
            more = f" and {index.numel() - 8} more" if index.numel() > 8 else ""
            error.add_note(f"while {type(self).__name__} made the batch of positions {shown}{more}")
            raise

    def _hand_out(self, batch: Any) -> Any:
        if self.transform is not None and not self._transform_in_workers:
            batch = self.transform(batch)
        return batch.pin_memory() if self.pin_memory and torch.cuda.is_available() else batch

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
