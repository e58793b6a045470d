"""Which nodes train, validate and test: the split a data set ships with, or a random one by seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnfast.graph import per_class_split, random_split
from gnnfast.graph.splits import Split

DEFAULT_FRACTIONS = (0.6, 0.2, 0.2)
_VALIDATION_PER_CLASS = 30
_NAMES = ("training", "validation", "test")


def choose_split(
    name: str,
    labels: Tensor,
    split: str,
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    per_class: int | None = None,
    split_seed: int = 0,
    given: Split | None = None,
) -> Split:
    """The split that a configuration asks for.

    Args:
        labels: int64, `(num_nodes,)`, -1 where unknown; or floating, `(num_nodes, num_labels)`, NaN where unknown.
        split: `public` or `official` (the same: the one the data set ships with) or `random`.
        fractions: Shares of the labelled nodes, for a random split.
        per_class: Training nodes per class, for a random split; 30 more per class validate and the rest test.
            `fractions` then do not count.
        split_seed: Same seed, same random split. Apart from the run's seed, so that repeated runs share a split
            unless they are asked to vary it (`dataset.split_seed=${seed}`).
        given: What the data set ships with, global ids.

    Raises:
        ValueError: If there is no such split, its parts overlap, or nothing is left to train on.
    """
    if not isinstance(split_seed, int) or split_seed < 0:
        raise ValueError(f"{name}: split_seed must be an integer from 0, got {split_seed!r}")
    if split == "random":
        parts = _random_split(name, labels, fractions, per_class, split_seed)
    elif split not in ("public", "official"):
        raise ValueError(f"{name}: split must be public, official or random, got {split!r}")
    elif given is None:
        raise ValueError(f"{name} ships without a split: choose dataset.split=random")
    elif per_class is not None:
        raise ValueError(f"{name}: per_class={per_class} belongs to split=random, but split is {split!r}")
    else:
        parts = given
    _check(name, parts)
    return parts


def _random_split(
    name: str, labels: Tensor, fractions: Sequence[float], per_class: int | None, split_seed: int
) -> Split:
    if per_class is not None and (not isinstance(per_class, int) or per_class < 1):
        raise ValueError(f"{name}: per_class must be at least 1, got {per_class!r}")
    if per_class is None:
        known = labels >= 0 if labels.dim() == 1 else ~labels.isnan().all(dim=1)
        return random_split(known.nonzero().view(-1), fractions, split_seed)
    if labels.dim() != 1:
        raise ValueError(f"{name}: per_class needs one class per node, but nodes have {labels.shape[1]} labels")
    return per_class_split(labels, per_class, _VALIDATION_PER_CLASS, split_seed)


def _check(name: str, parts: Split) -> None:
    if parts[0].numel() == 0:
        raise ValueError(f"{name}: the training split is empty")
    ids = torch.cat(parts)
    order = torch.sort(ids, stable=True)
    repeats = (order.values[1:] == order.values[:-1]).nonzero().view(-1)
    if repeats.numel():
        first = int(repeats[0])
        ends = torch.tensor([part.numel() for part in parts]).cumsum(0)
        where = torch.searchsorted(ends, order.indices[first : first + 2], right=True)
        first_part, second_part = (_NAMES[int(part)] for part in where)
        node = int(order.values[first])
        if first_part == second_part:
            raise ValueError(f"{name}: the {first_part} split names node {node} twice")
        raise ValueError(f"{name}: node {node} is in the {first_part} and in the {second_part} split")
