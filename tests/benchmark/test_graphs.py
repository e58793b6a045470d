from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gnnfast.benchmark import SIZES, GraphFiles, dataset_files, synthetic_files
from gnnfast.benchmark.graphs import seed_batches
from gnnfast.datasets import digits


def test_a_size_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = synthetic_files("tiny", tmp_path)
    monkeypatch.setattr("gnnfast.benchmark.graphs._draw", None)

    assert synthetic_files("tiny", tmp_path) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.folder.name]


def test_a_drawn_graph_has_the_sizes_of_its_name(tiny: GraphFiles):
    size, dataset = SIZES["tiny"], tiny.dataset()

    assert dataset.num_nodes == size.num_nodes == tiny.facts["num_nodes"]
    assert 0.95 * size.num_edges <= dataset.graph.num_edges == tiny.facts["num_edges"] <= size.num_edges
    assert (dataset.num_features, dataset.num_classes) == (size.num_features, size.num_classes)
    assert [ids.numel() for ids in dataset.split_ids.values()] == [1500, 750, 750]
    assert torch.cat(list(dataset.split_ids.values())).unique().numel() == 3000
    assert tiny.shape("x") == (3000, 16)


def test_features_tell_of_the_classes(tiny: GraphFiles):
    dataset = tiny.dataset()
    x, y = dataset.features.rows, dataset.labels
    means = torch.stack([x[y == c].mean(0) for c in range(dataset.num_classes)])

    assert torch.cdist(means, means).add(torch.eye(8) * 9).min() > 0.5
    assert float(x.var()) == pytest.approx(1 + 1 / 16, rel=0.1)


def test_pieces_of_features_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gnnfast.benchmark.graphs._NODES_AT_A_TIME", 1000)
    x = synthetic_files("tiny", tmp_path).array("x")

    assert np.unique(x.numpy(), axis=0).shape == (3000, 16)


def test_features_of_a_large_graph_are_read_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SIZES, "tiny", replace(SIZES["tiny"], memory_mapped=True))
    files = synthetic_files("tiny", tmp_path)
    modes = {}
    load = np.load

    def recorded(path: Path, mmap_mode: str | None) -> np.ndarray:
        modes[path.name] = mmap_mode
        return load(path, mmap_mode=mmap_mode)

    monkeypatch.setattr(np, "load", recorded)
    files.dataset()

    assert modes.pop("x.npy") == "c"
    assert set(modes.values()) == {None}


def test_a_data_set_comes_back_as_it_was_written(tmp_path: Path):
    written = digits()
    read = dataset_files(written, tmp_path).dataset()

    for name in ("indptr", "indices"):
        assert torch.equal(getattr(read.graph, name), getattr(written.graph, name))
    assert torch.equal(read.features.rows, written.features.rows)
    assert torch.equal(read.labels, written.labels)
    for split, ids in written.split_ids.items():
        assert torch.equal(read.split_ids[split], ids)


def test_a_graph_that_peers_would_treat_otherwise_is_refused(tmp_path: Path):
    dataset = digits()
    dataset.graph.edge_weight = torch.ones(dataset.graph.num_edges)

    with pytest.raises(ValueError, match="digits: the benchmark needs nodes with one class each"):
        dataset_files(dataset, tmp_path)


def test_an_unknown_size_is_answered_with_the_known_ones(tmp_path: Path):
    with pytest.raises(ValueError, match="size must be one of tiny, arxiv, products, papers-mini, got 'reddit'"):
        synthetic_files("reddit", tmp_path)


@pytest.mark.parametrize(("batch_size", "num_batches", "shape"), [(3, 2, (2, 3)), (3, 9, (3, 3)), (99, 2, (1, 10))])
def test_seeds_are_distinct_training_nodes(batch_size: int, num_batches: int, shape: tuple[int, int]):
    train_ids = torch.arange(100, 110)
    seeds = seed_batches(train_ids, batch_size, num_batches)

    assert seeds.shape == shape
    assert seeds.unique().numel() == seeds.numel()
    assert torch.isin(seeds, train_ids).all()
