"""From global ids to local ones, in the order of first appearance."""

import torch
from torch import Tensor


def relabel_seeds(seed_nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct seeds, and each seed's number among them."""
    return _number(seed_nodes, {})


def relabel(indices: Tensor, edges: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes with the new sources of drawn edges after them, and each drawn edge's source by number."""
    return _number(indices[edges], {node: number for number, node in enumerate(nodes.tolist())})


def _number(nodes: Tensor, number_of: dict[int, int]) -> tuple[Tensor, Tensor]:
    numbers = [number_of.setdefault(node, len(number_of)) for node in nodes.tolist()]
    return torch.tensor(list(number_of), dtype=torch.int64), torch.tensor(numbers, dtype=torch.int64)
