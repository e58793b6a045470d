"""Adam that updates the rows a mini-batch has touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RowAdam(torch.optim.Adam):
    """Adam for models some of whose gradients are sparse, as those of `NodeEmbedding(sparse=True)`.

    Of a sparse gradient the rows it has are updated and no others: their moments stand still meanwhile, as in
    `torch.optim.SparseAdam`, where Adam would go on moving them. Dense gradients are Adam's.

    Args:
        params, lr, betas, eps: As Adam's.
        weight_decay: As Adam's, for dense gradients.

    Raises:
        ValueError: At a step, if a sparse gradient meets a weight decay.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Updates dense parameters, and the touched rows of the others."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        touched: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is not None and gradient.is_sparse:
                    self._update_rows(parameter, gradient.coalesce(), group)
                    touched.append((parameter, gradient))
                    parameter.grad = None
        super().step()
        for parameter, gradient in touched:
            parameter.grad = gradient
        return loss

    def _update_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            raise ValueError(
                "weight_decay of rows that no mini-batch touches is undefined: use 0 with sparse gradients"
            )
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        step = float(state["step"])
        (rows,), values = gradient.indices(), gradient.values()
        beta1, beta2 = group["betas"]
        mean = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta1)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        scale = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
        parameter.index_add_(0, rows, mean.div_(scale), alpha=-float(group["lr"]) / (1 - beta1**step))
