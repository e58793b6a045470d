"""`gnnfast verify`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from gnnfast.cli.hydra_app import build, run_hydra

if TYPE_CHECKING:
    from rich.table import Table

    from gnnfast.verify import Report

log = logging.getLogger("gnnfast")

_COLORS = {"passed": "green", "failed": "bold red", "skipped": "dim"}


def main(arguments: list[str]) -> None:
    """Runs the command, for several samplers one after the other; exits with 1 if a check failed."""
    reports: list[tuple[str, Report]] = []
    # Several samplers are a sweep, whether or not anybody says so.
    if any(argument.startswith("sampler=glob(") for argument in arguments) and not {"-m", "--multirun"} & {*arguments}:
        arguments = ["-m", *arguments]
    try:
        run_hydra("verify", lambda config: _job(config, reports), arguments)
    finally:
        if len(reports) > 1:
            _print(_summary(reports))
    if any(not report.passed for _, report in reports):
        sys.exit(1)


def _job(config: DictConfig, reports: list[tuple[str, Report]]) -> None:
    from gnnfast.cli.train import build_sampler
    from gnnfast.runtime.versions import versions
    from gnnfast.verify import verify

    for key in ("seed", "draws", "num_nodes"):
        if not isinstance(config[key], int) or isinstance(config[key], bool) or config[key] < 0:
            raise ValueError(f"{key} must be an integer, 0 or more, got {config[key]!r}")
    name = _sampler_name(config)
    own_data = config.get("dataset")  # null leaves no key
    sampler_config = config.sampler if own_data else _for_small_graphs(config)

    def make(graph: Any, seed_nodes: Any, labels: Any) -> Any:
        return build_sampler(
            sampler_config, SimpleNamespace(task="node", graph=graph, train_ids=seed_nodes, labels=labels)
        )

    dataset = build(own_data) if own_data else None
    report = verify(make, dataset=dataset, seed=config.seed, num_draws=config.draws, num_nodes=config.num_nodes)
    reports.append((name, report))
    folder = Path(HydraConfig.get().runtime.output_dir)
    settings = OmegaConf.to_container(sampler_config)
    written = {"name": name, "settings": settings, **report.to_dict(), "versions": versions()}
    (folder / "verify.json").write_text(json.dumps(written, indent=2) + "\n")
    _print(_table(name, report))
    for row in report.rows:
        if row.verdict == "failed":
            print(f"gnnfast verify: {name}: {row}", file=sys.stderr)
    log.info(f"{name}: {_verdict(report)} in {report.seconds:.1f} s; {folder / 'verify.json'}")


def _sampler_name(config: DictConfig) -> str:
    """The config's name, or the class where another one was put into it."""
    chosen = str(HydraConfig.get().runtime.choices.get("sampler"))
    replaced = any("sampler._target_=" in override for override in HydraConfig.get().overrides.task)
    return str(config.sampler._target_).rpartition(".")[2] if replaced else chosen


def _for_small_graphs(config: DictConfig) -> DictConfig:
    """The sampler's config with settings that leave something out on a small graph, where nobody asked for others."""
    asked_for = {override.lstrip("+").partition("=")[0] for override in HydraConfig.get().overrides.task}
    sampler: DictConfig = config.sampler.copy()
    with open_dict(sampler):
        for key, value in config.small.get(_sampler_name(config), {}).items():
            if f"sampler.{key}" not in asked_for:
                sampler[key] = value
    return sampler


def _table(name: str, report: Report) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "verdict", "measured", "must be", "", title=f"{name} ({report.sampler})")
    for row in report.rows:
        verdict = f"[{_COLORS[row.verdict]}]{row.verdict}[/]"
        table.add_row(row.check, verdict, escape(row.measured), row.threshold, escape(row.note))
    return table


def _summary(reports: list[tuple[str, Report]]) -> Table:
    from rich.table import Table

    table = Table("sampler", "verdict", "passed", "failed", "skipped", "ms per mini-batch", "seconds")
    for name, report in reports:
        verdict = "passed" if report.passed else "failed"
        num_passed = len(report.rows) - len(report.failed) - len(report.skipped)
        milliseconds = report.figures.get("ms per mini-batch")
        table.add_row(
            name,
            f"[{_COLORS[verdict]}]{verdict}[/]",
            str(num_passed),
            ", ".join(report.failed) or "0",
            str(len(report.skipped)),
            "-" if milliseconds is None else f"{milliseconds:.2f}",
            f"{report.seconds:.1f}",
        )
    return table


def _verdict(report: Report) -> str:
    if report.passed:
        return f"passed, {len(report.skipped)} checks skipped"
    return f"failed {', '.join(report.failed)}"


def _print(table: Table) -> None:
    from rich.console import Console

    Console(width=None if Console().is_terminal else 160).print(table)
