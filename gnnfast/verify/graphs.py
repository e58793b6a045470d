"""Graphs that trip samplers: hubs, isolated nodes, self-loops, parallel edges, one direction only."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, Dataset, FeatureStore

NUM_NODES = 200
_NUM_HUBS = 5
_NUM_ISOLATED = 6
_NUM_CLASSES = 4
HUB_DEGREES = (40_000, 70_000)  # below and above 2**16, neither dividing a power of 2


def awkward_dataset(weighted: bool = False, undirected: bool = False, num_nodes: int = NUM_NODES) -> Dataset:
    """A graph with everything that trips a sampler, with features, labels and splits.

    Nodes 0 to 4 are hubs that hear 20 to 100 nodes; the last 6 are isolated, and as many before them only send. Some
    edges are parallel, some lead from a node to itself.

    Args:
        weighted: Whether edges have weights, between 0.1 and 1.1, and ids.
        undirected: Whether every edge goes both ways, once, and no node hears itself.
        num_nodes: At least 50.
    """
    if num_nodes < 50:
        raise ValueError(f"num_nodes must be at least 50, got {num_nodes}")
    generator = torch.Generator().manual_seed(5)
    sizes = (num_nodes * torch.arange(1, _NUM_HUBS + 1)) // (2 * _NUM_HUBS)
    others = num_nodes - 2 * _NUM_ISOLATED  # the nodes that hear others
    talkers = num_nodes - _NUM_ISOLATED

    def among(high: int, size: int, low: int = 0) -> Tensor:
        return torch.randint(low, high, (size,), generator=generator)

    hubs = torch.arange(_NUM_HUBS).repeat_interleave(sizes)
    skewed = (talkers * torch.rand(4 * num_nodes, generator=generator).square()).long()
    edges = [
        torch.stack([among(talkers, hubs.numel()), hubs]),
        torch.stack([skewed, among(others, skewed.numel(), low=_NUM_HUBS)]),
    ]
    edges.append(edges[1][:, ::20])  # parallel edges
    loops = torch.arange(0, others, 17)
    edges.append(torch.stack([loops, loops]))
    edge_index = torch.cat(edges, dim=1)
    edge_index = edge_index[:, torch.randperm(edge_index.shape[1], generator=generator)]
    if undirected:
        edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    weight = torch.rand(edge_index.shape[1], generator=generator) + 0.1 if weighted else None
    graph = CSCGraph.from_edge_index(edge_index, num_nodes, weight, keep_edge_ids=weighted and not undirected)
    name = f"{'undirected' if undirected else 'directed'}{', weighted' if weighted else ''}"
    return with_labels(graph.to_undirected() if undirected else graph, name)


def with_labels(graph: CSCGraph, name: str) -> Dataset:
    """The graph with random features and labels, and six of ten nodes to train on."""
    generator = torch.Generator().manual_seed(6)
    order = torch.randperm(graph.num_nodes, generator=generator)
    train, val, test = torch.tensor_split(order, [6 * graph.num_nodes // 10, 8 * graph.num_nodes // 10])
    return Dataset(
        name,
        graph,
        FeatureStore(torch.randn(graph.num_nodes, 4, generator=generator)),
        torch.randint(_NUM_CLASSES, (graph.num_nodes,), generator=generator),
        train,
        val,
        test,
        num_classes=_NUM_CLASSES,
    )


def hub_graph() -> CSCGraph:
    """Nodes 0 and 1 hear 40,000 and 70,000 others, each once; the others hear nobody."""
    num_nodes = max(HUB_DEGREES) + len(HUB_DEGREES)
    columns = [torch.arange(len(HUB_DEGREES), len(HUB_DEGREES) + degree) for degree in HUB_DEGREES]
    indptr = torch.full((num_nodes + 1,), sum(HUB_DEGREES))
    indptr[: len(HUB_DEGREES)] = torch.tensor([0, *HUB_DEGREES[:-1]]).cumsum(0)
    return CSCGraph(indptr, torch.cat(columns).int())


def edgeless_graph() -> CSCGraph:
    """Thirty nodes and no edge."""
    return CSCGraph(torch.zeros(31, dtype=torch.int64), torch.empty(0, dtype=torch.int32))
