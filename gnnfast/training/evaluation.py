"""Measuring a model between epochs and at the end."""

from __future__ import annotations

import math
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from gnnfast.distributed import World
from gnnfast.graph import Dataset, MiniBatch
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.sampler import Sampler
from gnnfast.training.inference import LayerwiseInference, evaluation_mode
from gnnfast.training.metrics import METRICS, compute_metrics, summed_loss
from gnnfast.training.precision import as_input


class Evaluator:
    """Loss and metrics of a model on the splits of a data set.

    Args:
        dataset: Graph, features, labels and splits.
        num_layers: Layers of the model.
        device: Where to compute.
        sampler: None for exact layer-wise inference; a sampler to evaluate on its mini-batches instead.
        seed: Of the sampler's draws.
        batch_size: Seeds of a sampled mini-batch.
        world: Ranks that share the work and make the same calls. Every one gets all outputs, in the order of the nodes.
    """

    def __init__(
        self,
        dataset: Dataset,
        num_layers: int,
        device: torch.device | str = "cpu",
        sampler: Sampler | None = None,
        seed: int = 0,
        batch_size: int = 1024,
        world: World | None = None,
    ):
        self.world = world or World()
        self.dataset = dataset
        self.num_layers = num_layers
        self.device = device
        self.sampler = sampler
        self.seed = seed
        self.batch_size = batch_size
        self._inferences: dict[str, LayerwiseInference] = {}
        self._loaders: dict[str, DataLoader] = {}

    def evaluate(self, model: GNN, split: str, metrics: tuple[str, ...] = METRICS) -> dict[str, float]:
        """`loss` (mean over nodes) and the metrics of a split; nothing for an empty one."""
        ids = self.dataset.split_ids[split]
        if ids.numel() == 0:
            return {}
        logits = self.logits(model, split)
        labels = self.dataset.labels[ids]
        loss = float(summed_loss(logits, labels)) / ids.numel()
        return {"loss": loss, **compute_metrics(logits, labels, metrics)}

    def logits(self, model: GNN, split: str) -> Tensor:
        """Outputs for the nodes of a split, in the split's order, on the CPU."""
        if self.sampler is None:
            return self._inference(split)(model)
        return self._sampled_logits(model, self.sampler, split)

    def work(self, split: str) -> int:
        """Rows and edges that one evaluation goes through, in the unit of `batch_work`."""
        if self.sampler is not None:
            return 0
        inference = self._inference(split)
        num_rows: int = sum(nodes.numel() for nodes in inference.needed[:-1])
        return sum(inference.num_edges) + num_rows

    def _inference(self, split: str) -> LayerwiseInference:
        if split not in self._inferences:
            self._inferences[split] = LayerwiseInference(
                self.dataset.graph,
                self.dataset.features,
                self.dataset.split_ids[split],
                self.num_layers,
                self.device,
                world=self.world,
            )
        return self._inferences[split]

    @torch.no_grad()
    def _sampled_logits(self, model: GNN, sampler: Sampler, split: str) -> Tensor:
        dtype = next(model.parameters()).dtype
        if split not in self._loaders:
            self._loaders[split] = DataLoader(
                self.dataset, sampler, split, self.batch_size, self.seed, shuffle=False, device=self.device
            )
        loader = self._loaders[split]
        # Whole steps, each drawn as if one rank made them all.
        steps = self.world.bounds(torch.ones(len(loader)))
        first, last = steps[self.world.rank], steps[self.world.rank + 1]
        if first == last:
            first, last = 0, 1
        # The same draws every time: differences between epochs are the model's.
        loader.load_state_dict({**loader.state_dict(), "epoch": 0, "step": first})
        with evaluation_mode(model):
            own = torch.cat([_logits(model, batch, dtype) for batch in islice(loader, last - first)])
        bounds = [min(step * self.batch_size, loader.num_seeds) for step in steps]
        logits = own.new_empty((loader.num_seeds, *own.shape[1:]))
        logits[first * self.batch_size : last * self.batch_size] = own
        return self.world.exchange(logits, bounds)


def _logits(model: GNN, batch: MiniBatch, dtype: torch.dtype) -> Tensor:
    assert batch.x is not None
    return batch.at_seeds(model(as_input(batch.x, dtype), batch.blocks)).cpu()


def evaluation_interval(evaluate_every: int | Literal["auto"], evaluation_work: int, epoch_work: int) -> int:
    """Epochs from one evaluation to the next.

    "auto" counts rows and edges, a training step's three times (forward and two products backward), and keeps
    evaluation under a fifth of the sum. Work is counted, not timed: the curve of a run must not depend on the clock.
    """
    if evaluate_every != "auto":
        return evaluate_every
    return max(1, math.ceil(4 * evaluation_work / (3 * max(epoch_work, 1))))
