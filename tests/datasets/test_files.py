import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gnnfast.datasets import files

EDGES = np.array([[0, 1, 2, 0], [1, 2, 0, 1]])
WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0], np.float32)
FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
LABELS = np.array([0, 1, 2, 1])


def write_csv(path: Path, columns: list[np.ndarray], header: str | None) -> None:
    lines = [header] if header else []
    lines += [",".join(str(value) for value in row) for row in zip(*columns, strict=True)]
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def write_parquet(path: Path, columns: dict[str, np.ndarray]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)


@pytest.fixture
def whole(tmp_path: Path) -> Callable[..., dict[str, object]]:
    """Arguments of `files` for a whole data set, with what a test changes."""

    def arguments(**changes: np.ndarray) -> dict[str, object]:
        arrays = {"edges": EDGES, "features": FEATURES, "labels": LABELS} | changes
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        splits = {part: tmp_path / f"{part}.npy" for part in ("train", "val", "test")}
        for part, node in (("train", 0), ("val", 1), ("test", 2)):
            if part not in changes:
                np.save(splits[part], np.array([node]))
        return {name: tmp_path / f"{name}.npy" for name in arrays} | splits

    return arguments


def edge_set(dataset) -> list[tuple[int, int, float]]:
    src, dst = dataset.graph.to_edge_index().tolist()
    weight = dataset.graph.edge_weight
    return sorted(zip(src, dst, [1.0] * len(src) if weight is None else weight.tolist(), strict=True))


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: np.save(folder / "edges.npy", EDGES),
        lambda folder: np.save(folder / "edges.npy", EDGES.T.astype(np.int32)),
        lambda folder: write_csv(folder / "edges.csv", list(EDGES), "src,dst"),
        lambda folder: write_csv(folder / "edges.csv", [EDGES[1], EDGES[0]], "dst,src"),
        lambda folder: write_csv(folder / "edges.csv", list(EDGES), None),
        lambda folder: write_csv(folder / "edges.csv.gz", list(EDGES), "from,to"),
        lambda folder: write_csv(folder / "edges.csv", [*EDGES, WEIGHTS], None),
        lambda folder: write_csv(folder / "edges.csv", [*EDGES, WEIGHTS], "src,dst,weight"),
        lambda folder: write_parquet(folder / "edges.parquet", {"src": EDGES[0], "dst": EDGES[1], "weight": WEIGHTS}),
    ],
)
def test_edges_mean_the_same_in_every_format(whole, tmp_path: Path, write: Callable[[Path], None]):
    arguments = whole()
    (tmp_path / "edges.npy").unlink()
    write(tmp_path)
    (path,) = tmp_path.glob("edges.*")
    dataset = files(**arguments | {"edges": path})
    weights = [1.0] * 4 if dataset.graph.edge_weight is None else WEIGHTS.tolist()
    assert edge_set(dataset) == sorted(zip(*EDGES.tolist(), weights, strict=True))


def test_features_and_labels_mean_the_same_in_every_format(whole, tmp_path: Path):
    expected = files(**whole())
    write_csv(tmp_path / "x.csv", list(FEATURES.T), None)
    write_parquet(tmp_path / "x.parquet", {f"f{i}": FEATURES[:, i].astype(np.float64) for i in range(3)})
    write_csv(tmp_path / "y.csv", [LABELS], "label")
    write_parquet(tmp_path / "y.parquet", {"label": LABELS.astype(np.int8)})
    for suffix in ("csv", "parquet"):
        dataset = files(**whole() | {"features": tmp_path / f"x.{suffix}", "labels": tmp_path / f"y.{suffix}"})
        assert torch.equal(dataset.features.rows, expected.features.rows)
        assert torch.equal(dataset.labels, expected.labels)


def test_features_of_whole_numbers_are_read_as_floats(whole):
    assert torch.equal(files(**whole(features=FEATURES.astype(np.int64))).features.rows, torch.from_numpy(FEATURES))


def test_normalized_features_leave_the_file_alone(whole):
    arguments = whole()
    dataset = files(**arguments, normalize_features=True)
    torch.testing.assert_close(dataset.features.rows.sum(1), torch.tensor([1.0, 1, 1, 1]).double().float())
    assert np.array_equal(np.load(arguments["features"]), FEATURES)


