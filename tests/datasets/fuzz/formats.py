"""A small data set in every format that is read."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

from gnnfast.datasets import amazon, files, gowalla, musae, ogb, planetoid, pyg
from gnnfast.graph import FeatureStore
from gnnfast.partition import partition_graph
from gnnfast.runtime.cached_file import _checksum, cached_arrays
from tests.datasets.fuzz.fuzzing import Format
from tests.datasets.fuzz.mutations import Arrays

_random = np.random.default_rng(0)
NUM_NODES = 24
EDGES = _random.integers(0, NUM_NODES, (2, 60))
NODES = {
    "edges": EDGES,
    "features": _random.normal(size=(NUM_NODES, 4)).astype(np.float32),
    "labels": np.arange(NUM_NODES) % 3,
    "train": np.arange(0, 12),
    "val": np.arange(12, 18),
    "test": np.arange(18, 24),
}


def _load_files(folder: Path, suffix: str):
    names = ("edges", "features", "labels", "weights", "train", "val", "test")
    found = {name: folder / f"{name}{suffix}" for name in names if (folder / f"{name}{suffix}").exists()}
    return files(**found)


def write_npy(folder: Path, arrays: Arrays) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


NPY = Format(
    NODES | {"weights": _random.random(60).astype(np.float32)}, write_npy, lambda folder: _load_files(folder, ".npy")
)


def _columns(name: str, array: np.ndarray) -> np.ndarray:
    rows = array.T if name == "edges" and array.ndim == 2 else array
    return rows.reshape(len(rows), -1)


def csv_text(name: str, array: np.ndarray, header: bool = True) -> bytes:
    rows = _columns(name, array)
    names = {"edges": ["src", "dst"]}.get(name, [f"c{i}" for i in range(rows.shape[1])])
    lines = [",".join(names)] if header else []
    lines += [",".join(str(value) for value in row) for row in rows.tolist()]
    return ("\n".join(lines) + "\n").encode()


def write_csv(folder: Path, arrays: Arrays) -> None:
    for name, array in arrays.items():
        (folder / f"{name}.csv").write_bytes(csv_text(name, array, header=name != "labels"))


def write_csv_gz(folder: Path, arrays: Arrays) -> None:
    for name, array in arrays.items():
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(csv_text(name, array), 1))


def write_parquet(folder: Path, arrays: Arrays) -> None:
    import pyarrow
    from pyarrow import parquet

    for name, array in arrays.items():
        rows = _columns(name, array)
        names = {"edges": ["src", "dst"]}.get(name, [f"c{i}" for i in range(rows.shape[1])])
        columns = [column.astype(column.dtype.newbyteorder("=")) for column in rows.T]
        table = pyarrow.table(columns, names=names[: len(columns)])
        parquet.write_table(table, folder / f"{name}.parquet")


CSV = Format(NODES, write_csv, lambda folder: _load_files(folder, ".csv"))
CSV_GZ = Format(NODES, write_csv_gz, lambda folder: _load_files(folder, ".csv.gz"))
PARQUET = Format(NODES, write_parquet, lambda folder: _load_files(folder, ".parquet"))


def _load_mapped(folder: Path) -> FeatureStore:
    return FeatureStore.from_npy(folder / "features.npy")


FEATURE_STORE = Format({"features": NODES["features"]}, write_npy, _load_mapped)


# Fourteen papers, of which ten are listed first and four are tested; node 12 is in no list, as some of CiteSeer's.
_WORDS = (_random.random((14, 6)) < 0.4).astype(np.float32)
_TOPICS = np.eye(3, dtype=np.int32)[np.arange(14) % 3]
PAPERS = {
    "allx": _WORDS[:10],
    "tx": _WORDS[10:],
    "y": _TOPICS[:3],
    "ally": _TOPICS[:10],
    "ty": _TOPICS[10:],
    "test": np.array([14, 10, 11, 13]),
    "edges": np.stack([np.arange(15), (np.arange(15) + 1) % 15]),
}


def write_planetoid(folder: Path, arrays: Arrays) -> None:
    src, dst = arrays["edges"]
    graph = {int(u): [int(v)] for u, v in zip(src, dst, strict=True)}
    objects = {part: scipy.sparse.csr_matrix(arrays[part]) for part in ("allx", "tx")}
    objects |= {part: arrays[part] for part in ("y", "ally", "ty")}
    for part, value in {**objects, "graph": graph}.items():
        (folder / f"ind.cora.{part}").write_bytes(pickle.dumps(value, protocol=2))
    (folder / "ind.cora.test.index").write_text("\n".join(str(node) for node in arrays["test"].tolist()) + "\n")


def _load_planetoid(folder: Path):
    return planetoid("cora", folder, split="random", fractions=(0.5, 0.2, 0.3))


PLANETOID = Format(PAPERS, write_planetoid, _load_planetoid)


def _goods() -> Arrays:
    adjacency = scipy.sparse.csr_matrix((np.ones(60, np.float32), EDGES), (NUM_NODES, NUM_NODES))
    words = scipy.sparse.csr_matrix((_random.random((NUM_NODES, 6)) < 0.4).astype(np.float32))
    arrays = {"labels": np.arange(NUM_NODES) % 3}
    for kind, matrix in (("adj", adjacency), ("attr", words)):
        arrays |= {
            f"{kind}_{part}": np.asarray(getattr(matrix, part)) for part in ("data", "indices", "indptr", "shape")
        }
    return arrays


def write_amazon(folder: Path, arrays: Arrays) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    if len(arrays["labels"]) % 2:
        (folder / "amazon_electronics_photo.npz").write_bytes(buffer.getvalue())
        return
    with zipfile.ZipFile(folder / "amazon-photo.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("amazon_electronics_photo.npz", buffer.getvalue())


AMAZON = Format(_goods(), write_amazon, lambda folder: amazon("Photo", folder))

_VISITS = np.array([(0, 0), (0, 1), (1, 1), (1, 2), (2, 3), (2, 0)])


def _visits() -> Arrays:
    users, places = _VISITS.T
    forth = scipy.sparse.coo_matrix((np.ones(6, np.float32), (users, places + 3)), shape=(7, 7))
    matrix = (forth + forth.T).tocsr()
    return {part: np.asarray(getattr(matrix, part)) for part in ("data", "indices", "indptr", "shape")}


def write_gowalla(folder: Path, arrays: Arrays) -> None:
    (folder / "gowalla").mkdir()
    np.savez(folder / "gowalla" / "s_adj_mat.npz", **arrays)
    (folder / "gowalla" / "test.txt").write_text("0 2\n1 0 3\n2\n")


GOWALLA = Format(_visits(), write_gowalla, lambda folder: gowalla(folder, val_fraction=0.3))


def write_musae(folder: Path, arrays: Arrays) -> None:
    rows = [np.flatnonzero(row).tolist() for row in arrays["words"]]
    texts = {
        "edges.csv": "id_1,id_2\n" + "\n".join(f"{u},{v}" for u, v in arrays["edges"].T.tolist()) + "\n",
        "features.json": json.dumps({str(node): row for node, row in enumerate(rows)}),
        "target.csv": "id,x,kind\n"
        + "\n".join(f"{node},x,{kind}" for node, kind in enumerate(arrays["labels"]))
        + "\n",
    }
    (folder / "facebook_pages").mkdir()
    if len(arrays["labels"]) % 2:
        for name, text in texts.items():
            (folder / "facebook_pages" / f"facebook_{name}").write_text(text)
        return
    with zipfile.ZipFile(folder / "facebook_pages" / "facebook_large.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(f"facebook_large/musae_facebook_{name}", text)


_LIKES = {"edges": EDGES, "labels": NODES["labels"], "words": (_random.random((NUM_NODES, 6)) < 0.4).astype(np.int64)}
_ODD = {"edges": EDGES % 23, "labels": _LIKES["labels"][:23], "words": _LIKES["words"][:23]}
MUSAE = Format(_ODD, write_musae, lambda folder: musae("facebook_pages", folder))
MUSAE_ZIP = Format(_LIKES, write_musae, lambda folder: musae("facebook_pages", folder))


def write_ogb_splits(folder: Path, arrays: Arrays) -> None:
    (folder / "split" / "time").mkdir(parents=True)
    for part, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        (folder / "split" / "time" / f"{part}.csv.gz").write_bytes(gzip.compress(csv_text(name, arrays[name], False)))


def ogb_csv_files(arrays: Arrays) -> dict[str, bytes]:
    sizes = {"num_nodes": np.array([len(arrays["features"])]), "num_edges": np.array([arrays["edges"].shape[-1]])}
    given = {"edge": ("edges", arrays["edges"]), "node-feat": ("features", arrays["features"])}
    given |= {"node-label": ("labels", arrays["labels"])}
    given |= {"num-node-list": ("num", sizes["num_nodes"]), "num-edge-list": ("num", sizes["num_edges"])}
    return {file: gzip.compress(csv_text(name, array, False), 1) for file, (name, array) in given.items()}


def write_ogb_csv(folder: Path, arrays: Arrays) -> None:
    place = folder / "ogbn_arxiv"
    write_ogb_splits(place, arrays)
    (place / "raw").mkdir()
    for file, content in ogb_csv_files(arrays).items():
        (place / "raw" / f"{file}.csv.gz").write_bytes(content)


def write_ogb_zip(folder: Path, arrays: Arrays) -> None:
    made = folder / "made"
    write_ogb_csv(made, arrays)
    with zipfile.ZipFile(folder / "arxiv.zip", "w") as archive:
        for path in sorted(made.rglob("*.gz")):
            archive.write(path, Path("arxiv") / path.relative_to(made / "ogbn_arxiv"))
            path.unlink()


OGB_CSV = Format(NODES, write_ogb_csv, lambda folder: ogb("ogbn-arxiv", folder))
OGB_ZIP = Format(NODES, write_ogb_zip, lambda folder: ogb("ogbn-arxiv", folder))


def write_ogb_processed(folder: Path, arrays: Arrays) -> None:
    from torch_geometric.data import Data

    place = folder / "ogbn_arxiv"
    write_ogb_splits(place, arrays)
    data = Data(
        x=torch.from_numpy(arrays["features"].copy()),
        edge_index=torch.from_numpy(arrays["edges"].copy()),
        y=torch.from_numpy(arrays["labels"][:, None].copy()),
    )
    (place / "processed").mkdir()
    torch.save((data, None), place / "processed" / "geometric_data_processed.pt")


OGB_PROCESSED = Format(NODES, write_ogb_processed, lambda folder: ogb("ogbn-arxiv", folder))


def write_ogb_binary(folder: Path, arrays: Arrays) -> None:
    place = folder / "ogbn_papers100M"
    write_ogb_splits(place, arrays)
    (place / "raw").mkdir()
    save = np.savez if len(arrays["features"]) % 2 else np.savez_compressed
    save(place / "raw" / "data.npz", edge_index=arrays["edges"], node_feat=arrays["features"])
    save(place / "raw" / "node-label.npz", node_label=arrays["labels"])


OGB_COMPRESSED = Format(NODES, write_ogb_binary, lambda folder: ogb("ogbn-papers100M", folder))
_FEWER = NODES | {name: NODES[name][:23] for name in ("features", "labels")}
_FEWER |= {"edges": EDGES % 23, "test": NODES["test"][:5]}
OGB_MAPPED = Format(_FEWER, write_ogb_binary, OGB_COMPRESSED.load)


def write_pyg(folder: Path, arrays: Arrays) -> None:
    """As PyG's Planetoid leaves a data set that it has processed."""
    from torch_geometric.data import Data

    masks = {}
    for part in ("train", "val", "test"):
        mask = torch.zeros(NUM_NODES, dtype=torch.bool)
        mask[torch.from_numpy(arrays[part].astype(np.int64))] = True
        masks[f"{part}_mask"] = mask
    data = Data(
        x=torch.from_numpy(arrays["features"].copy()),
        edge_index=torch.from_numpy(arrays["edges"].copy()),
        y=torch.from_numpy(arrays["labels"].copy()),
        **masks,
    )
    raw, processed = folder / "Cora" / "raw", folder / "Cora" / "processed"
    raw.mkdir(parents=True)
    processed.mkdir()
    for part in ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index"):
        (raw / f"ind.cora.{part}").write_bytes(b"never read")
    torch.save((data.to_dict(), None, Data), processed / "data.pt")
    for name in ("pre_transform", "pre_filter"):
        torch.save("None", processed / f"{name}.pt")


