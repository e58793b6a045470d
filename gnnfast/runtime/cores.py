"""How many processor cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores that the process is bound to, fewer where its container is granted less time than they have; at least 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(bound, _granted_cores())))


def own_cores() -> int:
    """The share of `available_cores` that is this process's, where its launcher says it started several; at least 1."""
    # srun binds each task to cores of its own where it is told how many.
    is_bound = "SLURM_CPUS_PER_TASK" in os.environ
    num_processes = 1 if is_bound else int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, available_cores() // num_processes)


def _granted_cores() -> float:
    """Processor time per time that the container may use, by version 2 of control groups, then by version 1."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((_CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return float("inf")
    return float("inf") if quota.strip() in ("max", "-1") else int(quota) / int(period)
