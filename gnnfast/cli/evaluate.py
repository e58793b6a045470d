"""`gnnfast evaluate`."""

from __future__ import annotations

import json

from omegaconf import DictConfig

from gnnfast.cli.hydra_app import run_hydra


def main(arguments: list[str]) -> None:
    """Runs the command."""
    run_hydra("evaluate", _evaluate, arguments)


def _evaluate(config: DictConfig) -> None:
    from gnnfast.cli.stored_run import load_run
    from gnnfast.training import task_of

    _, dataset, model = load_run(config.run, config.checkpoint)
    splits = [config.splits] if isinstance(config.splits, str) else list(config.splits)
    unknown = set(splits) - set(dataset.split_ids)
    if unknown:
        raise ValueError(f"splits must be of {', '.join(dataset.split_ids)}, got {', '.join(sorted(unknown))}")
    evaluator = task_of(dataset).evaluator(model)
    print(json.dumps({split: evaluator.evaluate(model, split) for split in splits}, indent=2))