PYG = Format(
    NODES,
    write_pyg,
    lambda folder: pyg("Planetoid", {"name": "Cora"}, root=folder),
    refusals=(ValueError, OSError),
    unwritable=(ValueError, TypeError, OverflowError, IndexError),
)


def write_pyg_raw(folder: Path, arrays: Arrays) -> None:
    """As PyG's Planetoid finds a data set that it has downloaded."""
    raw = folder / "Cora" / "raw"
    raw.mkdir(parents=True)
    write_planetoid(raw, arrays)
    (raw / "ind.cora.x").write_bytes(pickle.dumps(scipy.sparse.csr_matrix(arrays["allx"][:3]), protocol=2))


# PyG takes the 500 nodes after the training ones to validate.
_MANY = {
    "allx": (_random.random((510, 6)) < 0.4).astype(np.float32),
    "tx": _WORDS[10:],
    "y": np.eye(3, dtype=np.int32)[np.arange(9) % 3],
    "ally": np.eye(3, dtype=np.int32)[np.arange(510) % 3],
    "ty": _TOPICS[10:],
    "test": np.array([513, 510, 511, 512]),
    "edges": np.stack([np.arange(514), (np.arange(514) + 1) % 514]),
}
PYG_RAW = Format(
    _MANY,
    write_pyg_raw,
    lambda folder: pyg("Planetoid", {"name": "Cora"}, root=folder, split="random"),
    refusals=(ValueError, OSError),
)


