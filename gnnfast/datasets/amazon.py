"""Amazon Computers and Photo: goods that are bought together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gnnfast.datasets.attributed_npz import URL, read_attributed_npz
from gnnfast.datasets.raw_files import data_root, find_or_download
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.graph import Dataset, FeatureStore


def amazon(
    name: str,
    root: str | Path | None = None,
    split: str = "random",
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    per_class: int | None = None,
    split_seed: int = 0,
    undirected: bool = True,
    normalize_features: bool = False,
    feature_dtype: str = "float32",
) -> Dataset:
    """Goods, the words of their reviews, and their categories.

    Shchur et al., Pitfalls of Graph Neural Network Evaluation, 2018, https://arxiv.org/abs/1811.05868. All nodes are
    kept, as in PyG, where the paper keeps the largest connected component.

    Args:
        name: Computers or Photo, in any case.
        root: Holds `Computers/raw/amazon_electronics_computers.npz`, as PyG lays it out, or
            `amazon_computers/amazon_electronics_computers.npz`, or `amazon-computers.zip` in its place.
        split, fractions, per_class, split_seed: See `choose_split`; the paper's is random with `per_class=20`.
        undirected: Whether edges run both ways; the file holds some of them one way only.
        normalize_features: Whether each row is divided by its sum.
        feature_dtype: float32, float16 or bfloat16.

    Raises:
        FileNotFoundError: If the file is missing and cannot be downloaded.
        ValueError: If the file is not what it should be.
    """
    kind = name.lower()
    if kind not in ("computers", "photo"):
        raise ValueError(f"name must be Computers or Photo, got {name!r}")
    file = f"amazon_electronics_{kind}.npz"
    folders = [f"{kind.capitalize()}/raw", f"Amazon/{kind.capitalize()}/raw", f"amazon_{kind}/raw", f"amazon_{kind}"]
    places = [data_root(root) / folder / file for folder in [*folders, "."]]
    places += [data_root(root) / folder / f"amazon-{kind}.zip" for folder in (f"amazon_{kind}", ".")]
    path = find_or_download(places, f"{URL}/{file}")
    title = f"Amazon {kind.capitalize()}"
    graph, x, labels = read_attributed_npz(path, file, undirected, normalize_features, feature_dtype)
    parts = choose_split(title, labels, split, fractions, per_class, split_seed)
    return Dataset(title, graph, FeatureStore(x), labels, *parts)
