"""The graphs of Shchur et al. as they are distributed: sparse edges, sparse words and labels in one `.npz`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.class_labels import class_labels
from gnnfast.datasets.feature_rows import densify
from gnnfast.datasets.raw_files import read_npz
from gnnfast.datasets.sparse_rows import check_sparse_rows
from gnnfast.graph import CSCGraph

URL = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"


def read_attributed_npz(
    path: Path, file: str, undirected: bool, normalize_features: bool, feature_dtype: str
) -> tuple[CSCGraph, Tensor, Tensor]:
    """Graph, features and labels from a `.npz` file, or from the one named `file` in a `.zip`.

    As PyG reads it: self-loops are removed, and a word counts once however often it occurs.

    Raises:
        ValueError: If an array is missing or does not fit the others.
    """
    parts = ("data", "indices", "indptr", "shape")
    names = [f"attr_{part}" for part in parts] + ["adj_indices", "adj_indptr", "labels"]
    arrays = read_npz(path, names, file)
    words, columns, indptr, shape = (arrays[f"attr_{part}"] for part in parts)
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or int(shape.min()) < 0:
        raise ValueError(f"{path}: attr_shape must be two sizes, got {shape.tolist()!r:.100}")
    num_nodes, num_features = (int(size) for size in shape)
    check_sparse_rows(f"{path}, edges", arrays["adj_indptr"], arrays["adj_indices"], num_nodes, num_nodes)
    occurs = (words > 0).astype(np.float32)
    x = densify(f"{path}", occurs, columns, indptr, (num_nodes, num_features), feature_dtype, normalize_features)
    labels = class_labels(path, arrays["labels"], num_nodes)
    src = np.repeat(np.arange(num_nodes), np.diff(arrays["adj_indptr"]))
    dst = arrays["adj_indices"]
    edges = torch.from_numpy(np.stack([src, dst])[:, src != dst].astype(np.int64))
    graph = CSCGraph.from_edge_index(edges, x.shape[0])
    return graph.to_undirected() if undirected else graph, x, labels
