"""What a sampler promises of its draws, in a form that can be checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Law:
    """What a sampler promises; `gnnfast verify` holds it to that.

    Args:
        unbiased: Aggregations that come out right in expectation at every destination of a block. "sum": the sum over
            in-edges of `edge_weight * inclusion_weight * x` has the sum of `edge_weight * x` over all in-edges as its
            mean. "mean": the same of the average of x, weighted by `inclusion_weight`.
        bias: Why the others do not, in one sentence.
        edge_inclusion: Takes distinct seeds, int64 `(num_seeds,)`; gives the probability that an in-edge stands in the
            last block, float64, for all in-edges of the seeds, seed by seed, each seed's in the order of its column.
            None where there is no closed form.
        node_inclusion: Gives the probability that a node is an output of a mini-batch, float64 `(num_nodes,)`, for
            samplers that choose their own nodes. None where there is no closed form.
        exact: Whether outputs at the seeds equal those of the full graph.
        distinct: Whether an edge stands at most once in a block.
        distinct_nodes: Whether a node has at most one row.
        graph_edges: Whether every edge of a block is an edge of the graph.
        rank_invariant: Whether what a seed draws does not depend on the other seeds of its batch, so that the shares of
            several ranks add up to the batch of one.
    """

    unbiased: tuple[str, ...] = ()
    bias: str = ""
    edge_inclusion: Callable[[Tensor], Tensor] | None = None
    node_inclusion: Callable[[], Tensor] | None = None
    exact: bool = False
    distinct: bool = True
    distinct_nodes: bool = True
    graph_edges: bool = True
    rank_invariant: bool = True

    def __post_init__(self) -> None:
        unknown = set(self.unbiased) - {"sum", "mean"}
        if unknown:
            raise ValueError(f"unbiased takes 'sum' and 'mean', got {sorted(unknown)}")