def test_weights_of_their_own_file_belong_to_the_edges_in_order(whole):
    assert edge_set(files(**whole(weights=WEIGHTS))) == sorted(zip(*EDGES.tolist(), WEIGHTS.tolist(), strict=True))


def test_undirected_adds_the_reverse_and_merges_to_mean_weights(whole):
    dataset = files(**whole(weights=WEIGHTS), undirected=True)
    assert edge_set(dataset) == [(0, 1, 2.25), (0, 2, 2.0), (1, 0, 2.25), (1, 2, 1.0), (2, 0, 2.0), (2, 1, 1.0)]


def test_unknown_classes_are_in_no_random_split(whole):
    arguments = whole(features=np.ones((40, 2), np.float32), labels=np.array([0.0, 1.0, np.nan, -1.0] * 10))
    arguments |= {"train": None, "val": None, "test": None}
    dataset = files(**arguments)
    assert sorted(torch.cat(list(dataset.split_ids.values())).tolist()) == [node for node in range(40) if node % 4 < 2]


def test_several_labels_per_node(whole):
    labels = np.array([[0, 1], [1, 1], [np.nan, 0], [0, 0]])
    dataset = files(**whole(labels=labels))
    assert dataset.is_multilabel
    assert dataset.num_classes == 2


def test_splits_may_be_masks(whole):
    mask = np.array([True, False, False, True])
    assert files(**whole(train=mask)).train_ids.tolist() == [0, 3]


def test_paths_are_looked_for_in_the_root(whole, tmp_path: Path):
    dataset = files(**{key: path.name for key, path in whole().items()}, root=tmp_path)
    assert dataset.num_nodes == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": np.array([[0, 9], [1, 1]])}, r"edges\.npy: edge_index holds node 9, but the graph's 4 nodes"),
        ({"edges": np.array([[0, -1], [1, 1]])}, r"edges\.npy: edge_index holds node -1"),
        ({"edges": np.array([[0, 1.5, 2], [1, 1, 1]])}, "must be whole numbers, but row 1 has 1.5"),
        ({"edges": np.array([[0, np.nan, 2], [1, 1, 1]])}, "must be whole numbers, but row 1 has nan"),
        ({"edges": np.zeros((3, 3))}, r"edges must have shape \(2, num_edges\)"),
        ({"features": np.array([[1, 2], [np.nan, 0], [0, 0], [0, 0]])}, "feature 0 of node 1 is nan"),
        ({"features": np.array([[1, 2], [0, 0], [0, np.inf], [0, 0]], np.float16)}, "feature 1 of node 2 is inf"),
        ({"features": np.zeros(4, np.float32)}, "features must be"),
        ({"labels": LABELS[:3]}, "labels have 3 rows but the graph has 4 nodes"),
        ({"labels": LABELS + 0.5}, "classes must be whole numbers, but row 0 has 0.5"),
        ({"labels": LABELS - 2}, "row 0 has -2"),
        ({"labels": np.array([[0, 1], [1, 2], [0, 0], [0, 0]])}, "several labels must be 0 or 1, but row 1 has 2"),
        ({"weights": WEIGHTS[:2]}, "one entry per edge"),
        ({"weights": np.array([1, np.inf, 1, 1])}, "the weight of edge 1 is inf"),
        ({"train": np.array([0, 4])}, r"train\.npy: nodes are numbered 0 to 3, but row 1 has 4"),
        ({"train": np.array([-1])}, "row 0 has -1"),
        ({"train": np.array([0, 1])}, "node 1 is in the training and in the validation split"),
        ({"train": np.array([], np.int64)}, "the training split is empty"),
        ({"train": np.array([True, False])}, "one entry per node, 4, got 2"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(whole, changes: dict[str, np.ndarray], message: str):
    with pytest.raises(ValueError, match=message) as error:
        files(**whole(**changes))
    assert "\n" not in str(error.value)


def test_classes_are_checked_against_their_number(whole):
    with pytest.raises(ValueError, match=r"classes are numbered 0 to 1 .* row 2 has 2"):
        files(**whole(), num_classes=2)


@pytest.mark.parametrize("key", ["edges", "features", "labels", "train"])
def test_a_truncated_file_is_named(whole, key: str):
    arguments = whole()
    content = arguments[key].read_bytes()
    for length in (0, 20, len(content) - 3):
        arguments[key].write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{key}\.npy is not a whole \.npy file") as error:
            files(**arguments)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["edges.csv", "edges.csv.gz", "edges.parquet"])
