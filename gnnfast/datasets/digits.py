"""Handwritten digits as a graph of nearest neighbors: real, small, and shipped with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnfast.datasets.feature_rows import normalize_rows
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.graph import CSCGraph, Dataset, FeatureStore


def digits(
    num_neighbors: int = 8,
    split: str = "random",
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    per_class: int | None = None,
    split_seed: int = 0,
    undirected: bool = True,
    normalize_features: bool = False,
) -> Dataset:
    """1,797 images of 8 x 8 pixels, each hearing the images nearest to it.

    Args:
        num_neighbors: Nearest images, by Euclidean distance of the pixels, that an image hears.
        split, fractions, per_class, split_seed: See `choose_split`.
        undirected: Whether the nearest images hear back.
        normalize_features: Whether pixels, which lie in [0, 1], are divided by their sum.

    Raises:
        ValueError: If there are not as many other images as `num_neighbors`, or it is below 1.
    """
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    x, labels = torch.from_numpy(images).float() / 16, torch.from_numpy(classes).long()
    if not 1 <= num_neighbors < len(x):
        raise ValueError(f"digits: num_neighbors must be from 1 to {len(x) - 1}, got {num_neighbors}")
    nearest = _nearest(torch.from_numpy(images), num_neighbors)
    graph = CSCGraph(torch.arange(len(x) + 1) * num_neighbors, nearest.view(-1).int())
    if undirected:
        graph = graph.to_undirected()
    parts = choose_split("digits", labels, split, fractions, per_class, split_seed)
    return Dataset("digits", graph, FeatureStore(normalize_rows(x) if normalize_features else x), labels, *parts)


def _nearest(pixels: Tensor, num_neighbors: int) -> Tensor:
    """The images nearest to each, nearest first; of equally near ones those that come first.

    Pixels are whole numbers: so are squared distances, and equal ones are, however they are computed.
    """
    squares = pixels.square().sum(1)
    distances = (squares[:, None] + squares - 2 * pixels @ pixels.T).long()
    ranking = distances * len(pixels) + torch.arange(len(pixels))
    ranking.fill_diagonal_(torch.iinfo(torch.int64).max)
    return ranking.topk(num_neighbors, largest=False).indices
