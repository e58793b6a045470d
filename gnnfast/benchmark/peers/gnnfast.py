"""gnnfast's own side, by its public interface."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from statistics import median
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gnnfast.benchmark.graphs import GraphFiles
from gnnfast.benchmark.peers.products import seconds_outside_products
from gnnfast.benchmark.peers.request import Prepared, Request
from gnnfast.graph import CSCGraph, Dataset, MiniBatch
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.runtime.memory import peak_memory_bytes, reset_peak_memory
from gnnfast.sampler import NeighborSampler
from gnnfast.training import TrainingSettings, train
from gnnfast.training.inference import LayerwiseInference
from gnnfast.training.precision import as_input

_FACTS_OF = 3  # mini-batches that averages are of


def prepare(values: dict[str, Any]) -> Prepared:
    """What the host asks for; `variant` is the sampler's `expand`."""
    request = Request(**values)
    torch.set_num_threads(request.num_threads)
    stages = {"sampler": _sampler, "loader": _loader, "step": _step, "epoch": _epoch, "memory": _memory}
    return stages[request.stage](request)


# Cases of one process share what they read.
@lru_cache(maxsize=1)
def _dataset(files: GraphFiles) -> Dataset:
    return files.dataset()


@lru_cache(maxsize=1)
def _graph(files: GraphFiles) -> CSCGraph:
    return files.graph()


def _sampler(request: Request) -> Prepared:
    sampler = neighbor_sampler(request, _graph(request.files))
    seeds = request.seed_batches()

    def call(i: int) -> float:
        started_at = perf_counter()
        sampler.sample(seeds[i % len(seeds)], i)
        return perf_counter() - started_at

    return call, batch_facts([sampler.sample(some, -i) for i, some in enumerate(seeds[:_FACTS_OF])])


def _loader(request: Request) -> Prepared:
    dataset = _dataset(request.files)
    sampler = neighbor_sampler(request, dataset.graph)
    seeds = request.seed_batches()
    loader = DataLoader(
        dataset, sampler, seeds.flatten(), seeds.shape[1], shuffle=False, num_threads=request.num_workers
    )

    def call(i: int) -> float:
        loader.set_epoch(i)
        started_at = perf_counter()
        for _ in loader:
            pass
        return (perf_counter() - started_at) / len(loader)

    return call, batch_facts([sampler.sample(some, -i) for i, some in enumerate(seeds[:_FACTS_OF])])


class _Step:
    """Steps, each on a new mini-batch: its blocks keep what a first step computes from them."""

    def __init__(self, request: Request):
        self._dataset = _dataset(request.files)
        self._sampler = neighbor_sampler(request, self._dataset.graph)
        self._seeds = request.seed_batches()
        self._step = training_step(request, self._dataset)
        self._seconds_outside: list[float] = []

    def __call__(self, i: int) -> float:
        batch = self.batch(i)
        started_at = perf_counter()
        self._step(batch)
        seconds = perf_counter() - started_at
        # By a step of its own, which the clock may slow down; in turns, as all that is compared.
        self._seconds_outside.append(seconds_outside_products(self._step, self.batch(i)))
        return seconds

    def batch(self, i: int) -> MiniBatch:
        batch = self._sampler.sample(self._seeds[i % len(self._seeds)], i)
        batch.x = self._dataset.features.gather(batch.node_ids)
        batch.y = self._dataset.labels[batch.seed_nodes]
        return batch

    def closing_facts(self) -> dict[str, float]:
        return {"seconds_outside_products": median(self._seconds_outside)}


def _step(request: Request) -> Prepared:
    call = _Step(request)
    return call, batch_facts([call.batch(-i) for i in range(1, _FACTS_OF + 1)])


