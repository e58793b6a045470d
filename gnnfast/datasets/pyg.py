"""Any node-classification data set of PyTorch Geometric, by the name of its class."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from gnnfast.datasets.class_labels import class_labels
from gnnfast.datasets.edges import check_weights
from gnnfast.datasets.feature_rows import check_finite, normalize_rows
from gnnfast.datasets.raw_files import data_root, one_at_a_time
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.datasets.unpickling import only_tensors
from gnnfast.graph import CSCGraph, Dataset, FeatureStore
from gnnfast.graph.splits import Split, mask_to_ids
from gnnfast.runtime.reading import check_fits_memory, first_line

_NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


def pyg(
    class_name: str,
    arguments: Mapping[str, Any] = _NO_ARGUMENTS,
    mask_column: int = 0,
    root: str | Path | None = None,
    split: str = "public",
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    per_class: int | None = None,
    split_seed: int = 0,
    undirected: bool = False,
    normalize_features: bool = False,
) -> Dataset:
    """The graph of a class in `torch_geometric.datasets`, which downloads and processes it in its own way.

    Args:
        class_name: Say `WikiCS`, `Actor`, `HeterophilousGraphDataset`.
        arguments: Of the class, say `{"name": "Roman-empire"}`.
        mask_column: Which split, where the data set ships several as columns of its masks.
        root: Passed to the class unless `arguments` hold another; see `data_root`.
        split, fractions, per_class, split_seed: See `choose_split`; `public` are the masks.
        undirected: Whether to add the reverse of each edge, once.
        normalize_features: Whether each row is divided by its sum.

    Raises:
        ValueError: If there is no such class, or its graph is not one for node classification.
    """
    source = _construct(class_name, dict(arguments), data_root(root))
    if len(source) != 1:
        raise ValueError(f"{class_name} holds {len(source)} graphs, but node classification needs a single one")
    data = source[0]
    missing = [key for key in ("x", "y") if getattr(data, key, None) is None]
    if missing:
        raise ValueError(f"{class_name} has no {' and no '.join(missing)}, which node classification needs")
    features = _features(class_name, data.x)
    graph = _graph(class_name, data, features.shape[0])
    labels = _labels(class_name, data.y, features.shape[0])
    given = None if split == "random" else _masks(class_name, data, mask_column)
    parts = choose_split(class_name, labels, split, fractions, per_class, split_seed, given)
    store = FeatureStore(normalize_rows(features.clone()) if normalize_features else features)
    return Dataset(class_name, graph.to_undirected() if undirected else graph, store, labels, *parts)


def _construct(class_name: str, arguments: dict[str, Any], root: Path) -> Any:
    import torch_geometric.datasets as known

    if class_name not in known.__all__:
        near = difflib.get_close_matches(class_name, known.__all__, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"torch_geometric.datasets has no {class_name!r}{hint}")
    constructor = getattr(known, class_name)
    signature = inspect.signature(constructor)
    if "root" in signature.parameters:
        arguments = {"root": str(root)} | arguments
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{class_name} does not take the arguments {arguments}: {error}") from error
    # Two processes that download and process at once would write into each other's files; PyG's readers would run what
    # a damaged file names.
    try:
        with one_at_a_time(root), only_tensors():
            return constructor(**arguments)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{class_name} in {root} cannot be read: {first_line(error)}") from error


def _features(class_name: str, x: Any) -> Tensor:
    """Floating, a row per node."""
    if not isinstance(x, Tensor) or x.dim() != 2 or x.is_complex():
        got = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{class_name}: features must be a row of numbers per node, got {got}")
    check_fits_memory(f"{class_name}: {x.shape[0]} x {x.shape[1]} features", x.numel() * x.element_size())
    features: Tensor = x.to_dense()
    features = features if features.is_floating_point() else features.float()
    check_finite(class_name, features)
    return features


def _graph(class_name: str, data: Any, num_nodes: int) -> CSCGraph:
    if data.num_nodes != num_nodes:
        raise ValueError(f"{class_name}: features have {num_nodes} rows but the graph has {data.num_nodes} nodes")
    try:
        graph = CSCGraph.from_pyg(data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{class_name}: {error}") from error
    graph.edge_weight = check_weights(class_name, graph.edge_weight)
    return graph


def _labels(class_name: str, y: Tensor, num_nodes: int) -> Tensor:
    """A class per node, or 0/1 per label."""
    if y.dim() == 2 and y.shape[1] > 1:
        if not bool(((y == 0) | (y == 1) | y.isnan()).all()):
            raise ValueError(f"{class_name}: several labels per node must be 0 or 1")
        return y.float()
    return class_labels(class_name, y.cpu().numpy(), num_nodes)


def _masks(class_name: str, data: Any, column: int) -> Split:
    missing = [key for key in ("train_mask", "val_mask", "test_mask") if getattr(data, key, None) is None]
    if missing:
        raise ValueError(f"{class_name} has no {', '.join(missing)}: choose dataset.split=random")
    train, val, test = (
        _mask_ids(class_name, getattr(data, f"{part}_mask"), column) for part in ("train", "val", "test")
    )
    return train, val, test


def _mask_ids(class_name: str, mask: Tensor, column: int) -> Tensor:
    if mask.dim() == 2:
        if not 0 <= column < mask.shape[1]:
            raise ValueError(f"{class_name} has splits 0 to {mask.shape[1] - 1}, got mask_column={column}")
        mask = mask[:, column]
    return mask_to_ids(mask.bool())
