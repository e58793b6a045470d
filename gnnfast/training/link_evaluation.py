"""Measuring how well a model predicts edges: exactly, against all that they could lead to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnfast.distributed import World
from gnnfast.graph import LinkDataset
from gnnfast.nn import LinkModel
from gnnfast.training.inference import LayerwiseInference, evaluation_mode
from gnnfast.training.link_metrics import LINK_METRICS, Ranker, Ranking, is_ranking_metric, pair_metric

# Scores that are held at once: they should stay in the processor's cache until they are ranked.
_SCORES_AT_A_TIME = 1 << 22
# What one score of one pair costs, in rows and edges of an inference.
_SCORES_PER_EDGE = 16


class LinkEvaluator:
    """Metrics of a model on the splits of a `LinkDataset`.

    The representations of all nodes are computed by layer-wise inference on the graph of training edges. Rankings are
    over all of `dst_range` that a source has not known before: in training, and for the test in validation. Where half
    of the pairs are turned around, as `link_split` does it, they leave out what is a source's partner by a pair of the
    same split that names it as destination.

    Args:
        dataset: Graph, pairs and negatives.
        num_layers: Layers of the model.
        device: Where to compute.
        world: Ranks that share the work and make the same calls; every one gets the same numbers.
    """

    def __init__(
        self,
        dataset: LinkDataset,
        num_layers: int,
        device: torch.device | str = "cpu",
        world: World | None = None,
    ):
        self.world = world or World()
        self.dataset = dataset
        self.device = torch.device(device)
        self._inputs = _Inputs(dataset)
        nodes = torch.arange(dataset.num_nodes)
        self._inference = LayerwiseInference(dataset.graph, self._inputs, nodes, num_layers, device, world=world)
        self._rankers: dict[str, Ranker] = {}

    def evaluate(self, model: LinkModel, split: str, metrics: tuple[str, ...] = LINK_METRICS) -> dict[str, float]:
        """The metrics of a split, those left out that need negatives where none are given; nothing for an empty one."""
        pairs, negatives = self.dataset.split_ids[split], self.dataset.negatives[split]
        if pairs.shape[1] == 0:
            return {}
        rows = self.representations(model).to(self.device)
        values: dict[str, float] = {}
        device_type = self.device.type
        with torch.no_grad(), evaluation_mode(model), torch.autocast(device_type, enabled=False):
            if negatives is not None and not all(is_ranking_metric(name) for name in metrics):
                scores = [self._scores(model, rows, some) for some in (pairs, negatives)]
                values |= {name: pair_metric(name, *scores) for name in metrics if not is_ranking_metric(name)}
            if any(is_ranking_metric(name) for name in metrics):
                ranking = self._rank(model, rows, split)
                values |= {name: ranking.metric(name) for name in metrics if is_ranking_metric(name)}
        return {name: values[name] for name in metrics if name in values}

    def representations(self, model: LinkModel) -> Tensor:
        """What the decoder reads, float32 or wider, `(num_nodes, channels)`, on the CPU."""
        self._inputs.model = model
        with evaluation_mode(model):
            rows = self._inference(model.encoder)
        return rows if rows.dtype == torch.float64 else rows.float()

    def work(self, split: str) -> int:
        """What one evaluation goes through, in the unit of `batch_work`: rows, edges, and pairs to rank."""
        inference = self._inference
        num_rows: int = sum(nodes.numel() for nodes in inference.needed[:-1])
        first, last = self.dataset.destinations
        num_scores: int = self.dataset.split_ids[split][0].unique().numel() * (last - first)
        return sum(inference.num_edges) + num_rows + num_scores // _SCORES_PER_EDGE

    def _scores(self, model: LinkModel, rows: Tensor, pairs: Tensor) -> Tensor:
        bounds = self.world.bounds(torch.ones(pairs.shape[1]))
        own = slice(bounds[self.world.rank], bounds[self.world.rank + 1])
        shares = [model.decoder(*rows[some.to(self.device)]).cpu() for some in pairs[:, own].split(1 << 17, dim=1)]
        scores = rows.new_empty(pairs.shape[1], device="cpu", dtype=shares[0].dtype)
        scores[own] = torch.cat(shares)
        return self.world.exchange(scores, bounds)

    def _rank(self, model: LinkModel, rows: Tensor, split: str) -> Ranking:
        ranker = self._ranker(split)
        first, last = self.dataset.destinations
        candidates = rows[first:last]
        num_rows = max(1, _SCORES_AT_A_TIME // (candidates.shape[0] * model.decoder.pair_channels))
        bounds = self.world.bounds(torch.ones(ranker.sources.numel()))
        end = bounds[self.world.rank + 1]
        for begin in range(bounds[self.world.rank], end, num_rows):
            sources = ranker.sources[begin : min(begin + num_rows, end)].to(self.device)
            ranker.add(begin, model.decoder.score_all(rows[sources], candidates).cpu().contiguous())
        return ranker.finish(self.world, bounds)

    def _ranker(self, split: str) -> Ranker:
        if split not in self._rankers:
            splits = self.dataset.split_ids
            known = {"train": [], "val": ["train"], "test": ["train", "val"]}[split]
            pairs = torch.cat([splits[split][:, :0], *(splits[name] for name in known)], dim=1)
            self._rankers[split] = Ranker(splits[split], pairs, self.dataset.destinations, self.dataset.num_nodes)
        return self._rankers[split]


class _Inputs:
    """A `FeatureStore` of what enters the encoder of a model that is still being trained."""

    def __init__(self, dataset: LinkDataset):
        self.features = dataset.features
        self.model: Any = None

    def gather(self, ids: Tensor) -> Tensor:
        x = None if self.features is None else self.features.gather(ids)
        if self.model.embedding is None:
            assert x is not None
            return x
        device = self.model.embedding.weight.device
        rows: Tensor = self.model.inputs(None if x is None else x.to(device), ids.to(device))
        return rows.detach().cpu()
