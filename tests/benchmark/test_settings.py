from __future__ import annotations

import pytest

from gnnfast.benchmark import BenchmarkSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage": "sample"}, "stage must be one of sampler, loader, kernel, step, epoch, memory, all, got 'sample'"),
        ({"models": ["sage", "gatt"]}, "models must be one of sage, gcn, gin, gat, got 'gatt'"),
        ({"models": "sage"}, "models must be a list of sage, gcn, gin, gat, got 'sage'"),
        ({"peers": ["dgl"]}, "peer.systems must be one of torch_sparse, pyg_lib, graphbolt, got 'dgl'"),
        ({"precision": "16"}, "precision must be one of 32-true, bf16-mixed, got '16'"),
        ({"fanouts": []}, "fanouts must be a list with one entry per layer"),
        ({"fanouts": [5, -1]}, "fanouts must be a positive integer, got -1"),
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"repeats": True}, "repeats must be a positive integer, got True"),
        ({"num_threads": 0}, "num_threads must be a positive integer, got 0"),
        ({"max_seconds": -1}, "max_seconds must be a number, 0 or more, got -1"),
        ({"heads": 3}, "heads=3 must divide hidden_channels=256"),
        ({"dgl_python": "/nowhere/python"}, "peer.dgl_python must be a Python interpreter, got '/nowhere/python'"),
    ],
)
def test_a_wrong_setting_is_answered_with_what_would_be_right(settings: dict, message: str):
    with pytest.raises(ValueError, match=message.replace("'", ".")):
        BenchmarkSettings(**settings)


def test_all_is_every_stage():
    assert BenchmarkSettings(stage="all").stages == ("sampler", "loader", "kernel", "step", "epoch", "memory")
    assert BenchmarkSettings(stage="step").stages == ("step",)
