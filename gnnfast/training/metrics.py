"""How good predictions are, in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnfast.graph import Dataset

METRICS = ("accuracy", "f1_micro", "f1_macro", "roc_auc")


def default_metric(dataset: Dataset) -> str:
    """Accuracy, or for several labels per node their micro-averaged F1."""
    return "f1_micro" if dataset.is_multilabel else "accuracy"


def summed_loss(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy summed over nodes; for several labels, binary cross-entropy averaged over the known ones.

    Args:
        logits: Floating, `(num_nodes, num_classes)`.
        labels: Classes, int64, `(num_nodes,)`, or 0/1 per label, floating, `(num_nodes, num_labels)`, NaN unknown.
        weight: Factor of each node's loss, `(num_nodes,)`; None means 1.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if labels.dim() == 1:
        if weight is None:
            return F.cross_entropy(logits, labels, reduction="sum")
        losses = F.cross_entropy(logits, labels, reduction="none")
    else:
        known = ~labels.isnan()
        losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num().to(logits.dtype), reduction="none")
        losses = (losses * known).sum(1) / known.sum(1).clamp(min=1)
    return losses.sum() if weight is None else (losses * weight).sum()


def compute_metrics(logits: Tensor, labels: Tensor, names: tuple[str, ...] = METRICS) -> dict[str, float]:
    """Metrics of `names` that the task has; an undefined one (ROC AUC with one class only) is left out.

    Args:
        logits: Floating, `(num_nodes, num_classes)`.
        labels: Classes, int64, `(num_nodes,)`, or 0/1 per label, floating, `(num_nodes, num_labels)`, NaN unknown.
        names: Which of `METRICS`.
    """
    if labels.shape[0] == 0:
        return {}
    logits = logits.float() if logits.dtype != torch.float64 else logits
    compute = _multilabel_metric if labels.dim() == 2 else _multiclass_metric
    values = {name: compute(name, logits, labels) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _multiclass_metric(name: str, logits: Tensor, labels: Tensor) -> float | None:
    from torchmetrics.functional import classification as functional

    num_classes = logits.shape[1]
    if name in ("accuracy", "f1_micro"):
        # The micro-averaged F1 of one label per node is its accuracy.
        return float((logits.argmax(1) == labels).double().mean())
    if num_classes == 1:
        return None
    if name == "f1_macro":
        return float(functional.multiclass_f1_score(logits, labels, num_classes, average="macro"))
    if labels.unique().numel() < num_classes:
        return None
    if num_classes == 2:
        return float(functional.binary_auroc(logits.softmax(1)[:, 1], labels))
    return float(functional.multiclass_auroc(logits, labels, num_classes, average="macro"))


def _multilabel_metric(name: str, logits: Tensor, labels: Tensor) -> float | None:
    from torchmetrics.functional import classification as functional

    known = ~labels.isnan()
    predicted = logits > 0
    if name == "accuracy":
        return float((predicted == (labels > 0.5))[known].double().mean())
    targets = torch.where(known, labels, -1).long()
    if name == "roc_auc":
        mixed = ((targets == 0).any(0)) & ((targets == 1).any(0))
        if not bool(mixed.any()):
            return None
        scores = logits[:, mixed].sigmoid()
        return float(functional.multilabel_auroc(scores, targets[:, mixed], scores.shape[1], ignore_index=-1))
    average = name.removeprefix("f1_")
    return float(
        functional.multilabel_f1_score(predicted.long(), targets, labels.shape[1], average=average, ignore_index=-1)
    )
