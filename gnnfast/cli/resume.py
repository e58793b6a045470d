"""`gnnfast train resume=RUN`: goes on with a run, as it was configured and in its own folder."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import configure_log
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from gnnfast.cli.hydra_app import build, in_one_line
from gnnfast.cli.run_lock import alone_in
from gnnfast.cli.stored_run import stored_config, stored_result
from gnnfast.cli.train import LastDataset, train_in

log = logging.getLogger("gnnfast")

# What leaves the run what it is; all else is as it was stored.
MAY_CHANGE = ("training.epochs", "training.devices", "training.max_restarts", "loader.num_threads")


def resume(arguments: list[str]) -> None:
    """Goes on with the run that `resume=` names; the other arguments may change only what `MAY_CHANGE` lists."""
    with in_one_line("train", arguments):
        folder, overrides = _read(arguments)
        config = stored_config(folder)
        with alone_in(folder):
            _resume(folder, config, overrides)


def _read(arguments: list[str]) -> tuple[Path, list[Override]]:
    """The folder to go on in, and what is to change.

    Raises:
        ConfigCompositionException: If something is to change that may not.
    """
    runs = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    others = [argument for argument in arguments if not argument.startswith("resume=") and argument != "--traceback"]
    flags = [argument for argument in others if argument.startswith("-")]
    if len(runs) > 1 or flags:
        what = flags[0] if flags else "a second one"
        raise ConfigCompositionException(f"resume=RUN goes on with one run, as it was configured: leave out {what}")
    overrides = OverridesParser.create().parse_overrides(others)
    for override in overrides:
        key = override.key_or_group
        if override.is_sweep_override() or override.type is not OverrideType.CHANGE:
            raise ConfigCompositionException(f"resume=RUN goes on with one run: {override.input_line} names no value")
        if key not in (*MAY_CHANGE, "hydra.verbose"):
            raise ConfigCompositionException(
                f"resume=RUN goes on with the run as it was configured: leave out {key}; only {', '.join(MAY_CHANGE)} "
                "may change"
            )
    return Path(runs[0]), overrides


def _resume(folder: Path, config: DictConfig, overrides: list[Override]) -> None:
    """Goes on where there is anything left to do."""
    epochs_before = config.training.epochs
    hydra_config = stored_config(folder, "hydra")
    _apply(overrides, config, hydra_config)
    epochs = build(config.training).epochs
    hydra_config.hydra.runtime.output_dir = str(folder.resolve())
    before = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = hydra_config
    try:
        configure_log(hydra_config.hydra.job_logging, hydra_config.hydra.verbose)
        if stored_result(folder).get("status") == "finished" and epochs <= epochs_before:
            log.info(f"the run in {folder} is finished: training.epochs={2 * epochs_before} would train it further")
            return
        if epochs > epochs_before and config.get("scheduler"):
            log.warning(f"the learning rate's schedule stays as it was made for {epochs_before} epochs")
        _go_on(folder, config, hydra_config)
    finally:
        HydraConfig.instance().cfg = before


def _apply(overrides: list[Override], config: DictConfig, hydra_config: DictConfig) -> None:
    """Puts what is to change into both configs, and among the overrides that the run was started with."""
    task = {str(line).partition("=")[0]: str(line) for line in hydra_config.hydra.overrides.task}
    for override in overrides:
        key = override.key_or_group
        if key.startswith("hydra."):
            OmegaConf.update(hydra_config, key, override.value())
        else:
            OmegaConf.update(config, key, override.value())
            task[key] = str(override.input_line)
    hydra_config.hydra.overrides.task = list(task.values())


def _go_on(folder: Path, config: DictConfig, hydra_config: DictConfig) -> None:
    """Trains; from now on the folder's configuration is the changed one."""
    from gnnfast.training.checkpoint import write_whole

    for name, value in {"config": config, "overrides": hydra_config.hydra.overrides.task}.items():
        write_whole(folder / ".hydra" / f"{name}.yaml", partial(_write_yaml, value))
    (folder / "result.json").unlink(missing_ok=True)
    log.info(f"resuming the run in {folder}")
    train_in(folder, config, LastDataset(), resume=True)


def _write_yaml(config: Any, file: BinaryIO) -> None:
    file.write(OmegaConf.to_yaml(config).encode())
