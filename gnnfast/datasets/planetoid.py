"""Cora, CiteSeer and PubMed: citation graphs with the public split of Yang et al."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.edges import build_graph
from gnnfast.datasets.feature_rows import densify
from gnnfast.datasets.raw_files import data_root, find_or_download
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.datasets.unpickling import load_arrays
from gnnfast.graph import Dataset, FeatureStore
from gnnfast.runtime.reading import reading

_URL = "https://github.com/kimiyoung/planetoid/raw/master/data"
_NAMES = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}
_NUM_VALIDATION = 500


def planetoid(
    name: str,
    root: str | Path | None = None,
    split: str = "public",
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    per_class: int | None = None,
    split_seed: int = 0,
    undirected: bool = True,
    normalize_features: bool = True,
    feature_dtype: str = "float32",
) -> Dataset:
    """Papers that cite each other, their words, and their topics.

    Yang et al., Revisiting Semi-Supervised Learning with Graph Embeddings, 2016, https://arxiv.org/abs/1603.08861.
    Edges, features, labels and masks are those of PyG's `Planetoid`: self-loops and repeated edges are removed,
    CiteSeer's 15 test papers without words or links are there.

    Args:
        name: Cora, CiteSeer or PubMed, in any case.
        root: Holds `Cora/raw/ind.cora.x` and so on, as PyG lays it out, or `cora/ind.cora.x`; see `data_root`.
        split, fractions, per_class, split_seed: See `choose_split`.
        undirected: Whether edges run both ways; the files hold nearly all of them so.
        normalize_features: Whether each row is divided by its sum.
        feature_dtype: float32, float16 or bfloat16.

    Raises:
        FileNotFoundError: If a file is missing and cannot be downloaded.
        ValueError: If a file is not what it should be.
    """
    key = name.lower()
    if key not in _NAMES:
        raise ValueError(f"name must be one of {', '.join(_NAMES.values())}, got {name!r}")
    files = {part: _locate(data_root(root), key, part) for part in ("tx", "allx", "y", "ty", "ally", "graph")}
    test_path = _locate(data_root(root), key, "test.index")
    objects = {part: load_arrays(path) for part, path in files.items()}
    with reading(test_path, "a list of nodes"):
        test_order = np.array(test_path.read_text().split(), np.int64)
    edge_index = _edges(files["graph"], objects["graph"])
    first, test = (_sparse(files[part], objects[part], feature_dtype, normalize_features) for part in ("allx", "tx"))
    first_labels, test_labels, train_labels = (_one_hot(files[part], objects[part]) for part in ("ally", "ty", "y"))
    for part, rows, labels in (("ally", first, first_labels), ("ty", test, test_labels)):
        if labels.shape != (rows.shape[0], first_labels.shape[1]):
            shape = tuple(labels.shape)
            raise ValueError(f"{files[part]} has labels of shape {shape} for {rows.shape[0]} rows of features")
    if test.shape[1] != first.shape[1]:
        raise ValueError(f"{files['tx']} has {test.shape[1]} features, but {files['allx']} has {first.shape[1]}")
    _check_order(test_path, test_order, first.shape[0], test.shape[0], len(objects["graph"]))
    place = torch.from_numpy(test_order)
    x = _place_rows(first, test, place)
    labels = _place_rows(first_labels, test_labels, place).argmax(dim=1)
    num_train = train_labels.shape[0]
    graph = build_graph(files["graph"], edge_index, x.shape[0])
    public = (torch.arange(num_train), torch.arange(num_train, num_train + _NUM_VALIDATION), place.sort().values)
    parts = choose_split(name, labels, split, fractions, per_class, split_seed, given=public)
    return Dataset(_NAMES[key], graph.to_undirected() if undirected else graph, FeatureStore(x), labels, *parts)


def _locate(root: Path, key: str, part: str) -> Path:
    file = f"ind.{key}.{part}"
    folders = [f"{_NAMES[key]}/raw", f"{key}/raw", f"Planetoid/{_NAMES[key]}/raw", f"planetoid/{key}/raw"]
    folders += [_NAMES[key], key, "Planetoid", "planetoid", "."]
    return find_or_download([root / folder / file for folder in folders], f"{_URL}/{file}")


def _place_rows(first: Tensor, test: Tensor, test_order: Tensor) -> Tensor:
    """All rows by node: those of the test nodes are stored in the order of `test_order`, and lack isolated nodes."""
    rows = first.new_zeros(max(int(test_order.max()) + 1, first.shape[0] + test.shape[0]), first.shape[1])
    rows[: first.shape[0]] = first
    rows[test_order] = test
    return rows


def _check_order(path: Path, order: np.ndarray, num_first: int, num_test: int, num_known: int) -> None:
    """Raises ValueError unless each test row has a node of its own, behind the others and known to the graph."""
    if order.size == 0 or order.size != num_test:
        raise ValueError(f"{path} names {order.size} test nodes, but there are {num_test} rows of them")
    end = max(num_known, num_first + num_test)
    if order.min() < num_first or order.max() >= end or np.unique(order).size < order.size:
        raise ValueError(f"{path} must name distinct nodes from {num_first} to {end - 1}")


def _sparse(path: Path, matrix: Any, feature_dtype: str, normalize: bool) -> Tensor:
    """Rows of a sparse matrix, dense."""
    import scipy.sparse

    with reading(path, "a sparse matrix"):
        if not isinstance(matrix, scipy.sparse.csr_matrix):
            raise TypeError(f"got {type(matrix).__name__}")
        parts = [matrix.data, matrix.indices, matrix.indptr]
        for array in parts:
            _check_size(path, array)
        return densify(str(path), parts[0], parts[1], parts[2], matrix.shape, feature_dtype, normalize)


def _one_hot(path: Path, array: Any) -> Tensor:
    """A column per class, float32."""
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "biuf":
        described = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{path} must hold a column of numbers per class, got {described}")
    _check_size(path, array)
    if array.shape[1] == 0 or not np.isin(array, (0, 1)).all():
        raise ValueError(f"{path} must hold a column of 0 or 1 per class")
    return torch.from_numpy(array.astype(np.float32))


def _check_size(path: Path, array: np.ndarray) -> None:
    """Raises ValueError if an array is larger than its file, which then does not hold it."""
    if array.nbytes > path.stat().st_size:
        raise ValueError(f"{path} claims {array.nbytes} bytes of numbers, which is more than it holds")


def _edges(path: Path, neighbors: Any) -> Tensor:
    """Sources above destinations, int64, each pair once, without self-loops."""
    with reading(path, "a list of neighbors by node"):
        degrees = [len(heard) for heard in neighbors.values()]
        if sum(degrees) > path.stat().st_size:
            raise ValueError(f"{path} claims {sum(degrees)} neighbors, which is more than it holds")
        for ends in (neighbors, chain.from_iterable(neighbors.values())):
            if any(type(node) is not int for node in ends):
                raise TypeError("a node is no whole number")
        src = np.repeat(np.fromiter(neighbors, np.int64), degrees)
        dst = np.fromiter(chain.from_iterable(neighbors.values()), np.int64)
        return torch.from_numpy(np.unique(np.stack([src, dst])[:, src != dst], axis=1))
