"""Coauthor CS and Physics: authors who wrote papers together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gnnfast.datasets.attributed_npz import URL, read_attributed_npz
from gnnfast.datasets.raw_files import data_root, find_or_download
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.graph import Dataset, FeatureStore

_NAMES = {"cs": "CS", "physics": "Physics"}


def coauthor(
    name: str,
    root: str | Path | None = None,
    split: str = "random",
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    per_class: int | None = None,
    split_seed: int = 0,
    undirected: bool = True,
    normalize_features: bool = True,
    feature_dtype: str = "float32",
) -> Dataset:
    """Authors, the keywords of their papers, and their fields of study.

    Shchur et al., Pitfalls of Graph Neural Network Evaluation, 2018, https://arxiv.org/abs/1811.05868. All nodes are
    kept, as in PyG, where the paper keeps the largest connected component.

    Args:
        name: CS or Physics, in any case.
        root: Holds `Physics/raw/ms_academic_phy.npz`, as PyG lays it out, or `coauthor_physics/ms_academic_phy.npz`,
            or `coauthor-physics.zip` in its place; likewise for CS (`ms_academic_cs.npz`).
        split, fractions, per_class, split_seed: See `choose_split`; the paper's is random with `per_class=20`.
        undirected: Whether edges run both ways.
        normalize_features: Whether each row is divided by its sum.
        feature_dtype: float32, float16 or bfloat16: Physics takes 1.16 GB in float32, half of it in the others.

    Raises:
        FileNotFoundError: If the file is missing and cannot be downloaded.
        ValueError: If the file is not what it should be.
    """
    kind = name.lower()
    if kind not in _NAMES:
        raise ValueError(f"name must be CS or Physics, got {name!r}")
    file = f"ms_academic_{kind[:3]}.npz"
    folders = [f"{_NAMES[kind]}/raw", f"Coauthor/{_NAMES[kind]}/raw", f"coauthor_{kind}/raw", f"coauthor_{kind}"]
    places = [data_root(root) / folder / file for folder in [*folders, "."]]
    places += [data_root(root) / folder / f"coauthor-{kind}.zip" for folder in (f"coauthor_{kind}", ".")]
    path = find_or_download(places, f"{URL}/{file}")
    title = f"Coauthor {_NAMES[kind]}"
    graph, x, labels = read_attributed_npz(path, file, undirected, normalize_features, feature_dtype)
    parts = choose_split(title, labels, split, fractions, per_class, split_seed)
    return Dataset(title, graph, FeatureStore(x), labels, *parts)
