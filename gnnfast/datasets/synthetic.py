"""Community graphs drawn from a known law, and the accuracy that law allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.graph import CSCGraph, Dataset, FeatureStore
from gnnfast.kernels.cpu import generate as kernels
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.runtime.reading import check_fits_memory

_ROWS_AT_A_TIME = 1 << 16
_PURPOSES = ("places", "degrees", "edges", "means", "features", "labels")


def synthetic(
    num_nodes: int = 20_000,
    num_edges: int = 300_000,
    num_features: int = 32,
    num_classes: int = 8,
    homophily: float = 0.8,
    power_law_exponent: float = 2.5,
    max_degree: float | None = None,
    feature_signal: float = 1.0,
    label_noise: float = 0.1,
    seed: int = 0,
    attainable_hops: int = 2,
    split: str = "random",
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    per_class: int | None = None,
    split_seed: int = 0,
    undirected: bool = True,
) -> Dataset:
    """A degree-corrected community graph whose features tell something about its classes.

    Karrer and Newman, Stochastic Blockmodels and Community Structure in Networks, 2011,
    https://arxiv.org/abs/1008.3926. Communities are equal in size and in their nodes' weights, which follow a power
    law. Each node draws its edges' other ends: their community is its own with probability `homophily` and any other
    one equally likely; within the community a node is drawn by weight. Self-loops are drawn anew, parallel edges
    merged. A node's features are normal with variance 1 around the mean of its community; the means have random
    directions. Its label is its community, but for the noise. All draws are keyed by (seed, node, draw).

    `attainable["accuracy"]` is the test accuracy of Bayes' rule with the true parameters, given the features and edges
    of a node's in-neighborhood of `attainable_hops` hops. At one hop it is exact but for merged edges and the
    information in absent ones, both of the order degree / num_nodes. At two hops it is exact wherever that
    neighborhood is a tree; a node that is reached along several paths counts as several independent ones. Labels of
    other nodes are not used.

    Args:
        num_nodes: Of which each community has the same number, up to 1.
        num_edges: Entries of the graph, an undirected edge being two; merging leaves a few less.
        num_classes: Number of communities.
        homophily: Probability that an edge stays in its community; 1 / num_classes tells nothing.
        power_law_exponent: Of the degree distribution's tail, above 2; larger is more even.
        max_degree: Expected degree of the largest hub; the default is the one at which two hubs of a community expect a
            single edge between them, sqrt(num_edges / num_classes).
        feature_signal: Length of a community's mean, in standard deviations of the noise.
        label_noise: Probability that a label is that of another class, all equally likely.
        seed: Same seed, same graph, features and labels.
        attainable_hops: 0 (computes nothing), 1 or 2, which is what a model of two layers sees.
        split, fractions, per_class, split_seed: See `choose_split`.
        undirected: Whether every edge has its reverse; if not, edges run from the drawn node to the drawing one.

    Raises:
        ValueError: If a size or a probability makes no sense.
    """
    law = CommunityLaw(
        num_nodes, num_edges, num_classes, homophily, power_law_exponent, max_degree, undirected=undirected
    )
    if not isinstance(num_features, int) or num_features < 1:
        raise ValueError(f"num_features must be at least 1, got {num_features}")
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
    if not 0 <= feature_signal < math.inf:
        raise ValueError(f"feature_signal must be a length, got {feature_signal}")
    if attainable_hops not in (0, 1, 2):
        raise ValueError(f"attainable_hops must be 0, 1 or 2, got {attainable_hops}")
    if not 0 <= label_noise < 1 - 1 / num_classes:
        raise ValueError(f"label_noise must leave the true class the likeliest, below {1 - 1 / num_classes:.3g}")
    # Edges are mirrored and merged; features, and what Bayes' rule keeps of each node.
    num_bytes = 12 * num_edges + num_nodes * (4 * num_features + 64 + 12 * num_classes * (attainable_hops > 0))
    check_fits_memory(f"a graph of {num_nodes} nodes, {num_edges} edges and {num_features} features", num_bytes)
    graph, communities = law.draw(seed)
    x, means = _draw_features(communities, num_classes, num_features, feature_signal, seed)
    labels = communities.clone()
    kernels.flip_labels(_key(seed, "labels"), label_noise, num_classes, labels.numpy())
    parts = choose_split("synthetic", labels, split, fractions, per_class, split_seed)
    attainable = {}
    if attainable_hops > 0 and parts[2].numel() > 0:
        log_posteriors = bayes_log_posteriors(graph, x, means, homophily, parts[2], attainable_hops, undirected)
        attainable["accuracy"] = float((log_posteriors.argmax(dim=1) == labels[parts[2]]).double().mean())
    return Dataset("synthetic", graph, FeatureStore(x), labels, *parts, num_classes, attainable)


@dataclass(frozen=True)
class CommunityLaw:
    """What edges are drawn from; see `synthetic` for the parameters.

    Raises:
        ValueError: If a size or a probability makes no sense.
    """

    num_nodes: int
    num_edges: int
    num_classes: int
    homophily: float
    power_law_exponent: float
    max_degree: float | None = None
    undirected: bool = True

    def __post_init__(self) -> None:
        for name in ("num_nodes", "num_edges", "num_classes"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be an integer, got {getattr(self, name)!r}")
        if self.num_classes < 1 or self.num_nodes < 2 * self.num_classes:
            raise ValueError(f"each class needs two nodes, got {self.num_nodes=} and {self.num_classes=}")
        if self.num_nodes > np.iinfo(np.int32).max:
            raise ValueError(f"at most {np.iinfo(np.int32).max} nodes can be drawn, got {self.num_nodes}")
        if not 0 <= self.num_edges <= self.num_nodes * (self.num_nodes - 1):
            raise ValueError(f"{self.num_nodes} nodes have no room for {self.num_edges} edges")
        if not 0 <= self.homophily <= 1:
            raise ValueError(f"homophily must be a probability, got {self.homophily}")
        if not 2 < self.power_law_exponent < math.inf:
            raise ValueError(f"power_law_exponent must be above 2, got {self.power_law_exponent}")
        if self.max_degree is not None and not 0 < self.max_degree < math.inf:
            raise ValueError(f"max_degree must be positive or null, got {self.max_degree}")

    @property
    def growth(self) -> float:
        """b of the weights' distribution: ranks below r have a share of weight proportional to (r + offset)**b."""
        return (self.power_law_exponent - 2) / (self.power_law_exponent - 1)

    @property
    def num_ranks(self) -> int:
        """Nodes of the largest community."""
        return -(-self.num_nodes // self.num_classes)

    def offset(self) -> float:
        """Where the power law begins, so that the first rank has the share of weight that `max_degree` asks for."""
        mean_degree = self.num_edges / self.num_nodes
        default = max(math.sqrt(self.num_edges / self.num_classes), 2 * mean_degree)
        share = (self.max_degree or default) / max(mean_degree * self.num_ranks, 1)
        low, high = 0.0, 1e3 * self.num_ranks
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if self._weights(middle)[0] > share else (low, middle)
        return high

    def _weights(self, offset: float) -> np.ndarray:
        """Share of its community's weight by rank, float64, `(num_ranks,)`."""
        edges = (np.arange(self.num_ranks + 1) + offset) ** self.growth
        weights: np.ndarray = np.diff(edges) / (edges[-1] - edges[0])
        return weights

    def draw(self, seed: int) -> tuple[CSCGraph, Tensor]:
        """Graph and communities, int64, `(num_nodes,)`."""
        node_at = np.empty(self.num_nodes, np.int32)
        kernels.shuffle(_key(seed, "places"), node_at)
        places = np.empty_like(node_at)
        places[node_at] = np.arange(self.num_nodes, dtype=np.int32)

        offset = self.offset()
        num_draws = self.num_edges / 2 if self.undirected else self.num_edges
        weights = self._weights(offset)[places // self.num_classes]
        indptr = np.zeros(self.num_nodes + 1, np.int64)
        kernels.round_randomly(_key(seed, "degrees"), weights * (num_draws / weights.sum()), indptr[1:])
        np.cumsum(indptr, out=indptr)
        indices = np.empty(indptr[-1], np.int32)
        kernels.draw_sources(
            _key(seed, "edges"),
            indptr,
            places,
            node_at,
            self.num_classes,
            self.homophily,
            offset**self.growth,
            (self.num_ranks + offset) ** self.growth,
            1 / self.growth,
            offset,
            indices,
        )
        drawn = CSCGraph(torch.from_numpy(indptr), torch.from_numpy(indices), validate=False)
        graph = drawn.to_undirected() if self.undirected else drawn.merge_parallel_edges()
        return graph, torch.from_numpy(places % self.num_classes).long()


def _key(seed: int, purpose: str) -> np.uint64:
    return np.uint64(derive_seed(seed, _PURPOSES.index(purpose)))


def _draw_features(
    communities: Tensor, num_classes: int, num_features: int, feature_signal: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Features, float32, `(num_nodes, num_features)`, and their means, float32, `(num_classes, num_features)`."""
    means = np.empty((num_classes, num_features), np.float32)
    kernels.draw_features(_key(seed, "means"), np.zeros(num_classes, np.int64), np.zeros_like(means[:1]), means)
    means *= feature_signal / np.linalg.norm(means, axis=1, keepdims=True)
    x = np.empty((communities.numel(), num_features), np.float32)
    kernels.draw_features(_key(seed, "features"), communities.numpy(), means, x)
    return torch.from_numpy(x), torch.from_numpy(means)


def bayes_log_posteriors(
    graph: CSCGraph, x: Tensor, means: Tensor, homophily: float, nodes: Tensor, num_hops: int, undirected: bool
) -> Tensor:
    """How likely each community of each node is, given the features within `num_hops` (0, 1 or 2), up to a constant.

    With p(x_u | b) normal around the mean of community b and P(b | a) the probability of community b at the other end
    of an edge of community a, which degrees do not enter as all communities have equal weight, one hop weighs a for
    node v by

        p(x_v | a) * product over in-neighbors u of sum_b P(b | a) p(x_u | b),

    and a second one replaces p(x_u | b) by the same expression for u, without v.

    Returns:
        float32, `(num_nodes_asked, num_classes)`; rows are not normalized.
    """
    evidence = torch.empty(graph.num_nodes, means.shape[0])
    for start in range(0, graph.num_nodes, _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        evidence[rows] = x[rows] @ means.T - means.square().sum(dim=1) / 2
    if num_hops == 0:
        return evidence[nodes]
    indptr, indices = graph.indptr.numpy(), graph.indices.numpy()
    messages, beliefs = torch.empty_like(evidence), torch.empty_like(evidence)
    kernels.first_messages(evidence.numpy(), homophily, messages.numpy())
    kernels.gather_messages(indptr, indices, evidence.numpy(), messages.numpy(), beliefs.numpy())
    if num_hops == 1:
        return beliefs[nodes]
    log_posteriors = torch.empty(nodes.numel(), means.shape[0])
    kernels.gather_second_messages(
        indptr,
        indices,
        nodes.numpy(),
        evidence.numpy(),
        beliefs.numpy(),
        messages.numpy(),
        undirected,
        homophily,
        log_posteriors.numpy(),
    )
    return log_posteriors
