"""Imports go down the levels of DESIGN.md, never up and never sideways."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gnnfast

ROOT = Path(gnnfast.__file__).parent
LEVELS = [
    {"cli"},
    {"benchmark"},
    {"verify"},
    {"training"},
    {"loader", "distributed"},
    {"sampler", "nn", "datasets"},
    {"partition"},
    {"graph"},
    {"kernels", "runtime"},
]
LEVEL_OF = {package: level for level, packages in enumerate(LEVELS) for package in packages}
MODULES = sorted(ROOT.rglob("*.py"))


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, those inside functions included."""
    package = ["gnnfast", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def may_import(importer: str, imported: str) -> bool:
    return importer == imported or LEVEL_OF[importer] < LEVEL_OF[imported]


def test_every_package_has_a_level():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages
    assert packages <= set(LEVEL_OF)


@pytest.mark.parametrize("path", MODULES, ids=[path.relative_to(ROOT).as_posix() for path in MODULES])
def test_imports_go_down(path: Path):
    importer = path.relative_to(ROOT).parts[0]
    wrong = []
    for line, module in imported_modules(path):
        _, _, inside = module.partition("gnnfast.")
        imported = inside.split(".")[0]
        if not module.startswith("gnnfast.") or imported == "__version__":
            continue
        if path.name == "__main__.py":
            assert module == "gnnfast.cli.main.main"
        elif path.parent == ROOT or not may_import(importer, imported):
            wrong.append(f"line {line} imports {module}")
    assert not wrong, f"{path.relative_to(ROOT)}: {'; '.join(wrong)}"


def test_an_import_that_goes_up_or_sideways_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.test_architecture.ROOT", tmp_path)
    module = tmp_path / "sampler" / "node" / "new.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "import gnnfast.graph\n"
        "from gnnfast.loader import DataLoader\n"
        "def draw():\n"
        "    from ...nn import GNN\n"
        "    from ..base import Sampler\n"
    )
    assert sorted(imported_modules(module)) == [
        (1, "gnnfast.graph"),
        (2, "gnnfast.loader.DataLoader"),
        (4, "gnnfast.nn.GNN"),
        (5, "gnnfast.sampler.base.Sampler"),
    ]
    assert may_import("sampler", "graph")
    assert not may_import("sampler", "loader")
    assert not may_import("sampler", "nn")
