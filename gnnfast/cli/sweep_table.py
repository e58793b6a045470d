"""What came of a sweep, on one page."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table


def show_sweep(folders: list[Path]) -> None:
    """Prints mean and standard deviation over seeds of each combination, and writes every run to `sweep.csv`."""
    runs = [run for run in map(_read, folders) if run is not None]
    groups: dict[str, list[dict[str, str | float]]] = {}
    for run in runs:
        groups.setdefault(str(run["overrides"]), []).append(run)
    metrics = {run["metric"] for run in runs if run["metric"]}
    table = Table("overrides", "runs", *(["metric"] if len(metrics) > 1 else []), "validation", "test", "seconds")
    for overrides, members in groups.items():
        finished = [run for run in members if run["status"] == "finished"]
        failed = len(members) - len(finished)
        counts = f"{len(finished)}" + (f" ({failed} failed)" if failed else "")
        metric = [", ".join(sorted({str(run["metric"]) for run in finished}))] if len(metrics) > 1 else []
        table.add_row(overrides, counts, *metric, *(_mean(finished, key) for key in ("val", "test", "seconds")))
    Console(width=None if Console().is_terminal else 160).print(table)
    target = folders[0].parent / "sweep.csv"
    with open(target, "w", newline="") as file:
        writer = csv.DictWriter(file, ["folder", "overrides", "seed", "status", "metric", "val", "test", "seconds"])
        writer.writeheader()
        writer.writerows(runs)
    print(f"every run: {target}")


def _read(folder: Path) -> dict[str, str | float] | None:
    result_path, overrides_path = folder / "result.json", folder / ".hydra" / "overrides.yaml"
    if not result_path.exists() or not overrides_path.exists():
        return None
    result = json.loads(result_path.read_text())
    overrides = [str(override) for override in OmegaConf.load(overrides_path)]
    seeds = [override.partition("=")[2] for override in overrides if override.startswith("seed=")]
    metric = result.get("metric", "")
    return {
        "folder": folder.name,
        "overrides": " ".join(override for override in overrides if not override.startswith("seed=")),
        "seed": seeds[0] if seeds else "",
        "status": result["status"],
        "metric": metric,
        "val": result.get("val", {}).get(metric, ""),
        "test": result.get("test", {}).get(metric, ""),
        "seconds": result.get("train_seconds", ""),
    }


def _mean(runs: list[dict[str, str | float]], key: str) -> str:
    values = [float(run[key]) for run in runs if run[key] != ""]
    if not values:
        return "-"
    digits = 1 if key == "seconds" else 4
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"
