"""How much memory this process has held at most, and how much more there is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


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


def available_memory_bytes() -> int | None:
    """Memory that this process can still take without swapping; None where the system does not tell.

    The least of what the machine has to spare and what is left of the limits of the control groups, of version 2 or 1,
    that the process is in. Cached files count as free: the system gives them up.
    """
    found = [bytes_left for bytes_left in (_machine_bytes_left(), *_cgroup_bytes_left()) if bytes_left is not None]
    return min(found, default=None)


def _machine_bytes_left() -> int | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _cgroup_bytes_left() -> Iterator[int]:
    """What each limit leaves, from the process's own group up to the outermost: a parent's limit counts as well."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        controllers, _, group = line.partition(":")[2].partition(":")
        if controllers == "":
            base, names = _CGROUP, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = _CGROUP / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the group's path may be the host's; what is mounted is then the group itself.
        inner = base / group.lstrip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(base):
                break
            # Groups without a limit say "max", or in version 1 a number beyond all memory.
            with contextlib.suppress(OSError, ValueError, KeyError):
                limit, used = (int((folder / name).read_text()) for name in names[:2])
                statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                yield max(limit - used + int(statistics[names[2]]), 0)


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
