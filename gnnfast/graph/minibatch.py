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
        node_ids: Global ids of the input rows, distinct, the distinct seeds first, int64, `(num_nodes,)`.
        blocks: One per layer; the last one's destinations are the distinct seeds.
        seed_rows: The output row of each seed, int64, `(num_seeds,)`; None where seed i has row i, that is, where no
            seed came twice.
        x: Features, `(num_nodes, num_features)`, once the loader has gathered them.
        y: Labels of `seed_nodes`, `(num_seeds, ...)`.
        num_step_seeds: Seeds of this optimizer step on all ranks together; None means `num_seeds`.
    """

    seed_nodes: Tensor
    node_ids: Tensor
    blocks: list[Block]
    seed_rows: Tensor | None = None
    x: Tensor | None = None
    y: Tensor | None = None
    num_step_seeds: int | None = None

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
        )

    def to_pyg(self) -> Data:
        """The mini-batch as one PyG `Data`: all drawn edges, `n_id`, `input_id`, `batch_size`; seeds first."""
        from gnnfast.graph.pyg import minibatch_to_pyg

        return minibatch_to_pyg(self)
