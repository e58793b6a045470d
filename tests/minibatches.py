"""Looking at mini-batches from outside: all they hold, and the tree below a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gnnfast.graph import Block, MiniBatch

Tree = tuple[int, tuple["Tree", ...]]


def contents(batch: MiniBatch) -> Iterator[tuple[str, Tensor]]:
    """Every tensor with its place in the mini-batch, and every number as a tensor."""
    yield from _parts("", batch)
    for layer, block in enumerate(batch.blocks):
        yield from _parts(f"blocks[{layer}].", block)


def _parts(prefix: str, owner: MiniBatch | Block) -> Iterator[tuple[str, Tensor]]:
    for name, value in sorted(vars(owner).items()):
        if isinstance(value, Tensor | int):
            yield prefix + name, torch.as_tensor(value)


def digest(batches: Iterable[MiniBatch]) -> str:
    """SHA-256 of everything that the mini-batches hold, in order."""
    hashed = hashlib.sha256()
    for batch in batches:
        for name, tensor in contents(batch):
            hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            hashed.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def tree(batch: MiniBatch, row: int, layer: int = -1) -> Tree:
    """The node at `row` of a layer's output, with the trees of the in-neighbors drawn for it, in the order drawn."""
    block = batch.blocks[layer]
    first, last = block.indptr[row : row + 2].tolist()
    node = int(batch.node_ids[row])
    if layer == -len(batch.blocks):
        return node, tuple((int(batch.node_ids[child]), ()) for child in block.indices[first:last].tolist())
    return node, tuple(tree(batch, child, layer - 1) for child in block.indices[first:last].tolist())
