"""`gnnfast train`."""

from __future__ import annotations

import inspect
import json
import logging
import os
import shlex
import sys
from contextlib import nullcontext, suppress
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict

from gnnfast.cli.hydra_app import build, explain, run_hydra
from gnnfast.cli.quick import import_quickly
from gnnfast.cli.run_lock import alone_in

log = logging.getLogger("gnnfast")

NO_RESUME = ("resume=", "resume=null")


def main(arguments: list[str]) -> None:
    """Runs the command, alone or as one of several ranks."""
    # Without them there is one process, and nothing to import for others.
    if not any(name in os.environ for name in ("RANK", "SLURM_STEP_NUM_TASKS")):
        _run(arguments)
        return
    from gnnfast.cli.ranks import as_one_of_several

    as_one_of_several(lambda: _run(arguments))


def _run(arguments: list[str]) -> None:
    """Runs the command; in a sweep, a job that fails leaves the others running."""
    if any(argument.startswith("resume=") and argument not in NO_RESUME for argument in arguments):
        from gnnfast.cli.resume import resume

        resume(arguments)
        return
    started: list[Path] = []
    datasets = LastDataset()
    try:
        run_hydra("train", lambda config: _job(config, started, datasets), arguments)
    finally:
        if len(started) > 1:
            from gnnfast.cli.sweep_table import show_sweep

            show_sweep(started)


class LastDataset:
    """Keeps one data set: the jobs of a sweep that differ elsewhere read it once."""

    def __init__(self) -> None:
        self._config: Any = None
        self._dataset: Any = None
        self._num_built = 0

    def build(self, config: DictConfig, ranks: Any) -> Any:
        """The data set of a config, of which the ranks of a host have one copy between them."""
        plain = OmegaConf.to_container(config, resolve=True)
        if self._dataset is None or plain != self._config:
            # The old one goes before the new one comes: both may not fit.
            self._dataset = None
            self._num_built += 1
            from gnnfast.distributed import shared

            self._dataset = shared(ranks, lambda: build(config), f"data set {self._num_built}")
            self._config = plain
        return self._dataset


def _job(config: DictConfig, started: list[Path], datasets: LastDataset) -> float | None:
    """Trains; the validation metric is what a sweeper may look for the best of."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if folder in started:
        raise ValueError(f"two jobs of the sweep share the folder {folder}: let hydra.sweep.subdir tell them apart")
    if config.get("resume") is not None:
        raise ValueError("resume=RUN stands on the command line, not in a config")
    started.append(folder)
    with alone_in(folder):
        _clear(folder)
        return train_in(folder, config, datasets)


def train_in(folder: Path, config: DictConfig, datasets: LastDataset, resume: bool = False) -> float | None:
    """Trains, and leaves in the folder how that ended; a signal to stop ends the process, with a checkpoint.

    Args:
        folder: Of the run.
        config: Of the run.
        datasets: Where its data set comes from.
        resume: Whether to go on from the newest checkpoint in the folder.
    """
    try:
        if _needs_ranks(config):
            from gnnfast.cli.ranks import train_on_ranks

            return train_on_ranks(folder, config, resume)
        _load()
        from gnnfast.cli.ranks import told_to_the_others
        from gnnfast.training import Stopped, StopSignals

        try:
            with told_to_the_others(folder, config, resume), StopSignals() as stop:
                return train_from(config, folder, datasets, resume, stop)
        except Stopped as stopped:
            write_status(folder, "interrupted", str(stopped))
            log.info(f"{stopped}; to go on: gnnfast train {shlex.quote(f'resume={_shown(folder)}')}")
            sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        write_status(folder, "interrupted", "stopped from the keyboard")
        raise
    except Exception as error:
        write_status(folder, "failed", explain(error))
        raise


def _clear(folder: Path) -> None:
    """Takes an earlier run out of the folder: its config is gone, what else it left would be taken for this run's."""
    for name in ("result.json", "metrics.csv", "curves.png", "trace.json"):
        (folder / name).unlink(missing_ok=True)
    for path in (folder / "checkpoints").glob("*.pt*"):
        path.unlink()


