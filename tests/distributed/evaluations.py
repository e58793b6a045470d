"""Evaluations of all kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gnnfast.distributed import World
from gnnfast.graph import Dataset
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN, DotDecoder, LinkModel, MLPDecoder, NodeEmbedding
from gnnfast.sampler import LadiesSampler, NeighborSampler
from gnnfast.training import TrainingSettings
from gnnfast.training.tasks import task_of
from tests.training.graphs import easy_dataset
from tests.training.link_graphs import easy_recommendations

MODELS: dict[str, dict[str, Any]] = {
    "gcn": {"conv": "gcn"},
    "sage": {"conv": "sage", "norm": "layer"},
    "sage, narrow": {"conv": "sage", "hidden_channels": 4},
    "gin": {"conv": "gin"},
    "gat": {"conv": "gat", "heads": 2},
    "gatv2": {"conv": "gatv2", "heads": 2},  # by mini-batches
    "jk": {"conv": "gcn", "jk": "cat"},
}


def evaluations(world: World) -> dict[str, dict[str, float]]:
    """Loss and metrics of validation and test by evaluation, in float64."""
    torch.manual_seed(0)
    values: dict[str, dict[str, float]] = {}
    dataset = easy_dataset()
    for name, options in MODELS.items():
        model = GNN(**{"in_channels": 8, "hidden_channels": 8, "num_layers": 3, "out_channels": 3, **options}).double()
        evaluator = task_of(dataset).evaluator(model, world=world)
        for split in ("val", "test"):
            values[f"{name}, {split}"] = evaluator.evaluate(model, split)
    few = _with_few(dataset)
    model = GNN(8, 8, 2, 3, conv="sage").double()
    values["two nodes"] = task_of(few).evaluator(model, world=world).evaluate(model, "val")
    settings = TrainingSettings(evaluation="sampled")
    for sampler in (NeighborSampler(dataset.graph, [3, 3]), LadiesSampler(dataset.graph, [20, 20])):
        for name, data, batch_size in (("all", dataset, 16), ("two", few, 16)):
            loader = DataLoader(data, sampler, batch_size=batch_size)
            evaluator = task_of(data, settings).evaluator(model, loader=loader, world=world)
            values[f"{type(sampler).__name__}, {name}"] = evaluator.evaluate(model, "val")
    links = easy_recommendations()
    negatives = torch.stack([torch.arange(20), torch.arange(40, 60)])
    links = replace(links, val_negatives=negatives, test_negatives=negatives)
    for decoder in (DotDecoder(), MLPDecoder(4, 4)):
        linked = LinkModel(GNN(4, 4, 2, 4, conv="gcn"), decoder, NodeEmbedding(70, 4)).double()
        evaluator_of_links = task_of(links).evaluator(linked, world=world)
        for split in ("val", "test"):
            values[f"{type(decoder).__name__}, {split}"] = evaluator_of_links.evaluate(linked, split)
    return values


def _with_few(dataset: Dataset) -> Dataset:
    """Two validation nodes: fewer than there are ranks."""
    ids = dataset.val_ids[:2]
    return Dataset("few", dataset.graph, dataset.features, dataset.labels, dataset.train_ids, ids, dataset.test_ids)
