"""A user's own graph, from plain files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.class_labels import class_labels
from gnnfast.datasets.edges import build_graph
from gnnfast.datasets.feature_rows import check_finite, normalize_rows
from gnnfast.datasets.raw_files import data_root, find
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.datasets.tables import read_array, read_columns, single_precision, suffix_of, whole_numbers
from gnnfast.graph import Dataset, FeatureStore
from gnnfast.graph.splits import Split
from gnnfast.runtime.npy import load_npy, npy_dtype

logger = logging.getLogger(__name__)


def files(
    edges: str | Path,
    features: str | Path,
    labels: str | Path,
    weights: str | Path | None = None,
    train: str | Path | None = None,
    val: str | Path | None = None,
    test: str | Path | None = None,
    num_classes: int | None = None,
    name: str = "files",
    root: str | Path | None = None,
    split: str | None = None,
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    per_class: int | None = None,
    split_seed: int = 0,
    undirected: bool = False,
    normalize_features: bool = False,
) -> Dataset:
    """A graph from `.npy`, `.csv` (`.csv.gz`) or `.parquet` files; row i of features and labels belongs to node i.

    Args:
        edges: `.npy` of shape `(2, num_edges)` or `(num_edges, 2)`; or a table with columns `src`, `dst` and perhaps
            `weight`, or, without these names, source, destination and perhaps weight in this order.
        features: One row per node. An `.npy` of floats is memory-mapped.
        labels: One class per node, -1 or empty where unknown; or a 0/1 column per label, empty where unknown.
        weights: One number per edge, in the order of `edges`.
        train, val, test: Ids of the nodes of a split, or one true or false, or 1 or 0, per node.
        num_classes: Defaults to the largest class plus 1.
        name: What logs and plots call it.
        root: Where relative paths are looked for that the working folder does not have; see `data_root`.
        split: See `choose_split`; by default `public` where `train`, `val` and `test` are given, else `random`.
        fractions, per_class, split_seed: See `choose_split`.
        undirected: Whether to add to every edge its reverse, and to merge parallel edges.
        normalize_features: Whether each row is divided by its sum; brings memory-mapped ones into memory.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If what a file holds does not fit.
    """
    store = _read_features(name, _locate("features", features, root), normalize_features)
    y = _read_labels(_locate("labels", labels, root), store.num_rows, num_classes)
    edges_path = _locate("edges", edges, root)
    edge_index, edge_weight = _read_edges(edges_path)
    if weights is not None:
        if edge_weight is not None:
            raise ValueError(f"{edges_path} holds weights already: leave out {weights=}")
        edge_weight = _read_vector(_locate("weights", weights, root))
    graph = build_graph(edges_path, edge_index, store.num_rows, edge_weight)
    given = _read_split([("train", train), ("val", val), ("test", test)], root, store.num_rows)
    if given is not None and split == "random":
        raise ValueError("train, val and test name the splits: leave them out, or leave out split=random")
    split = split or ("random" if given is None else "public")
    parts = choose_split(name, y, split, fractions, per_class, split_seed, given)
    return Dataset(name, graph.to_undirected() if undirected else graph, store, y, *parts, num_classes or 0)


def _locate(what: str, path: str | Path, root: str | Path | None) -> Path:
    places = [Path(path).expanduser(), data_root(root) / path]
    found = find(places)
    if found is None:
        looked_at = " or ".join(dict.fromkeys(str(place.absolute()) for place in places))
        raise FileNotFoundError(f"the file of {what} was expected at {looked_at}")
    return found


def _read_features(name: str, path: Path, normalize: bool) -> FeatureStore:
    # Whole numbers mean themselves, but for uint16, which holds bfloat16.
    if suffix_of(path) == ".npy" and npy_dtype(path) in (np.float16, np.float32, np.float64, np.uint16):
        store = FeatureStore.from_npy(path)
    else:
        store = FeatureStore(torch.from_numpy(single_precision(read_array(path))))
    if store.num_features == 0:
        raise ValueError(f"{path}: nodes have no features")
    check_finite(name, store.rows)
    if store.num_rows > 2 and torch.equal(store.rows[:, 0].double(), torch.arange(store.num_rows).double()):
        logger.warning(
            "%s: the first column counts from 0 to %d and is taken for a feature: leave it out if it numbers the nodes",
            path,
            store.num_rows - 1,
        )
    return FeatureStore(normalize_rows(store.rows)) if normalize else store


def _read_labels(path: Path, num_nodes: int, num_classes: int | None) -> Tensor:
    """Classes, int64, `(num_nodes,)`, -1 where unknown; or 0/1, float32, `(num_nodes, num_labels)`, NaN likewise."""
    values = read_array(path)
    if values.ndim != 2 or values.shape[1] == 1:
        return class_labels(path, values, num_nodes, num_classes)
    if values.shape[1] == 0:
        raise ValueError(f"{path}: nodes have no labels")
    wrong = ~np.isin(values, (0, 1)) & ~np.isnan(values.astype(np.float32))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"{path}: several labels must be 0 or 1, but row {row} has {values[row, column]}")
    return torch.from_numpy(values.astype(np.float32))


def _read_edges(path: Path) -> tuple[Tensor, np.ndarray | None]:
    """Sources above destinations, int64, `(2, num_edges)`, and the weights that stand beside them."""
    if suffix_of(path) == ".npy":
        array = load_npy(path)
        if array.ndim != 2 or 2 not in array.shape:
            raise ValueError(f"{path}: edges must have shape (2, num_edges) or (num_edges, 2), got {array.shape}")
        src, dst = array if array.shape[0] == 2 else array.T
        weight = None
    else:
        columns = read_columns(path)
        if "src" in columns and "dst" in columns:
            src, dst, weight = columns["src"], columns["dst"], columns.get("weight")
        elif len(columns) in (2, 3):
            src, dst, weight = [*columns.values(), None][:3]
        else:
            raise ValueError(f"{path}: edges need columns src, dst and perhaps weight, got {', '.join(columns)}")
    ends = [whole_numbers(path, "node ids", end) for end in (src, dst)]
    return torch.from_numpy(np.stack(ends)), weight


def _read_vector(path: Path) -> np.ndarray:
    """A `.npy` of one dimension or a table of one column."""
    values = read_array(path)
    if values.ndim == 2 and 1 in values.shape:
        values = values.reshape(-1)
    if values.ndim != 1:
        raise ValueError(f"{path}: expected one column, got shape {values.shape}")
    return values


def _read_split(paths: list[tuple[str, str | Path | None]], root: str | Path | None, num_nodes: int) -> Split | None:
    missing = [part for part, path in paths if path is None]
    if len(missing) == 3:
        return None
    if missing:
        raise ValueError(f"train, val and test come together, but {' and '.join(missing)} is missing")
    train, val, test = (_read_ids(_locate(part, path, root), num_nodes) for part, path in paths if path is not None)
    return train, val, test


def _read_ids(path: Path, num_nodes: int) -> Tensor:
    values = _read_vector(path)
    if values.dtype == bool or _is_mask(path, values, num_nodes):
        if values.size != num_nodes:
            raise ValueError(f"{path}: a mask needs one entry per node, {num_nodes}, got {values.size}")
        values = np.flatnonzero(values)
    ids = whole_numbers(path, "node ids", values)
    wrong = (ids < 0) | (ids >= num_nodes)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"{path}: nodes are numbered 0 to {num_nodes - 1}, but row {row} has {ids[row]}")
    return torch.from_numpy(ids)


def _is_mask(path: Path, values: np.ndarray, num_nodes: int) -> bool:
    """Whether numbers are a mask: nothing but 0 and 1, one per node, of which ids would name one twice.

    Raises:
        ValueError: If they may be either, or neither.
    """
    if values.size < 2 or not np.isin(values, (0, 1)).all():
        return False
    repeats = np.unique(values).size < values.size
    if values.size == num_nodes and not repeats:
        raise ValueError(f"{path} may be the ids 0 and 1 or a mask: save a mask as true and false")
    if values.size != num_nodes and repeats:
        raise ValueError(
            f"{path} holds only 0 and 1: as ids they repeat, and a mask needs one entry per node, {num_nodes}, "
            f"got {values.size}"
        )
    return repeats
