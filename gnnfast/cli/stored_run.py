"""A training run read back from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gnnfast.cli.hydra_app import build
from gnnfast.cli.quick import import_quickly
from gnnfast.cli.train import build_model


def load_run(run: str | Path, checkpoint: str) -> tuple[DictConfig, Any, Any]:
    """The run's composed config, its data set, and its model with the checkpoint's weights.

    Raises:
        FileNotFoundError: If the folder holds no run or no such checkpoint.
        ValueError: If the checkpoint is damaged or of another model.
    """
    import_quickly("gnnfast.training", "torchmetrics")
    from gnnfast.training import RunFolder

    folder = Path(run)
    config_path = folder / ".hydra" / "config.yaml"
    if not config_path.exists():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no .hydra/config.yaml")
    result_path = folder / "result.json"
    result = json.loads(result_path.read_text()) if result_path.exists() else {}
    if result.get("status") == "failed":
        raise ValueError(f"the run in {folder} failed: {result.get('error')}")
    config = OmegaConf.load(config_path)
    assert isinstance(config, DictConfig)
    state = RunFolder(folder).load_checkpoint(checkpoint)
    dataset = build(config.dataset)
    model = build_model(config, dataset)
    load_weights(model, state["model"], folder)
    if config.training.precision == "64-true":
        model.double()
    return config, dataset, model


def load_weights(model: Any, weights: dict[str, Any], source: Path) -> None:
    """Loads a state dict, or says in one line that it is another model's."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1].split()) if "\n\t" in str(error) else str(error)
        raise ValueError(f"the checkpoint in {source} is of another model: {reason}") from error
