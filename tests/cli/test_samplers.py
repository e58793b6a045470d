"""A sampler counts as done once its config has trained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.command import gnnfast as gnnfast_command
from tests.cli.command import result_of, run_folders
from tests.samplers import SAMPLERS


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_config_trains(name: str, tmp_path: Path):
    done = gnnfast_command(
        "train", f"sampler={name}", "training.epochs=2", folder=tmp_path, XDG_CACHE_HOME=str(tmp_path)
    )
    assert done.exit_code == 0, done.stderr
    # Chance is 0.1.
    assert result_of(run_folders(tmp_path)[0])["test"]["accuracy"] > 0.3


def test_a_sweep_reads_a_data_set_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import gnnfast.datasets

    calls = []
    read = gnnfast.datasets.digits
    monkeypatch.setattr(gnnfast.datasets, "digits", lambda **settings: calls.append(settings) or read(**settings))

    arguments = ("-m", "dataset.split_seed=0,1", "seed=0,1", "training.epochs=1")
    done = gnnfast_command("train", *arguments, folder=tmp_path)

    assert done.exit_code == 0, done.stderr
    assert [settings["split_seed"] for settings in calls] == [0, 1]


USERS = """
import torch
from dataclasses import replace
from gnnfast.graph import MiniBatch
from gnnfast.sampler import LinkNeighborSampler, RandomNodeSampler

class NoBatches(RandomNodeSampler):
    num_batches = 0
    def __init__(self, graph):
        super().__init__(graph, 4)

class NoBlocks:
    def __init__(self, graph):
        pass
    def sample(self, seed_nodes, seed):
        return MiniBatch(seed_nodes, seed_nodes, [])

class Pairs(LinkNeighborSampler):
    def __init__(self, graph):
        super().__init__(graph, [2, 2])

class Dropped(Pairs):
    def sample_edges(self, seed_edges, seed):
        return super().sample_edges(seed_edges[:, :3], seed)

class Swapped(Pairs):
    def sample_edges(self, seed_edges, seed):
        batch = super().sample_edges(seed_edges, seed)
        return replace(batch, edge_labels=1 - batch.edge_labels)

class NoNegatives(LinkNeighborSampler):
    def __init__(self, graph):
        super().__init__(graph, [2, 2], num_negatives=0)
        self.num_negatives = 1
        self._pairs = LinkNeighborSampler(graph, [2, 2], num_negatives=0)
    def sample_edges(self, seed_edges, seed):
        return self._pairs.sample_edges(seed_edges, seed)

class NoPairs(Pairs):
    def sample_edges(self, seed_edges, seed):
        return self.sample(seed_edges[0], seed)
"""
LINKS = ("dataset=link_split", "dataset@dataset.source=digits", "sampler=link_neighbor")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sampler._target_=users.NoBatches",), "NoBatches.num_batches must be a whole number of at least 1, got 0"),
        (("sampler._target_=users.NoBlocks",), "NoBlocks.sample must return at least one block"),
        ((*LINKS, "sampler._target_=users.Dropped"), "seed edges first, then negatives"),
        ((*LINKS, "sampler._target_=users.Swapped"), "must label seed edges 1 and negatives 0"),
        ((*LINKS, "sampler._target_=users.NoNegatives"), "the same number of negatives, at least one"),
        ((*LINKS, "sampler._target_=users.NoPairs"), "seed_edges, edge_rows and edge_labels"),
        ((*LINKS, "sampler.src_range=5"), "src_range must be the first and the last"),
        ((*LINKS, "sampler.src_range=[0,1.5]"), "src_range must be the first and the last"),
        ((*LINKS, "model=lightgcn"), "nothing to learn"),
        ((*LINKS, "embedding.beside_features=no"), "embedding.beside_features must be true or false, got 'no'"),
        (("dataset=gowalla", "sampler=link_neighbor", "training.metric=roc_auc"), "needs pairs that are none"),
        (("training.embedding_penalty=0.1",), "training.embedding_penalty is for pairs"),
        (("keep_freed_memory=3",), "keep_freed_memory must be true or false, got 3"),
        (("sampler=weighted_neighbor", "sampler.edge_weight=3"), "edge_weight must be 'gcn' or a tensor"),
        (("+loader.seed_weights=[1,2]",), "seed_weights must be a tensor"),
        (("sampler.fanouts=[99999999999999999999,2]",), "fanouts must be positive"),
    ],
)
def test_what_does_not_fit_is_named(arguments: tuple[str, ...], message: str, tmp_path: Path):
    (tmp_path / "users.py").write_text(USERS)
    sys.modules.pop("users", None)
    done = gnnfast_command("train", *arguments, "training.epochs=1", folder=tmp_path)
    assert done.exit_code == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_settings_of_another_task_are_said_to_be_without_effect(tmp_path: Path):
    done = gnnfast_command("train", "decoder=mlp", "training.epochs=1", folder=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "decoder is for tasks on pairs" in done.stdout + done.stderr


def dataset_config(folder: Path) -> Path:
    """A folder of configs with the link split of the digits."""
    target = folder / "configs" / "dataset"
    target.mkdir(parents=True)
    (target / "digits_links.yaml").write_text(
        "defaults:\n  - /dataset@source: digits\n_target_: gnnfast.datasets.link_split\n"
    )
    return target.parent


def test_a_sweep_over_tasks_says_which_metric_it_shows(tmp_path: Path):
    digits = dataset_config(tmp_path)
    done = gnnfast_command(
        "train",
        "-m",
        "--config-dir",
        str(digits),
        "dataset=digits,digits_links",
        "sampler=link_neighbor",
        "training.epochs=1",
        folder=tmp_path,
    )
    assert done.exit_code == 0, done.stderr
    table = done.stdout[done.stdout.index("overrides") :]
    assert "accuracy" in table
    assert "roc_auc" in table
