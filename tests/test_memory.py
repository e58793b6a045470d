"""A run holds after twenty epochs what it held after five."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TRAINING = """
import json, os
for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ[cache] = "32"  # as the command line does
import torch
from gnnfast.datasets import synthetic
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.runtime.allocator import keep_freed_memory
from gnnfast.runtime.memory import held_bytes
from gnnfast.sampler import NeighborSampler
from gnnfast.training import TrainingSettings, train

class Watch:
    def step(self, *_):
        pass

    def epoch(self, row):
        print(json.dumps(held_bytes()))

keep_freed_memory()
torch.set_num_threads(1)
dataset = synthetic(20_000, 300_000, num_features=64, num_classes=10, attainable_hops=0)
loader = DataLoader(dataset, NeighborSampler(dataset.graph, [10, 5, 5]), batch_size=512, num_threads=1)
model = GNN(64, 128, 3, 10, conv="sage")
optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
train(model, loader, optimizer, TrainingSettings(epochs=20, evaluate_every=1, precision="PRECISION"), progress=Watch())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process holds")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_memory_does_not_grow_over_twenty_epochs(precision: str):
    command = [sys.executable, "-c", TRAINING.replace("PRECISION", precision)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    held = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert len(held) == 20
    if "allocated" in held[0]:
        assert held[-1]["allocated"] <= 1.02 * held[4]["allocated"]
    # Free memory in pieces that fit no tensor may become a little more.
    assert held[-1]["resident"] <= 1.1 * held[4]["resident"]


LONG_TRAINING = """
import gc, json, os, sys, threading
for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ[cache] = "32"  # as the command line does
import torch
from gnnfast.datasets import synthetic
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.runtime.allocator import keep_freed_memory
from gnnfast.runtime.memory import held_bytes
from gnnfast.sampler import NeighborSampler
from gnnfast.training import TrainingSettings, train

class Watch:
    def step(self, *_):
        pass

    def epoch(self, row):
        counts = {"threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd"))}
        print(json.dumps(held_bytes() | counts))

keep_freed_memory()
torch.set_num_threads(1)
dataset = synthetic(4_000, 40_000, num_features=32, num_classes=10, attainable_hops=0)
loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=512, num_threads=2)
model = GNN(32, 64, 2, 10, conv="sage", dropout=0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
settings = TrainingSettings(epochs=500, evaluate_every=5, checkpoint_steps=7, accelerator="cpu")
train(model, loader, optimizer, settings, run_folder=sys.argv[1], progress=Watch())
del loader
gc.collect()
print(json.dumps({"threads": threading.active_count()}))
"""


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process holds")
def test_five_hundred_epochs_leave_memory_threads_and_files_as_they_were(tmp_path: Path):
    command = [sys.executable, "-c", LONG_TRAINING, str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *held, ended = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert len(held) == 500
    early, late = held[20], held[-1]
    print(f"after 20 epochs {early}, after 500 {late}, with the loader gone {ended}")
    assert late["resident"] <= 1.02 * early["resident"]
    assert late["threads"] == early["threads"]
    assert late["files"] == early["files"]
    assert ended["threads"] == 1
