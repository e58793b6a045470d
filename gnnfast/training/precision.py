"""In which type rows enter a model."""

from __future__ import annotations

import torch
from torch import Tensor

_COMPUTED_IN = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def as_input(x: Tensor, dtype: torch.dtype, precision: str = "32-true") -> Tensor:
    """Rows in the type of the model's parameters.

    Rows stored in the half precision that the model computes in stay as they are: mixed precision rounds its inputs to
    that anyhow, and to widen them first costs more than the first layer.

    Args:
        x: Rows as they are stored.
        dtype: Of the model's parameters.
        precision: As in `TrainingSettings`; inside of autocast its type counts as well.
    """
    computed_in = _COMPUTED_IN.get(precision)
    if torch.is_autocast_enabled(x.device.type):
        computed_in = torch.get_autocast_dtype(x.device.type)
    return x if x.dtype == computed_in else x.to(dtype)
