"""Edges and their weights as files hold them, made a graph."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from gnnfast.datasets.tables import single_precision
from gnnfast.graph import CSCGraph

logger = logging.getLogger(__name__)


def build_graph(
    source: object, edge_index: Tensor, num_nodes: int, edge_weight: np.ndarray | Tensor | None = None
) -> CSCGraph:
    """The graph of an edge list.

    Args:
        source: File or data set that messages name.
        edge_index: Integers, `(2, num_edges)`.
        edge_weight: Numbers, `(num_edges,)`.

    Raises:
        ValueError: If an end is no node, or the weights are not one finite number per edge.
    """
    try:
        return CSCGraph.from_edge_index(edge_index, num_nodes, check_weights(source, edge_weight))
    except ValueError as error:
        raise error if str(error).startswith(str(source)) else ValueError(f"{source}: {error}") from error


def check_weights(source: object, weights: np.ndarray | Tensor | None) -> Tensor | None:
    """Edge weights in single precision; warns of negative ones.

    Raises:
        ValueError: If one is not finite.
    """
    if weights is None:
        return None
    values = weights.float() if isinstance(weights, Tensor) else torch.from_numpy(single_precision(weights))
    is_finite = torch.isfinite(values)
    if not bool(is_finite.all()):
        edge = int((~is_finite).nonzero()[0, 0])
        raise ValueError(f"{source}: the weight of edge {edge} is {float(weights[edge])}, but weights must be finite")
    is_negative = values < 0
    if bool(is_negative.any()):
        edge = int(is_negative.nonzero()[0, 0])
        logger.warning(
            "%s: %d edge weights are negative, the first is %g of edge %d: model=gcn takes roots of their sums, which "
            "gives NaN where a sum is negative; use another model, or positive weights",
            source,
            int(is_negative.sum()),
            float(values[edge]),
            edge,
        )
    return values
