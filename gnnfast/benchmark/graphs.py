"""Graphs as files that every side reads, whatever interpreter it runs in."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.synthetic import CommunityLaw
from gnnfast.graph import CSCGraph, Dataset, FeatureStore
from gnnfast.runtime.cached_file import user_cache_dir

_VERSION = 1  # of what is drawn: files of another one are not read
_NODES_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class Size:
    """A synthetic graph by its name.

    Args:
        num_nodes, num_edges, num_features, num_classes: Of the data set that it is as large as.
        fractions: Of training, validation and test nodes; what is left has no label.
        memory_mapped: Whether features are read from disk, row by row, instead of being held in memory.
    """

    num_nodes: int
    num_edges: int
    num_features: int
    num_classes: int
    fractions: tuple[float, float, float]
    memory_mapped: bool = False


# Shares of the labelled nodes as in ogbn-arxiv, ogbn-products and ogbn-papers100M.
SIZES = {
    "tiny": Size(3_000, 30_000, 16, 8, (0.5, 0.25, 0.25)),
    "arxiv": Size(169_000, 2_330_000, 128, 40, (0.54, 0.18, 0.28)),
    "products": Size(2_450_000, 123_700_000, 100, 47, (0.08, 0.02, 0.9)),
    "papers-mini": Size(20_000_000, 500_000_000, 128, 172, (0.011, 0.001, 0.002), memory_mapped=True),
}


@dataclass(frozen=True)
class GraphFiles:
    """A folder of arrays: indptr, indices, x, y, train, val and test as `.npy`, and `graph.json`."""

    folder: Path

    def array(self, name: str) -> Tensor:
        """One of the arrays, in memory; features memory-mapped where `graph.json` says so."""
        mapped = name == "x" and self.facts["memory_mapped"]
        return torch.from_numpy(np.load(self.folder / f"{name}.npy", mmap_mode="c" if mapped else None))

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one of the arrays, which is not read."""
        array: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return array.shape

    @property
    def facts(self) -> dict[str, Any]:
        """Name, sizes and number of classes."""
        facts: dict[str, Any] = json.loads((self.folder / "graph.json").read_text())
        return facts

    def graph(self) -> CSCGraph:
        return CSCGraph(self.array("indptr"), self.array("indices"), validate=False)

    def dataset(self) -> Dataset:
        facts = self.facts
        train_ids, val_ids, test_ids = (self.array(name) for name in ("train", "val", "test"))
        features = FeatureStore(self.array("x"))
        return Dataset(
            facts["name"], self.graph(), features, self.array("y"), train_ids, val_ids, test_ids, facts["num_classes"]
        )


def synthetic_files(size: str, folder: Path | None = None) -> GraphFiles:
    """The graph of a size, drawn on first use and then kept in the user's cache folder.

    A community graph as `gnnfast.datasets.synthetic` draws; its features are written piece by piece, so that they need
    not fit into memory.

    Raises:
        ValueError: If there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
    cache = user_cache_dir() / "benchmark" if folder is None else folder
    place = cache / f"{size}-{_VERSION}"
    if not (place / "graph.json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        # The folder appears under its name once it is whole.
        with tempfile.TemporaryDirectory(dir=cache) as unfinished:
            _draw(size, Path(unfinished) / "graph")
            shutil.rmtree(place, ignore_errors=True)
            (Path(unfinished) / "graph").rename(place)
    return GraphFiles(place)


def dataset_files(dataset: Dataset, folder: Path) -> GraphFiles:
    """Writes a data set of nodes with one class each into a folder.

    Raises:
        ValueError: If nodes have several labels, or edges weights, which peers would treat differently.
    """
    if getattr(dataset, "task", None) != "node" or dataset.is_multilabel or dataset.graph.edge_weight is not None:
        raise ValueError(
            f"{dataset.name}: the benchmark needs nodes with one class each and a graph without edge weights"
        )
    graph = dataset.graph
    arrays = {"indptr": graph.indptr, "indices": graph.indices, "x": dataset.features.rows, "y": dataset.labels}
    _write(folder, arrays, dataset.split_ids, dataset.name, dataset.num_classes)
    return GraphFiles(folder)


def seed_batches(train_ids: Tensor, batch_size: int, num_batches: int) -> Tensor:
    """Training nodes in random order, a row per batch, int64, `(num_batches or fewer, batch_size or fewer)`."""
    order = torch.randperm(train_ids.numel(), generator=torch.Generator().manual_seed(0))
    batch_size = min(batch_size, order.numel())
    num_batches = min(num_batches, order.numel() // batch_size)
    return train_ids[order[: num_batches * batch_size]].view(num_batches, batch_size)


def _draw(name: str, folder: Path) -> None:
    size = SIZES[name]
    law = CommunityLaw(
        size.num_nodes, size.num_edges, size.num_classes, homophily=0.8, power_law_exponent=2.5, undirected=True
    )
    graph, communities = law.draw(seed=0)
    splits = dict(zip(("train", "val", "test"), _split(size), strict=True))
    arrays = {"indptr": graph.indptr, "indices": graph.indices, "y": communities}
    _write(folder, arrays, splits, name, size.num_classes, size.memory_mapped)
    del graph, arrays
    x = np.lib.format.open_memmap(
        folder / "x.npy", mode="w+", dtype=np.float32, shape=(size.num_nodes, size.num_features)
    )
    for first, rows in _feature_rows(communities, size):
        x[first : first + len(rows)] = rows
    x.flush()


def _split(size: Size) -> Iterator[Tensor]:
    order = torch.randperm(size.num_nodes, generator=torch.Generator().manual_seed(1))
    first = 0
    for fraction in size.fractions:
        last = min(first + round(fraction * size.num_nodes), size.num_nodes)
        yield order[first:last]
        first = last


def _feature_rows(communities: Tensor, size: Size) -> Iterator[tuple[int, np.ndarray]]:
    """Normal noise around the mean of each node's community, piece by piece: (first node, rows)."""
    generator = np.random.default_rng(0)
    means = generator.standard_normal((size.num_classes, size.num_features), np.float32) / size.num_features**0.5
    for first in range(0, size.num_nodes, _NODES_AT_A_TIME):
        classes = communities[first : first + _NODES_AT_A_TIME].numpy()
        rows = generator.standard_normal((classes.size, size.num_features), np.float32)
        yield first, rows + means[classes]


def _write(
    folder: Path,
    arrays: dict[str, Tensor],
    splits: dict[str, Tensor],
    name: str,
    num_classes: int,
    memory_mapped: bool = False,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in {**arrays, **splits}.items():
        np.save(folder / f"{file}.npy", array.numpy())
    facts = {
        "name": name,
        "num_nodes": arrays["indptr"].numel() - 1,
        "num_edges": arrays["indices"].numel(),
        "num_classes": num_classes,
        "num_training_nodes": splits["train"].numel(),
        "memory_mapped": memory_mapped,
    }
    (folder / "graph.json").write_text(json.dumps(facts, indent=2) + "\n")
