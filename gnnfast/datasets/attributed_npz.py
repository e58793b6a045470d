"""The graphs of Shchur et al. as they are distributed: sparse edges, sparse words and labels in one `.npz`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.feature_rows import densify
from gnnfast.datasets.raw_files import open_npz
from gnnfast.graph import CSCGraph

URL = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"


def read_attributed_npz(
    name: str, path: Path, file: str, undirected: bool, normalize_features: bool, feature_dtype: str
) -> tuple[CSCGraph, Tensor, Tensor]:
    """Graph, features and labels from a `.npz` file, or from the one named `file` in a `.zip`.

    As PyG reads it: self-loops are removed, and a word counts once however often it occurs.

    Raises:
        ValueError: If an array is missing or does not fit the others.
    """
    with open_npz(path, file) as arrays:
        parts = ("data", "indices", "indptr", "shape")
        missing = {f"{kind}_{part}" for kind in ("adj", "attr") for part in parts} | {"labels"}
        missing -= set(arrays.files)
        if missing:
            raise ValueError(f"{path} has no array {', '.join(sorted(missing))}")
        words, columns, indptr, shape = (arrays[f"attr_{part}"] for part in parts)
        dst, heard_by = arrays["adj_indices"], arrays["adj_indptr"]
        labels = torch.from_numpy(arrays["labels"]).long()
    occurs = (words > 0).astype(np.float32)
    x = densify(name, occurs, columns, indptr, tuple(shape), feature_dtype, normalize_features)
    src = np.repeat(np.arange(heard_by.size - 1), np.diff(heard_by))
    edges = torch.from_numpy(np.stack([src, dst])[:, src != dst].astype(np.int64))
    graph = CSCGraph.from_edge_index(edges, x.shape[0])
    return graph.to_undirected() if undirected else graph, x, labels
