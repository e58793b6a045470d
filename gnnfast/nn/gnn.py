"""Convolutions stacked to a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.models import MLP
from torch_geometric.nn.models.basic_gnn import BasicGNN

from gnnfast.graph import Block
from gnnfast.nn.conv.gat import GATConv
from gnnfast.nn.conv.gatv2 import GATv2Conv
from gnnfast.nn.conv.gcn import GCNConv
from gnnfast.nn.conv.gin import GINConv
from gnnfast.nn.conv.refuse import refuse_on_block
from gnnfast.nn.conv.sage import SAGEConv
from gnnfast.nn.dropout import Dropout
from gnnfast.nn.linear import Linear

_CONVS = {"gcn": GCNConv, "gat": GATConv, "gatv2": GATv2Conv, "gin": GINConv, "sage": SAGEConv}
_ROW_MIXING_NORMS = ("pair", "graph", "graphsize", "instance", "meansubtraction", "diffgroup")


class GNN(BasicGNN):
    """A stack of convolutions with normalization, activation, dropout, residual connections and jumping knowledge.

    Parameters have the names of PyG's `GCN`, `GraphSAGE`, `GIN` and `GAT` with the same arguments, so checkpoints are
    interchangeable. Jumping knowledge: Xu et al., Representation Learning on Graphs with Jumping Knowledge Networks,
    2018, https://arxiv.org/abs/1806.03536.

    Args:
        in_channels: Width of the features.
        hidden_channels: Width of every layer but the last; for attention that of all heads together.
        num_layers: Number of convolutions.
        out_channels: Width of the output.
        conv: "gcn", "gat", "gatv2", "gin" or "sage".
        dropout: Probability of dropping a value after each layer but the last, and an attention weight.
        input_dropout: Probability of dropping a value of the features.
        act: PyG's name of an activation, a module or a function; None for none.
        norm: "batch", "layer" (each row by itself, which sampling needs), another PyG name, or a module to copy. Names
            of normalizations that mix the rows of a mini-batch are refused; a module is taken as it is.
        norm_kwargs: Further arguments of the normalization.
        residual: Whether each layer adds its input, through a linear map where widths differ.
        jk: "last", "cat", "max" or "lstm" send the outputs of the layers to a final linear map; None has the last
            layer give the output.
        heads: Attention heads of each layer.
        output_heads: Attention heads, averaged, of a last layer that gives the output (`jk=None`); `heads` by default.
        normalization: For GCN, whether degrees in training are those of the "full" graph or of the "batch".
        **conv_kwargs: Further arguments of the convolutions, for example `aggr="max"` for "sage"; and `act_first`,
            `act_kwargs` of PyG's models.

    Raises:
        ValueError: If `conv` or an argument for it is unknown, heads do not divide the width, or `norm` names a
            normalization that mixes rows.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int,
        out_channels: int,
        conv: str = "gcn",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        act: str | Callable[[Tensor], Tensor] | None = "relu",
        norm: str | torch.nn.Module | None = None,
        norm_kwargs: dict[str, Any] | None = None,
        residual: bool = False,
        jk: str | None = None,
        heads: int = 1,
        output_heads: int | None = None,
        normalization: str = "full",
        **conv_kwargs: Any,
    ):
        widths = {"in_channels": in_channels, "hidden_channels": hidden_channels, "out_channels": out_channels}
        for name, value in {**widths, "num_layers": num_layers, "heads": heads}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if jk not in (None, "last", "cat", "max", "lstm"):
            raise ValueError(f"jk must be last, cat, max, lstm or null, got {jk!r}")
        if conv not in _CONVS:
            raise ValueError(f"conv must be one of {', '.join(_CONVS)}, got {conv!r}")
        if conv in ("gat", "gatv2"):
            conv_kwargs |= {"heads": heads, "output_heads": heads if output_heads is None else output_heads}
        elif heads != 1 or output_heads is not None:
            raise ValueError(f"conv={conv!r} has no heads, got {heads=} and {output_heads=}")
        if conv == "gcn":
            conv_kwargs["normalization"] = normalization
        elif normalization != "full":
            raise ValueError(f"conv={conv!r} has no normalization by degrees, got {normalization=}")
        if isinstance(norm, str):
            norm_kwargs = _row_wise(norm, norm_kwargs or {})
        super().__init__(
            in_channels,
            hidden_channels,
            num_layers,
            out_channels,
            dropout=dropout,
            act=act,
            norm=norm,
            norm_kwargs=norm_kwargs,
            jk=jk,
            conv=conv,
            **conv_kwargs,
        )
        self.conv_name = conv
        self.supports_edge_weight = _CONVS[conv].uses_edge_weight
        self.supports_edge_attr = False
        self.dropout = Dropout(dropout)
        self.input_dropout = Dropout(input_dropout)
        # Of what enters and leaves the layers: layer i maps the i-th width to the next.
        self._widths = [in_channels] + [hidden_channels] * (num_layers - 1)
        self._widths += [out_channels if jk is None else hidden_channels]
        self.residuals = None
        if residual:
            self.residuals = torch.nn.ModuleList(_residual(*pair) for pair in pairwise(self._widths))

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> torch.nn.Module:
        """Makes one layer; called by `BasicGNN`."""
        conv = kwargs.pop("conv")
        if conv == "gin":
            layers = [in_channels, out_channels, out_channels]
            mlp = MLP(layers, act=self.act, act_first=self.act_first, norm=self.norm, norm_kwargs=self.norm_kwargs)
            for lin in mlp.lins:
                lin.__class__ = Linear  # PyG's with another product; MLP offers no way to choose it
            return GINConv(mlp, **kwargs)
        if conv in ("gat", "gatv2"):
            gives_output = getattr(self, "_is_conv_to_out", False)
            output_heads = kwargs.pop("output_heads")
            heads = output_heads if gives_output else kwargs["heads"]
            if not gives_output and out_channels % heads != 0:
                raise ValueError(f"{heads=} must divide the width of the layer, {out_channels}")
            kwargs |= {"heads": heads, "concat": not gives_output, "dropout": self.dropout.p}
            out_channels = out_channels if gives_output else out_channels // heads
        return _CONVS[conv](in_channels, out_channels, **kwargs)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for residual in self.residuals or []:
            if isinstance(residual, torch.nn.Linear):
                residual.reset_parameters()

    def forward(
        self,
        x: Tensor,
        graph: Any,
        edge_weight: Tensor | None = None,
        history: Callable[[int, Block, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Runs all layers.

        Args:
            x: Features, `(num_nodes, in_channels)`: the sources of the first block.
            graph: One block per layer, ordered from the input to the output; or one block whose sources are its
                destinations, a whole graph or a subgraph, for all layers; or PyG's `edge_index`, int64
                `(2, num_edges)`, or `SparseTensor`.
            edge_weight: `(num_edges,)`, with `edge_index` only: blocks bring theirs. Used by GCN.
            history: Brings the rows that a layer does not compute and the next one reads: called with the layer's
                number, the next layer's block and the rows computed, before dropout; gives rows of all sources of that
                block. One block of any shape may then serve all layers. See `gnnfast.training.History`.

        Returns:
            `(num_dst of the last block, out_channels)`.

        Raises:
            ValueError: If there are more or fewer blocks than layers, edge weights beside blocks, or without a history
                a block that reads rows which the one before does not compute.
        """
        graphs = self._by_layer(graph, history is not None)
        num_out = graphs[-1].num_dst if isinstance(graphs[-1], Block) else x.shape[0]
        outputs = []
        for i, layer_graph in enumerate(graphs):
            is_last = i == self.num_layers - 1
            complete = None if history is None or is_last else partial(history, i, graphs[i + 1])
            x = self.layer(i, x, layer_graph, edge_weight, complete)
            outputs.append(x[:num_out] if self.jk_mode is not None else x)
        return self.readout(outputs)

    def layer(
        self,
        i: int,
        x: Tensor,
        graph: Any,
        edge_weight: Tensor | None = None,
        complete: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Runs layer i: convolution, residual, normalization, activation, dropout; the last three unless it gives the
        model's output.

        Layer-wise inference calls it block by block, and `readout` in the end.

        Args:
            i: Number of the layer, from 0.
            x: Rows of the block's sources, `(num_src, channels)`.
            graph: A block, or what PyG takes.
            edge_weight: As in `forward`.
            complete: Adds rows to the block's destinations, before dropout.

        Returns:
            Rows of the block's destinations, `(num_dst, channels)`, and those added.
        """
        if isinstance(graph, Block):
            refuse_on_block("GNN", edge_weight=edge_weight)
        if i == 0:
            x = self.input_dropout(x)
        if isinstance(graph, Block) and self._ends_with_relu(i):
            out: Tensor = self.convs[i](x, graph, relu=True)
        else:
            weights = () if edge_weight is None or not self.supports_edge_weight else (edge_weight,)
            out = self.convs[i](x, graph, *weights)
            out = self.finish(i, out, x, slice(out.shape[0]))
        if i == self.num_layers - 1 and self.jk_mode is None:
            return out
        if complete is not None:
            out = complete(out)
        out = self.dropout(out)
        return out

    def finish(self, i: int, out: Tensor, x: Tensor, own: slice | Tensor) -> Tensor:
        """What follows the convolution of layer i, row by row: residual, and unless the layer gives the model's output,
        normalization and activation.

        Args:
            i: Number of the layer, from 0.
            out: What the convolution gives, `(num_rows, channels)`.
            x: The layer's input.
            own: Where the same nodes' rows are in it: a slice, or int64 `(num_rows,)`.
        """
        if self.residuals is not None:
            out = out + self.residuals[i](x[own])
        if i == self.num_layers - 1 and self.jk_mode is None:
            return out
        if self.act is not None and self.act_first:
            out = self.act(out)
        out = self.norms[i](out)
        return self.act(out) if self.act is not None and not self.act_first else out

    def _ends_with_relu(self, i: int) -> bool:
        """Whether ReLU is all that follows the convolution of layer i, and this can take it over."""
        if i == self.num_layers - 1 and self.jk_mode is None:
            return False
        is_alone = self.residuals is None and isinstance(self.norms[i], torch.nn.Identity)
        return is_alone and type(self.act) is torch.nn.ReLU and isinstance(self.convs[i], (GCNConv, SAGEConv))

    def message_channels(self, i: int) -> int:
        """The width of the widest tensor with a row per edge that layer i makes on a block, without gradients.

        Memory bounds of inference are made of it: at most five tensors of this width are alive at once, beside a few
        numbers per edge. The compiled kernels for the CPU sum, average and maximize without such a tensor: 0 for GCN,
        SAGE and GIN, `heads` for attention. Plain torch, on other devices, has all messages in memory.

        Args:
            i: Number of the layer, from 0.
        """
        conv = self.convs[i]
        is_on_cpu = next(self.parameters()).device.type == "cpu"
        if isinstance(conv, (GATConv, GATv2Conv)):
            return int(conv.heads if is_on_cpu else conv.heads * conv.out_channels)
        # Aggregated before or after the linear map, as `aggregates_first` decides by block.
        return 0 if is_on_cpu else max(self._widths[i : i + 2])

    def readout(self, outputs: Sequence[Tensor]) -> Tensor:
        """Makes the model's output of the layers' outputs at the same nodes, first layer first; without jumping
        knowledge the last one suffices.
        """
        out = self.jk(list(outputs)) if hasattr(self, "jk") else outputs[-1]
        return self.lin(out) if hasattr(self, "lin") else out

    def inference_per_layer(self, layer: int, x: Tensor, edge_index: Any, batch_size: int) -> Tensor:
        """One layer of `BasicGNN.inference`, which is PyG's and normalizes GCN by the batch."""
        out = self.layer(layer, x, edge_index)[:batch_size]
        return self.readout([out]) if layer == self.num_layers - 1 else out

    def _by_layer(self, graph: Any, has_history: bool) -> list[Any]:
        """What each layer runs on. Rows that a layer reads must have been computed, or come from a history."""
        if not isinstance(graph, (list, tuple)):
            graphs = [graph] * self.num_layers
        elif len(graph) == 1 and (has_history or graph[0].num_src == graph[0].num_dst):
            graphs = [graph[0]] * self.num_layers
        elif len(graph) == self.num_layers:
            graphs = list(graph)
        else:
            raise ValueError(
                f"the model has {self.num_layers} layers but the mini-batch has {len(graph)} blocks: "
                "sampler.fanouts needs one entry per layer"
            )
        for i, (block, after) in enumerate(pairwise(graphs), 1):
            if not isinstance(block, Block) or block.num_dst == after.num_src:
                continue
            if block.num_dst > after.num_src or not has_history:
                raise ValueError(
                    f"layer {i} computes {block.num_dst} rows and the next one reads {after.num_src}: blocks must fit "
                    "together, or a history bring the rows that are not computed (gnnfast.training.History)"
                )
        return graphs


def _row_wise(norm: str, norm_kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments with which the normalization PyG knows by this name keeps rows apart."""
    # PyG finds "layer" by "LayerNorm" and "layer_norm" too.
    name = re.sub("[-_ ]", "", norm.lower()).removesuffix("norm")
    if name == "layer":
        # PyG's default takes the mean over all rows of a mini-batch.
        norm_kwargs = {"mode": "node", **norm_kwargs}
    if name in _ROW_MIXING_NORMS or norm_kwargs.get("mode") == "graph":
        raise ValueError(
            f"{norm=} with {norm_kwargs=} mixes the rows of a mini-batch, so outputs would depend on which nodes come "
            "together: sampled mini-batches need row-wise norms, as norm='layer', or norm='batch'"
        )
    return norm_kwargs


def _residual(in_channels: int, out_channels: int) -> torch.nn.Module:
    if in_channels == out_channels:
        return torch.nn.Identity()
    return torch.nn.Linear(in_channels, out_channels, bias=False)
