"""One model on several ranks."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.nn import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

log = logging.getLogger("gnnfast")


def data_parallel() -> Any:
    """Fabric's strategy for a model that all ranks have: DDP."""
    from lightning.fabric.strategies import DDPStrategy

    # Where mini-batches of some ranks have no use for a parameter, the others would wait for ever.
    return DDPStrategy(find_unused_parameters=True)


def synchronize_batch_norm(model: torch.nn.Module, device: torch.device) -> None:
    """Has batch normalization use the statistics of all ranks' rows, in place, where the device can.

    A node that several ranks compute counts once for each.
    """
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return
    if device.type == "cuda":
        SyncBatchNorm.convert_sync_batchnorm(model)
    else:
        log.warning(
            "batch normalization takes the statistics of each rank's own rows, since torch synchronizes them on GPUs "
            "only: results depend on training.devices; model.norm=layer does not"
        )
