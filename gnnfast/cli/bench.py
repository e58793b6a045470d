"""`gnnfast bench`."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gnnfast.cli.hydra_app import build, run_hydra

log = logging.getLogger("gnnfast")


def main(arguments: list[str]) -> None:
    """Runs the command; slow is not wrong: only errors make it fail."""
    run_hydra("bench", _job, arguments)


def _job(config: DictConfig) -> None:
    from rich.console import Console

    from gnnfast.benchmark import Comparison, benchmark, limits_lines, table
    from gnnfast.runtime.allocator import keep_freed_memory

    # What the processor can do is not measured on memory that is new at every call.
    keep_freed_memory()
    settings = _settings(config)
    console = Console(width=None if Console().is_terminal else 180)
    with tempfile.TemporaryDirectory(prefix="gnnfast-bench-") as scratch:
        files = _files(config, Path(scratch))
        facts = files.facts
        title = (
            f"{facts['name']}, {facts['num_nodes']:,} nodes, {facts['num_edges']:,} edges; batches of "
            f"{settings.batch_size}, fanouts {list(settings.fanouts)}; {settings.precision}; {settings.threads} threads"
        )

        def show(comparison: Comparison) -> None:
            console.print(f"{comparison.stage}: {title}", markup=False, highlight=False)
            console.print(table(comparison))
            for note in comparison.notes:
                console.print(note, markup=False, highlight=False)

        result = benchmark(files, settings, show)
    for line in limits_lines(result.limits, settings.threads):
        console.print(line, highlight=False)
    for peer, how in result.missing.items():
        console.print(f"{peer} took no part: {how}", markup=False, highlight=False)
    path = Path(HydraConfig.get().runtime.output_dir) / "bench.json"
    path.write_text(json.dumps(result.to_dict(), indent=2) + "\n")
    log.info(f"all figures: {path}")


def _settings(config: DictConfig) -> Any:
    from gnnfast.benchmark import BenchmarkSettings

    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    peer = values.pop("peer")
    for key in ("size", "dataset"):
        values.pop(key, None)
    return BenchmarkSettings(**values, peers=peer["systems"], dgl_python=peer["dgl_python"])


def _files(config: DictConfig, scratch: Path) -> Any:
    """The graph of a data set's config, where there is one, or of a size."""
    from gnnfast.benchmark import dataset_files, synthetic_files

    own_data = config.get("dataset")  # null leaves no key
    return dataset_files(build(own_data), scratch) if own_data else synthetic_files(config.size)
