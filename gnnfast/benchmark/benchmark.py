"""A benchmark from the graph to the figures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gnnfast.benchmark.comparison import Bench, Comparison
from gnnfast.benchmark.graphs import GraphFiles, seed_batches
from gnnfast.benchmark.machine import MachineLimits, machine_facts, measure_limits
from gnnfast.benchmark.peers.process import Systems
from gnnfast.benchmark.settings import BenchmarkSettings
from gnnfast.benchmark.stages.epoch import compare_epochs
from gnnfast.benchmark.stages.kernel import compare_kernels
from gnnfast.benchmark.stages.loader import compare_loaders
from gnnfast.benchmark.stages.memory import measure_memory
from gnnfast.benchmark.stages.sampler import compare_samplers
from gnnfast.benchmark.stages.step import compare_steps
from gnnfast.runtime.versions import versions

_NUM_BATCHES = 16  # that seeds are drawn for: a pass of a loader
_PRODUCT_ROWS = 50_000  # as in the layer of a step that computes most
_STAGES: dict[str, Callable[[Bench], Comparison]] = {
    "sampler": compare_samplers,
    "loader": compare_loaders,
    "kernel": compare_kernels,
    "step": compare_steps,
    "epoch": compare_epochs,
    "memory": measure_memory,
}
_HOW_TO_GET = {
    "torch_sparse": "pip install torch_scatter torch_sparse --no-build-isolation",
    "pyg_lib": "pip install pyg_lib -f https://data.pyg.org/whl/torch-VERSION.html, where there is one for this torch",
    "graphbolt": (
        "python3.11 -m venv DGL; DGL/bin/pip install dgl==2.1.0 torch==2.2.1 'numpy<2' pandas pydantic pyyaml; "
        "then peer.dgl_python=DGL/bin/python"
    ),
}


@dataclass
class BenchmarkResult:
    """All figures of a benchmark.

    Args:
        settings: What was asked for.
        graph: What it was measured on.
        machine: What it was measured with.
        limits: What that could do at best.
        comparisons: By stage.
        missing: Peers that were asked for and are not there, with how to get them.
    """

    settings: BenchmarkSettings
    graph: dict[str, Any]
    machine: dict[str, Any]
    limits: MachineLimits
    comparisons: dict[str, Comparison]
    missing: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        peers = {name: _version(name) for name in ("torch_sparse", "torch_scatter", "pyg_lib")}
        return {
            "settings": {**asdict(self.settings), "threads": self.settings.threads},
            "graph": self.graph,
            "machine": self.machine,
            "limits": asdict(self.limits),
            "versions": {**versions(), **{name: version for name, version in peers.items() if version}},
            "missing": self.missing,
            "stages": {stage: comparison.to_dict() for stage, comparison in self.comparisons.items()},
        }


def benchmark(
    files: GraphFiles, settings: BenchmarkSettings, show: Callable[[Comparison], None] | None = None
) -> BenchmarkResult:
    """Measures gnnfast and its peers on one graph.

    Args:
        files: The graph; see `synthetic_files` and `dataset_files`.
        settings: What is measured.
        show: Is told about each stage as it ends.

    Raises:
        PeerError: If gnnfast's own side fails.
    """
    facts = files.facts
    num_features = files.shape("x")[1]
    shape = (min(_PRODUCT_ROWS, facts["num_nodes"]), settings.hidden_channels, settings.hidden_channels)
    limits = measure_limits(settings.threads, facts["num_nodes"], facts["num_edges"], num_features, shape)
    missing = missing_peers(settings)
    comparisons = {}
    with (
        tempfile.TemporaryDirectory(prefix="gnnfast-bench-") as folder,
        Systems(settings.threads, settings.dgl_python) as systems,
    ):
        seeds = Path(folder) / "seeds.npy"
        np.save(seeds, seed_batches(files.array("train"), settings.batch_size, _NUM_BATCHES).numpy())
        peers = [peer for peer in settings.peers if peer not in missing]
        bench = Bench(settings, files, seeds, systems, limits, peers)
        for stage in settings.stages:
            comparisons[stage] = _STAGES[stage](bench)
            if show:
                show(comparisons[stage])
            # The next stage starts with the memory, and the heaps, of new processes.
            systems.close()
    return BenchmarkResult(settings, facts, machine_facts(), limits, comparisons, missing)


def missing_peers(settings: BenchmarkSettings) -> dict[str, str]:
    """How to get the peers that were asked for and are not there."""
    missing = {}
    for peer in settings.peers:
        is_there = settings.dgl_python is not None if peer == "graphbolt" else find_spec(peer) is not None
        if not is_there:
            missing[peer] = _HOW_TO_GET[peer]
    return missing


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
