"""Processes of peers: what goes back and forth, and what is said when something goes wrong."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gnnfast.benchmark.peers.process import _KEEPS_FREED_MEMORY, PeerError, PeerProcess, Systems
from gnnfast.benchmark.peers.serve import load, serve

# What `peers/graphbolt.py` needs of DGL to sample: it draws the first in-neighbors.
FAKE_DGL = """
import torch

class ItemSet:
    def __init__(self, items, names):
        assert names == "seed_nodes"
        self.items = items

class ItemSampler:
    def __init__(self, items, batch_size):
        self.batches = items.items.split(batch_size)

    def sample_neighbor(self, graph, fanouts):
        print("libraries may print what they want")
        return [sample(graph, seeds, fanouts) for seeds in self.batches]

class Sampled: pass

def fused_csc_sampling_graph(indptr, indices):
    return indptr, indices

def sample(graph, seeds, fanouts):
    (indptr, indices), batch, nodes = graph, Sampled(), seeds
    batch.sampled_subgraphs = []
    for fanout in reversed(fanouts):
        drawn = torch.cat([indices[indptr[v]:indptr[v + 1]][:fanout] for v in nodes])
        nodes = torch.cat([nodes, drawn]).unique()
        layer = Sampled()
        layer.sampled_csc = Sampled()
        layer.sampled_csc.indices = drawn
        batch.sampled_subgraphs.insert(0, layer)
    batch.input_nodes = nodes
    return batch
"""


@pytest.fixture
def fake_dgl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "fake" / "dgl"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("__version__ = 'fake'\n")
    (folder / "graphbolt.py").write_text(FAKE_DGL)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    return folder


def answers(peer, *requests: dict) -> list[dict]:
    out = io.StringIO()
    serve(peer, [json.dumps(request) for request in requests], out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_cases_are_prepared_run_and_forgotten():
    peer = SimpleNamespace(prepare=lambda request: ((lambda i: i * request["unit"]), {"unit": request["unit"]}))

    assert answers(
        peer,
        {"prepare": {"unit": 2.0}},
        {"prepare": {"unit": 3.0}},
        {"run": 0, "first_call": 1, "num_calls": 2},
        {"run": 1, "first_call": 5, "num_calls": 1},
        {"forget": 0},
        {"run": 0, "first_call": 0, "num_calls": 1},
    ) == [
        {"case": 0, "facts": {"unit": 2.0}},
        {"case": 1, "facts": {"unit": 3.0}},
        {"seconds": [2.0, 4.0]},
        {"seconds": [15.0]},
        {"facts": {}},
        {"error": "KeyError: 0"},
    ]


def test_what_calls_have_found_is_told_at_their_end():
    class Call:
        def __init__(self):
            self.calls = []

        def __call__(self, i):
            self.calls.append(i)
            return 1.0

        def closing_facts(self):
            return {"calls": self.calls}

    peer = SimpleNamespace(prepare=lambda request: (Call(), {}))
    told = answers(peer, {"prepare": {}}, {"run": 0, "first_call": 1, "num_calls": 2}, {"forget": 0})
    assert told[-1] == {"facts": {"calls": [1, 2]}}


def test_a_failure_is_an_answer_in_one_line():
    def prepare(request):
        raise RuntimeError("out of\nmemory")

    assert answers(SimpleNamespace(prepare=prepare), {"prepare": {}}) == [{"error": "RuntimeError: out of memory"}]


def test_a_peer_is_found_by_name_or_by_file(tmp_path: Path):
    (tmp_path / "mine.py").write_text("prepare = 3\n")

    assert load(str(tmp_path / "mine.py")).prepare == 3
    assert load("json").dumps({}) == "{}"


def test_graphbolt_is_driven_through_the_interpreter_given(fake_dgl: Path, request_for):
    process = PeerProcess("graphbolt", python=sys.executable)
    try:
        case = process.prepare(request_for("sampler", system="graphbolt"))
        assert case.facts["versions"]["dgl"] == "fake"
        # 64 seeds draw up to 3, and all of them and what they drew up to 2.
        assert 64 < case.facts["nodes"] <= 64 * 4 * 3
        assert 64 * 3 < case.facts["edges"] <= 64 * 3 + 64 * 4 * 2
        assert len(case.run(0, 3)) == 3
        case.forget()
    finally:
        process.close()


def test_an_interpreter_without_dgl_says_so(tmp_path: Path, request_for):
    process = PeerProcess("graphbolt", python=sys.executable)
    try:
        with pytest.raises(PeerError, match="graphbolt: ModuleNotFoundError: No module named 'dgl'"):
            process.prepare(request_for("sampler", system="graphbolt"))
    finally:
        process.close()


def test_a_process_that_dies_leaves_its_last_words(tmp_path: Path, request_for):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no license found >&2\nexit 3\n")
    python.chmod(0o755)
    with Systems(1, str(python)) as systems:
        for _ in range(2):
            with pytest.raises(PeerError, match="graphbolt ended with code 3: no license found"):
                systems.process("graphbolt").prepare(request_for("sampler", system="graphbolt"))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_the_environment_keeps_freed_memory():
    import os
    import subprocess

    code = """
import ctypes
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
block = libc.malloc(ctypes.c_size_t(1 << 26))
ctypes.memset(ctypes.c_void_p(block), 1, 1 << 26)
before = resident()
libc.free(ctypes.c_void_p(block))
print(before - resident())
"""
    given_back = {}
    for keeps in (True, False):
        environment = os.environ | (_KEEPS_FREED_MEMORY if keeps else {})
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        given_back[keeps] = int(done.stdout)
    assert given_back[True] < 1 << 20
    assert given_back[False] > 1 << 25
