"""Small data sets of pairs."""

from __future__ import annotations

import torch

from gnnfast.datasets import link_split
from gnnfast.graph import CSCGraph, LinkDataset
from tests.training.graphs import easy_dataset


def easy_links(num_nodes: int = 120) -> LinkDataset:
    """Nodes of a class are connected, and features tell classes apart."""
    return link_split(easy_dataset(num_nodes), 0.1, 0.2)


def easy_recommendations(num_users: int = 40, num_items: int = 30, num_tastes: int = 2) -> LinkDataset:
    """Users and items, without features; who shares a taste shares most of the items."""
    generator = torch.Generator().manual_seed(5)
    users, items = torch.cartesian_prod(torch.arange(num_users), torch.arange(num_items)).T
    fits = users % num_tastes == items % num_tastes
    chosen = fits & (torch.rand(users.numel(), generator=generator) < 0.6)
    pairs = torch.stack([users, items + num_users])[:, chosen]
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)]
    first, second = int(0.7 * pairs.shape[1]), int(0.8 * pairs.shape[1])
    train, val, test = pairs[:, :first], pairs[:, first:second], pairs[:, second:]
    num_nodes = num_users + num_items
    graph = CSCGraph.from_edge_index(torch.cat([train, train.flip(0)], dim=1), num_nodes)
    ranges = {"src_range": (0, num_users), "dst_range": (num_users, num_nodes)}
    return LinkDataset("tastes", graph, train.contiguous(), val.contiguous(), test.contiguous(), **ranges)
