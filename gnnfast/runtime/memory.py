"""How much memory this process has held at most."""

from __future__ import annotations

import contextlib
import ctypes
import os
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


def held_bytes() -> dict[str, int]:
    """What this process holds, by each measure that the system has.

    "resident": pages in memory, which freed memory hides a leak in; "allocated": what malloc has handed out, which
    lacks what is mapped otherwise.
    """
    measures = {"resident": _resident_bytes(), "allocated": _allocated_bytes()}
    return {measure: count for measure, count in measures.items() if count is not None}


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class _MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2: ten sizes, of which field 4 counts mapped bytes in use and field 7 others in use."""

    _fields_ = tuple((f"field{position}", ctypes.c_size_t) for position in range(10))


def _allocated_bytes() -> int | None:
    """What malloc has handed out; None without glibc 2.33."""
    try:
        mallinfo = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return None
    mallinfo.restype = _MallInfo
    info = mallinfo()
    return int(info.field4 + info.field7)
