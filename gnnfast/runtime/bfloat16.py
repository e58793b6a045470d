"""Whether a device computes in bfloat16, or only imitates it."""

from __future__ import annotations

from pathlib import Path

import torch


def has_bfloat16(device: torch.device) -> bool:
    """False where bfloat16 is widened and rounded in software, and so slower than single precision.

    On a CPU Linux tells, and elsewhere torch, as far as it does.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        operators = torch.ops.mkldnn
        return hasattr(operators, "_is_mkldnn_bf16_supported") and bool(operators._is_mkldnn_bf16_supported())
    # As x86 and Arm name it.
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
