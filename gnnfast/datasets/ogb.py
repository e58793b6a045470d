"""Node classification of the Open Graph Benchmark, read from its files without its package.

The package's own loading unpickles freely, which torch.load refuses since 2.6, and importing it asks the network for
a newer version.
"""

from __future__ import annotations

import logging
import pickle
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.feature_rows import check_finite, normalize_rows
from gnnfast.datasets.raw_files import data_root, extract_zip, find, find_or_download
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.datasets.tables import read_csv_matrix
from gnnfast.graph import CSCGraph, Dataset, FeatureStore
from gnnfast.graph.splits import Split

logger = logging.getLogger(__name__)

_URL = "https://snap.stanford.edu/ogb/data/nodeproppred"


@dataclass(frozen=True)
class _Source:
    """How the benchmark ships a data set.

    Args:
        archive: Name of its zip file and of the folder in it.
        split: Folder of its official split.
        is_one_way: Whether the files hold one direction of a graph that the benchmark presents with both.
    """

    archive: str
    split: str
    num_classes: int
    is_one_way: bool = False


_SOURCES = {
    "ogbn-arxiv": _Source("arxiv", "time", 40),
    "ogbn-products": _Source("products", "sales_ranking", 47, is_one_way=True),
    "ogbn-papers100M": _Source("papers100M-bin", "time", 172),
}


def ogb(
    name: str,
    root: str | Path | None = None,
    split: str = "official",
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    per_class: int | None = None,
    split_seed: int = 0,
    undirected: bool = True,
    normalize_features: bool = False,
) -> Dataset:
    """ogbn-arxiv, ogbn-products or ogbn-papers100M.

    Hu et al., Open Graph Benchmark: Datasets for Machine Learning on Graphs, 2020, https://arxiv.org/abs/2005.00687.
    The features of papers100M stay on disk, memory-mapped, and are not checked.

    Args:
        name: As the benchmark writes it, in any case.
        root: Holds the folder `ogbn_arxiv` that the benchmark's package makes (its processed file is taken first, as
            long as it holds nothing but tensors), or `arxiv.zip`, or what that unpacks to; see `data_root`.
        split, fractions, per_class, split_seed: See `choose_split`.
        undirected: Whether to add the reverse of each edge, once. If not, edges are as the benchmark presents them:
            citations from the citing paper to the cited one, so that papers hear those that cite them; products in
            both directions anyway.
        normalize_features: Whether each row is divided by its sum; brings memory-mapped ones into memory.

    Raises:
        FileNotFoundError: If the files are missing and cannot be downloaded.
        ValueError: If a file is not what it should be.
    """
    names = {known.lower(): known for known in _SOURCES}
    key = names.get(name.lower().replace("_", "-"))
    if key is None:
        raise ValueError(f"name must be one of {', '.join(_SOURCES)}, got {name!r}")
    source = _SOURCES[key]
    folder = _locate(data_root(root), key, source)
    edge_index, features, labels = _read(key, folder, add_reverse=source.is_one_way and not undirected)
    labels = _as_classes(labels)
    graph = CSCGraph.from_edge_index(edge_index, features.shape[0])
    del edge_index
    if undirected:
        graph = graph.to_undirected()
    given = None if split == "random" else _read_split(folder / "split" / source.split)
    parts = choose_split(key, labels, split, fractions, per_class, split_seed, given)
    store = FeatureStore(normalize_rows(features) if normalize_features else features)
    return Dataset(key, graph, store, labels, *parts, source.num_classes)


def _locate(root: Path, name: str, source: _Source) -> Path:
    """The folder that holds `raw` or `processed`; unpacked or downloaded if it must be."""
    made_by_package = name.replace("-", "_")
    places = [made_by_package, f"{made_by_package}_pyg", name, source.archive, f"{made_by_package}/{source.archive}"]
    places += [f"ogb/{place}" for place in places]
    for place in places:
        if (root / place / "raw").is_dir() or (root / place / "processed").is_dir():
            return root / place
    archive = f"{source.archive}.zip"
    zips = [root / place / archive for place in (".", made_by_package, "ogb", f"ogb/{made_by_package}")]
    was_there = find(zips) is not None
    try:
        path = find_or_download(zips, f"{_URL}/{archive}")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: there is no folder {root / made_by_package} with raw files; {error}"
        ) from error
    folder = _unpack(path, source.archive)
    if not was_there:
        path.unlink()
    return folder


def _unpack(path: Path, inner: str) -> Path:
    """Unpacks an archive beside itself; the folder `inner` appears only once it is whole."""
    logger.info("Unpacking %s", path)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            extract_zip(path, Path(folder))
            if not (Path(folder) / inner / "raw").is_dir():
                raise ValueError(f"{path} holds no folder {inner}/raw")
            shutil.move(Path(folder) / inner, path.parent / inner)
    except PermissionError as error:
        raise PermissionError(
            f"{path} must be unpacked, but {path.parent} cannot be written to: "
            "unpack it elsewhere and point dataset.root there"
        ) from error
    return path.parent / inner


