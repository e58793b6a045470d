"""A training run read back from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from gnnfast.cli.hydra_app import build
from gnnfast.cli.quick import import_quickly
from gnnfast.cli.train import build_model

# What every run's configuration has.
_NEEDED = {
    "config": ("dataset", "sampler", "loader", "model", "optimizer", "training", "seed"),
    "hydra": ("hydra",),
}


def load_run(run: str | Path, checkpoint: str) -> tuple[DictConfig, Any, Any]:
    """The run's composed config, its data set, and its model with the checkpoint's weights.

    Raises:
        FileNotFoundError: If the folder holds no run or no such checkpoint.
        ValueError: If the checkpoint is damaged or of another model.
    """
    import_quickly("gnnfast.training", "torchmetrics")
    from gnnfast.training import RunFolder

    folder = Path(run)
    config = stored_config(folder)
    result = stored_result(folder)
    if result.get("status") == "failed":
        raise ValueError(f"the run in {folder} failed: {result.get('error')}")
    state = RunFolder(folder).load_checkpoint(checkpoint)
    dataset = build(config.dataset)
    model = build_model(config, dataset)
    load_weights(model, state["model"], folder)
    if config.training.precision == "64-true":
        model.double()
    return config, dataset, model


def stored_config(folder: Path, name: str = "config") -> DictConfig:
    """What a run stored of its configuration: "config", or "hydra" for Hydra's own.

    Raises:
        FileNotFoundError: If the folder is none of a run.
        ValueError: If it is a sweep's, or the configuration is damaged or of another version.
    """
    path = folder / ".hydra" / f"{name}.yaml"
    if not path.exists():
        jobs = sorted(str(job.parent) for job in folder.glob("*/.hydra"))
        if jobs:
            raise ValueError(f"{folder} is the folder of several runs: choose one of {', '.join(jobs)}")
        raise FileNotFoundError(f"{folder} is not a run folder: it has no .hydra/{name}.yaml")
    try:
        config = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    needed = _NEEDED[name]
    missing = [key for key in needed if not isinstance(config, DictConfig) or key not in config]
    if missing:
        raise ValueError(f"{path} is of another version of gnnfast, or no run's: it has no {', '.join(missing)}")
    assert isinstance(config, DictConfig)
    return config


def stored_result(folder: Path) -> dict[str, Any]:
    """What a run's `result.json` says; nothing while it trains, or where its process was killed."""
    try:
        result = json.loads((folder / "result.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return result if isinstance(result, dict) else {}


def load_weights(model: Any, weights: dict[str, Any], source: Path) -> None:
    """Loads a state dict, or says in one line that it is another model's."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1].split()) if "\n\t" in str(error) else str(error)
        raise ValueError(f"the checkpoint in {source} is of another model: {reason}") from error
