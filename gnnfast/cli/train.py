"""`gnnfast train`."""

from __future__ import annotations

import inspect
import json
import logging
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from gnnfast.cli.hydra_app import build, explain, run_hydra

log = logging.getLogger("gnnfast")


def main(arguments: list[str]) -> None:
    """Runs the command; in a sweep, a job that fails leaves the others running."""
    started: list[Path] = []
    try:
        run_hydra("train", lambda config: _job(config, started), arguments)
    finally:
        if len(started) > 1:
            from gnnfast.cli.sweep_table import show_sweep

            show_sweep(started)


def _job(config: DictConfig, started: list[Path]) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    started.append(folder)
    try:
        train_from(config, folder)
    except Exception as error:
        (folder / "result.json").write_text(json.dumps({"status": "failed", "error": explain(error)}, indent=2) + "\n")
        raise


def train_from(config: DictConfig, folder: Path) -> None:
    """Builds what the config names, trains, and says what came of it."""
    import torch

    from gnnfast.cli.progress import TrainingProgress
    from gnnfast.runtime.allocator import keep_freed_memory
    from gnnfast.training import train

    settings = build(config.training)
    settings.resolved_accelerator()
    if config.keep_freed_memory:
        keep_freed_memory()
    dataset = build(config.dataset)
    log.info(f"{dataset!r}")
    torch.manual_seed(config.seed)
    sampler = build_sampler(config.sampler, dataset.graph)
    loader = build(config.loader, dataset=dataset, sampler=sampler, seed=config.seed)
    model = build_model(config, dataset)
    optimizer = build(config.optimizer, params=model.parameters())
    scheduler = build(config.scheduler, optimizer=optimizer) if config.scheduler else None
    log.info(_outline(config, model, loader))
    with TrainingProgress(settings.epochs, len(loader)) as progress:
        result = train(model, loader, optimizer, settings, scheduler, folder, progress)
    for split in ("val", "test"):
        values = ", ".join(f"{name} {value:.4f}" for name, value in getattr(result, split).items())
        log.info(f"{split:5} {values or 'no nodes'}")
    for name, value in dataset.attainable.items():
        log.info(f"attainable {name} {value:.4f}")
    log.info(f"best epoch {result.best_epoch + 1} of {result.epochs}, {result.train_seconds:.1f} s")
    log.info(f"run folder: {_shown(folder)}")


def build_model(config: DictConfig, dataset: Any) -> Any:
    """The model for a data set's features and classes."""
    model = build(config.model, in_channels=dataset.num_features, out_channels=dataset.num_classes)
    ignored = dataset.graph.edge_weight is not None and not model.supports_edge_weight
    if ignored:
        log.warning(f"model.conv={config.model.conv} ignores the edge weights of the graph; gcn uses them")
    return model


def build_sampler(config: DictConfig, graph: Any) -> Any:
    """The sampler on a graph.

    Where `sampler._target_` alone was replaced by a user's class, the rest of the config still speaks of the built-in
    sampler: what the class does not take, and nobody asked for, is left out.
    """
    target = str(config._target_)
    if not target.startswith("gnnfast."):
        parameters = inspect.signature(get_class(target)).parameters
        asked_for = {override.lstrip("+").split("=")[0] for override in HydraConfig.get().overrides.task}
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        keys = [str(key) for key in config]
        kept = [key for key in keys if takes_any or key in parameters or f"sampler.{key}" in asked_for]
        config = OmegaConf.masked_copy(config, ["_target_", *kept])
    return build(config, graph=graph)


def _outline(config: DictConfig, model: Any, loader: Any) -> str:
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    sampler = str(config.sampler._target_).rpartition(".")[2]
    return (
        f"{config.model.conv}, {model.num_layers} layers, {num_parameters:,} parameters; {sampler}; "
        f"{len(loader)} steps of {loader.batch_size} seeds per epoch; seed {config.seed}"
    )


def _shown(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
