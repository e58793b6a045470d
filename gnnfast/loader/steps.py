"""What the steps of an epoch are: which seeds come together, and the mini-batch they are turned into."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import MiniBatch
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.loader.seed_weights import WeightedDraws
from gnnfast.sampler import EpochSampler, LinkSampler, Sampler, StepSampler
from gnnfast.sampler.node_map import distinct_nodes


class SeedSteps:
    """Steps of a fixed number of seeds, in an order drawn anew for each epoch.

    A node that is several seeds of a step is given to the sampler once; the mini-batch's `seed_rows` tell.

    Args:
        sampler: Turns a step's seeds into a mini-batch.
        seeds: Nodes, int64, `(num_seeds,)`; for a `LinkSampler` pairs of nodes, `(2, num_seeds)`.
        num_nodes: Of the data set.
        batch_size, seed, shuffle, drop_last, rank, world_size: As in `DataLoader`.
        draws: Draws the seeds of each epoch, in place of visiting each once.
    """

    def __init__(
        self,
        sampler: Sampler | LinkSampler,
        seeds: Tensor,
        num_nodes: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        rank: int,
        world_size: int,
        draws: WeightedDraws | None = None,
    ):
        self.sampler = sampler
        self.seeds = seeds
        self.num_nodes = num_nodes
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self.draws = draws
        # Nodes drawn with replacement, or given twice.
        self._may_repeat = seeds.dim() == 1 and (draws is not None or seeds.unique().numel() < seeds.numel())

    def __len__(self) -> int:
        full, rest = divmod(self.seeds.shape[-1], self.batch_size)
        return full if self.drop_last or rest == 0 else full + 1

    def start(self, epoch: int) -> Tensor:
        """The epoch's order of seeds."""
        if self.draws is not None:
            return self.seeds[..., self.draws.draw(self.seeds.shape[-1], derive_seed(self.seed, epoch))]
        if not self.shuffle:
            return self.seeds
        order = np.random.default_rng(derive_seed(self.seed, epoch)).permutation(self.seeds.shape[-1])
        return self.seeds[..., torch.from_numpy(order)]

    def sample(self, order: Tensor, epoch: int, step: int) -> MiniBatch:
        """Makes this rank's share of a step."""
        step_seeds = order[..., step * self.batch_size : (step + 1) * self.batch_size]
        seeds = torch.tensor_split(step_seeds, self.world_size, dim=-1)[self.rank]
        try:
            batch = self._sample(seeds, epoch, step)
        except Exception as error:
            shown = ", ".join(str(seed) for seed in seeds.transpose(0, -1)[:8].tolist())
            more = f" and {seeds.shape[-1] - 8} more" if seeds.shape[-1] > 8 else ""
            error.add_note(f"while making step {step} of epoch {epoch}, from seeds {shown}{more}")
            raise
        batch.num_step_seeds = step_seeds.shape[-1]
        return batch

    def _sample(self, seeds: Tensor, epoch: int, step: int) -> MiniBatch:
        name = type(self.sampler).__name__
        if seeds.dim() == 2:
            assert isinstance(self.sampler, LinkSampler)
            batch = self.sampler.sample_edges(seeds.contiguous(), derive_seed(self.seed, epoch, step))
            check_batch(batch, f"{name}.sample_edges", self.num_nodes)
            check_pairs(batch, seeds, f"{name}.sample_edges")
            return batch
        rows: Tensor | None = None
        if self._may_repeat:
            seeds, rows = distinct_nodes(seeds)
        if isinstance(self.sampler, StepSampler):
            batch = self.sampler.sample_step(seeds, derive_seed(self.seed, epoch), step)
        else:
            assert isinstance(self.sampler, Sampler)
            batch = self.sampler.sample(seeds, derive_seed(self.seed, epoch, step))
        check_batch(batch, f"{name}.sample", self.num_nodes)
        if batch.num_seeds != seeds.numel():
            raise ValueError(f"{name}.sample returned {batch.num_seeds} seeds of {seeds.numel()}")
        return batch if rows is None else batch.keep_seeds(rows)