def test_a_damaged_table_is_named(whole, tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"" if name == "edges.csv" else b"PAR1 and nothing else")
    with pytest.raises(ValueError, match=f"{name} cannot be read") as error:
        files(**whole() | {"edges": tmp_path / name})
    assert "\n" not in str(error.value)


def test_words_where_numbers_belong_are_named(whole, tmp_path: Path):
    write_csv(tmp_path / "edges.csv", [np.array(["a", "b"]), np.array(["b", "c"])], "src,dst")
    with pytest.raises(ValueError, match="column src must hold numbers, but holds string"):
        files(**whole() | {"edges": tmp_path / "edges.csv"})


def test_a_missing_file_says_where_it_was_expected(whole, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=f"the file of labels was expected at {tmp_path / 'none.npy'}"):
        files(**whole() | {"labels": tmp_path / "none.npy"})


def test_a_split_comes_whole(whole):
    with pytest.raises(ValueError, match="train, val and test come together, but test is missing"):
        files(**whole() | {"test": None})


def test_weights_in_two_places_are_refused(whole, tmp_path: Path):
    write_csv(tmp_path / "edges.csv", [*EDGES, WEIGHTS], None)
    with pytest.raises(ValueError, match="holds weights already"):
        files(**whole(weights=WEIGHTS) | {"edges": tmp_path / "edges.csv"})


def test_an_unknown_format_lists_the_known_ones(whole, tmp_path: Path):
    (tmp_path / "edges.txt").write_text("0 1")
    with pytest.raises(ValueError, match=r"must be a \.npy, \.csv, \.csv\.gz, \.parquet file"):
        files(**whole() | {"edges": tmp_path / "edges.txt"})


def test_zeros_and_ones_are_a_mask_where_they_cannot_be_ids(whole):
    assert files(**whole(train=np.array([1, 0, 0, 1]))).train_ids.tolist() == [0, 3]
    with pytest.raises(ValueError, match=r"train\.npy holds only 0 and 1: as ids they repeat, .* 4, got 5"):
        files(**whole(train=np.array([1, 0, 0, 1, 0])))
    two = {"features": FEATURES[:2], "labels": LABELS[:2], "edges": np.array([[0], [1]])}
    with pytest.raises(ValueError, match=r"train\.npy may be the ids 0 and 1 or a mask"):
        files(**whole(**two, train=np.array([0, 1])))


def test_a_first_column_that_numbers_the_nodes_is_warned_of(whole, caplog: pytest.LogCaptureFixture):
    files(**whole())
    assert not caplog.records
    files(**whole(features=np.column_stack([np.arange(4), FEATURES[:, 1]]).astype(np.float32)))
    assert "features.npy: the first column counts from 0 to 3 and is taken for a feature" in caplog.text


def test_negative_weights_are_warned_of(whole, caplog: pytest.LogCaptureFixture):
    files(**whole(weights=np.array([1, -2, 1, -1], np.float32)))
    assert "edges.npy: 2 edge weights are negative, the first is -2 of edge 1: model=gcn takes roots" in caplog.text


def test_ids_in_place_of_classes_are_refused(whole):
    with pytest.raises(ValueError, match=r"labels\.npy: classes are numbered 0 to 3 .* row 1 has 1000000000000000"):
        files(**whole(labels=np.array([0, 10**15, 1, 2])))
    assert files(**whole(labels=np.array([0, 5, 1, 2])), num_classes=6).num_classes == 6


def test_two_columns_of_one_name_are_refused(whole, tmp_path: Path):
    write_csv(tmp_path / "x.csv", [*FEATURES.T], "a,b,a")
    with pytest.raises(ValueError, match=r"x\.csv cannot be read: two of its columns are called a"):
        files(**whole() | {"features": tmp_path / "x.csv"})
