import gzip
import logging
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gnnfast.datasets import ogb

NUM_NODES = 6
EDGES = np.array([[0, 1, 2, 0, 4], [1, 0, 3, 4, 5]])
FEATURES = np.arange(18, dtype=np.float32).reshape(6, 3) / 8 - 1
LABELS = np.array([3, 0, 1, 39, 2, 2])
SPLIT = {"train": [0, 2], "valid": [1, 4], "test": [3, 5]}


def write_csv_gz(path: Path, rows: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(str(value) for value in row) for row in np.asarray(rows).reshape(len(rows), -1).tolist()]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


def write_csv_layout(folder: Path, split: str = "time") -> None:
    for file, rows in (
        ("edge", EDGES.T),
        ("node-feat", FEATURES),
        ("node-label", LABELS),
        ("num-node-list", np.array([NUM_NODES])),
        ("num-edge-list", np.array([EDGES.shape[1]])),
        ("node_year", np.full(NUM_NODES, 2020)),
    ):
        write_csv_gz(folder / "raw" / f"{file}.csv.gz", rows)
    write_split(folder, split)


def write_split(folder: Path, split: str) -> None:
    for part, ids in SPLIT.items():
        write_csv_gz(folder / "split" / split / f"{part}.csv.gz", np.array(ids))


def pairs(dataset) -> list[tuple[int, int]]:
    return sorted(zip(*dataset.graph.to_edge_index().tolist(), strict=True))


def both_ways(edges: np.ndarray) -> list[tuple[int, int]]:
    one_way = list(zip(*edges.tolist(), strict=True))
    return sorted({*one_way, *((v, u) for u, v in one_way)})


def check_whole(dataset) -> None:
    assert torch.equal(dataset.features.rows, torch.from_numpy(FEATURES))
    assert dataset.labels.tolist() == LABELS.tolist()
    assert [ids.tolist() for ids in dataset.split_ids.values()] == list(SPLIT.values())


@pytest.mark.parametrize("place", ["ogbn_arxiv", "ogbn_arxiv_pyg", "arxiv", "ogb/ogbn_arxiv"])
def test_arxiv_is_read_from_every_layout(tmp_path: Path, place: str):
    write_csv_layout(tmp_path / place)
    dataset = ogb("ogbn-arxiv", tmp_path)
    check_whole(dataset)
    assert pairs(dataset) == both_ways(EDGES)
    assert dataset.num_classes == 40


def test_directed_citations_stay_as_they_are(tmp_path: Path):
    write_csv_layout(tmp_path / "ogbn_arxiv")
    assert pairs(ogb("ogbn_arxiv", tmp_path, undirected=False)) == sorted(zip(*EDGES.tolist(), strict=True))


def test_products_have_both_directions_as_the_benchmark_presents_them(tmp_path: Path):
    write_csv_layout(tmp_path / "ogbn_products", "sales_ranking")
    presented = ogb("ogbn-products", tmp_path, undirected=False)
    assert presented.graph.num_edges == 2 * EDGES.shape[1]
    assert pairs(ogb("ogbn-products", tmp_path)) == both_ways(EDGES) == sorted(set(pairs(presented)))


@pytest.mark.parametrize("place", ["arxiv.zip", "ogbn_arxiv/arxiv.zip", "ogb/arxiv.zip"])
def test_an_archive_is_unpacked_and_kept(tmp_path: Path, place: str):
    write_csv_layout(tmp_path / "made" / "arxiv")
    path = tmp_path / "root" / place
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in (tmp_path / "made").rglob("*.gz"):
            archive.write(file, file.relative_to(tmp_path / "made"))
    for _ in range(2):
        check_whole(ogb("ogbn-arxiv", tmp_path / "root"))
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["arxiv", "arxiv.zip"]


