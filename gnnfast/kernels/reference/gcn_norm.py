"""The symmetric normalization of GCN in plain torch."""

import torch
from torch import Tensor

from gnnfast.kernels.reference.segment import destinations


def gcn_norm(
    indptr: Tensor,
    indices: Tensor,
    edge_weight: Tensor | None,
    inclusion_weight: Tensor | None,
    scale: Tensor,
    drop_self_loops: bool,
) -> Tensor:
    """The weight of each edge u -> v: both weights times scale[u] * scale[v]; 0 for dropped self-loops."""
    dst = destinations(indptr)
    out = scale[indices] * scale[dst]
    for weight in (edge_weight, inclusion_weight):
        if weight is not None:
            out = out * weight
    return torch.where(indices == dst, 0, out) if drop_self_loops else out


def count_degrees(
    indptr: Tensor, indices: Tensor, edge_weight: Tensor | None, num_src: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Sums of in-edge weights without self-loops, and the last self-loop's weight, both by source, `(num_src,)`.

    Sources that are no destination have degree 0; a node without a self-loop has 1 for it, and None stands for no
    self-loop at all.
    """
    dst = destinations(indptr)
    is_loop = indices == dst
    weight = torch.ones(indices.numel(), device=indices.device) if edge_weight is None else edge_weight
    weight = weight.to(dtype)
    degree = weight.new_zeros(num_src).index_add(0, dst, torch.where(is_loop, 0, weight))
    loops = is_loop.nonzero().squeeze(1)
    if loops.numel() == 0:
        return degree, None
    last = loops.new_full((num_src,), -1).scatter_reduce(0, dst[loops], loops, "amax")
    return degree, torch.where(last < 0, 1, weight[last])
