"""Data sets of these tests."""

from __future__ import annotations

import torch

from gnnfast.graph import CSCGraph, Dataset, FeatureStore

NUM_NODES = 100_000


def ring(num_features: int, features: FeatureStore | None = None) -> Dataset:
    """Every node hears the one before it."""
    nodes = torch.arange(NUM_NODES)
    if features is None:
        features = FeatureStore((nodes % 7).float()[:, None].repeat(1, num_features))
    graph = CSCGraph(torch.arange(NUM_NODES + 1), (nodes - 1) % NUM_NODES)
    return Dataset("ring", graph, features, nodes % 3, nodes[:50], nodes[50:100], nodes[100:])