def _needs_ranks(config: DictConfig) -> bool:
    """Whether other processes are to train, which this one starts and watches."""
    wanted = config.training.get("devices", 1), config.training.get("max_restarts", 0)
    # What is no number, the settings complain of.
    is_number = all(isinstance(number, int) for number in wanted)
    return "RANK" not in os.environ and is_number and (wanted[0] > 1 or wanted[1] > 0)


def write_status(folder: Path, status: str, error: str) -> None:
    """Leaves in the folder how the run ended; the first rank's to do."""
    if os.environ.get("RANK", "0") != "0":
        return
    # Where the disk is full, the reason to fail is told all the same.
    with suppress(OSError):
        (folder / "result.json").write_text(json.dumps({"status": status, "error": error}, indent=2) + "\n")


def train_from(config: DictConfig, folder: Path, datasets: LastDataset, resume: bool, stop: Any) -> float | None:
    """Builds what the config names, trains, and says what came of it."""
    import torch

    from gnnfast.cli.progress import TrainingProgress
    from gnnfast.distributed import world
    from gnnfast.runtime.allocator import keep_freed_memory
    from gnnfast.training import train

    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**63:
        raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, got {config.seed!r}")
    settings = build(config.training)
    settings.resolved_accelerator()
    if checked_flag("keep_freed_memory", config.keep_freed_memory):
        keep_freed_memory()
    ranks = world()
    dataset = datasets.build(config.dataset, ranks)
    log.info(f"{dataset!r}")
    torch.manual_seed(config.seed)
    sampler = build_sampler(config.sampler, dataset)
    loader = build(config.loader, dataset=dataset, sampler=sampler, seed=config.seed)
    model = build_model(config, dataset)
    optimizer = build(fitting(config.optimizer, "optimizer")[0], params=model.parameters())
    scheduler = build(config.scheduler, optimizer=optimizer) if config.scheduler else None
    log.info(_outline(model, loader, ranks))
    with TrainingProgress(settings.epochs, len(loader)) if ranks.rank == 0 else nullcontext() as progress:
        result = train(model, loader, optimizer, settings, scheduler, folder, progress, resume, stop)
    for split in ("val", "test"):
        values = ", ".join(f"{name} {value:.4f}" for name, value in getattr(result, split).items())
        log.info(f"{split:5} {values or 'nothing to measure'}")
    for name, value in dataset.attainable.items():
        log.info(f"attainable {name} {value:.4f}")
    log.info(f"best epoch {result.best_epoch + 1} of {result.epochs}, {result.train_seconds:.1f} s")
    for line in result.profile.lines() if result.profile else ():
        log.info(line)
    log.info(f"run folder: {_shown(folder)}")
    return result.val.get(result.metric)


@cache
def _load() -> None:
    """Imports what every training run needs: once, whatever the jobs of a sweep."""
    # Fabric brings torchmetrics and matplotlib along, which the end of the run needs.
    import_quickly("gnnfast.training", "lightning.fabric")
    from gnnfast.kernels.announce import announce_compilation

    announce_compilation(lambda: log.info("compiling kernels for this machine, once: about 10 s"))


def checked_flag(key: str, value: Any) -> bool:
    """A setting that no constructor checks."""
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false, got {value!r}")
    return value


def build_model(config: DictConfig, dataset: Any) -> Any:
    """The model for a data set's features and classes, or for its pairs."""
    if dataset.task == "link":
        return _build_link_model(config, dataset)
    model = build(config.model, in_channels=dataset.num_features, out_channels=dataset.num_classes)
    for group in ("decoder", "embedding"):
        if any(override.startswith((f"{group}=", f"{group}.")) for override in HydraConfig.get().overrides.task):
            log.warning(f"{group} is for tasks on pairs: {dataset.name} has labels of nodes, which it plays no part in")
    ignored = dataset.graph.edge_weight is not None and not model.supports_edge_weight
    if ignored:
        log.warning(f"model.conv={model.conv_name} ignores the edge weights of the graph; gcn uses them")
    return model


