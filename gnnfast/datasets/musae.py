"""Social networks of the MUSAE collection: pages that like each other, developers who follow each other."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.edges import build_graph
from gnnfast.datasets.feature_rows import densify
from gnnfast.datasets.raw_files import data_root, find_or_download, read_member
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.graph import Dataset, FeatureStore
from gnnfast.runtime.reading import reading

_URL = "https://snap.stanford.edu/data"
# Title, prefix of the loose files, archive.
_NAMES = {
    "facebook_pages": ("Facebook Pages", "facebook", "facebook_large.zip"),
    "github": ("GitHub", "musae_git", "git_web_ml.zip"),
}
_FILES = ("edges.csv", "features.json", "target.csv")


def musae(
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
    """Pages or developers, what describes them, and their kinds.

    Rozemberczki, Allen and Sarkar, Multi-Scale Attributed Node Embedding, 2021, https://arxiv.org/abs/1909.13021.
    Features are the binary ones of the raw files, where PyG has 128 dense ones; self-loops are removed.

    Args:
        name: facebook_pages or github.
        root: Holds `facebook_pages/facebook_{edges.csv,features.json,target.csv}`, or `facebook_large.zip` in their
            place; `github/musae_git_{edges.csv,features.json,target.csv}` or `git_web_ml.zip`.
        split, fractions, per_class, split_seed: See `choose_split`.
        undirected: Whether edges run both ways; the files hold each one way.
        normalize_features: Whether each row is divided by its sum.
        feature_dtype: float32, float16 or bfloat16.

    Raises:
        FileNotFoundError: If the files are missing and cannot be downloaded.
        ValueError: If a file is not what it should be.
    """
    if name not in _NAMES:
        raise ValueError(f"name must be one of {', '.join(_NAMES)}, got {name!r}")
    title, prefix, archive = _NAMES[name]
    folder = data_root(root) / name
    places = [folder / f"{prefix}_edges.csv", folder / archive, data_root(root) / archive]
    path = find_or_download(places, f"{_URL}/{archive}")
    edges, features, target = _read_texts(path, prefix)
    labels = _labels(*target)
    graph = build_graph(edges[0], _edge_index(*edges), labels.numel())
    x = _feature_rows(*features, labels.numel(), feature_dtype, normalize_features)
    parts = choose_split(title, labels, split, fractions, per_class, split_seed)
    return Dataset(title, graph.to_undirected() if undirected else graph, FeatureStore(x), labels, *parts)


def _read_texts(path: Path, prefix: str) -> list[tuple[Path, str]]:
    """Where edges, features and targets stand, and what: from the files beside `path` or from the archive it is."""
    if path.suffix != ".zip":
        places = [path.with_name(f"{prefix}_{file}") for file in _FILES]
        missing = [place for place in places if not place.exists()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} was expected beside {path.name}")
        texts = []
        for place in places:
            with reading(place, "a text"):
                texts.append((place, place.read_text(encoding="utf-8")))
        return texts
    with reading(path, "a whole .zip file"), zipfile.ZipFile(path) as archive:
        members = [[name for name in archive.namelist() if name.endswith(file)] for file in _FILES]
        for file, found in zip(_FILES, members, strict=True):
            if len(found) != 1:
                raise ValueError(f"{path} must hold one file *{file}, got {len(found)}")
        return [(path / name, read_member(archive, name).decode("utf-8")) for (name,) in members]


def _labels(path: Path, text: str) -> Tensor:
    """Classes by node, numbered in the order of their names; the node's number comes first in a row, its class last."""
    with reading(path, "a table of targets: a row does not begin with a node's number"):
        rows = list(csv.reader(io.StringIO(text)))[1:]
        nodes = np.array([int(row[0]) for row in rows], dtype=np.int64)
    if not rows:
        raise ValueError(f"{path}: the targets are empty")
    if not np.array_equal(np.sort(nodes), np.arange(nodes.size)):
        raise ValueError(f"{path}: the targets must name each node from 0 to {nodes.size - 1} once")
    kinds = np.array([row[-1] for row in rows])
    labels = np.empty(nodes.size, dtype=np.int64)
    labels[nodes] = np.unique(kinds, return_inverse=True)[1]
    return torch.from_numpy(labels)


def _edge_index(path: Path, text: str) -> Tensor:
    lines = text.splitlines()[1:]
    with reading(path, "a table of edges: they are not rows of two node numbers"):
        rows = [line.split(",") for line in lines if line]
        uneven = next((row for row in rows if len(row) != 2), None)
        if uneven:
            raise ValueError(f"got {len(uneven)} columns")
        ends = np.array(rows, np.int64).reshape(-1, 2)
    return torch.from_numpy(np.ascontiguousarray(ends[ends[:, 0] != ends[:, 1]].T))


def _feature_rows(path: Path, text: str, num_nodes: int, dtype: str, normalize: bool) -> Tensor:
    """Dense rows of the listed features, 1 where one is listed."""
    with reading(path, "a set of features: they are not lists of numbers by node"):
        listed = json.loads(text)
        rows = [listed.get(str(node), ()) for node in range(num_nodes)]
        if any(type(column) is not int for row in rows for column in row):
            raise TypeError("a feature is no whole number")
        columns = np.fromiter(chain.from_iterable(rows), np.int64)
        unknown = set(listed) - {str(node) for node in range(num_nodes)}
    if unknown:
        raise ValueError(f"{path}: features of node {min(unknown)}, which has no target")
    # A feature listed twice counts once, in the row's sum too.
    num_columns = int(columns.max(initial=-1)) + 1
    if columns.min(initial=0) < 0:
        raise ValueError(f"{path}: feature {columns.min()} is negative")
    if num_columns > np.iinfo(np.int64).max // max(num_nodes, 1):
        raise ValueError(f"{path}: there cannot be {num_columns} features")
    row_of = np.repeat(np.arange(num_nodes), [len(row) for row in rows])
    places = np.unique(row_of * num_columns + columns)
    row_of, columns = np.divmod(places, max(num_columns, 1))
    indptr = np.concatenate([[0], np.bincount(row_of, minlength=num_nodes).cumsum()])
    return densify(str(path), np.ones(places.size), columns, indptr, (num_nodes, num_columns), dtype, normalize)
