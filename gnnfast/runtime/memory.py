"""How much memory this process has held at most."""

from __future__ import annotations

import sys

import torch


def peak_memory_bytes() -> int | None:
    """Peak resident memory of this process; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_gpu_memory_bytes() -> int | None:
    """Peak memory that torch has allocated on the current GPU; None if it uses none."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
