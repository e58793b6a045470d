"""Training of all kinds, on however many ranks there are."""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import gnnfast.training.tasks
from gnnfast.datasets import planetoid, synthetic
from gnnfast.distributed import world
from gnnfast.graph import Dataset
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN, DotDecoder, LinkModel, NodeEmbedding
from gnnfast.sampler import (
    ClusterSampler,
    GASSampler,
    LaborSampler,
    LadiesSampler,
    LinkNeighborSampler,
    NeighborSampler,
    SaintNodeSampler,
)
from gnnfast.training import TrainingSettings, train
from tests.training.graphs import easy_dataset
from tests.training.link_graphs import easy_recommendations
from tests.training.test_resume import node_run, unbroken_and_resumed

NUM_STEPS = 50
BATCH_SIZE = 64


def fifty_steps(name: str) -> dict[str, Any]:
    """This rank's part of fifty steps: the edges sampled at each, its summed loss, and the metrics at the end."""
    dataset = planetoid("pubmed", split="random") if name == "pubmed" else synthetic(num_nodes=20_000)
    sampler = NeighborSampler(dataset.graph, [10, 5])
    seeds = dataset.train_ids[: NUM_STEPS * BATCH_SIZE]
    here = world()
    loader = DataLoader(dataset, sampler, seeds, BATCH_SIZE, num_threads=1, rank=here.rank, world_size=here.size)
    edges = [[_edges(block, dataset.num_nodes) for block in batch.blocks] for batch in islice(iter(loader), NUM_STEPS)]
    torch.manual_seed(0)
    model = GNN(dataset.num_features, 16, 2, dataset.num_classes, conv="sage", dropout=0.0)
    loader = DataLoader(dataset, sampler, seeds, BATCH_SIZE, num_threads=1)
    losses: list[float] = []
    summed_loss = gnnfast.training.tasks.summed_loss

    def recorded(*arguments: Any) -> torch.Tensor:
        loss = summed_loss(*arguments)
        losses.append(float(loss))
        return loss

    settings = TrainingSettings(epochs=1, precision="64-true", accelerator="cpu")
    with mock.patch.object(gnnfast.training.tasks, "summed_loss", recorded):
        result = train(model, loader, torch.optim.Adam(model.parameters(), lr=0.01), settings)
    return {"edges": edges, "losses": losses, "val": result.val, "test": result.test, "loss": result.loss}


def _edges(block: Any, num_nodes: int) -> list[int]:
    """Each edge of a block once, as one number made of its ends."""
    dst = block.src_nodes[: block.num_dst].repeat_interleave(block.indptr.diff())
    codes: np.ndarray = np.unique((block.src_nodes[block.indices.long()] * num_nodes + dst).numpy())
    return codes.tolist()


def uneven_runs(num_runs: int) -> list[str]:
    """Short runs with few seeds, odd batches and all kinds of samplers: what came of each, in a word."""
    generator = np.random.default_rng(0)
    dataset = easy_dataset()
    links = easy_recommendations()
    outcomes = []
    for _ in range(num_runs):
        torch.manual_seed(0)
        num_seeds, batch_size = int(generator.integers(1, 24)), int(generator.integers(1, 10))
        settings = TrainingSettings(
            epochs=2,
            accelerator="cpu",
            accumulate=int(generator.integers(1, 4)),
            patience=1,
            evaluation=str(generator.choice(["exact", "sampled"])),  # type: ignore[arg-type]
            gradient_clip=1.0,
        )
        kind = int(generator.integers(0, 8))
        if kind == 7:
            model: Any = LinkModel(GNN(4, 4, 2, 4, conv="gcn"), DotDecoder(), NodeEmbedding(70, 4))
            loader = DataLoader(links, LinkNeighborSampler(links.graph, [2, 2]), "train", 100 + batch_size)
            settings = TrainingSettings(epochs=1, accelerator="cpu")
        else:
            conv, norm = generator.choice(["sage", "gcn", "gin", "gat"]), generator.choice(["batch", "layer"])
            model = GNN(8, 8, 2, 3, conv=str(conv), norm=str(norm), dropout=0.2)
            loader = _loader(dataset, kind, dataset.train_ids[:num_seeds], batch_size)
            if kind >= 3:
                settings = TrainingSettings(epochs=2, accelerator="cpu")
        result = train(model, loader, torch.optim.Adam(model.parameters()), settings)
        digest = hashlib.sha256()
        for parameter in model.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        outcomes.append(f"{result.history[-1]['train_loss']} {digest.hexdigest()}")
    return outcomes


def unbroken_and_resumed_run(folder: Path, kind: str) -> None:
    """A run whose ranks each have something of their own, and the same run broken off inside two epochs."""
    if kind == "history":
        go = node_run(folder, sampler=lambda dataset: GASSampler(dataset.graph, num_parts=12, parts_per_batch=2))
    else:
        go = node_run(folder, model={"norm": "batch"}, evaluate_every=2)
    unbroken_and_resumed(go, folder, 2, 5)


def _loader(dataset: Dataset, kind: int, seeds: torch.Tensor, batch_size: int) -> DataLoader:
    graph = dataset.graph
    sampler: Any
    match kind:
        case 0:
            sampler = NeighborSampler(graph, [3, 3])
        case 1:
            sampler = LaborSampler(graph, [3, 3])
        case 2:
            sampler = LadiesSampler(graph, [20, 20])
        case 3:
            sampler = ClusterSampler(graph, num_parts=6, parts_per_batch=2)
        case 4:
            sampler = GASSampler(graph, num_parts=6, parts_per_batch=2)
        case 5:
            sampler = SaintNodeSampler(graph, num_nodes=40)
        case _:
            sampler = NeighborSampler(graph, [-1, -1])
    return DataLoader(dataset, sampler, seeds, batch_size, num_threads=1)
