"""Cora, CiteSeer and PubMed: citation graphs with the public split of Yang et al."""

from __future__ import annotations

import collections
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.feature_rows import densify
from gnnfast.datasets.raw_files import data_root, find_or_download
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.graph import CSCGraph, Dataset, FeatureStore

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
    objects = {part: _load(path) for part, path in files.items()}
    test_path = _locate(data_root(root), key, "test.index")
    test_order = torch.from_numpy(np.loadtxt(test_path, dtype=np.int64, ndmin=1))
    try:
        first, test = (
            densify(name, m.data, m.indices, m.indptr, m.shape, feature_dtype, normalize_features)
            for m in (objects["allx"], objects["tx"])
        )
        x = _place_rows(first, test, test_order)
        first, test = (torch.from_numpy(objects[part]) for part in ("ally", "ty"))
        labels = _place_rows(first, test, test_order).argmax(dim=1)
        edge_index = _edges(objects["graph"])
        num_train = len(objects["y"])
    except (AttributeError, IndexError, RuntimeError, TypeError) as error:
        raise ValueError(f"the files beside {test_path} are not those of {_NAMES[key]}: {error}") from error
    graph = CSCGraph.from_edge_index(edge_index, x.shape[0])
    public = (torch.arange(num_train), torch.arange(num_train, num_train + _NUM_VALIDATION), test_order.sort().values)
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


def _edges(neighbors: dict[int, list[int]]) -> Tensor:
    """Sources above destinations, int64, each pair once, without self-loops."""
    src = np.repeat(np.fromiter(neighbors, np.int64), [len(heard) for heard in neighbors.values()])
    dst = np.concatenate([np.asarray(heard, np.int64) for heard in neighbors.values()])
    pairs = np.unique(np.stack([src, dst])[:, src != dst], axis=1)
    return torch.from_numpy(pairs)


class _ArrayUnpickler(pickle.Unpickler):
    """Builds arrays, sparse matrices and dictionaries of lists, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        import scipy.sparse

        # Under the names that Python 2 and the NumPy and SciPy of its time wrote.
        allowed = {
            ("collections", "defaultdict"): collections.defaultdict,
            ("__builtin__", "list"): list,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("scipy.sparse.csr", "csr_matrix"): scipy.sparse.csr_matrix,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} has no business in a file of arrays")
        return allowed[module, name]


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a whole file of this data set: {error}") from error
