"""`gnnfast predict`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gnnfast.cli.hydra_app import run_hydra

log = logging.getLogger("gnnfast")

FORMATS = (".parquet", ".csv", ".npz")


def main(arguments: list[str]) -> None:
    """Runs the command."""
    run_hydra("predict", _predict, arguments)


def _predict(config: DictConfig) -> None:
    import torch

    from gnnfast.cli.stored_run import load_run
    from gnnfast.training import LayerwiseInference, LinkEvaluator

    what = "embeddings" if config.embeddings else "predictions"
    output = Path(config.output or Path(config.run) / f"{what}.parquet")
    if output.suffix not in FORMATS:
        raise ValueError(f"output must end in {', '.join(FORMATS)}, got {output}")
    _, dataset, model = load_run(config.run, config.checkpoint)
    if dataset.task == "link":
        if not config.embeddings or config.nodes != "all":
            raise ValueError(
                f"{dataset.name} has pairs of nodes: embeddings=true nodes=all writes what they are scored by"
            )
        rows = LinkEvaluator(dataset, model.num_layers).representations(model)
        _write(output, {"node": torch.arange(dataset.num_nodes).numpy(), **_numbered("h", rows)})
        log.info(f"{what} of {dataset.num_nodes} nodes: {output}")
        return
    if config.nodes != "all" and config.nodes not in dataset.split_ids:
        raise ValueError(f"nodes must be all, {', '.join(dataset.split_ids)}, got {config.nodes!r}")
    nodes = torch.arange(dataset.num_nodes) if config.nodes == "all" else dataset.split_ids[config.nodes]
    inference = LayerwiseInference(dataset.graph, dataset.features, nodes, model.num_layers)
    columns: dict[str, Any] = {"node": nodes.numpy()}
    if config.embeddings:
        columns |= _numbered("h", inference.embeddings(model))
    else:
        logits = inference(model)
        if dataset.is_multilabel:
            columns |= _numbered("probability_", logits.sigmoid())
        else:
            columns["prediction"] = logits.argmax(1).numpy()
            columns |= _numbered("probability_", logits.softmax(1))
    _write(output, columns)
    log.info(f"{what} of {nodes.numel()} nodes: {output}")


def _numbered(name: str, values: Any) -> dict[str, Any]:
    return {f"{name}{column}": values[:, column].numpy() for column in range(values.shape[1])}


def _write(output: Path, columns: dict[str, Any]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".npz":
        import numpy as np

        np.savez(output, **columns)
        return
    import pyarrow as pa
    from pyarrow import csv, parquet

    table = pa.table(columns)
    if output.suffix == ".csv":
        csv.write_csv(table, output)
    else:
        parquet.write_table(table, output)
