"""What importing gnnfast costs, and what it leaves alone until it is needed."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

import gnnfast

ROOT = Path(gnnfast.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], "gnnfast."))
NEEDED_LATE = {"triton", "torch_sparse", "torch_scatter", "torch_cluster", "pyg_lib", "ogb", "matplotlib"}
# Convolutions subclass PyG's, which loads its own optional extensions where they are installed.
BUILT_ON_PYG = ("gnnfast.nn", "gnnfast.training", "gnnfast.verify", "gnnfast.benchmark", "gnnfast.cli")


def run(code: str) -> str:
    # As users run Python: compiled modules are kept.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def top_level_imports(path: Path) -> set[str]:
    """First names of what a module imports when it is imported; what only a type checker reads does not count."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(), str(path))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
        is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not is_for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return names


def test_no_module_imports_what_it_needs_late():
    early = {
        path.relative_to(ROOT).as_posix(): sorted(names)
        for path in ROOT.rglob("*.py")
        # Triton kernels are written with Triton's decorators, and are themselves imported only for CUDA.
        if (
            names := top_level_imports(path) & NEEDED_LATE - ({"triton"} if "kernels/gpu" in path.as_posix() else set())
        )
    }
    assert not early


def test_below_the_convolutions_nothing_loads_pyg_or_its_extensions():
    modules = [name for name in MODULES if not name.startswith((*BUILT_ON_PYG, "gnnfast.kernels.gpu"))]
    assert "gnnfast.loader.dataloader" in modules
    loaded = run(f"import sys\nfor name in {modules}: __import__(name)\nprint(*sys.modules)").split()
    assert not (NEEDED_LATE | {"torch_geometric"}) & set(loaded)


def test_every_module_can_be_imported_first():
    # Each in a process of its own, which shares what others wrote and takes long to import.
    failed = run(
        f"""
import os, numba, torch, torch_geometric, lightning.fabric, hydra
failed = []
for module in {MODULES}:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            __import__(module)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(module)
print(failed)
"""
    )
    assert failed.strip() == "[]"


def test_importing_sampler_and_loader_costs_at_most_1_6_times_importing_torch():
    timed = "from time import process_time as now; t = now(); import {}; print(now() - t)"
    torch_seconds, all_seconds = [], []
    run(timed.format("gnnfast.sampler, gnnfast.loader"))  # compiles, where that was never done
    for _ in range(5):
        torch_seconds.append(float(run(timed.format("torch"))))
        all_seconds.append(float(run(timed.format("gnnfast.sampler, gnnfast.loader"))))
    # Noise only adds, to processor time too: the quickest of each is nearest to what it costs.
    # The medians are there to be read on failure.
    ratio = min(all_seconds) / min(torch_seconds)
    assert ratio <= 1.6, json.dumps({"torch": median(torch_seconds), "gnnfast": median(all_seconds)})


@pytest.mark.slow
@pytest.mark.timing
def test_importing_the_convolutions_costs_at_most_1_15_times_importing_pygs():
    timed = "from time import process_time as now; t = now(); import {}; print(now() - t)"
    ratios = []
    run(timed.format("gnnfast.nn"))  # compiles, where that was never done
    for _ in range(7):
        pyg_seconds, seconds = (float(run(timed.format(name))) for name in ("torch_geometric.nn", "gnnfast.nn"))
        ratios.append(seconds / pyg_seconds)
    # Of pairs one after the other: what else the machine does changes slowly.
    assert median(ratios) <= 1.15, ratios
