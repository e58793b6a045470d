"""What holds for every sampler, whatever it draws."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from gnnfast.datasets import synthetic
from gnnfast.graph import Dataset
from gnnfast.loader import DataLoader
from gnnfast.sampler import Law
from tests.minibatches import digest
from tests.samplers import SAMPLERS, make_sampler


@cache
def dataset() -> Dataset:
    return synthetic(num_nodes=3000, seed=1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_mini_batches_are_equal_for_0_1_2_and_8_threads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    digests = set()
    for num_threads in (0, 1, 2, 8):
        # A sampler of its own each time: nothing is left over from the other runs.
        loader = DataLoader(
            dataset(), make_sampler(name, dataset()), batch_size=200, seed=3, num_threads=num_threads, prefetch=3
        )
        digests.add(digest(loader) + digest(loader))
    assert len(digests) == 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_shares_of_ranks_hold_every_seed_of_a_step_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sampler = make_sampler(name, dataset())

    def steps(rank: int, world_size: int) -> list[torch.Tensor]:
        loader = DataLoader(dataset(), sampler, batch_size=200, seed=3, num_threads=0, rank=rank, world_size=world_size)
        return [batch.seed_nodes for batch in loader]

    alone, shares = steps(0, 1), [steps(rank, 3) for rank in range(3)]
    assert all(torch.equal(seeds, torch.cat(parts)) for seeds, *parts in zip(alone, *shares, strict=True))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_declares_its_law(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    law = make_sampler(name, dataset()).law
    assert isinstance(law, Law)
    assert law.unbiased or law.bias, "unbiased for nothing, and no word why"


def test_every_sampler_runs_without_optional_extensions(tmp_path: Path):
    code = """
import sys
for name in ("torch_sparse", "torch_scatter", "pyg_lib", "torch_cluster", "mtkahypar", "pymetis", "metis", "kahypar"):
    sys.modules[name] = None
import warnings
from gnnfast.datasets import synthetic
from gnnfast.loader import DataLoader
from tests.samplers import SAMPLERS, make_sampler
dataset = synthetic(num_nodes=1000, seed=1)
for name in SAMPLERS:
    batch = next(iter(DataLoader(dataset, make_sampler(name, dataset), batch_size=100, num_threads=0)))
    assert batch.num_seeds > 0, name
    print(name)
"""
    environment = os.environ | {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == SAMPLERS
