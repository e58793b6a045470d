"""How much time goes to products of matrices: what a faster processor, or bfloat16, would shorten."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Of torch; and gnnfast's own, which bring the bias, the activation and their gradients along.
_PRODUCTS = frozenset(
    {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_addmm_activation"}
    | {"gnnfast::linear", "gnnfast::linear_backward"}
    | {"gnnfast::linear_by_head", "gnnfast::linear_by_head_weight_gradient"}
)


class ProductClock(TorchDispatchMode):
    """Times the operators inside that multiply matrices. Under torch's profiler they would take longer.

    Args:
        device: Where they run; a GPU is waited for.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device
        self.seconds: float = 0.0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator.name().partition(".")[0] not in _PRODUCTS:
            return operator(*args, **(kwargs or {}))
        synchronize(self.device)
        started_at = perf_counter()
        result = operator(*args, **(kwargs or {}))
        synchronize(self.device)
        self.seconds += perf_counter() - started_at
        return result


def synchronize(device: torch.device) -> None:
    """Waits for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
