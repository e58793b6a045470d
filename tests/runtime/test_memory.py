from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# A process that keeps what it frees: its resident memory stays as it is while new memory comes out of the old.
LEAK = """
import numpy as np
from gnnfast.runtime.allocator import keep_freed_memory
from gnnfast.runtime.memory import held_bytes

assert keep_freed_memory()
ballast = [np.ones(30_000) for _ in range(300)]
del ballast
before = held_bytes()
leak = [np.ones(30_000) for _ in range(100)]
after = held_bytes()
print(max(after[measure] - before[measure] for measure in before))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_a_leak_into_freed_memory_is_seen():
    grown = subprocess.run([sys.executable, "-c", LEAK], capture_output=True, text=True, check=True).stdout
    assert int(grown) >= 100 * 30_000 * 8


@pytest.mark.parametrize("version", [1, 2])
def test_a_limit_of_the_control_group_or_of_its_parents_counts(version: int, tmp_path, monkeypatch):
    from gnnfast.runtime import memory

    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    line, base, names = {
        1: ("4:memory:/a/b", tmp_path / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
        2: ("0::/a/b", tmp_path, ("memory.max", "memory.current")),
    }[version]
    statistic = {1: "total_inactive_file", 2: "inactive_file"}[version]
    inner = base / "a" / "b"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (inner.parent, "5000000")):
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text("4000000\n")
        (folder / "memory.stat").write_text(f"anon 1\n{statistic} 200\n")
    real = memory.Path.read_text

    def read_text(path, *arguments, **options):
        return f"{line}\n" if str(path) == "/proc/self/cgroup" else real(path, *arguments, **options)

    monkeypatch.setattr(memory.Path, "read_text", read_text)
    assert memory.available_memory_bytes() == 1_000_200
