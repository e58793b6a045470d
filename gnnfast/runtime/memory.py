"""How much memory this process has held at most."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch


def reset_peak_memory() -> None:
    """Starts the peaks anew, for the GPU and, on Linux, for the process; elsewhere they stay those since its start."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int | None:
    """Peak resident memory of this process since `reset_peak_memory`; None where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_gpu_memory_bytes() -> int | None:
    """Peak memory that torch has allocated on the current GPU; None if it uses none."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
