"""The ranks of a run and what they tell each other."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from gnnfast.distributed.environment import Place, adopt_slurm, place

T = TypeVar("T")

# Longer than any data set takes to be made ready: whoever waits for that is told otherwise if it fails.
_PATIENCE = timedelta(days=7)
# Tensors are sent in pieces.
_BYTES_AT_A_TIME = 1 << 28


@dataclass(frozen=True)
class World:
    """The ranks of a run. A process by itself is a world of one, for which everything here is free of cost.

    All ranks must call its methods alike and in the same order.

    Args:
        place: Of this process.
        store: Small texts that all ranks can read, by name; None for a process by itself.
    """

    place: Place = field(default_factory=Place)
    store: Any = None

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def size(self) -> int:
        return self.place.world_size

    def bounds(self, work: Tensor) -> list[int]:
        """Cuts rows into contiguous shares of about the same work.

        Args:
            work: Of each row, not negative, `(num_rows,)`, the same on all ranks.

        Returns:
            Where each rank's share begins, and behind them the number of rows.
        """
        num_rows = work.numel()
        if self.size == 1 or num_rows == 0:
            return [0] + [num_rows] * self.size
        up_to = torch.cumsum(work.double(), 0)
        targets = up_to[-1] * torch.arange(1, self.size, dtype=torch.float64) / self.size
        # Each row goes where its middle is.
        return [0, *torch.searchsorted(up_to - work.double() / 2, targets).tolist(), num_rows]

    def exchange(self, rows: Tensor, bounds: Sequence[int]) -> Tensor:
        """Completes rows of which each rank has computed its share, in place.

        Args:
            rows: Contiguous, on the CPU, the same shape and type on all ranks.
            bounds: Of the shares, as `bounds` gives them.
        """
        if self.size == 1:
            return rows
        assert rows.is_contiguous()
        pending = []
        for rank in range(self.size):
            share = rows[bounds[rank] : bounds[rank + 1]].reshape(-1).view(torch.uint8)
            for piece in share.split(_BYTES_AT_A_TIME):
                if piece.numel():
                    pending.append(torch.distributed.broadcast(piece, rank, async_op=True))
        for work in pending:
            work.wait()
        return rows

    def sum(self, values: Tensor) -> Tensor:
        """Adds up over the ranks, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def largest(self, values: Sequence[int]) -> list[int]:
        """The largest over the ranks, of each value."""
        if self.size == 1:
            return list(values)
        own = torch.tensor(values)
        torch.distributed.all_reduce(own, torch.distributed.ReduceOp.MAX)
        return [int(value) for value in own.tolist()]

    def agree(self, value: T) -> T:
        """The first rank's value, on all ranks: what is decided by it is decided alike."""
        if self.size == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, on all ranks, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites tensors with those of the first rank."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.size > 1:
            self.largest([0])


@cache
def world() -> World:
    """The ranks that this process was started among: by `launch`, torchrun or srun. It joins them at the first call.

    Raises:
        ValueError: If the environment names a place that cannot be.
    """
    adopt_slurm()
    here = place()
    if here.world_size == 1:
        return World()
    from torch.distributed import PrefixStore, init_process_group  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", timeout=timedelta(minutes=10)))
    # Features and rows of evaluation are in RAM whatever the model computes on.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    init_process_group(backend, store=PrefixStore("ranks", store), rank=here.rank, world_size=here.world_size)
    atexit.register(leave_world)
    names = PrefixStore("gnnfast", store)
    names.set_timeout(_PATIENCE)
    return World(here, names)


def leave_world() -> None:
    """Takes leave of the other ranks, once all work is done."""
    if world.cache_info().currsize and world().size > 1:
        torch.distributed.destroy_process_group()
    world.cache_clear()
