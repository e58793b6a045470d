"""Every case runs in a process of its own: the folder is chosen at import, from the environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gnnfast.kernels import cache

# A whole use of a kernel: import, compile, run.
DRAW = """
import numpy as np
from gnnfast.kernels.cpu.random import mix
assert mix(np.uint64(0)) == 0
from gnnfast.kernels.cpu import compile
print(compile._CACHE_DIR)
"""


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A path where no folder can be made, not even by root: a file stands in the way."""
    file = tmp_path / "file"
    file.touch()
    return file / "folder"


def run(code: str, working_dir: Path, **environment: str) -> str:
    """What the code prints; an empty value leaves the variable out."""
    kept = {key: value for key, value in (os.environ | environment).items() if value}
    done = subprocess.run([sys.executable, "-c", code], env=kept, cwd=working_dir, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_kernels_are_kept_in_the_users_cache(tmp_path: Path):
    folder = Path(run(DRAW, tmp_path, XDG_CACHE_HOME=str(tmp_path)))
    assert folder.parent == tmp_path / "gnnfast"
    assert list(folder.rglob("*.nbc"))


def test_an_unwritable_cache_falls_back_to_the_temporary_folder(tmp_path: Path, blocked: Path):
    for home in ({"XDG_CACHE_HOME": str(blocked)}, {"XDG_CACHE_HOME": "", "HOME": str(blocked)}):
        folder = Path(run(DRAW, tmp_path, TMPDIR=str(tmp_path), **home))
        assert folder.parent.parent == tmp_path
        assert list(folder.rglob("*.nbc"))


def test_a_user_without_a_home_gets_no_folder_in_the_working_one(tmp_path: Path):
    code = "import os; os.path.expanduser = lambda path: path" + DRAW
    working_dir = tmp_path / "working"
    working_dir.mkdir()
    run(code, working_dir, XDG_CACHE_HOME="", HOME="", TMPDIR=str(tmp_path))
    assert not list(working_dir.iterdir())


def test_kernels_run_where_nothing_can_be_written(tmp_path: Path, blocked: Path):
    code = f"import tempfile; tempfile._candidate_tempdir_list = lambda: [{str(blocked)!r}]" + DRAW
    assert run(code, tmp_path, XDG_CACHE_HOME=str(blocked)) == "None"


def test_a_writable_cache_needs_no_temporary_folder(tmp_path: Path, blocked: Path):
    code = f"import tempfile; tempfile._candidate_tempdir_list = lambda: [{str(blocked)!r}]" + DRAW
    assert run(code, tmp_path, XDG_CACHE_HOME=str(tmp_path)).startswith(str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders have no owner")
def test_a_temporary_folder_that_others_can_write_to_is_left_alone(tmp_path: Path, blocked: Path):
    (tmp_path / f"gnnfast-{os.getuid()}").mkdir()
    (tmp_path / f"gnnfast-{os.getuid()}").chmod(0o777)
    assert run(DRAW, tmp_path, XDG_CACHE_HOME=str(blocked), TMPDIR=str(tmp_path)) == "None"


def test_the_users_own_numba_cache_stays_the_users(tmp_path: Path):
    code = """
import numba
import gnnfast.kernels.cpu.random
print(numba.config.CACHE_DIR)
"""
    own = str(tmp_path / "own")
    assert run(code, tmp_path, NUMBA_CACHE_DIR=own) == own
    assert run(code, tmp_path, NUMBA_CACHE_DIR="") == ""


def test_an_edit_compiles_anew_what_builds_on_it_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = tmp_path / "kernels"
    shutil.copytree(Path(cache.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "_ROOT", copy)

    def digests() -> dict[str, str]:
        cache.source_digest.cache_clear()
        return {path.stem: cache.source_digest(path) for path in (copy / "cpu").glob("*.py")}

    before = digests()
    assert len(set(before.values())) == len(before)
    with (copy / "cpu" / "random.py").open("a") as file:
        file.write("# edited\n")
    changed = {name for name, digest in digests().items() if digest != before[name]}
    assert {"random", "neighbor", "relabel"} <= changed
    assert not changed & {"compile", "gather", "segment", "csc"}
    with (copy / "cpu" / "compile.py").open("a") as file:
        file.write("# edited\n")
    after = digests()
    assert all(after[name] != before[name] for name in ("random", "neighbor", "gather", "segment", "csc"))
