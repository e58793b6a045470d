"""What the loader asks of a sampler."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from gnnfast.graph import MiniBatch


@runtime_checkable
class Sampler(Protocol):
    """Turns seed nodes into a mini-batch.

    `sample` is a pure function of the graph, the seeds and `seed`, and may be called from several threads at once. A
    sampler that also has `num_layers` is checked against the model before training; one with a `law` can be verified.
    """

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Samples the message flow that ends at the seed nodes.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`.
            seed: Same seed, same mini-batch, on any thread.
        """
        ...


@runtime_checkable
class StepSampler(Sampler, Protocol):
    """A sampler whose mini-batches depend on those before them in the epoch, say to share nodes with them."""

    def sample_step(self, seed_nodes: Tensor, epoch_seed: int, step: int) -> MiniBatch:
        """Samples for a step of an epoch, in place of `sample`.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`.
            epoch_seed: Same seed and step, same mini-batch, on any thread.
            step: Number in the epoch.
        """
        ...


@runtime_checkable
class EpochSampler(Protocol):
    """Chooses the nodes of its mini-batches itself: what it does to an epoch, not to given seeds.

    `sample_batch` is pure and safe to call from several threads, as `Sampler.sample` is.
    """

    @property
    def num_batches(self) -> int:
        """Mini-batches of an epoch."""
        ...

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        """Makes one mini-batch of an epoch, with all its outputs as seeds: the loader keeps those it trains on.

        Args:
            batch: Number in the epoch, in [0, num_batches).
            epoch_seed: Same seed and number, same mini-batch, on any thread.
        """
        ...


@runtime_checkable
class LinkSampler(Protocol):
    """Turns pairs of nodes into a mini-batch with `seed_edges`; pure and safe from several threads."""

    def sample_edges(self, seed_edges: Tensor, seed: int) -> MiniBatch:
        """Samples the message flow that ends at both ends of the seed edges, and of negatives drawn for them.

        Args:
            seed_edges: Global ids, int64, `(2, num_edges)`.
            seed: Same seed, same mini-batch, on any thread.
        """
        ...
