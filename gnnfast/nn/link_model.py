"""An encoder of nodes and a decoder of pairs, as one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gnnfast.graph import Block
from gnnfast.nn.embedding import NodeEmbedding


class LinkModel(torch.nn.Module):
    """Scores pairs of nodes: the encoder computes rows of nodes, the decoder scores pairs of rows.

    Args:
        encoder: A `GNN`, or `LightGCN`; its output is a node's representation.
        decoder: A `DotDecoder` or `MLPDecoder`.
        embedding: Learned inputs of the encoder: in place of features, or beside them, after them in a row. None where
            features are all there is.
    """

    def __init__(self, encoder: Any, decoder: Any, embedding: NodeEmbedding | None = None):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.embedding = embedding

    @property
    def num_layers(self) -> int:
        num_layers: int = self.encoder.num_layers
        return num_layers

    @property
    def conv_name(self) -> str:
        name: str = self.encoder.conv_name
        return name

    def inputs(self, x: Tensor | None, node_ids: Tensor) -> Tensor:
        """What enters the encoder, `(num_nodes, in_channels)`: features, learned rows, or both side by side.

        Args:
            x: Features, `(num_nodes, num_features)`; None if there are none.
            node_ids: Global ids, int64, `(num_nodes,)`.
        """
        if self.embedding is None:
            assert x is not None
            return x
        rows: Tensor = self.embedding(node_ids)
        return rows if x is None else torch.cat([x, rows.to(x.dtype)], dim=1)

    def forward(
        self, x: Tensor | None, blocks: Sequence[Block], node_ids: Tensor, edge_rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores the pairs of a mini-batch.

        Args:
            x: Features of `node_ids`, or None.
            blocks: As in `MiniBatch`.
            node_ids: Global ids of the input rows.
            edge_rows: Output rows of the pairs' ends, int64, `(2, num_pairs)`.

        Returns:
            Scores, `(num_pairs,)`, and the inputs of the encoder, whose first rows are those of its output.
        """
        inputs = self.inputs(x, node_ids)
        rows = self.encoder(inputs, blocks)
        src, dst = edge_rows
        return self.decoder(rows[src], rows[dst]), inputs