def _build_link_model(config: DictConfig, dataset: Any) -> Any:
    """Encoder and decoder, and learned inputs for nodes without features, or beside these where that is asked for."""
    from gnnfast.nn import LinkModel

    settings = copy(config.embedding)
    with open_dict(settings):
        beside_features = checked_flag("embedding.beside_features", settings.pop("beside_features"))
    embedding = None
    if dataset.features is None or beside_features:
        embedding = build(settings, num_nodes=dataset.num_nodes)
    width = dataset.num_features + (0 if embedding is None else embedding.channels)
    out_channels = config.model.get("out_channels") or config.model.get("hidden_channels") or width
    encoder = build(config.model, in_channels=width, out_channels=out_channels)
    model = LinkModel(encoder, build(config.decoder, in_channels=encoder.out_channels), embedding)
    if not any(True for _ in model.parameters()):
        raise ValueError("the model has nothing to learn: set embedding.beside_features=true, or choose another model")
    return model


def build_sampler(config: DictConfig, dataset: Any) -> Any:
    """The sampler on a data set's graph; it gets the training nodes and the labels too, where it asks for them."""
    config, parameters = fitting(config, "sampler")
    if dataset.task == "link":
        known = {"graph": dataset.graph, **_ranges(config, dataset)}
    else:
        known = {"graph": dataset.graph, "seed_nodes": dataset.train_ids, "labels": dataset.labels}
    return build(config, **{name: value for name, value in known.items() if name == "graph" or name in parameters})


def fitting(config: DictConfig, group: str) -> tuple[DictConfig, Any]:
    """The config without what a class of the user's does not take and nobody asked for, and the class's parameters.

    Where `GROUP._target_` alone was replaced on the command line, the rest still speaks of the built-in class.
    """
    try:
        parameters = inspect.signature(get_object(config._target_)).parameters
    except (TypeError, ValueError):
        parameters = inspect.signature(lambda graph: None).parameters
    asked_for = {override.lstrip("+").partition("=")[0] for override in HydraConfig.get().overrides.task}
    if f"{group}._target_" in asked_for:
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        config = copy(config)
        with open_dict(config):
            for key in [str(key) for key in config if not str(key).startswith("_")]:
                if not takes_any and key not in parameters and f"{group}.{key}" not in asked_for:
                    del config[key]
    return config, parameters


def _ranges(config: DictConfig, dataset: Any) -> dict[str, Any]:
    """What negatives of a data set's pairs are drawn from, as the first and the last node, where the config leaves it.

    Raises:
        ValueError: If the sampler is not one for pairs.
    """
    target = get_object(config._target_)
    if isinstance(target, type) and not hasattr(target, "sample_edges"):
        raise ValueError(
            f"{target.__name__} cannot sample for pairs of nodes, which {dataset.name} has: use sampler=link_neighbor"
        )
    ranges = {"dst_range": dataset.dst_range}
    if config.get("negatives") == "uniform":
        ranges["src_range"] = dataset.src_range
    given = {name: nodes for name, nodes in ranges.items() if nodes is not None and config.get(name) is None}
    return {name: (first, end - 1) for name, (first, end) in given.items()}


def _outline(model: Any, loader: Any, ranks: Any) -> str:
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    # A sampler that chooses its own nodes has no use for the batch size.
    per_step = "" if hasattr(loader.sampler, "num_batches") else f" of {loader.batch_size} seeds"
    if per_step and ranks.size > 1:
        per_step += f" = {ranks.size} x {loader.batch_size / ranks.size:g}"
    return (
        f"{model.conv_name}, {model.num_layers} layers, {num_parameters:,} parameters; "
        f"{type(loader.sampler).__name__}; "
        f"{len(loader)} steps{per_step} per epoch; seed {loader.seed}"
    )


def _shown(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
