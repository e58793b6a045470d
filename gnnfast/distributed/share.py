"""One copy of what a host's ranks read alike.

The first rank of a host builds it and copies its tensors to memory that has no name, so that nothing is left over
however the ranks end; the others map that memory. Tensors that are files already, mapped into memory, are mapped from
these files by everyone.
"""

from __future__ import annotations

import io
import logging
import mmap
import os
import pickle
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

import torch
from torch import Tensor

from gnnfast.distributed.world import World
from gnnfast.graph import FeatureStore
from gnnfast.runtime.allocator import give_back_freed_memory
from gnnfast.runtime.mapped_files import file_behind

T = TypeVar("T")

log = logging.getLogger("gnnfast")

_ALIGNMENT = 4096
_NUM_PROOF_BYTES = 32


def shared(world: World, build: Callable[[], T], name: str) -> T:
    """What `build` makes, in memory that the ranks of a host have in common where the system lets them.

    Only the first rank of each host calls it, unless memory cannot be shared. Writing to a tensor changes this rank's
    copy of the page alone.

    Args:
        world: All of its ranks call this.
        build: Makes an object whose tensors are on the CPU; can be pickled.
        name: Of the thing, another one at each call.

    Raises:
        Exception: What `build` raises, on all ranks of the host.
    """
    here = world.place
    if here.local_world_size == 1:
        return build()
    key = f"shared/{name}/{here.node}"
    if here.local_rank == 0:
        return _build_for_all(world, build, key)
    # Not by the store's own waiting, in which a process is deaf to signals.
    while not world.store.check([key]):
        sleep(0.05)
    parcel: _Parcel = pickle.loads(world.store.get(key))
    if parcel.error is not None:
        raise parcel.error
    value, reason = _open(parcel)
    if world.store.add(f"{key}/opened", 1) == here.local_world_size - 1:
        world.store.set(f"{key}/all", "")
    if reason is not None:
        log.warning(f"memory cannot be shared with the other ranks of this host, so this one has a copy: {reason}")
        return build()
    result: T = value
    return result


@dataclass
class _Parcel:
    """What the first rank of a host tells the others.

    Args:
        error: What `build` has raised.
        reason: Why there is nothing to map.
        pid, descriptor: Where the memory is: `/proc/PID/fd/DESCRIPTOR`.
        proof: What the memory begins with: process ids may mean something else where ranks are in containers.
        layout: Where each tensor is.
        content: The object, pickled without its tensors.
    """

    error: Exception | None = None
    reason: str | None = None
    pid: int = 0
    descriptor: int = 0
    proof: bytes = b""
    layout: tuple[_Piece, ...] = ()
    content: bytes = b""


@dataclass(frozen=True)
class _Piece:
    """Where a tensor is.

    Args:
        path: A file of its own; None for the common memory.
        offset: Of its first byte.
    """

    path: str | None
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]


def _build_for_all(world: World, build: Callable[[], T], key: str) -> T:
    try:
        value = build()
    except Exception as error:
        world.store.set(key, pickle.dumps(_Parcel(error=_plain(error))))
        raise
    descriptor = None
    try:
        parcel, descriptor = _pack(value)
    except (OSError, AttributeError, TypeError, pickle.PicklingError) as error:
        parcel = _Parcel(reason=f"{type(error).__name__}: {error}")
    world.store.set(key, pickle.dumps(parcel))
    if descriptor is None:
        world.store.get(f"{key}/all")
        log.warning(f"memory cannot be shared between the ranks of this host, so each has a copy: {parcel.reason}")
        return value
    # This rank reads the common memory too: its own copy goes.
    value, reason = _open(parcel)
    assert reason is None, reason
    give_back_freed_memory()
    world.store.get(f"{key}/all")
    os.close(descriptor)
    return value


def _plain(error: Exception) -> Exception:
    """The error, or one with its message where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Pickler(pickle.Pickler):
    """Leaves tensors out, and remembers them."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []
        self._number_of: dict[tuple[Any, ...], int] = {}

    def persistent_id(self, value: Any) -> int | None:
        if type(value) is not Tensor or value.device.type != "cpu" or value.layout != torch.strided:
            return None
        value = value.detach().contiguous()
        # Views of the same rows stay the same rows.
        key = (value.data_ptr() if value.numel() else 0, value.dtype, tuple(value.shape))
        if key not in self._number_of:
            self._number_of[key] = len(self.tensors)
            self.tensors.append(value)
        return self._number_of[key]

    def reducer_override(self, value: Any) -> Any:
        # It holds views of its rows that are no tensors.
        return (FeatureStore, (value.rows,)) if type(value) is FeatureStore else NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, tensors: list[Tensor]):
        super().__init__(io.BytesIO(content))
        self.tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        return self.tensors[number]


def _pack(value: Any) -> tuple[_Parcel, int]:
    """The parcel for a value, and the descriptor of the memory that its tensors were copied to."""
    content = io.BytesIO()
    pickler = _Pickler(content)
    pickler.dump(value)
    layout: list[_Piece] = []
    end = _ALIGNMENT
    for tensor in pickler.tensors:
        file = file_behind(tensor)
        path, offset = file if file else (None, end)
        layout.append(_Piece(path, offset, tensor.dtype, tuple(tensor.shape)))
        if file is None:
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    proof = secrets.token_bytes(_NUM_PROOF_BYTES)
    descriptor = os.memfd_create("gnnfast")
    try:
        os.ftruncate(descriptor, end)
        with mmap.mmap(descriptor, end) as memory:
            memory[:_NUM_PROOF_BYTES] = proof
            for tensor, piece in zip(pickler.tensors, layout, strict=True):
                if piece.path is None and tensor.numel():
                    _view(memory, piece).copy_(tensor)
    except BaseException:
        os.close(descriptor)
        raise
    parcel = _Parcel(
        pid=os.getpid(), descriptor=descriptor, proof=proof, layout=tuple(layout), content=content.getvalue()
    )
    return parcel, descriptor


def _open(parcel: _Parcel) -> tuple[Any, str | None]:
    """The value of a parcel, or why it cannot be had."""
    if parcel.reason is not None:
        return None, parcel.reason
    try:
        common = _mapped(f"/proc/{parcel.pid}/fd/{parcel.descriptor}")
        if common[:_NUM_PROOF_BYTES] != parcel.proof:
            return None, "process ids mean other processes here than for the first rank"
        files = {piece.path: _mapped(piece.path) for piece in parcel.layout if piece.path is not None}
    except OSError as error:
        return None, str(error)
    tensors = [_view(common if piece.path is None else files[piece.path], piece) for piece in parcel.layout]
    return _Unpickler(parcel.content, tensors).load(), None


def _mapped(path: str | Path) -> mmap.mmap:
    # Copy-on-write: torch wants writable memory, what others read must not change.
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)


def _view(memory: mmap.mmap, piece: _Piece) -> Tensor:
    count = torch.Size(piece.shape).numel()
    if count == 0:
        return torch.empty(piece.shape, dtype=piece.dtype)
    return torch.frombuffer(memory, dtype=piece.dtype, count=count, offset=piece.offset).view(piece.shape)
