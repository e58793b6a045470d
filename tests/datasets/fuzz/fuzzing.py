"""Feeds a reader what is wrong, and holds it to its promise: a right data set, or one clear line."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph, Dataset, LinkDataset
from gnnfast.runtime.memory import held_bytes
from tests.datasets.fuzz.mutations import Arrays, array_changes, file_changes

_LONGEST_SECONDS = 20.0  # of processor time, for files of some kilobytes
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Format:
    """A format, and how it is read.

    Args:
        arrays: What a small data set is made of.
        write: Writes arrays into a folder; raises if the format cannot hold such ones.
        load: Reads the folder.
        refusals: Exceptions that are answers.
        unwritable: What `write` raises for arrays that the format cannot hold.
    """

    arrays: Arrays
    write: Callable[[Path, Arrays], None]
    load: Callable[[Path], Any]
    refusals: tuple[type[Exception], ...] = (ValueError, FileNotFoundError)
    unwritable: tuple[type[Exception], ...] = field(default=(ValueError, TypeError, OverflowError, IndexError))


def fuzz(form: Format, num_examples: int = 25) -> None:
    """A few examples, the same every time."""
    _runner(form, num_examples, derandomize=True)()


def fuzz_long(form: Format) -> None:
    """As many examples as fit into `GNNFAST_FUZZ_SECONDS` of processor time, others every time."""
    end = time.process_time() + float(os.environ.get("GNNFAST_FUZZ_SECONDS", "8"))
    first = int.from_bytes(os.urandom(4), "little")
    rounds = 0
    while time.process_time() < end:
        seed(first + rounds)(_runner(form, 100, derandomize=False))()
        rounds += 1
    print(f"{100 * rounds} examples from seed {first}")


def _runner(form: Format, num_examples: int, derandomize: bool) -> Callable[[], None]:
    @settings(
        max_examples=num_examples,
        derandomize=derandomize,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.none() | array_changes(), st.none() | file_changes())
    def run(change_arrays: Any, change_files: Any) -> None:
        folder = Path(tempfile.mkdtemp(prefix="fuzz"))
        try:
            check(form, folder, change_arrays, change_files)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return run


def check(form: Format, folder: Path, change_arrays: Any = None, change_files: Any = None) -> None:
    """One example."""
    try:
        form.write(folder, form.arrays if change_arrays is None else change_arrays(form.arrays))
    except form.unwritable:
        return
    if change_files is not None:
        change_files(folder)
    before, started_at = held_bytes().get("resident", 0), time.process_time()
    with warnings.catch_warnings():
        # What PyG and torch deprecate is not the point here.
        warnings.simplefilter("ignore")
        try:
            dataset = form.load(folder)
        except form.refusals as error:
            line = str(error)
            assert line, "an error must say what is wrong"
            assert "\n" not in line, line
            dataset = None
    taken = held_bytes().get("resident", 0) - before
    assert taken < _MOST_BYTES, f"{taken} bytes for a small file"
    assert time.process_time() - started_at < _LONGEST_SECONDS
    assert not (folder.parent / "escaped").exists()
    if dataset is not None:
        check_right(dataset)


def check_right(dataset: Any) -> None:
    """What every data set must be, whatever it was read from."""
    if not isinstance(dataset, Dataset | LinkDataset):
        return
    graph = dataset.graph
    CSCGraph(graph.indptr, graph.indices, graph.edge_ids, graph.edge_weight)
    if graph.edge_weight is not None:
        assert bool(torch.isfinite(graph.edge_weight).all())
    if dataset.features is not None:
        assert dataset.features.num_rows == dataset.num_nodes
        assert bool(torch.isfinite(dataset.features.rows.float()).all())
    if isinstance(dataset, Dataset):
        assert dataset.train_ids.numel() > 0
        ids = torch.cat(list(dataset.split_ids.values()))
        assert ids.unique().numel() == ids.numel()
        assert dataset.labels.shape[0] == dataset.num_nodes
        assert 0 < dataset.num_classes < 10_000
    sample = np.arange(min(dataset.num_nodes, 5))
    from gnnfast.sampler import NeighborSampler

    NeighborSampler(graph, [2]).sample(torch.from_numpy(sample), 0)
