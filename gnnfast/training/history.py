"""Historical embeddings: what the hidden layers last gave out, for rows that a mini-batch does not compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, FeatureStore
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.training.inference import LayerwiseInference


class History:
    """The rows of every hidden layer at all nodes, as they were when a mini-batch last computed them.

    Fey et al., GNNAutoScale: Scalable and Expressive Graph Neural Networks via Historical Embeddings, 2021,
    https://arxiv.org/abs/2106.05609 (push and pull). `model(x, blocks, history=history)` reads, in every layer but the
    first, the rows of the block's sources that the layer before did not compute from here. They bring no gradient.
    Mini-batches of a `GASSampler`, one block from the in-neighbors of a few parts to these parts, serve all layers so.

    Rows are kept after normalization and activation and before dropout, as in the paper's code: what is read is dropped
    anew. With weights that stay as they are, and no dropout or batch statistics, outputs are those of the full graph
    once every node was computed `num_layers - 1` times, or at once after `fill`.

    Memory: `(num_layers - 1) * num_nodes * hidden_channels` numbers, in RAM. On several ranks each has its own, and
    computes all rows of its mini-batches whatever its share of the seeds.

    Args:
        model: Whose layers' outputs are kept.
        num_nodes: Of the graph.
        dtype: float32; half precision takes half of the memory, and a model in float64 wants float64.
    """

    def __init__(self, model: GNN, num_nodes: int, dtype: torch.dtype = torch.float32):
        shape = (num_nodes, model.hidden_channels)
        self.tables = [torch.zeros(shape, dtype=dtype) for _ in range(model.num_layers - 1)]

    @property
    def num_bytes(self) -> int:
        return sum(table.nbytes for table in self.tables)

    def state_dict(self) -> dict[str, Tensor]:
        """The rows of every hidden layer, by its number: not copied."""
        return {str(layer): table for layer, table in enumerate(self.tables)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes the rows over, in this history's own precision.

        Raises:
            ValueError: If the state is of a model with other hidden layers, or of a graph with another number of nodes.
        """
        shapes = {name: tuple(rows.shape) for name, rows in state.items()}
        own = {name: tuple(table.shape) for name, table in self.state_dict().items()}
        if shapes != own:
            raise ValueError(f"the state has rows {shapes} but the history {own}: is it of another model or graph?")
        for name, table in self.state_dict().items():
            table.copy_(state[name])

    def __call__(self, layer: int, block: Block, rows: Tensor) -> Tensor:
        """Keeps what a layer computed and completes it for the next one; called by `GNN.forward`.

        Args:
            layer: Number of the layer that computed the rows, from 0.
            block: The next layer's. The rows are those of its first sources.
            rows: `(num_computed, hidden_channels)`.

        Returns:
            Rows of all sources, `(num_src, hidden_channels)`; a gradient flows through those computed.

        Raises:
            ValueError: If the block does not say which nodes its sources are.
        """
        if block.src_nodes is None:
            raise ValueError("the block has no src_nodes: a history keeps rows by their global ids")
        table = self.tables[layer]
        nodes = block.src_nodes.to(table.device)
        num_computed = rows.shape[0]
        table.index_copy_(0, nodes[:num_computed], rows.detach().to(table))
        if num_computed == block.num_src:
            return rows
        return torch.cat([rows, table.index_select(0, nodes[num_computed:]).to(rows)])

    def fill(self, model: GNN, graph: CSCGraph, features: FeatureStore, device: torch.device | str = "cpu") -> None:
        """Computes all rows exactly, layer by layer, in evaluation mode; otherwise they begin as zeros.

        Args:
            model: The one that the history is of.
            graph: The whole graph.
            features: Of its nodes.
            device: Where to compute; the model's.
        """
        nodes = torch.arange(graph.num_nodes)
        inference = LayerwiseInference(graph, features, nodes, model.num_layers, device)
        for table, rows in zip(self.tables, inference.hidden_layers(model), strict=True):
            table.copy_(rows)


def history_for(loader: DataLoader, model: GNN, device: torch.device | str) -> dict[str, Any]:
    """What else the model is called with on the loader's mini-batches: a history where its sampler needs one.

    The sampler's `history_dtype` and `fill_history`, where it has them, say how it is kept and whether it is filled. In
    place of float32 it is kept in float64 where the model computes in that.
    """
    sampler = loader.sampler
    if not getattr(sampler, "needs_history", False):
        return {}
    dataset = loader.dataset
    assert dataset.features is not None
    dtype = getattr(sampler, "history_dtype", torch.float32)
    if dtype == torch.float32:
        dtype = torch.promote_types(dtype, next(model.parameters()).dtype)
    history = History(model, dataset.num_nodes, dtype)
    if getattr(sampler, "fill_history", True):
        history.fill(model, dataset.graph, dataset.features, device)
    return {"history": history}
