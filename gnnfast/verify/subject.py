"""A sampler under test, called in one way whatever its kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, Dataset, MiniBatch
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.sampler import EpochSampler, Law, LinkSampler, Sampler, StepSampler
from gnnfast.verify.batches import Fault, Kind, faults_of
from gnnfast.verify.contents import first_occurrences


class Skip(Exception):
    """A check that cannot be made, and why."""


@dataclass
class Subject:
    """A sampler on a graph.

    Args:
        factory: Makes the sampler of a graph, or of `graph`, `seed_nodes` and `labels` where it has such parameters.
        dataset: Graph, training nodes and labels.
        seed: What every draw is derived from.
        wanted: The kind of its mini-batches that is looked at, where it makes several; None for the first it makes.
    """

    factory: Callable[..., Any]
    dataset: Dataset
    seed: int
    wanted: Kind | None = None
    _faults: dict[int, list[Fault]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def sampler(self) -> Any:
        return self.make()

    @cached_property
    def law(self) -> Law:
        law = getattr(self.sampler, "law", None) or Law()
        if not isinstance(law, Law):
            raise TypeError(f"the law of a sampler must be a gnnfast.sampler.Law, got {type(law).__name__}")
        return law

    @cached_property
    def kind(self) -> Kind:
        if self.wanted is not None:
            return self.wanted
        if isinstance(self.sampler, EpochSampler):
            return "epoch"
        if isinstance(self.sampler, Sampler):
            return "seed"
        if isinstance(self.sampler, LinkSampler):
            return "link"
        raise TypeError(
            f"{type(self.sampler).__name__} is no sampler: it has neither sample(seed_nodes, seed), "
            "sample_batch(batch, epoch_seed) nor sample_edges(seed_edges, seed)"
        )

    @property
    def makes_links(self) -> bool:
        """Whether the sampler is one of edges too."""
        return isinstance(self.sampler, LinkSampler)

    @property
    def has_halo(self) -> bool:
        """Whether mini-batches have sources that no layer computes."""
        return bool(getattr(self.sampler, "needs_history", False))

    @property
    def has_estimated_weights(self) -> bool:
        """Whether the weights of mini-batches come from others drawn before."""
        return self.kind == "epoch" and getattr(self.sampler, "normalization", None) == "estimated"

    @property
    def num_nodes(self) -> int:
        return self.dataset.num_nodes

    @cached_property
    def is_sampled(self) -> Tensor:
        """Whether a node is one of those that are sampled, bool `(num_nodes,)`: all, or the training nodes alone where
        the sampler has a `train_only` that is true."""
        if not getattr(self.sampler, "train_only", False):
            return torch.ones(self.num_nodes, dtype=torch.bool)
        return torch.zeros(self.num_nodes, dtype=torch.bool).index_fill_(0, self.dataset.train_ids, True)

    @cached_property
    def graph(self) -> CSCGraph:
        """What is sampled: the graph, with the edges among `is_sampled` alone."""
        graph = self.dataset.graph
        if bool(self.is_sampled.all()):
            return graph
        src, dst = graph.to_edge_index()
        kept = (self.is_sampled[src] & self.is_sampled[dst]).nonzero().view(-1)
        count = torch.bincount(dst[kept], minlength=graph.num_nodes)
        return CSCGraph(
            torch.nn.functional.pad(count.cumsum(0), (1, 0)),
            graph.indices[kept],
            kept if graph.edge_ids is None else graph.edge_ids[kept],
            None if graph.edge_weight is None else graph.edge_weight[kept],
        )

    def make(self, dataset: Dataset | None = None) -> Any:
        """A new sampler, on this graph or another."""
        dataset = self.dataset if dataset is None else dataset
        known = {"graph": dataset.graph, "seed_nodes": dataset.train_ids, "labels": dataset.labels}
        parameters = inspect.signature(self.factory).parameters
        asked = {name: value for name, value in known.items() if name in parameters}
        return self.factory(**asked) if "graph" in asked else self.factory(dataset.graph, **asked)

    def on(self, dataset: Dataset) -> Subject:
        """The same kind of sampler on another graph."""
        return Subject(self.factory, dataset, self.seed, self.wanted)

    def as_links(self) -> Subject:
        """The same sampler, asked for mini-batches of edges."""
        links = Subject(self.factory, self.dataset, self.seed, "link")
        links.sampler = self.sampler
        return links

    @property
    def name(self) -> str:
        """What notes call it."""
        return f"{self.dataset.name}, edges" if self.kind == "link" else self.dataset.name

    @cached_property
    def seeds(self) -> Tensor:
        """What mini-batches are drawn for, unless another is asked for: half the nodes; of a link sampler, edges."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, 77) % 2**63)
        if self.kind == "link":
            edge_index = self.dataset.graph.to_edge_index()
            order = torch.randperm(edge_index.shape[1], generator=generator)
            return edge_index[:, order[:40]].contiguous()
        order = torch.randperm(self.num_nodes, generator=generator)
        # Hubs always: they are what is sampled.
        num_seeds = min(self.num_nodes // 2, 1000)
        hubs = torch.topk(self.dataset.graph.in_degree, min(5, self.num_nodes)).indices
        others = order[~torch.isin(order, hubs)]
        return torch.cat([others[: num_seeds - hubs.numel()], hubs])

    @property
    def distinct_seeds(self) -> Tensor:
        """Nodes, in the order in which they come first."""
        return first_occurrences(self.seeds.flatten())

    @property
    def asked(self) -> Tensor | None:
        """The nodes that a mini-batch must answer; None where the sampler chooses."""
        return self.seeds if self.kind == "seed" else None

    def draw_as_loaded(self, number: int, seeds: Tensor | None = None) -> MiniBatch:
        """The mini-batch of this number, for statistics: where the sampler knows steps, half of them are steps, each of
        an epoch of its own, as the loader asks for them."""
        key = derive_seed(self.seed, number)
        if self.kind != "seed" or key % 2 or not isinstance(self.sampler, StepSampler):
            return self.draw(number, seeds)
        return self.sampler.sample_step(self.seeds if seeds is None else seeds, key, number)

    def draw(self, number: int, seeds: Tensor | None = None, sampler: Any = None) -> MiniBatch:
        """The mini-batch of this number: a new seed, or epoch, for each."""
        sampler = self.sampler if sampler is None else sampler
        seeds = self.seeds if seeds is None and self.kind != "epoch" else seeds
        if self.kind == "epoch":
            batch = sampler.sample_batch(number % sampler.num_batches, derive_seed(self.seed, number))
        elif self.kind == "seed":
            batch = sampler.sample(seeds, derive_seed(self.seed, number))
        else:
            batch = sampler.sample_edges(seeds, derive_seed(self.seed, number))
        if not isinstance(batch, MiniBatch):
            raise TypeError(f"{type(sampler).__name__} must return a MiniBatch, got {type(batch).__name__}")
        return batch

    def faults(self, number: int) -> list[Fault]:
        """Everything that is wrong with the mini-batch of this number."""
        if number not in self._faults:
            batch = self.draw(number)
            self._faults[number] = faults_of(batch, self.graph, self.law, self.kind, self.asked, self.has_halo)
        return self._faults[number]