_KEPT = {"part_of": np.arange(NUM_NODES) % 3}


def write_cache(folder: Path, arrays: Arrays) -> None:
    """A cached result whose checksum is right, whatever it holds."""
    cached_arrays("kept", {"size": 3}, lambda: arrays, folder)


def _load_cache(folder: Path) -> None:
    (path,) = folder.iterdir()
    content = path.read_bytes()[:-16]
    digest = path.stem.removeprefix("kept-")
    path.write_bytes(content + _checksum(io.BytesIO(content), len(content), digest))
    cached_arrays("kept", {"size": 3}, lambda: dict(_KEPT), folder)


CACHE = Format(_KEPT, write_cache, _load_cache, refusals=())


def write_partition(folder: Path, arrays: Arrays) -> None:
    from gnnfast.graph import CSCGraph

    partition_graph(CSCGraph.from_edge_index(torch.from_numpy(EDGES), NUM_NODES), 3, "grow", 0, folder)


def _load_partition(folder: Path) -> None:
    from gnnfast.graph import CSCGraph

    graph = CSCGraph.from_edge_index(torch.from_numpy(EDGES), NUM_NODES)
    found = partition_graph(graph, 3, "grow", 0, folder)
    assert torch.equal(found.part_of, partition_graph(graph, 3, "grow", 0, folder / "anew").part_of)


PARTITION = Format(_KEPT, write_partition, _load_partition, refusals=())

FORMATS = {
    "npy": NPY,
    "csv": CSV,
    "csv_gz": CSV_GZ,
    "parquet": PARQUET,
    "feature_store": FEATURE_STORE,
    "planetoid": PLANETOID,
    "amazon": AMAZON,
    "gowalla": GOWALLA,
    "musae": MUSAE,
    "musae_zip": MUSAE_ZIP,
    "ogb_csv": OGB_CSV,
    "ogb_zip": OGB_ZIP,
    "ogb_processed": OGB_PROCESSED,
    "ogb_compressed": OGB_COMPRESSED,
    "ogb_mapped": OGB_MAPPED,
    "pyg": PYG,
    "pyg_raw": PYG_RAW,
    "cache": CACHE,
    "partition": PARTITION,
}
