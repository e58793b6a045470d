"""Node classification of the Open Graph Benchmark, read from its files without its package.

The package's own loading unpickles freely, which torch.load refuses since 2.6, and importing it asks the network for
a newer version.
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.class_labels import class_labels
from gnnfast.datasets.edges import build_graph
from gnnfast.datasets.feature_rows import check_finite, normalize_rows
from gnnfast.datasets.raw_files import data_root, extract_zip, find, find_or_download, one_at_a_time
from gnnfast.datasets.splitting import DEFAULT_FRACTIONS, choose_split
from gnnfast.datasets.tables import read_csv_matrix
from gnnfast.datasets.unpickling import only_tensors
from gnnfast.graph import Dataset, FeatureStore
from gnnfast.graph.splits import Split
from gnnfast.runtime.npy import map_npy
from gnnfast.runtime.reading import check_fits_disk, reading

logger = logging.getLogger(__name__)

# Features that are read once at the start, to see that they are finite; of more, only those of the splits' nodes are.
_MOST_BYTES_CHECKED = 1 << 32
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
    classes = class_labels(folder, labels.numpy(), features.shape[0], source.num_classes)
    graph = build_graph(folder, edge_index, features.shape[0])
    if undirected:
        graph = graph.to_undirected()
    given = None if split == "random" else _read_split(folder / "split" / source.split)
    parts = choose_split(key, classes, split, fractions, per_class, split_seed, given)
    try:
        store = FeatureStore(normalize_rows(features) if normalize_features else features)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return Dataset(key, graph, store, classes, *parts, source.num_classes)


def _locate(root: Path, name: str, source: _Source) -> Path:
    """The folder that holds `raw` or `processed`; unpacked or downloaded if it must be."""
    made_by_package = name.replace("-", "_")
    places = [made_by_package, f"{made_by_package}_pyg", name, source.archive, f"{made_by_package}/{source.archive}"]
    places += [f"ogb/{place}" for place in places]
    folders = [root / place for place in places]
    found = _filled(folders)
    if found is not None:
        return found
    with one_at_a_time(root):
        # Another process may have made it meanwhile.
        return _filled(folders) or _fetch(root, name, source, root / made_by_package)


def _filled(folders: Sequence[Path]) -> Path | None:
    return next((folder for folder in folders if (folder / "raw").is_dir() or (folder / "processed").is_dir()), None)


def _fetch(root: Path, name: str, source: _Source, expected: Path) -> Path:
    archive = f"{source.archive}.zip"
    zips = [root / place / archive for place in (".", expected.name, "ogb", f"ogb/{expected.name}")]
    was_there = find(zips) is not None
    try:
        path = find_or_download(zips, f"{_URL}/{archive}")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: there is no folder {expected} with raw files; {error}") from error
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
            return _read_processed(processed)
        except ValueError as error:
            if not raw.is_dir():
                raise
            logger.warning("Reading the raw files of %s instead: %s", name, error)
    if (raw / "data.npz").exists():
        return _read_binary(raw)
    return _read_csv(raw, add_reverse)


def _read_processed(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    with reading(path, "a file of nothing but one graph's tensors"), only_tensors():
        data, _ = torch.load(path, weights_only=True, mmap=True)
        tensors = tuple(getattr(data, key) for key in ("edge_index", "x", "y"))
        for key, tensor in zip(("edges", "features", "labels"), tensors, strict=True):
            if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
                raise TypeError(f"its {key} are no dense tensor")
            # A tensor larger than its storage makes that grow, by whatever memory holds.
            if tensor.untyped_storage().nbytes() > path.stat().st_size or tensor.nbytes > path.stat().st_size:
                raise ValueError(f"its {key} claim more than the file holds")
        edges, features, labels = (tensor.contiguous() for tensor in tensors)
    if features.dim() != 2 or not features.is_floating_point():
        raise ValueError(f"{path}: features must be floating, a row per node, got {features.dtype} {features.shape}")
    check_finite(str(path), features)
    return edges, features, labels


def _read_csv(raw: Path, add_reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    missing = [file for file in ("edge", "node-feat", "node-label") if not (raw / f"{file}.csv.gz").exists()]
    if missing:
        raise FileNotFoundError(f"{raw} has no {', '.join(f'{file}.csv.gz' for file in missing)}")
    num_nodes, num_edges = (
        int(read_csv_matrix(raw / f"num-{what}-list.csv.gz", np.int64, num_rows=1)[0, 0]) for what in ("node", "edge")
    )
    edges = read_csv_matrix(raw / "edge.csv.gz", np.int64, num_edges)
    if edges.shape[1] != 2:
        raise ValueError(f"{raw / 'edge.csv.gz'}: an edge is two node numbers, got {edges.shape[1]} columns")
    edge_index = torch.from_numpy(edges).T
    if add_reverse:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    features = torch.from_numpy(read_csv_matrix(raw / "node-feat.csv.gz", np.float32, num_nodes))
    check_finite(str(raw / "node-feat.csv.gz"), features)
    labels = torch.from_numpy(read_csv_matrix(raw / "node-label.csv.gz", np.float32, num_nodes))
    return edge_index, features, labels


def _read_binary(raw: Path) -> tuple[Tensor, Tensor, Tensor]:
    edges, features = (map_npz_array(raw / "data.npz", key) for key in ("edge_index", "node_feat"))
    labels = map_npz_array(raw / "node-label.npz", "node_label")
    if edges.ndim != 2 or edges.dtype.kind not in "iu":
        raise ValueError(f"{raw / 'data.npz'}: edge_index must be whole numbers, got {edges.dtype} {edges.shape}")
    if features.ndim != 2 or features.dtype.kind != "f":
        raise ValueError(f"{raw / 'data.npz'}: node_feat must be floating, got {features.dtype} {features.shape}")
    with reading(raw / "data.npz", "a file of arrays that torch knows"):
        tensors = torch.from_numpy(edges), torch.from_numpy(features), torch.from_numpy(labels)
    if features.nbytes <= _MOST_BYTES_CHECKED:
        check_finite(str(raw / "data.npz"), tensors[1])
    return tensors


def map_npz_array(path: Path, key: str) -> np.ndarray:
    """Memory-maps an array of a `.npz` file where it lies; a compressed one is unpacked beside it first, once.

    Raises:
        ValueError: If the file is not whole, has no such array, or the array holds objects.
    """
    with reading(path, "a whole .npz file"), zipfile.ZipFile(path) as archive:
        if f"{key}.npy" not in archive.namelist():
            raise ValueError(f"{path} has no array {key}")
        entry = archive.getinfo(f"{key}.npy")
        if entry.compress_type == zipfile.ZIP_STORED:
            return map_npy(path, entry.header_offset + _local_header_bytes(path, entry))
        return map_npy(_unpack_member(archive, entry, path))


def _unpack_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Path:
    """A file beside the archive with an entry's content, whose checksum it is named by."""
    key = entry.filename.removesuffix(".npy")
    target = path.parent / f"{path.stem}-{key}-{entry.CRC:08x}.npy"
    with one_at_a_time(path.parent):
        if target.exists() and target.stat().st_size != entry.file_size:
            logger.warning("%s has %d of %d bytes: unpacking it anew", target, target.stat().st_size, entry.file_size)
            target.unlink()
        if not target.exists():
            logger.info("Unpacking %s (%.1f GB) to %s, once", entry.filename, entry.file_size / 1e9, target)
            check_fits_disk(entry.filename, entry.file_size, path.parent)
            partial = target.with_name(f"{target.name}.{os.getpid()}.part")
            try:
                with archive.open(entry) as member, partial.open("wb") as file:
                    shutil.copyfileobj(member, file, 1 << 20)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
    return target


def _local_header_bytes(path: Path, entry: zipfile.ZipInfo) -> int:
    """What stands before an entry's content: 30 bytes, the last four of them the lengths of its name and extras."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        name_bytes, extra_bytes = struct.unpack("<26xHH", file.read(30))
        return 30 + int(name_bytes) + int(extra_bytes)


def _read_split(folder: Path) -> Split:
    paths = [folder / f"{part}.csv.gz" for part in ("train", "valid", "test")]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise FileNotFoundError(f"the official split's {', '.join(missing)} is missing; choose dataset.split=random?")
    train, val, test = (_read_ids(path) for path in paths)
    return train, val, test


def _read_ids(path: Path) -> Tensor:
    ids = read_csv_matrix(path, np.int64)
    if ids.shape[1] != 1:
        raise ValueError(f"{path} must hold one node per line, got {ids.shape[1]} columns")
    return torch.from_numpy(ids[:, 0].copy())
