"""Commands on data sets of pairs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import gnnfast, result_of, run_folders

DIGITS = ("dataset=link_split", "dataset@dataset.source=digits", "training.epochs=2", "loader.batch_size=4096")


def test_a_link_split_of_any_data_set_trains_evaluates_and_writes_embeddings(tmp_path: Path):
    run = gnnfast(
        "train", *DIGITS, "sampler=link_neighbor", "decoder=mlp", "embedding.beside_features=true", folder=tmp_path
    )
    assert run.exit_code == 0, run.stderr
    (folder,) = run_folders(tmp_path)
    result = result_of(folder)
    assert result["metric"] == "roc_auc"
    assert set(result["test"]) == {"roc_auc", "average_precision", "mrr", "hits@10", "recall@20", "ndcg@20"}
    assert 0.5 < result["test"]["roc_auc"] <= 1

    evaluated = gnnfast("evaluate", f"run={folder}", folder=tmp_path)
    assert evaluated.exit_code == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["test"] == pytest.approx(result["test"], abs=1e-6)

    predicted = gnnfast("predict", f"run={folder}", "embeddings=true", "output=rows.npz", folder=tmp_path)
    assert predicted.exit_code == 0, predicted.stderr
    with np.load(tmp_path / "rows.npz") as rows:
        assert rows["h0"].shape == rows["node"].shape == (1797,)
    refused = gnnfast("predict", f"run={folder}", folder=tmp_path)
    assert refused.exit_code == 1
    assert "embeddings=true" in refused.stderr


def test_light_gcn_on_the_full_graph(tmp_path: Path):
    arguments = ("sampler=full_graph", "sampler.negatives=per_source", "model=lightgcn", "training.loss=bpr")
    # LightGCN has no weights: the embedding is beside the features.
    run = gnnfast("train", *DIGITS, *arguments, "embedding.beside_features=true", folder=tmp_path)
    assert run.exit_code == 0, run.stderr
    assert result_of(run_folders(tmp_path)[0])["test"]["roc_auc"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*DIGITS,), "NeighborSampler cannot sample for pairs of nodes, which digits links has"),
        ((*DIGITS, "sampler=saint_node"), "use sampler=link_neighbor"),
        ((*DIGITS, "sampler=link_neighbor", "training.metric=accuracy"), "is no metric of pairs"),
        ((*DIGITS, "sampler=link_neighbor", "sampler.fanouts=[3]"), "make them equal"),
        (("dataset=digits", "model=lightgcn"), "keeps the width of its inputs, 64, but 10"),
        (("dataset=digits", "training.loss=bpr"), "training.loss=bpr is for pairs"),
    ],
)
def test_what_does_not_fit_is_answered_in_a_line(tmp_path: Path, arguments: tuple[str, ...], message: str):
    run = gnnfast("train", *arguments, folder=tmp_path)
    assert run.exit_code != 0
    assert message in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


@pytest.mark.skipif(not os.environ.get("GNNFAST_DATA"), reason="GNNFAST_DATA names no folder with the real graphs")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "metric", "least"),
    [
        (("experiment=gowalla_lightgcn", "training.epochs=16"), "recall@20", 0.14),
        (("experiment=link/cora_gcn",), "roc_auc", 0.9),
        (("experiment=facebook_pages_gcn",), "accuracy", 0.93),
    ],
)
def test_recipes_reach_what_they_promise(tmp_path: Path, arguments: tuple[str, ...], metric: str, least: float):
    run = gnnfast("train", *arguments, folder=tmp_path)
    assert run.exit_code == 0, run.stderr
    assert result_of(run_folders(tmp_path)[0])["test"][metric] >= least
