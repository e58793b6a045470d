"""Dealing the parts of a graph out to the mini-batches of an epoch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gnnfast.kernels.reference.random import derive_seed
from gnnfast.partition import Partition


class PartDeal:
    """Every part in one mini-batch of an epoch, in an order drawn anew for each; a pure function of the epoch's seed.

    Where `parts_per_batch` does not divide the number of parts, mini-batches differ by one part, and which have one
    more is drawn too. So a node is in a given mini-batch with probability 1 / num_batches.

    Args:
        partition: Parts of the graph.
        parts_per_batch: Parts of a mini-batch, at most.

    Raises:
        ValueError: If `parts_per_batch` is below 1 or there are fewer parts.
    """

    def __init__(self, partition: Partition, parts_per_batch: int):
        if not 1 <= parts_per_batch <= partition.num_parts:
            raise ValueError(
                f"parts_per_batch must be from 1 to num_parts, {partition.num_parts}; got {parts_per_batch}"
            )
        self.partition = partition
        self.num_batches = math.ceil(partition.num_parts / parts_per_batch)

    def parts(self, batch: int, epoch_seed: int) -> Tensor:
        """The parts of a mini-batch, int64; the number is counted modulo `num_batches`."""
        order = np.random.default_rng(derive_seed(epoch_seed)).permutation(self.partition.num_parts)
        first = (batch + derive_seed(epoch_seed, 1)) % self.num_batches
        return torch.from_numpy(order[first :: self.num_batches].astype(np.int64))

    def nodes(self, batch: int, epoch_seed: int) -> Tensor:
        """The nodes of a mini-batch, int64, part by part."""
        return self.partition.nodes_of(self.parts(batch, epoch_seed))

    def node_inclusion(self) -> Tensor:
        """Probability that a node is in a given mini-batch, float64, `(num_nodes,)`."""
        return torch.full((self.partition.part_of.numel(),), 1 / self.num_batches, dtype=torch.float64)