def _epoch(request: Request) -> Prepared:
    """`train` for one epoch, and its exact evaluation of validation and test nodes, which come as one split."""
    dataset = _dataset(request.files)
    evaluated = torch.cat([dataset.val_ids, dataset.test_ids])
    seeds = request.seed_batches()
    sampler = neighbor_sampler(request, dataset.graph)
    settings = TrainingSettings(epochs=1, precision=request.precision, accelerator="cpu")

    def loader(train_ids: Tensor, test_ids: Tensor) -> DataLoader:
        one_split = replace(dataset, train_ids=train_ids, val_ids=evaluated[:0], test_ids=test_ids)
        return DataLoader(one_split, sampler, batch_size=seeds.shape[1], num_threads=request.num_workers)

    def epoch(loader: DataLoader) -> None:
        model = make_model(request, dataset)
        train(model, loader, torch.optim.Adam(model.parameters(), lr=0.003), settings)

    whole = loader(dataset.train_ids, evaluated)
    # A first call imports and compiles.
    epoch(loader(seeds[:2].flatten(), evaluated[:100]))

    def call(i: int) -> float:
        started_at = perf_counter()
        epoch(whole)
        return perf_counter() - started_at

    return call, {"steps": len(whole)}


def _memory(request: Request) -> Prepared:
    """Trains steps, then evaluates all nodes: what is asked for are facts, and there is nothing to call."""
    dataset = _dataset(request.files)
    seeds = request.seed_batches()
    loader = DataLoader(
        dataset, neighbor_sampler(request, dataset.graph), seeds.flatten(), seeds.shape[1], num_threads=1
    )
    step = training_step(request, dataset)
    features = dataset.features.rows
    facts: dict[str, Any] = {
        "graph_bytes": dataset.graph.indptr.nbytes + dataset.graph.indices.nbytes,
        # What is read from disk lies in memory that others may have.
        "feature_bytes": 0 if request.files.facts["memory_mapped"] else features.nbytes,
        "steps": len(loader),
    }
    started_at = perf_counter()
    reset_peak_memory()
    collections.deque(map(step, loader), maxlen=0)
    facts["training_bytes"] = peak_memory_bytes()
    reset_peak_memory()
    model = make_model(request, dataset)
    with request.autocast():
        nodes = torch.arange(dataset.num_nodes)
        LayerwiseInference(dataset.graph, dataset.features, nodes, model.num_layers)(model)
    facts["inference_bytes"] = peak_memory_bytes()
    facts["seconds"] = perf_counter() - started_at
    return _no_call, facts


def _no_call(i: int) -> float:
    raise NotImplementedError("memory is measured while it is prepared")


def neighbor_sampler(request: Request, graph: CSCGraph) -> NeighborSampler:
    """The sampler that draws as the request's variant says."""
    expand: Literal["layer", "once"] = "once" if request.variant == "once" else "layer"
    return NeighborSampler(graph, request.fanouts, expand=expand)


def make_model(request: Request, dataset: Dataset) -> GNN:
    """A model with newly drawn weights, one layer per fanout."""
    torch.manual_seed(0)
    heads = request.heads if request.conv == "gat" else 1
    widths = (dataset.num_features, request.hidden_channels, len(request.fanouts), dataset.num_classes)
    return GNN(*widths, conv=request.conv, heads=heads)


def training_step(request: Request, dataset: Dataset) -> Callable[[MiniBatch], Tensor]:
    """Forward, backward and Adam on a mini-batch with features and labels."""
    model = make_model(request, dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

    def step(batch: MiniBatch) -> Tensor:
        assert batch.x is not None
        assert batch.y is not None
        optimizer.zero_grad()
        with request.autocast():
            logits = batch.at_seeds(model(as_input(batch.x, torch.float32, request.precision), batch.blocks))
        loss = cross_entropy(logits.float(), batch.y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def batch_facts(batches: list[MiniBatch]) -> dict[str, Any]:
    """Averages: sampled nodes, drawn edges, and (destinations, sources, edges) of the layers' blocks, input first."""
    shapes = torch.tensor([[[b.num_dst, b.num_src, b.num_edges] for b in batch.blocks] for batch in batches]).double()
    blocks = shapes.mean(0).tolist()
    # Blocks that share their arrays hold one drawing of edges.
    first = batches[0].blocks
    is_nested = len(first) > 1 and first[0].indices.data_ptr() == first[1].indices.data_ptr()
    edges = blocks[0][2] if is_nested else sum(block[2] for block in blocks)
    return {"nodes": sum(batch.num_nodes for batch in batches) / len(batches), "edges": edges, "blocks": blocks}
