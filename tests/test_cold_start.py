"""What a first start costs on a machine, and every other one: each in a process of its own, with a kernel cache of its
own. Processor time is compared, which other processes disturb least."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

COMPILING = "compiling kernels for this machine, once"


def run(*command: str, cache: Path, **environment: str) -> tuple[str, float]:
    """What a process prints, and the processor seconds it took from its start to its end."""
    # As users run Python: compiled modules are kept.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *command],
        env={**kept, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.getcwd(), **environment},
        cwd=cache,
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(*overrides: str, cache: Path) -> tuple[str, float]:
    return run("-m", "gnnfast", "train", *overrides, "training.epochs=1", "training.accelerator=cpu", cache=cache)


def kernel_files(cache: Path) -> dict[str, tuple[int, int]]:
    """Every file of the kernel cache with when it was written, and its size."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in (cache / "gnnfast" / "kernels").rglob("*")
        if path.is_file()
    }


def test_compilation_is_announced_once_and_only_where_it_happens(tmp_path: Path):
    program = """
import numba, numpy as np
from gnnfast.kernels.announce import announce_compilation
from gnnfast.kernels.cpu.random import mix, random_bits
announce_compilation(lambda: print("compiling"))
numba.njit(lambda x: x)(1)
made = {"__builtins__": {}}
exec("def function(x): return x", made)
numba.njit(made["function"])(1)
print("theirs is theirs")
mix(np.uint64(0)), random_bits(np.uint64(0), 0)
"""

    first, _ = run("-c", program, cache=tmp_path)
    files = kernel_files(tmp_path)
    second, _ = run("-c", program, cache=tmp_path)

    assert first.splitlines() == ["theirs is theirs", "compiling"]
    assert second.splitlines() == ["theirs is theirs"]
    assert files == kernel_files(tmp_path) != {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sweep",
    [
        ("model=gcn,gat,gatv2,gin,sage", "training.precision=32-true,bf16-mixed"),
        ("model=gcn,gat,sage", "training.precision=64-true"),
        ("sampler=glob(*,exclude=[link_neighbor])", "model=sage"),
        ("loader.num_threads=0,2", "training.evaluation=sampled", "model=gcn"),
    ],
    ids=["precision", "double", "samplers", "threads"],
)
def test_what_one_process_compiled_no_other_compiles_again(sweep: tuple[str, ...], tmp_path: Path):
    first, _ = train("-m", *sweep, cache=tmp_path)
    files = kernel_files(tmp_path)
    second, _ = train("-m", *sweep, cache=tmp_path)

    assert first.count(COMPILING) == 1
    assert COMPILING not in second
    assert files == kernel_files(tmp_path) != {}


@pytest.mark.slow
@pytest.mark.timing
def test_a_start_costs_little_more_than_importing_its_libraries(tmp_path: Path):
    cold_output, cold = train("model=gat", cache=tmp_path)
    warm = min(train("model=gat", cache=tmp_path)[1] for _ in range(3))
    libraries = "import torch, numba, hydra, torch_geometric.nn, lightning.fabric"
    plain = min(run("-c", libraries, cache=tmp_path)[1] for _ in range(3))

    assert COMPILING in cold_output
    # Ratios: a busy machine lengthens processor time as well.
    assert warm < 1.5 * plain, (warm, plain)
    assert cold < 4 * plain, (cold, plain)
