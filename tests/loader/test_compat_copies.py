"""Copies of PyG's loaders: by `copy.deepcopy`, as trainers make them, and by `pickle`."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnfast.graph import CSCGraph
from gnnfast.loader import (
    ClusterData,
    ClusterLoader,
    GraphSAINTEdgeSampler,
    GraphSAINTNodeSampler,
    GraphSAINTRandomWalkSampler,
    LinkNeighborLoader,
    NeighborLoader,
    RandomNodeLoader,
    ShaDowKHopSampler,
)
from gnnfast.sampler import NeighborSampler
from tests.loader.pyg_graphs import small_data

SHUFFLED = {"batch_size": 16, "shuffle": True}


def foreign(data: Data, folder: str) -> NeighborLoader:
    graph = CSCGraph.from_edge_index(data.edge_index, data.num_nodes, keep_edge_ids=True)
    return NeighborLoader(data, [3], neighbor_sampler=NeighborSampler(graph, [3], edge_ids=True), **SHUFFLED)


LOADERS: dict[str, Callable[[Data, str], Any]] = {
    "neighbor": lambda data, folder: NeighborLoader(data, [3, 2], num_workers=2, **SHUFFLED),
    "weighted": lambda data, folder: NeighborLoader(data, [3], weight_attr="edge_weight", **SHUFFLED),
    "induced": lambda data, folder: NeighborLoader(data, [3], subgraph_type="induced", **SHUFFLED),
    "foreign": foreign,
    "link": lambda data, folder: LinkNeighborLoader(data, [3], neg_sampling="binary", **SHUFFLED),
    "cluster": lambda data, folder: ClusterLoader(ClusterData(data, 4, save_dir=folder), batch_size=2, shuffle=True),
    "saint node": lambda data, folder: GraphSAINTNodeSampler(data, 20, 2, sample_coverage=5, save_dir=folder),
    "saint edge": lambda data, folder: GraphSAINTEdgeSampler(data, 10, 2, save_dir=folder),
    "saint walk": lambda data, folder: GraphSAINTRandomWalkSampler(data, 6, 3, 2, sample_coverage=5, save_dir=folder),
    "shadow": lambda data, folder: ShaDowKHopSampler(data, 2, 3, **SHUFFLED),
    "random node": lambda data, folder: RandomNodeLoader(data, 4, shuffle=True),
}


def epoch(loader: Any) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    return [batch.to_dict() for batch in loader]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
@pytest.mark.parametrize("name", LOADERS)
def test_a_copy_makes_the_same_batches(name: str, duplicate: Callable[[Any], Any], tmp_path: Path):
    loader = LOADERS[name](small_data(), str(tmp_path))
    expected = epoch(loader)
    twin = duplicate(loader)
    for ours, theirs in zip(epoch(twin), expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]) if isinstance(value, Tensor) else value == theirs[key], key


def test_a_copy_follows_its_own_data():
    loader = NeighborLoader(small_data(), [3], batch_size=60)
    twin = copy.deepcopy(loader)
    twin.data.x = torch.zeros_like(twin.data.x)
    assert not bool(next(iter(twin)).x.any())
    assert bool(next(iter(loader)).x.any())
