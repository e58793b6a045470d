from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from gnnfast.datasets import gowalla

# Three users, four places: what each was seen to visit.
VISITS = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3), (2, 0)]
TEST = "0 2\n1 0 3\n2\n"


def write(root: Path, visits: list[tuple[int, int]] = VISITS, test: str = TEST, **changes: np.ndarray) -> None:
    folder = root / "gowalla"
    folder.mkdir()
    users, places = np.array(visits).T
    forth = scipy.sparse.coo_matrix((np.ones(len(visits), np.float32), (users, places + 3)), shape=(7, 7))
    matrix = (forth + forth.T).tocsr()
    scipy.sparse.save_npz(folder / "s_adj_mat.npz", matrix)
    if changes:
        arrays = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": matrix.shape}
        np.savez(folder / "s_adj_mat.npz", **{**arrays, **changes})
    (folder / "test.txt").write_text(test)


def test_reads_users_first_and_places_after_them(tmp_path: Path):
    write(tmp_path)
    dataset = gowalla(tmp_path, val_fraction=0)
    assert sorted(map(tuple, dataset.train_edges.T.tolist())) == sorted((u, i + 3) for u, i in VISITS)
    assert dataset.test_edges.tolist() == [[0, 1, 1], [5, 3, 6]]
    assert (dataset.sources, dataset.destinations) == ((0, 3), (3, 7))
    assert dataset.features is None
    both_ways = torch.cat([dataset.train_edges, dataset.train_edges.flip(0)], dim=1).T.tolist()
    assert sorted(dataset.graph.to_edge_index().T.tolist()) == sorted(both_ways)
    assert dataset.val_edges.shape == (2, 0)


def test_validation_pairs_leave_training_and_the_graph(tmp_path: Path):
    write(tmp_path)
    splits = [gowalla(tmp_path, val_fraction=0.34, split_seed=seed) for seed in (0, 0, 1, 2, 3)]
    for dataset in splits:
        train, val = (set(map(tuple, pairs.T.tolist())) for pairs in (dataset.train_edges, dataset.val_edges))
        assert len(val) == 2
        assert not train & val
        assert train | val == {(u, i + 3) for u, i in VISITS}
        assert dataset.graph.num_edges == 2 * len(train)
    assert torch.equal(splits[0].val_edges, splits[1].val_edges)
    assert len({str(dataset.val_edges.tolist()) for dataset in splits}) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": "0 2\n2 1\n1 0\n"}, "a line for each user, in order"),
        ({"test": "0 2\n1 x\n2\n"}, "line of numbers per user"),
        ({"test": "0 9\n1\n2\n"}, "test.txt: places are numbered 0 to 3, but one is 9"),
        ({"test": "0\n1\n2\n3 1\n"}, "no pair among users"),
        ({"indptr": np.array([0, 2, 1, 6, 8, 10, 11, 12])}, "do not fit together"),
        ({"shape": np.array([8, 8])}, "do not fit together"),
        ({"indices": np.array([3, 4, 4, 5, 3, 6, 0, 2, 0, 1, 1, 1])}, "must be symmetric"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, arguments: dict[str, object], message: str):
    write(tmp_path, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        gowalla(tmp_path, val_fraction=0)


def test_fractions_and_missing_files_are_answered(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"s_adj_mat\.npz was expected at one of"):
        gowalla(tmp_path)
    write(tmp_path)
    with pytest.raises(ValueError, match="share below 1"):
        gowalla(tmp_path, val_fraction=1.0)
    with pytest.raises(ValueError, match="leaves none of 6 pairs"):
        gowalla(tmp_path, val_fraction=0.99)


def test_has_its_published_counts(given_data: Path):
    dataset = gowalla(val_fraction=0.1)
    assert (dataset.num_nodes, dataset.src_range, dataset.dst_range) == (70839, (0, 29858), (29858, 70839))
    assert dataset.train_edges.shape[1] + dataset.val_edges.shape[1] == 810128
    assert dataset.val_edges.shape[1] == 81013
    assert dataset.test_edges.shape[1] == 217242
    assert dataset.graph.num_edges == 2 * dataset.train_edges.shape[1]
    known = torch.cat([dataset.train_edges, dataset.val_edges, dataset.test_edges], dim=1)
    assert (known[0] * dataset.num_nodes + known[1]).unique().numel() == 1027370
