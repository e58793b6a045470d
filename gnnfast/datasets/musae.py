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

from gnnfast.datasets.feature_rows import densify
from gnnfast.datasets.raw_files import data_root, find_or_download
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.graph import CSCGraph, Dataset, FeatureStore

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
    labels = _labels(path, target)
    graph = CSCGraph.from_edge_index(_edge_index(path, edges), labels.numel())
    x = _feature_rows(title, path, features, labels.numel(), feature_dtype, normalize_features)
    parts = choose_split(title, labels, split, fractions, per_class, split_seed)
    return Dataset(title, graph.to_undirected() if undirected else graph, FeatureStore(x), labels, *parts)


def _read_texts(path: Path, prefix: str) -> list[str]:
    """Edges, features and targets, from the files beside `path` or from the archive it is."""
    if path.suffix != ".zip":
        places = [path.with_name(f"{prefix}_{file}") for file in _FILES]
        missing = [place for place in places if not place.exists()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} was expected beside {path.name}")
        return [place.read_text(encoding="utf-8") for place in places]
    try:
        with zipfile.ZipFile(path) as archive:
            members = [[name for name in archive.namelist() if name.endswith(file)] for file in _FILES]
            for file, found in zip(_FILES, members, strict=True):
                if len(found) != 1:
                    raise ValueError(f"{path} must hold one file *{file}, got {len(found)}")
            return [archive.read(name).decode("utf-8") for (name,) in members]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole .zip file: {error}") from error


def _labels(path: Path, text: str) -> Tensor:
    """Classes by node, numbered in the order of their names; the node's number comes first in a row, its class last."""
    rows = list(csv.reader(io.StringIO(text)))[1:]
    try:
        nodes = np.array([int(row[0]) for row in rows], dtype=np.int64)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: a row of the targets does not begin with a node's number: {error}") from error
    if not np.array_equal(np.sort(nodes), np.arange(nodes.size)):
        raise ValueError(f"{path}: the targets must name each node from 0 to {nodes.size - 1} once")
    kinds = np.array([row[-1] for row in rows])
    labels = np.empty(nodes.size, dtype=np.int64)
    labels[nodes] = np.unique(kinds, return_inverse=True)[1]
    return torch.from_numpy(labels)


def _edge_index(path: Path, text: str) -> Tensor:
    try:
        ends = np.loadtxt(io.StringIO(text), np.int64, delimiter=",", skiprows=1, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: the edges are not rows of two node numbers: {error}") from error
    if ends.shape[1] != 2:
        raise ValueError(f"{path}: an edge is two node numbers, got {ends.shape[1]} columns")
    return torch.from_numpy(np.ascontiguousarray(ends[ends[:, 0] != ends[:, 1]].T))


def _feature_rows(title: str, path: Path, text: str, num_nodes: int, dtype: str, normalize: bool) -> Tensor:
    """Dense rows of the listed features, 1 where one is listed."""
    try:
        listed = json.loads(text)
        rows = [listed.get(str(node), ()) for node in range(num_nodes)]
        columns = np.fromiter(chain.from_iterable(rows), np.int64)
        unknown = set(listed) - {str(node) for node in range(num_nodes)}
    except (json.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the features are not lists of numbers by node: {error}") from error
    if unknown:
        raise ValueError(f"{path}: features of node {min(unknown)}, which has no target")
    # A feature listed twice counts once, in the row's sum too.
    num_columns = int(columns.max(initial=-1)) + 1
    if columns.min(initial=0) < 0:
        raise ValueError(f"{path}: feature {columns.min()} is negative")
    row_of = np.repeat(np.arange(num_nodes), [len(row) for row in rows])
    places = np.unique(row_of * num_columns + columns)
    row_of, columns = np.divmod(places, max(num_columns, 1))
    indptr = np.concatenate([[0], np.bincount(row_of, minlength=num_nodes).cumsum()])
    return densify(title, np.ones(places.size), columns, indptr, (num_nodes, num_columns), dtype, normalize)
