"""One model on several ranks."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.nn import Module, SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

log = logging.getLogger("gnnfast")


def data_parallel() -> Any:
    """Fabric's strategy for a model that all ranks have: DDP."""
    from lightning.fabric.strategies import DDPStrategy

    # Where mini-batches of some ranks have no use for a parameter, the others would wait for ever.
    return DDPStrategy(find_unused_parameters=True)


def synchronize_batch_norm(model: Module, device: torch.device) -> None:
    """Has batch normalization use the statistics of all ranks' rows, in place, where the device can.

    A node that several ranks compute counts once for each.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    if device.type == "cuda":
        SyncBatchNorm.convert_sync_batchnorm(model)
        return
    log.warning(
        "batch normalization takes the statistics of each rank's own rows, since torch synchronizes them on GPUs only: "
        "results depend on training.devices; model.norm=layer does not"
    )
    for norm in norms:
        # A rank's share of a step may have no rows, or one, which have no variance.
        norm.register_forward_pre_hook(_use_running_statistics)
        norm.register_forward_hook(_use_own_again)


def _use_running_statistics(norm: Module, inputs: tuple[Any, ...]) -> None:
    if norm.training and inputs[0].shape[0] < 2:
        norm.training = False
        norm.__dict__["has_too_few_rows"] = True


def _use_own_again(norm: Module, inputs: tuple[Any, ...], output: Any) -> None:
    if getattr(norm, "has_too_few_rows", False):
        norm.training, norm.__dict__["has_too_few_rows"] = True, False
