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