class EpochSteps:
    """Steps as a sampler that chooses its own nodes has them; those of them that are seeds are trained on.

    Several ranks share a mini-batch's seeds; each has the whole subgraph.

    Args:
        sampler: Makes the mini-batches of an epoch.
        seeds: Nodes, int64, `(num_seeds,)`.
        num_nodes: Of the data set.
        seed, rank, world_size: As in `DataLoader`.
    """

    def __init__(self, sampler: EpochSampler, seeds: Tensor, num_nodes: int, seed: int, rank: int, world_size: int):
        num_batches = sampler.num_batches
        if not isinstance(num_batches, int) or num_batches < 1:
            name = type(sampler).__name__
            raise ValueError(f"{name}.num_batches must be a whole number of at least 1, got {num_batches!r}")
        self.sampler = sampler
        self.seeds = seeds
        self.num_nodes = num_nodes
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._is_seed = torch.zeros(num_nodes, dtype=torch.bool)
        self._is_seed[seeds] = True

    def __len__(self) -> int:
        return self.sampler.num_batches

    def start(self, epoch: int) -> Tensor:
        """Nothing that steps would have to share."""
        return self.seeds

    def sample(self, order: Tensor, epoch: int, step: int) -> MiniBatch:
        """Makes a step's subgraph, with this rank's share of its seeds."""
        try:
            batch = self.sampler.sample_batch(step, derive_seed(self.seed, epoch))
            check_batch(batch, f"{type(self.sampler).__name__}.sample_batch", self.num_nodes)
        except Exception as error:
            error.add_note(f"while making step {step} of epoch {epoch}")
            raise
        kept = self._is_seed[batch.seed_nodes].nonzero().view(-1)
        # Weights of 1 / probability estimate the sum over all seeds; without them, the step's seeds stand for all.
        num_step_seeds = self.seeds.numel() if batch.seed_weight is not None else kept.numel()
        batch = batch.keep_seeds(torch.tensor_split(kept, self.world_size)[self.rank])
        batch.num_step_seeds = num_step_seeds
        return batch


def check_batch(batch: MiniBatch, maker: str, num_nodes: int) -> None:
    """Refuses what would be read as something else: features are gathered by these ids, unchecked."""
    if not isinstance(batch, MiniBatch):
        raise TypeError(f"{maker} must return a MiniBatch, got {type(batch).__name__}")
    if not batch.blocks:
        raise ValueError(f"{maker} must return at least one block")
    ids = batch.node_ids
    if ids.dtype != torch.int64 or ids.numel() != batch.blocks[0].num_src:
        raise ValueError(
            f"{maker} must return one int64 node id per source of the first block, "
            f"{batch.blocks[0].num_src}, got {ids.numel()} of {ids.dtype}"
        )
    if ids.numel():
        low, high = (int(bound) for bound in torch.aminmax(ids))
        if low < 0 or high >= num_nodes:
            node = low if low < 0 else high
            raise ValueError(f"{maker} returned node {node}, but nodes are numbered 0 to {num_nodes - 1}")


def check_pairs(batch: MiniBatch, seed_edges: Tensor, maker: str) -> None:
    """Refuses pairs that the loss would misread."""
    pairs, rows, labels = batch.seed_edges, batch.edge_rows, batch.edge_labels
    if pairs is None or rows is None or labels is None:
        raise ValueError(f"{maker} must return a MiniBatch with seed_edges, edge_rows and edge_labels")
    num_seeds = seed_edges.shape[1]
    fits = rows.shape == pairs.shape and labels.shape == pairs.shape[1:]
    if not fits or not torch.equal(pairs[:, :num_seeds], seed_edges):
        raise ValueError(
            f"{maker} must return the {num_seeds} seed edges first, then negatives, with two rows and a label each; "
            f"got seed_edges {tuple(pairs.shape)}, edge_rows {tuple(rows.shape)}, edge_labels {tuple(labels.shape)}"
        )
    if not bool((labels[:num_seeds] == 1).all()) or bool(labels[num_seeds:].any()):
        raise ValueError(f"{maker} must label seed edges 1 and negatives 0")
    if num_seeds and (labels.numel() == num_seeds or labels.numel() % num_seeds):
        raise ValueError(
            f"{maker} must return the same number of negatives, at least one, for each of {num_seeds} seed edges, "
            f"got {labels.numel() - num_seeds}"
        )
