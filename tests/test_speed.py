"""Sampling and training beside PyG, in one run: ratios, since the machine under them may be anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter

import numpy as np
import pytest
import torch

from gnnfast.datasets import planetoid, synthetic
from gnnfast.graph import Dataset
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.runtime.allocator import keep_freed_memory
from gnnfast.sampler import NeighborSampler

pytestmark = [pytest.mark.slow, pytest.mark.timing]

FANOUTS = [15, 10, 5]
BATCH_SIZE = 1024


@pytest.fixture(scope="module")
def arxiv_size() -> Iterator[Dataset]:
    # Both sides keep their freed memory and use all cores: the setting of the command line, and PyG's better one.
    keep_freed_memory()
    num_threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield synthetic(num_nodes=169_000, num_edges=2_330_000, num_features=128, num_classes=40, attainable_hops=0)
    torch.set_num_threads(num_threads)


def interleaved(
    first: Callable[[int], object], second: Callable[[int], object], repeats: int, in_a_row: int = 1
) -> tuple[float, float]:
    """Median seconds per call of both, taken in turns of some calls in a row after a warm-up.

    A call of a millisecond is of the caches that it finds: in a row, those that calls of its own kind have left.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(-1, repeats):
        for function, record in zip((first, second), seconds, strict=True):
            for call in range(in_a_row):
                started_at = perf_counter()
                function((repeat + 1) * in_a_row + call)
                if repeat >= 0:
                    record.append(perf_counter() - started_at)
    return median(seconds[0]), median(seconds[1])


def test_sampling_on_one_thread_is_thirty_times_torch_sparse(arxiv_size: Dataset, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("torch_sparse")
    graph = arxiv_size.graph
    sampler = NeighborSampler(graph, FANOUTS)
    indices = graph.indices.long()
    generator = np.random.default_rng(0)
    seeds = [torch.from_numpy(generator.choice(graph.num_nodes, BATCH_SIZE, replace=False)) for _ in range(21)]

    ours, theirs = interleaved(
        lambda i: sampler.sample(seeds[i], i),
        lambda i: torch.ops.torch_sparse.neighbor_sample(graph.indptr, indices, seeds[i], FANOUTS, False, True),
        repeats=20,
    )

    with capsys.disabled():
        print(f"\nsampling: {ours * 1e3:.1f} ms, torch_sparse {theirs * 1e3:.1f} ms, {theirs / ours:.1f}x")
    assert theirs / ours >= 30


def test_sampling_pubmed_on_one_thread_is_many_times_torch_sparse(capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("torch_sparse")
    if not os.environ.get("GNNFAST_DATA"):
        pytest.skip("GNNFAST_DATA names no folder with the real graphs")
    graph = planetoid("pubmed", os.environ["GNNFAST_DATA"]).graph
    sampler = NeighborSampler(graph, FANOUTS, expand="once", edge_ids=True)
    indices = graph.indices.long()
    generator = np.random.default_rng(0)
    seeds = [torch.from_numpy(generator.choice(graph.num_nodes, BATCH_SIZE, replace=False)) for _ in range(60)]

    ours, theirs = interleaved(
        lambda i: sampler.sample(seeds[i], i),
        lambda i: torch.ops.torch_sparse.neighbor_sample(graph.indptr, indices, seeds[i], FANOUTS, False, True),
        repeats=5,
        in_a_row=10,
    )

    with capsys.disabled():
        print(f"\nsampling PubMed: {ours * 1e3:.2f} ms, torch_sparse {theirs * 1e3:.2f} ms, {theirs / ours:.1f}x")
    assert theirs / ours >= 20


@pytest.mark.filterwarnings("ignore:Using 'NeighborSampler' without a 'pyg-lib'")
def test_a_sage_step_is_four_times_pygs(arxiv_size: Dataset, capsys: pytest.CaptureFixture[str]):
    from torch_geometric.data import Data
    from torch_geometric.loader import NeighborLoader
    from torch_geometric.nn import GraphSAGE

    repeats = 5
    graph = arxiv_size.graph
    loader = iter(DataLoader(arxiv_size, NeighborSampler(graph, FANOUTS), batch_size=BATCH_SIZE, num_threads=0))
    data = Data(x=arxiv_size.features.rows, y=arxiv_size.labels, edge_index=graph.to_edge_index())
    their_loader = iter(
        NeighborLoader(data, FANOUTS, input_nodes=arxiv_size.train_ids, batch_size=BATCH_SIZE, shuffle=True)
    )
    batches = [next(loader) for _ in range(repeats + 1)]
    their_batches = [next(their_loader) for _ in range(repeats + 1)]
    model = GNN(128, 256, 3, 40, conv="sage")
    their_model = GraphSAGE(128, 256, 3, 40)
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.01) for m in (model, their_model)]

    def our_step(i: int) -> None:
        batch = batches[i]
        optimizers[0].zero_grad()
        torch.nn.functional.cross_entropy(model(batch.x, batch.blocks), batch.y).backward()
        optimizers[0].step()

    def their_step(i: int) -> None:
        batch = their_batches[i]
        optimizers[1].zero_grad()
        out = their_model(batch.x, batch.edge_index)[: batch.batch_size]
        torch.nn.functional.cross_entropy(out, batch.y[: batch.batch_size]).backward()
        optimizers[1].step()

    ours, theirs = interleaved(our_step, their_step, repeats)

    with capsys.disabled():
        print(f"\nSAGE step: {ours * 1e3:.0f} ms, PyG {theirs * 1e3:.0f} ms, {theirs / ours:.1f}x")
    assert theirs / ours >= 4
