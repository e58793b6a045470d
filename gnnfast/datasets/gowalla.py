"""Gowalla: which user checked in where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.raw_files import data_root, find_or_download, read_npz
from gnnfast.datasets.sparse_rows import check_sparse_rows
from gnnfast.graph import CSCGraph, LinkDataset
from gnnfast.runtime.reading import reading

_URL = "https://github.com/dmlc/dgl/raw/97e2e5afd59e9d38125db91b54bc87ab37c0b827/examples/pytorch/NGCF/Data/gowalla"


def gowalla(root: str | Path | None = None, val_fraction: float = 0.02, split_seed: int = 0) -> LinkDataset:
    """29,858 users, 40,981 places and 1,027,370 visits, without features.

    Wang et al., Neural Graph Collaborative Filtering, 2019, https://arxiv.org/abs/1905.08108, whose training and test
    pairs these are. Users come first; places follow as nodes 29,858 and up.

    Args:
        root: Holds `gowalla/s_adj_mat.npz` and `gowalla/test.txt`.
        val_fraction: Share of the training pairs that validate: a random one, taken out of the graph too.
        split_seed: Same seed, same validation pairs.

    Raises:
        FileNotFoundError: If a file is missing and cannot be downloaded.
        ValueError: If a file is not what it should be, or `val_fraction` leaves nothing to train on.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction must be a share below 1, got {val_fraction}")
    folder = data_root(root) / "gowalla"
    names = ("s_adj_mat.npz", "test.txt")
    matrix_path, test_path = (find_or_download([folder / name], f"{_URL}/{name}") for name in names)
    test_users, test_items, num_users = _read_lists(test_path)
    pairs, num_nodes = _read_matrix(matrix_path, num_users)
    if test_items.size and not 0 <= test_items.min() <= test_items.max() < num_nodes - num_users:
        wrong = int(test_items.min() if test_items.min() < 0 else test_items.max())
        raise ValueError(f"{test_path}: places are numbered 0 to {num_nodes - num_users - 1}, but one is {wrong}")
    order = torch.from_numpy(np.random.default_rng(split_seed).permutation(pairs.shape[1]))
    num_val = round(val_fraction * pairs.shape[1])
    if num_val == pairs.shape[1]:
        raise ValueError(f"val_fraction={val_fraction} leaves none of {num_val} pairs for training")
    val, train = pairs[:, order[:num_val].sort().values], pairs[:, order[num_val:].sort().values]
    return LinkDataset(
        "Gowalla",
        CSCGraph.from_edge_index(torch.cat([train, train.flip(0)], dim=1), num_nodes),
        train,
        val,
        torch.from_numpy(np.stack([test_users, test_items + num_users])),
        src_range=(0, num_users),
        dst_range=(num_users, num_nodes),
    )


def _read_lists(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Users and items of the pairs, and how many users there are, from a line per user: itself and its items."""
    with reading(path, "a line of numbers per user"):
        rows = [np.array(line.split(), dtype=np.int64) for line in path.read_text(encoding="utf-8").splitlines()]
    if any(row.size == 0 or row[0] != user for user, row in enumerate(rows)):
        raise ValueError(f"{path} must hold a line for each user, in order, which begins with the user's number")
    users = np.repeat(np.arange(len(rows)), [row.size - 1 for row in rows])
    items = np.concatenate([row[1:] for row in rows]) if rows else np.empty(0, np.int64)
    return users, items, len(rows)


def _read_matrix(path: Path, num_users: int) -> tuple[Tensor, int]:
    """The pairs of users and items, and the number of nodes, of a symmetric sparse matrix with users first."""
    arrays = read_npz(path, ("indices", "indptr", "shape"), path.name)
    shape, indptr, indices = arrays["shape"], arrays["indptr"], arrays["indices"]
    num_nodes = indptr.size - 1
    if shape.tolist() != [num_nodes, num_nodes] or not 0 < num_users < num_nodes:
        raise ValueError(f"{path}: indptr, indices and shape do not fit together, or not {num_users} users")
    check_sparse_rows(str(path), indptr, indices, num_nodes, num_nodes)
    indptr, indices = indptr.astype(np.int64), indices.astype(np.int64)
    rows = np.repeat(np.arange(num_nodes), np.diff(indptr))
    is_forth = rows < num_users
    forth, back = (rows[is_forth], indices[is_forth]), (indices[~is_forth], rows[~is_forth])
    there, again = (np.sort(users * num_nodes + items) for users, items in (forth, back))
    is_user = indices < num_users
    if bool((is_user == is_forth).any()) or not np.array_equal(there, again):
        raise ValueError(f"{path} must be symmetric, with no pair among users or among items")
    return torch.from_numpy(np.stack(forth)), num_nodes
