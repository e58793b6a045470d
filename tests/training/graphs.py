"""Small data sets with everything that trips a layer: isolated nodes, self-loops, parallel and weighted edges."""

from __future__ import annotations

import torch

from gnnfast.graph import CSCGraph, Dataset, FeatureStore


def awkward_graph(num_nodes: int = 40, num_edges: int = 160, weighted: bool = True) -> CSCGraph:
    generator = torch.Generator().manual_seed(1)
    # The last five nodes stay isolated.
    edge_index = torch.randint(0, num_nodes - 5, (2, num_edges), generator=generator)
    edge_index[1, :10] = edge_index[0, :10]  # self-loops, some twice
    edge_index[:, 10:20] = edge_index[:, 20:30]  # parallel edges
    edge_index[:, 30:32] = edge_index[:, :2]
    weight = torch.rand(num_edges, generator=generator, dtype=torch.float64) + 0.1 if weighted else None
    return CSCGraph.from_edge_index(edge_index, num_nodes, weight)


def easy_dataset(num_nodes: int = 300, num_classes: int = 3, multilabel: bool = False) -> Dataset:
    """Classes that features and neighbors tell apart."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(num_nodes) % num_classes
    same = torch.randint(0, num_nodes // num_classes, (2, 4 * num_nodes), generator=generator) * num_classes
    edge_index = same + torch.randint(0, num_classes, (4 * num_nodes,), generator=generator)
    features = torch.nn.functional.one_hot(labels, 8).float() + torch.randn(num_nodes, 8, generator=generator)
    order = torch.randperm(num_nodes, generator=generator)
    if multilabel:
        labels = torch.nn.functional.one_hot(labels, num_classes).float()
    first, second = num_nodes // 2, num_nodes * 3 // 4
    return Dataset(
        "easy",
        CSCGraph.from_edge_index(edge_index, num_nodes),
        FeatureStore(features),
        labels,
        *(part.sort().values for part in (order[:first], order[first:second], order[second:])),
    )
