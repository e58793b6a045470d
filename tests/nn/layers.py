"""Convolutions and models beside PyG's, with equal parameters."""

from __future__ import annotations

from typing import Any

import torch
import torch_geometric.nn as pyg
from torch import Tensor

import gnnfast.nn
from gnnfast.graph import CSCGraph

CONVS = {
    "gcn": ("GCNConv", {}),
    "gcn-normalize": ("GCNConv", {"normalize": False}),
    "sage-mean": ("SAGEConv", {}),
    "sage-max": ("SAGEConv", {"aggr": "max"}),
    "sage-sum": ("SAGEConv", {"aggr": "sum", "project": True, "normalize": True}),
    "sage-add": ("SAGEConv", {"aggr": "add", "root_weight": False, "bias": False}),
    "gin": ("GINConv", {"eps": 0.25}),
    "gin-eps": ("GINConv", {"eps": -0.5, "train_eps": True}),
    "gat": ("GATConv", {"heads": 3}),
    "gat-mean": ("GATConv", {"heads": 2, "concat": False, "residual": True}),
    "gat-loops": ("GATConv", {"heads": 2, "add_self_loops": False, "bias": False}),
    "gatv2": ("GATv2Conv", {"heads": 3}),
    "gatv2-mean": ("GATv2Conv", {"heads": 2, "concat": False, "residual": True, "share_weights": True}),
    "gatv2-loops": ("GATv2Conv", {"heads": 2, "add_self_loops": False, "bias": False}),
}
MODELS = {
    "gcn": (pyg.models.GCN, {}),
    "sage": (pyg.models.GraphSAGE, {}),
    "gin": (pyg.models.GIN, {}),
    "gat": (pyg.models.GAT, {"heads": 2}),
    "gatv2": (pyg.models.GAT, {"heads": 2, "v2": True}),
}


def conv_pair(name: str, in_channels: int, out_channels: int, seed: int = 0) -> tuple[Any, Any]:
    """gnnfast's layer and PyG's, in float64, with the same random parameters, biases included."""
    class_name, options = CONVS[name]

    def make(package: Any) -> Any:
        first = [in_channels, out_channels]
        if class_name == "GINConv":
            first = [torch.nn.Sequential(torch.nn.Linear(in_channels, out_channels), torch.nn.Tanh())]
        return getattr(package, class_name)(*first, **options).double()

    ours, theirs = make(gnnfast.nn), make(pyg)
    randomize(theirs, seed)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def randomize(module: torch.nn.Module, seed: int = 0) -> None:
    """Draws all parameters anew: initial biases of 0 would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)


def awkward_graph(num_nodes: int = 30, num_edges: int = 120, weighted: bool = True) -> CSCGraph:
    """Isolated nodes, self-loops (some twice, with different weights), parallel edges, weights in float64."""
    generator = torch.Generator().manual_seed(1)
    edge_index = torch.randint(0, num_nodes - 4, (2, num_edges), generator=generator)
    edge_index[1, :8] = edge_index[0, :8]
    edge_index[:, 8:10] = edge_index[:, :2]
    edge_index[:, 10:20] = edge_index[:, 20:30]
    weight = torch.rand(num_edges, generator=generator, dtype=torch.float64) + 0.1 if weighted else None
    return CSCGraph.from_edge_index(edge_index, num_nodes, weight)


def features(num_nodes: int, num_channels: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_nodes, num_channels, dtype=torch.float64, generator=generator)
