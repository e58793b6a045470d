from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gnnfast.datasets import link_split, planetoid
from gnnfast.graph import CSCGraph, Dataset, FeatureStore, LinkDataset


def random_dataset(num_nodes: int = 60, num_edges: int = 300, weighted: bool = False) -> Dataset:
    generator = torch.Generator().manual_seed(3)
    edge_index = torch.randint(0, num_nodes, (2, num_edges), generator=generator)
    weight = torch.rand(num_edges, generator=generator) + 0.1 if weighted else None
    ids = torch.arange(num_nodes)
    labels = torch.zeros(num_nodes, dtype=torch.int64)
    store = FeatureStore(torch.rand(num_nodes, 4, generator=generator))
    graph = CSCGraph.from_edge_index(edge_index, num_nodes, weight)
    return Dataset("random", graph, store, labels, ids[:2], ids[2:3], ids[3:4])


def keys(pairs: Tensor, num_nodes: int) -> set[int]:
    low, high = pairs.aminmax(dim=0)
    found = (low * num_nodes + high).tolist()
    assert len(set(found)) == len(found), "a pair stands there twice"
    return set(found)


def check_split(source: Dataset, split: LinkDataset) -> None:
    n = source.num_nodes
    ends = source.graph.to_edge_index()
    low, high = ends[:, ends[0] != ends[1]].aminmax(dim=0)
    edges = set((low * n + high).tolist())
    train, val, test = (keys(pairs, n) for pairs in split.split_ids.values())
    assert train | val | test == edges
    assert len(train) + len(val) + len(test) == len(edges)
    # Messages flow along training edges, both ways, and along self-loops.
    flow = split.graph.to_edge_index()
    forth = flow[:, flow[0] < flow[1]]
    back = flow[:, flow[0] > flow[1]]
    assert keys(forth, n) == keys(back, n) == train
    assert split.val_negatives is not None
    assert split.test_negatives is not None
    negatives = keys(torch.cat([split.val_negatives, split.test_negatives], dim=1), n)
    assert not negatives & edges
    assert split.val_negatives.shape == split.val_edges.shape
    assert split.test_negatives.shape == split.test_edges.shape
    assert (split.val_negatives[0] != split.val_negatives[1]).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_no_edge_is_in_two_splits_or_leaks_into_the_graph(weighted: bool):
    source = random_dataset(weighted=weighted)
    split = link_split(source, 0.1, 0.2, split_seed=5)
    check_split(source, split)
    assert split.features is source.features
    loops = split.graph.to_edge_index()
    assert int((loops[0] == loops[1]).sum()) == int((source.graph.to_edge_index().diff(dim=0) == 0).sum())


def test_an_edge_keeps_its_weight():
    source = random_dataset(weighted=True)
    both_ways = source.graph.to_undirected()
    weights = dict(zip(map(tuple, both_ways.to_edge_index().T.tolist()), both_ways.edge_weight.tolist(), strict=True))  # type: ignore[union-attr]
    split = link_split(source)
    assert split.graph.edge_weight is not None
    for edge, weight in zip(split.graph.to_edge_index().T.tolist(), split.graph.edge_weight.tolist(), strict=True):
        assert weights[tuple(edge)] == weight


def test_the_seed_decides():
    source = random_dataset()
    first, again, other = (link_split(source, split_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.test_edges, again.test_edges)
    assert torch.equal(first.test_negatives, again.test_negatives)  # type: ignore[arg-type]
    assert not torch.equal(first.test_edges, other.test_edges)


def test_negatives_are_even_over_the_pairs_without_an_edge():
    # A path of 5 nodes has 6 other pairs; half of its 4 edges are hidden.
    path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    ids = torch.arange(5)
    labels = torch.zeros(5, dtype=torch.int64)
    graph = CSCGraph.from_edge_index(path, 5)
    source = Dataset("path", graph, FeatureStore(torch.zeros(5, 1)), labels, ids[:1], ids[1:2], ids[2:3])
    counts = np.zeros(25)
    for seed in range(600):
        negatives = link_split(source, 0.0, 0.5, seed).test_negatives
        assert negatives is not None
        low, high = negatives.aminmax(dim=0)
        counts[(low * 5 + high).numpy()] += 1
    drawn = counts[counts > 0]
    assert drawn.size == 6
    assert np.abs(drawn - 200).max() < 5 * np.sqrt(200 * 2 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"val_fraction": 0.5, "test_fraction": 0.5}, "leave some edges"), ({"val_fraction": -0.1}, "must be shares")],
)
def test_shares_that_do_not_fit_are_refused(arguments: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        link_split(random_dataset(), **arguments)


def test_a_complete_graph_has_no_negatives():
    ends = torch.combinations(torch.arange(6)).T
    ids = torch.arange(6)
    labels = torch.zeros(6, dtype=torch.int64)
    graph = CSCGraph.from_edge_index(ends, 6)
    source = Dataset("full", graph, FeatureStore(torch.zeros(6, 1)), labels, ids[:1], ids[1:2], ids[2:3])
    with pytest.raises(ValueError, match="0 pairs without an edge"):
        link_split(source, 0.2, 0.2)
    with pytest.raises(ValueError, match="needs a data set of nodes"):
        link_split(link_split(random_dataset()))  # type: ignore[arg-type]


def test_cora(given_data: Path):
    source = planetoid("Cora")
    split = link_split(source)
    check_split(source, split)
    assert [pairs.shape[1] for pairs in split.split_ids.values()] == [4486, 264, 528]
