"""Many mini-batches of an epoch sampler as flat arrays, and what their laws say of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import chi2

from gnnfast.graph import CSCGraph
from gnnfast.sampler import EpochSampler


@dataclass
class Draws:
    """`num_batches` mini-batches. Every array has one entry per row, or per edge, of all of them in order."""

    num_batches: int
    num_nodes: int
    row_batch: np.ndarray
    node: np.ndarray
    seed_weight: np.ndarray
    edge_batch: np.ndarray
    src: np.ndarray
    dst: np.ndarray
    weight: np.ndarray

    def node_counts(self) -> np.ndarray:
        return np.bincount(self.node, minlength=self.num_nodes)


def draw(sampler: EpochSampler, num_nodes: int, num_batches: int, batch: int = 0) -> Draws:
    """Mini-batch number `batch` of as many epochs."""
    nodes, seed_weights, sources, destinations, weights = [], [], [], [], []
    for epoch_seed in range(num_batches):
        drawn = sampler.sample_batch(batch, epoch_seed)
        (block,) = drawn.blocks
        ids = drawn.node_ids.numpy()
        nodes.append(ids)
        sources.append(ids[block.indices.numpy()])
        destinations.append(np.repeat(ids, np.diff(block.indptr.numpy())))
        if drawn.seed_weight is not None:
            seed_weights.append(drawn.seed_weight.numpy())
        weights.append(np.ones(block.num_edges) if block.inclusion_weight is None else block.inclusion_weight.numpy())
    row_batch = np.repeat(np.arange(num_batches), [len(ids) for ids in nodes])
    edge_batch = np.repeat(np.arange(num_batches), [len(ids) for ids in sources])
    node = np.concatenate(nodes)
    seed_weight = np.concatenate(seed_weights) if seed_weights else np.ones(node.size)
    edges = (np.concatenate(parts) for parts in (sources, destinations, weights))
    return Draws(num_batches, num_nodes, row_batch, node, seed_weight, edge_batch, *edges)


def inclusion_p_value(draws: Draws, probability: np.ndarray) -> float:
    """Of the claim that each mini-batch has each node with its probability.

    Nodes of a mini-batch are nearly independent: their squared deviations add up to a chi-square.
    """
    sure = probability > 1 - 1e-12
    assert (draws.node_counts()[sure] == draws.num_batches).all()
    p = probability[~sure]
    deviation = draws.node_counts()[~sure] - draws.num_batches * p
    return float(chi2.sf((deviation**2 / (draws.num_batches * p * (1 - p))).sum(), p.size))


def sum_errors(draws: Draws, graph: CSCGraph, weight: np.ndarray | None = None) -> np.ndarray:
    """How far weighted sums over in-edges are from those over all in-edges, in standard errors.

    A mini-batch's deviations at its nodes are added up with random factors: their mean over mini-batches is 0 just when
    the sums are right on average given that their node is there. One entry for each of ten sets of factors.
    """
    generator = np.random.default_rng(1)
    x = 1 + generator.random(draws.num_nodes)
    factors = generator.standard_normal((10, draws.num_nodes))
    full = np.zeros(draws.num_nodes)
    src, dst = graph.to_edge_index().numpy()
    np.add.at(full, dst, x[src])
    weight = draws.weight if weight is None else weight

    def per_batch(factor: np.ndarray) -> np.ndarray:
        sampled = np.bincount(draws.edge_batch, factor[draws.dst] * weight * x[draws.src], draws.num_batches)
        return sampled - np.bincount(draws.row_batch, (factor * full)[draws.node], draws.num_batches)

    return np.array([standard_errors(per_batch(factor)) for factor in factors])


def loss_errors(draws: Draws) -> np.ndarray:
    """How far weighted sums over the nodes of a mini-batch are from those over all nodes, in standard errors."""
    values = np.random.default_rng(2).standard_normal((10, draws.num_nodes))
    sums = [np.bincount(draws.row_batch, draws.seed_weight * f[draws.node], draws.num_batches) for f in values]
    return np.array([standard_errors(summed - f.sum()) for summed, f in zip(sums, values, strict=True)])


def standard_errors(deviations: np.ndarray) -> float:
    return float(deviations.mean() / (deviations.std() / deviations.size**0.5))


def uneven_graph(undirected: bool, num_nodes: int = 200, num_edges: int = 500) -> CSCGraph:
    """A graph of hubs and leaves, some isolated, with self-loops and parallel edges."""
    generator = np.random.default_rng(0)
    ends = (num_nodes * generator.random((2, num_edges)) ** 2).astype(np.int64)
    edge_index = torch.from_numpy(generator.permutation(num_nodes)[ends])
    if undirected:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    return CSCGraph.from_edge_index(edge_index, num_nodes)
