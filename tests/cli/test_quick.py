"""How a command starts and ends, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITH_QUICK_END = "import atexit, gc, sys\nfrom gnnfast.cli.quick import import_quickly, quick_end\n"


def run(body: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = WITH_QUICK_END + "with quick_end():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("last", "exit_code", "complaint"),
    [
        ("", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(2)", 2, ""),
        ("sys.exit(None)", 0, ""),
        ("sys.exit('wrong')", 1, "wrong"),
        ("raise KeyError('lost')", 1, "KeyError: 'lost'"),
    ],
)
def test_a_quick_end_keeps_the_exit_code_and_what_was_written(
    last: str, exit_code: int, complaint: str, tmp_path: Path
):
    body = f"print('out', end='')\nfile = open('file', 'w')\nfile.write('kept')\n{last}"

    ended = run(body, tmp_path)

    assert (ended.returncode, ended.stdout) == (exit_code, "out")
    assert complaint in ended.stderr
    assert bool(ended.stderr) == bool(complaint)
    assert (tmp_path / "file").read_text() == "kept"


def test_what_asked_to_be_called_at_the_end_is_called(tmp_path: Path):
    body = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import time\n"
        "atexit.register(print, 'called')\n"
        "ThreadPoolExecutor(1).submit(lambda: (time.sleep(0.2), print('finished')))"
    )

    assert run(body, tmp_path).stdout.split() == ["finished", "called"]


def test_modules_are_not_taken_apart_at_the_end(tmp_path: Path):
    body = "class Last:\n    def __del__(self): print('taken apart')\nsys.last = Last()"

    assert run(body, tmp_path).stdout == ""


def test_the_collector_rests_while_modules_are_imported_and_works_after(tmp_path: Path):
    (tmp_path / "theirs.py").write_text("import gc\nprint(gc.isenabled())\n")

    ended = run("import_quickly('theirs')\nprint(gc.isenabled(), gc.get_freeze_count() > 0)", tmp_path)

    assert ended.stdout.split() == ["False", "True", "True"]


def test_where_python_ends_the_process_nothing_is_kept_from_the_collector(tmp_path: Path):
    (tmp_path / "theirs.py").touch()
    program = WITH_QUICK_END + "import_quickly('theirs')\nprint(gc.get_freeze_count(), gc.isenabled())"

    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)

    assert ended.stdout.split() == ["0", "True"]
