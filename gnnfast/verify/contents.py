"""All that a mini-batch holds, and its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import fields

import torch
from torch import Tensor

from gnnfast.graph import Block, MiniBatch

_BLOCK_TENSORS = (
    "indptr",
    "indices",
    "src_nodes",
    "edge_ids",
    "edge_weight",
    "inclusion_weight",
    "src_degree",
    "self_loop_weight",
)


def first_occurrences(nodes: Tensor) -> Tensor:
    """The distinct nodes in the order in which they come first."""
    return torch.tensor(list(dict.fromkeys(nodes.tolist())), dtype=torch.int64)


def contents(batch: MiniBatch) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a mini-batch with its place, and every number as a tensor."""
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor | int):
            yield field.name, torch.as_tensor(value)
    for number, block in enumerate(batch.blocks):
        yield f"blocks[{number}].num_src", torch.tensor(block.num_src)
        for name, tensor in block_tensors(block):
            yield f"blocks[{number}].{name}", tensor


def block_tensors(block: Block) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a block was made of."""
    for name in _BLOCK_TENSORS:
        value = getattr(block, name)
        if value is not None:
            yield name, value


def digest(batches: Iterable[MiniBatch]) -> str:
    """SHA-256 of everything that the mini-batches hold, in order."""
    hashed = hashlib.sha256()
    for batch in batches:
        for name, tensor in contents(batch):
            hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            hashed.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()
