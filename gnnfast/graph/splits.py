"""Dividing labelled nodes into training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Split = tuple[Tensor, Tensor, Tensor]


def random_split(labelled: Tensor, fractions: Sequence[float], seed: int) -> Split:
    """Shuffles nodes and cuts them in three.

    Args:
        labelled: Global ids, int64, `(num_labelled,)`.
        fractions: Shares of training, validation and test; they sum to at most 1.
        seed: Same seed, same split.

    Raises:
        ValueError: If there are not three fractions or they do not fit into 1.
    """
    if len(fractions) != 3 or not all(0 <= share <= 1 for share in fractions) or not sum(fractions) <= 1 + 1e-9:
        raise ValueError(f"fractions must be three shares of at most 1 in all, got {list(fractions)}")
    order = labelled[torch.from_numpy(np.random.default_rng(seed).permutation(labelled.numel()))]
    bounds = [round(sum(fractions[: i + 1]) * labelled.numel()) for i in range(3)]
    return (
        order[: bounds[0]].sort().values,
        order[bounds[0] : bounds[1]].sort().values,
        order[bounds[1] : bounds[2]].sort().values,
    )


def per_class_split(labels: Tensor, num_train: int, num_val: int, seed: int) -> Split:
    """Draws `num_train` training and `num_val` validation nodes of each class; the rest is test.

    The protocol of Shchur et al., Pitfalls of Graph Neural Network Evaluation, 2018, https://arxiv.org/abs/1811.05868
    (20 and 30 per class).

    Args:
        labels: int64, `(num_nodes,)`; negative where unknown, which puts the node in no split.
        seed: Same seed, same split.

    Raises:
        ValueError: If a class has not enough nodes to leave one for testing.
    """
    generator = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    values = labels.numpy()
    for label in np.unique(values[values >= 0]):
        nodes = generator.permutation(np.flatnonzero(values == label))
        if nodes.size <= num_train + num_val:
            raise ValueError(
                f"class {label} has {nodes.size} nodes, too few for {num_train} training and {num_val} validation nodes"
            )
        for part, chosen in zip(parts, np.split(nodes, [num_train, num_train + num_val]), strict=True):
            part.append(chosen)
    train, val, test = (torch.from_numpy(np.sort(np.concatenate(part))) for part in parts)
    return train, val, test


def mask_to_ids(mask: Tensor) -> Tensor:
    """Positions of the true entries, int64.

    Raises:
        ValueError: If the mask has several columns, as where a data set comes with several splits.
    """
    if mask.dim() != 1:
        raise ValueError(f"a split's mask has one dimension, got shape {tuple(mask.shape)}: choose one of its columns")
    return mask.nonzero().view(-1)
