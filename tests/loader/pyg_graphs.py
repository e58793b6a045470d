"""PyG data for the loaders that take its place, and a look at their batches."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

needs_data = pytest.mark.skipif(
    not os.environ.get("GNNFAST_DATA"), reason="GNNFAST_DATA names no folder with the real graphs"
)


def small_data(num_nodes: int = 60, num_edges: int = 240, seed: int = 0) -> Data:
    """A random graph, self-loops, parallel edges and isolated nodes included, with attributes of every kind."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(0, num_nodes - 5, (2, num_edges), generator=generator)
    return Data(
        x=torch.rand(num_nodes, 7, generator=generator),
        y=torch.arange(num_nodes) % 4,
        edge_index=edge_index,
        edge_attr=torch.rand(num_edges, 3, generator=generator),
        edge_weight=torch.rand(num_edges, generator=generator),
        train_mask=torch.rand(num_nodes, generator=generator) < 0.5,
        half=torch.rand(num_nodes, 3, generator=generator).half(),
        pairs=torch.arange(num_nodes * 6).view(num_nodes, 2, 3),
        edge_kind=torch.arange(num_edges, dtype=torch.int16),
        name="small",
        total=torch.tensor([1.0, 2.0]),
    )


def pubmed() -> Data:
    from gnnfast.datasets import planetoid

    return planetoid("pubmed", os.environ["GNNFAST_DATA"]).to_pyg()


def edge_pairs(data: Any) -> list[tuple[int, int]]:
    """Global (source, destination) of a batch's edges, sorted."""
    return sorted(map(tuple, data.n_id[data.edge_index].T.tolist()))


def assert_cut_from(batch: Any, data: Data) -> None:
    """Every edge is the one that e_id names, and every attribute is that of its node or edge."""
    assert torch.equal(batch.n_id[batch.edge_index], data.edge_index[:, batch.e_id])
    for key, value in data.items():
        if key in ("edge_index", "num_nodes"):
            continue
        if data.is_node_attr(key):
            assert torch.equal(batch[key], value[batch.n_id]), key
        elif data.is_edge_attr(key):
            assert torch.equal(batch[key], value[batch.e_id]), key
        elif isinstance(value, Tensor):
            assert torch.equal(batch[key], value), key
        else:
            assert batch[key] == value, key


def kinds(batch: Any, leave_out: tuple[str, ...] = ()) -> dict[str, tuple[Any, ...]]:
    """What a script sees of each attribute: its type, and of tensors their dtype and dimensions but the first."""
    return {
        key: (Tensor, value.dtype, value.dim(), value.shape[1:] if key != "edge_index" else 2)
        if isinstance(value, Tensor)
        else (type(value),)
        for key, value in batch.items()
        if key not in leave_out
    }
