"""What the loader asks of a sampler."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from gnnfast.graph import MiniBatch


@runtime_checkable
class Sampler(Protocol):
    """Turns seed nodes into a mini-batch.

    `sample` is a pure function of the graph, the seeds and `seed`, and may be called from several threads at once. A
    sampler that also has `num_layers` is checked against the model before training.
    """

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Samples the message flow that ends at the seed nodes.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`.
            seed: Same seed, same mini-batch, on any thread.
        """
        ...
