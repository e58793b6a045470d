"""Learned rows as inputs, for nodes that have no features."""

from __future__ import annotations

import torch
from torch import Tensor


# DDP asks `nn.Embedding` whether gradients are sparse.
class NodeEmbedding(torch.nn.Embedding):
    """One learned row per node.

    Args:
        num_nodes: Of the graph.
        channels: Width of the rows.
        std: Standard deviation of the normal distribution that rows start from.
        sparse: Whether gradients are sparse, with a row per node of the mini-batch. They pay where a mini-batch has a
            small part of the nodes, and need an optimizer that knows them (`gnnfast.training.RowAdam`); where it has
            most of them, dense ones are faster.

    Raises:
        ValueError: If a size is not positive.
    """

    def __init__(self, num_nodes: int, channels: int = 64, std: float = 0.1, sparse: bool = False):
        if min(num_nodes, channels) < 1 or std <= 0:
            raise ValueError(f"num_nodes, channels and std must be positive, got {num_nodes=}, {channels=}, {std=}")
        self.std = std
        super().__init__(num_nodes, channels, sparse=sparse)

    @property
    def num_nodes(self) -> int:
        return self.num_embeddings

    @property
    def channels(self) -> int:
        return self.embedding_dim

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.weight, std=self.std)

    def forward(self, node_ids: Tensor) -> Tensor:
        """The rows of some nodes, `(num_ids, channels)`."""
        if not self.sparse and node_ids.is_cpu and self._are_all_in_order(node_ids):
            return self.weight
        return super().forward(node_ids)

    def _are_all_in_order(self, node_ids: Tensor) -> bool:
        """Steps on the whole graph need no copy of the table, and no scattering of its gradient."""
        return node_ids.numel() == self.num_nodes and torch.equal(node_ids, torch.arange(self.num_nodes))