def _read(name: str, folder: Path, add_reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Edges, int64, `(2, num_edges)`; features, `(num_nodes, num_features)`; labels, floats or integers."""
    processed = folder / "processed" / "geometric_data_processed.pt"
    raw = folder / "raw"
    if processed.exists():
        try:
            return _read_processed(name, processed)
        except ValueError as error:
            if not raw.is_dir():
                raise
            logger.warning("Reading the raw files of %s instead: %s", name, error)
    if (raw / "data.npz").exists():
        return _read_binary(raw)
    return _read_csv(name, raw, add_reverse)


def _read_processed(name: str, path: Path) -> tuple[Tensor, Tensor, Tensor]:
    from torch_geometric.data.data import Data, DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    try:
        with torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]):
            data, _ = torch.load(path, weights_only=True, mmap=True)
        edges, features, labels = data.edge_index, data.x, data.y
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds something else than the tensors of one graph, or is cut short") from error
    check_finite(name, features)
    return edges, features, labels


def _read_csv(name: str, raw: Path, add_reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    missing = [file for file in ("edge", "node-feat", "node-label") if not (raw / f"{file}.csv.gz").exists()]
    if missing:
        raise FileNotFoundError(f"{name}: {raw} has no {', '.join(f'{file}.csv.gz' for file in missing)}")
    num_nodes, num_edges = (
        int(read_csv_matrix(raw / f"num-{what}-list.csv.gz", np.int64, num_rows=1)[0, 0]) for what in ("node", "edge")
    )
    edge_index = torch.from_numpy(read_csv_matrix(raw / "edge.csv.gz", np.int64, num_edges)).T
    if add_reverse:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    features = torch.from_numpy(read_csv_matrix(raw / "node-feat.csv.gz", np.float32, num_nodes))
    check_finite(name, features)
    labels = torch.from_numpy(read_csv_matrix(raw / "node-label.csv.gz", np.float32, num_nodes))
    return edge_index, features, labels


def _read_binary(raw: Path) -> tuple[Tensor, Tensor, Tensor]:
    edges, features = (map_npz_array(raw / "data.npz", key) for key in ("edge_index", "node_feat"))
    labels = map_npz_array(raw / "node-label.npz", "node_label")
    return torch.from_numpy(edges), torch.from_numpy(features), torch.from_numpy(labels)


def map_npz_array(path: Path, key: str) -> np.ndarray:
    """Memory-maps an array of a `.npz` file where it lies; a compressed one is unpacked beside it first, once.

    Raises:
        ValueError: If the file is not whole, has no such array, or the array holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(f"{key}.npy")
            if entry.compress_type != zipfile.ZIP_STORED:
                return _map_npy(_unpack_member(archive, entry, path.parent / f"{path.stem}-{key}.npy"), 0)
            return _map_npy(path, entry.header_offset + _local_header_bytes(path, entry))
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a whole .npz file: {error}") from error
    except KeyError as error:
        raise ValueError(f"{path} has no array {key}") from error


def _unpack_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> Path:
    if not target.exists():
        logger.info("Unpacking %s (%.1f GB) to %s, once", entry.filename, entry.file_size / 1e9, target)
        partial = target.with_name(f"{target.name}.part")
        with archive.open(entry) as member, partial.open("wb") as file:
            shutil.copyfileobj(member, file, 1 << 20)
        partial.replace(target)
    return target


def _local_header_bytes(path: Path, entry: zipfile.ZipInfo) -> int:
    """What stands before an entry's content: 30 bytes, the last four of them the lengths of its name and extras."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        name_bytes, extra_bytes = struct.unpack("<26xHH", file.read(30))
        return 30 + int(name_bytes) + int(extra_bytes)


def _map_npy(path: Path, offset: int) -> np.ndarray:
    with path.open("rb") as file:
        file.seek(offset)
        version = np.lib.format.read_magic(file)
        read_header: Any = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read_header = np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError(f"{path} holds objects where numbers belong")
        start = file.tell()
    # Copy-on-write: torch wants writable memory, the file must not change.
    return np.memmap(path, dtype, "c", start, shape, "F" if is_fortran else "C")


def _as_classes(labels: Tensor) -> Tensor:
    """int64, `(num_nodes,)`; papers100M labels few of its papers and leaves NaN at the others."""
    labels = labels.view(-1)
    return labels.nan_to_num(nan=-1).long() if labels.is_floating_point() else labels.long()


def _read_split(folder: Path) -> Split:
    paths = [folder / f"{part}.csv.gz" for part in ("train", "valid", "test")]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise FileNotFoundError(f"the official split's {', '.join(missing)} is missing; choose dataset.split=random?")
    train, val, test = (torch.from_numpy(read_csv_matrix(path, np.int64)).view(-1) for path in paths)
    return train, val, test