def test_an_archive_of_something_else_leaves_nothing_behind(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "arxiv.zip", "w") as archive:
        archive.writestr("other/file", "x")
    with pytest.raises(ValueError, match="holds no folder arxiv/raw"):
        ogb("ogbn-arxiv", tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["arxiv.zip"]


def processed_file(folder: Path) -> Path:
    path = folder / "processed" / "geometric_data_processed.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.filterwarnings("ignore")
def test_the_packages_processed_file_is_enough(tmp_path: Path):
    from torch_geometric.data import Data

    folder = tmp_path / "ogbn_arxiv"
    write_split(folder, "time")
    data = Data(x=torch.from_numpy(FEATURES), edge_index=torch.from_numpy(EDGES), y=torch.from_numpy(LABELS)[:, None])
    data.num_nodes = NUM_NODES
    torch.save((data, None), processed_file(folder))
    dataset = ogb("ogbn-arxiv", tmp_path)
    check_whole(dataset)
    assert pairs(dataset) == both_ways(EDGES)


class Attack:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore")
def test_a_processed_file_that_would_run_code_is_left_for_the_raw_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "ogbn_arxiv"
    torch.save((Attack(tmp_path / "was_here"), None), processed_file(folder))
    write_split(folder, "time")
    with pytest.raises(ValueError, match=r"is not a file of nothing but one graph's tensors: .* has no business"):
        ogb("ogbn-arxiv", tmp_path)
    write_csv_layout(folder)
    with caplog.at_level(logging.WARNING):
        check_whole(ogb("ogbn-arxiv", tmp_path))
    assert "Reading the raw files of ogbn-arxiv instead" in caplog.text
    assert not (tmp_path / "was_here").exists()


def write_binary_layout(folder: Path, save, **changes: np.ndarray) -> None:
    (folder / "raw").mkdir(parents=True)
    arrays = {
        "edge_index": EDGES,
        "node_feat": FEATURES,
        "node_year": np.full((NUM_NODES, 1), 2020),
        "num_nodes_list": np.array([NUM_NODES]),
        "num_edges_list": np.array([EDGES.shape[1]]),
    }
    save(folder / "raw" / "data.npz", **arrays | changes)
    labels = LABELS.astype(np.float32)[:, None]
    labels[4] = np.nan
    save(folder / "raw" / "node-label.npz", node_label=labels)
    write_split(folder, "time")
    write_csv_gz(folder / "split" / "time" / "valid.csv.gz", np.array([1]))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("features", [FEATURES, FEATURES.astype(np.float16), np.asfortranarray(FEATURES)])
def test_papers_are_memory_mapped_and_mostly_without_a_label(tmp_path: Path, save, features: np.ndarray):
    write_binary_layout(tmp_path / "ogbn_papers100M", save, node_feat=features)
    dataset = ogb("ogbn-papers100M", tmp_path)
    assert pairs(dataset) == both_ways(EDGES)
    assert torch.equal(dataset.features.rows, torch.from_numpy(features))
    assert dataset.labels.tolist() == [3, 0, 1, 39, -1, 2]
    assert dataset.num_classes == 172
    unpacked = list((tmp_path / "ogbn_papers100M" / "raw").glob("data-node_feat-*.npy"))
    assert bool(unpacked) == (save is np.savez_compressed)


def test_features_stay_on_disk(tmp_path: Path):
    from gnnfast.datasets.ogb import map_npz_array

    np.savez(tmp_path / "data.npz", node_feat=FEATURES)
    mapped = map_npz_array(tmp_path / "data.npz", "node_feat")
    assert isinstance(mapped, np.memmap)
    mapped[0] = 0
    assert np.array_equal(np.load(tmp_path / "data.npz")["node_feat"], FEATURES)


def test_an_array_of_objects_is_refused(tmp_path: Path):
    write_binary_layout(tmp_path / "ogbn_papers100M", np.savez, node_feat=np.array([{}, {}], dtype=object))
    with pytest.raises(ValueError, match="holds objects"):
        ogb("ogbn-papers100M", tmp_path)


@pytest.mark.parametrize(
    ("file", "rows", "message"),
    [
        ("edge", EDGES.T[:3], r"edge\.csv\.gz has 3 rows, but 5 belong there"),
        ("edge", np.vstack([EDGES.T, [[0, 1]]]), "more than 5 rows"),
        ("edge", np.where(EDGES.T == 5, 6, EDGES.T), "holds node 6"),
        ("node-feat", np.where(FEATURES == 0, np.nan, FEATURES), "feature 2 of node 2 is nan"),
        ("node-label", np.where(LABELS == 39, 40, LABELS), "classes are numbered 0 to 39 .* row 3 has 40"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, file: str, rows: np.ndarray, message: str):
    write_csv_layout(tmp_path / "ogbn_arxiv")
    write_csv_gz(tmp_path / "ogbn_arxiv" / "raw" / f"{file}.csv.gz", rows)
    with pytest.raises(ValueError, match=message):
        ogb("ogbn-arxiv", tmp_path)


@pytest.mark.parametrize("file", ["raw/edge.csv.gz", "raw/node-feat.csv.gz", "split/time/test.csv.gz"])
def test_a_truncated_file_is_named(tmp_path: Path, file: str):
    path = tmp_path / "ogbn_arxiv" / file
    write_csv_layout(tmp_path / "ogbn_arxiv")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match=path.name):
        ogb("ogbn-arxiv", tmp_path)


def test_missing_files_say_where_they_were_expected_and_how_to_get_them(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as error:
        ogb("ogbn-products", tmp_path)
    for part in (str(tmp_path / "ogbn_products"), str(tmp_path / "products.zip"), "snap.stanford.edu"):
        assert part in str(error.value)
    write_csv_layout(tmp_path / "ogbn_arxiv")
    (tmp_path / "ogbn_arxiv" / "raw" / "edge.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no edge\.csv\.gz"):
        ogb("ogbn-arxiv", tmp_path)


def test_the_benchmarks_package_with_its_update_check_stays_out(tmp_path: Path):
    write_csv_layout(tmp_path / "ogbn_arxiv")
    read = f"from gnnfast.datasets import ogb; ogb('ogbn-arxiv', {str(tmp_path)!r})"
    code = f"import sys; {read}; print('ogb' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="ogbn-arxiv, ogbn-products, ogbn-papers100M"):
        ogb("ogbn-mag")
