"""What a sampler hands to a model: message flow that ends at the seeds, with its inputs and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gnnfast.graph.block import Block

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass
class MiniBatch:
    """Blocks from the model's input to its output, and the rows that enter them.

    Args:
        seed_nodes: Global ids the model computes outputs for, in the order asked for, int64, `(num_seeds,)`.
        node_ids: Global ids of the input rows, int64, `(num_nodes,)`; distinct, unless every seed has a subgraph of its
            own. Where `seed_rows` is None the seeds come first.
        blocks: One per layer; the last one's destinations are the distinct seeds. Or one block for all layers, whose
            sources are its destinations: a subgraph.
        seed_rows: The output row of each seed, int64, `(num_seeds,)`; None where seed i has row i.
        x: Features, `(num_nodes, num_features)`, once the loader has gathered them.
        y: Labels of `seed_nodes`, `(num_seeds, ...)`.
        num_step_seeds: What the summed loss of this optimizer step, on all ranks together, is divided by: its number of
            seeds, or where they are weighted, of all seeds that there are. None means `num_seeds`.
        seed_weight: Factor of each seed's loss, float32, `(num_seeds,)`: 1 / probability of being sampled, where seeds
            are not drawn evenly. None means 1.
        seed_edges: For tasks on edges the pairs to predict, global ids, int64, `(2, num_pairs)`: first those of the
            graph, then for each the same number of negatives, those of one pair together.
        edge_rows: The output rows of their ends, int64, `(2, num_pairs)`.
        edge_labels: 1 for pairs of the graph, 0 for negatives, float32, `(num_pairs,)`.
    """

    seed_nodes: Tensor
    node_ids: Tensor
    blocks: list[Block]
    seed_rows: Tensor | None = None
    x: Tensor | None = None
    y: Tensor | None = None
    num_step_seeds: int | None = None
    seed_weight: Tensor | None = None
    seed_edges: Tensor | None = None
    edge_rows: Tensor | None = None
    edge_labels: Tensor | None = None

    @property
    def num_seeds(self) -> int:
        return self.seed_nodes.numel()

    @property
    def num_nodes(self) -> int:
        return self.node_ids.numel()

    @property
    def num_edges(self) -> int:
        """Edges of all blocks together: what the layers aggregate over."""
        return sum(block.num_edges for block in self.blocks)

    @property
    def num_outputs(self) -> int:
        """Rows of a model's output."""
        return self.blocks[-1].num_dst

    def keep_seeds(self, kept: Tensor) -> MiniBatch:
        """The same mini-batch for some of its seeds only.

        Args:
            kept: Positions in `seed_nodes`, int64.
        """
        return replace(
            self,
            seed_nodes=self.seed_nodes[kept],
            seed_rows=kept if self.seed_rows is None else self.seed_rows[kept],
            y=None if self.y is None else self.y[kept],
            seed_weight=None if self.seed_weight is None else self.seed_weight[kept],
        )

    def at_seeds(self, output: Tensor) -> Tensor:
        """The rows of a model's output that belong to `seed_nodes`, in their order."""
        return output[: self.num_seeds] if self.seed_rows is None else output[self.seed_rows]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MiniBatch:
        """The mini-batch with all its tensors on `device`."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        # A block may serve several layers: it moves once and stays one object.
        moved = {id(block): block.to(device, non_blocking) for block in self.blocks}
        return replace(
            self,
            seed_nodes=self.seed_nodes.to(device, non_blocking=non_blocking),
            node_ids=self.node_ids.to(device, non_blocking=non_blocking),
            blocks=[moved[id(block)] for block in self.blocks],
            seed_rows=move(self.seed_rows),
            x=move(self.x),
            y=move(self.y),
            seed_weight=move(self.seed_weight),
            seed_edges=move(self.seed_edges),
            edge_rows=move(self.edge_rows),
            edge_labels=move(self.edge_labels),
        )

    def to_pyg(self) -> Data:
        """The mini-batch as one PyG `Data`: all drawn edges, `n_id`, `input_id`, `batch_size`; seeds first.

        `edge_norm` is the edges' `inclusion_weight`, `node_norm` the `seed_weight`, of the first `batch_size` rows.
        """
        from gnnfast.graph.pyg import minibatch_to_pyg

        return minibatch_to_pyg(self)
