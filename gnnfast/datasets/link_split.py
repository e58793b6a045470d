"""Link prediction on the graph of any data set: some edges are hidden, and then to be found."""

from __future__ import annotations

import numpy as np
import torch

from gnnfast.graph import CSCGraph, Dataset, LinkDataset


def link_split(
    source: Dataset, val_fraction: float = 0.05, test_fraction: float = 0.1, split_seed: int = 0
) -> LinkDataset:
    """Hides a random part of the edges, as Kipf and Welling do: Variational Graph Auto-Encoders, 2016,
    https://arxiv.org/abs/1611.07308, whose shares are the defaults here.

    Edges lose their direction. Both directions of an edge are in the same split, and messages flow along training
    edges only. Validation and test get as many negatives as they have edges: distinct pairs, drawn evenly from those
    that are edges in no split. Self-loops are no pairs to predict; in the graph they stay.

    Args:
        source: Gives graph and features; its labels and splits do not matter.
        val_fraction, test_fraction: Shares of the edges.
        split_seed: Same seed, same split and negatives.

    Raises:
        ValueError: If the shares leave no edge to train on, or the graph has too few pairs without an edge.
    """
    if not isinstance(source, Dataset):
        raise ValueError(f"a link split needs a data set of nodes, got {source!r}")
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(f"{val_fraction=} and {test_fraction=} must be shares that leave some edges for training")
    graph = source.graph.to_undirected()
    num_nodes = graph.num_nodes
    edge_index = graph.to_edge_index()
    low, high = edge_index.aminmax(dim=0)
    keys = (low * num_nodes + high).numpy()
    edges = np.unique(keys[(low != high).numpy()])
    num_val, num_test = round(val_fraction * edges.size), round(test_fraction * edges.size)
    if num_val + num_test >= edges.size:
        raise ValueError(f"{source.name} has {edges.size} edges, too few to split them")
    generator = np.random.default_rng(split_seed)
    hidden = generator.choice(edges, num_val + num_test, replace=False)
    negatives = _non_edges(source.name, edges, num_nodes, hidden.size, generator)
    is_hidden = np.isin(edges, hidden)
    kept = torch.from_numpy(~np.isin(keys, hidden))
    weight = None if graph.edge_weight is None else graph.edge_weight[kept]

    def as_pairs(keys: np.ndarray) -> torch.Tensor:
        pairs = np.stack(np.divmod(keys, num_nodes))
        # Which end comes first must not tell anything: half of the pairs are turned around.
        turned = generator.random(keys.size) < 0.5
        pairs[:, turned] = pairs[::-1, turned]
        return torch.from_numpy(pairs)

    return LinkDataset(
        f"{source.name} links",
        CSCGraph.from_edge_index(edge_index[:, kept], num_nodes, weight),
        as_pairs(edges[~is_hidden]),
        as_pairs(hidden[:num_val]),
        as_pairs(hidden[num_val:]),
        source.features,
        val_negatives=as_pairs(negatives[:num_val]),
        test_negatives=as_pairs(negatives[num_val:]),
    )


def _non_edges(name: str, edges: np.ndarray, num_nodes: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Distinct keys `low * num_nodes + high` of pairs without an edge; `edges` are sorted keys."""
    num_free = num_nodes * (num_nodes - 1) // 2 - edges.size
    if count > num_free:
        raise ValueError(f"{name} has {num_free} pairs without an edge, too few for {count} negatives")
    found = np.empty(0, dtype=np.int64)
    while found.size < count:
        ends = np.sort(generator.integers(0, num_nodes, (2, 2 * count)), axis=0)
        keys = ends[0] * num_nodes + ends[1]
        keys = keys[ends[0] != ends[1]]
        found = np.concatenate([found, keys[~np.isin(keys, edges)]])
        # The first of equal ones stay, in the order of the draws: a sorted prefix would not be even.
        found = found[np.sort(np.unique(found, return_index=True)[1])]
    return found[:count]
