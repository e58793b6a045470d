"""Propagated embeddings, averaged over the layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gnnfast.nn.conv.lg import LGConv


class LightGCN(torch.nn.Module):
    """The mean of the inputs and of what each light convolution makes of them: no weights, no nonlinearity.

    He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, 2020,
    https://arxiv.org/abs/2002.02126. All that is learned are the inputs, a `NodeEmbedding`.

    Args:
        in_channels: Width of inputs and output.
        num_layers: Convolutions.
        out_channels: `in_channels` or None.

    Raises:
        ValueError: If there is no layer, or another width is asked of the output.
    """

    conv_name = "lightgcn"
    supports_edge_weight = True
    # As jumping knowledge, which needs the outputs of all layers; and here the inputs too.
    jk_mode = "mean"
    reads_inputs = True

    def __init__(self, in_channels: int, num_layers: int = 3, out_channels: int | None = None):
        super().__init__()
        if min(in_channels, num_layers) < 1:
            raise ValueError(f"in_channels and num_layers must be at least 1, got {in_channels=} and {num_layers=}")
        if out_channels not in (None, in_channels):
            raise ValueError(
                f"LightGCN keeps the width of its inputs, {in_channels}, but {out_channels} outputs are asked for: it "
                "is made for data sets of pairs, as dataset=gowalla"
            )
        self.in_channels = self.hidden_channels = self.out_channels = in_channels
        self.num_layers = num_layers
        self.conv = LGConv()

    def forward(self, x: Tensor, graph: Any) -> Tensor:
        """Runs all layers; arguments and output as those of `GNN`."""
        graphs = list(graph) if isinstance(graph, (list, tuple)) else [graph]
        if len(graphs) == 1:
            graphs *= self.num_layers
        if len(graphs) != self.num_layers:
            raise ValueError(f"the model has {self.num_layers} layers but the mini-batch has {len(graphs)} blocks")
        outputs = [x]
        for i, layer_graph in enumerate(graphs):
            outputs.append(self.layer(i, outputs[-1], layer_graph))
        num_out = outputs[-1].shape[0]
        return self.readout([rows[:num_out] for rows in outputs])

    def layer(self, i: int, x: Tensor, graph: Any) -> Tensor:
        """Runs layer i: `(num_dst, channels)` from the rows of the block's sources."""
        out: Tensor = self.conv(x, graph)
        return out

    def readout(self, outputs: Sequence[Tensor]) -> Tensor:
        """The mean of the inputs and the layers' outputs, at the same nodes."""
        total = outputs[0]
        for rows in outputs[1:]:
            total = total + rows
        return total / len(outputs)

    def message_channels(self, i: int) -> int:
        """As `GNN.message_channels`: the compiled kernel for the CPU makes no tensor with a row per edge."""
        return 0
