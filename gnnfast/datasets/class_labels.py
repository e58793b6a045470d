"""Classes of nodes as files hold them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.tables import whole_numbers


def class_labels(source: object, values: np.ndarray, num_nodes: int, num_classes: int | None = None) -> Tensor:
    """Classes, int64, `(num_nodes,)`, -1 where unknown.

    Args:
        source: File or data set that messages name.
        values: One class per node; NaN or -1 where unknown.
        num_classes: How many there are; None means the largest plus 1, which then must not be beyond `num_nodes`: such
            numbers are not classes but, say, ids.

    Raises:
        ValueError: If there is not one class per node, or one is no class.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise ValueError(f"{source}: labels must be one number per node, got {values.dtype} of shape {values.shape}")
    if values.size != num_nodes:
        raise ValueError(f"{source}: labels have {values.size} rows but the graph has {num_nodes} nodes")
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    known = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    classes = whole_numbers(source, "classes", np.where(known, values, -1) if not known.all() else values)
    limit = max(num_nodes, 2) if num_classes is None else num_classes
    wrong = (classes < -1) | (classes >= limit)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        allowed = f"0 to {limit - 1}" if num_classes is not None or classes[row] > 0 else "from 0"
        hint = f"; with more classes than the {num_nodes} nodes set num_classes" if num_classes is None else ""
        raise ValueError(
            f"{source}: classes are numbered {allowed} (-1: unknown), but row {row} has {classes[row]}{hint}"
        )
    return torch.from_numpy(classes)
