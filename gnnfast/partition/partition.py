"""Which part each node of a graph belongs to, and how good the parts are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Partition:
    """The parts of a graph; none is empty.

    Args:
        part_of: Part of each node, int64, `(num_nodes,)`, in [0, num_parts).
        num_parts: Number of parts.
        cut_share: Edges between different parts, as a share of all edges but self-loops, which no partition cuts.
        method: What made it.
    """

    part_of: Tensor
    num_parts: int
    cut_share: float
    method: str

    @cached_property
    def sizes(self) -> Tensor:
        """Nodes of each part, int64, `(num_parts,)`."""
        return torch.bincount(self.part_of, minlength=self.num_parts)

    @property
    def imbalance(self) -> float:
        """How much larger than the average the largest part is: 0.03 for 3 %."""
        return int(self.sizes.max()) * self.num_parts / self.part_of.numel() - 1

    def nodes_of(self, parts: Tensor) -> Tensor:
        """Global ids of the nodes of some parts, int64: part by part in the order given, ascending in each.

        Args:
            parts: int64, `(num_chosen,)`.
        """
        nodes, offsets = self._by_part
        first = offsets.tolist()
        return torch.cat([nodes[:0], *(nodes[first[part] : first[part + 1]] for part in parts.tolist())])

    @cached_property
    def _by_part(self) -> tuple[Tensor, Tensor]:
        """Nodes sorted by part, and where each part begins."""
        nodes = torch.argsort(self.part_of, stable=True)
        return nodes, torch.cat([self.sizes.new_zeros(1), self.sizes.cumsum(0)])

    def __repr__(self) -> str:
        return (
            f"Partition(num_parts={self.num_parts}, method={self.method!r}, cut_share={self.cut_share:.3f}, "
            f"imbalance={self.imbalance:.3f})"
        )
