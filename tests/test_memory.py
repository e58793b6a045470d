"""A run holds after twenty epochs what it held after five."""

from __future__ import annotations

import json
import subprocess
import sys

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
