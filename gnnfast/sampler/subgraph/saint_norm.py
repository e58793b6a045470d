"""What makes GraphSAINT's subgraphs stand for the whole graph: weights of edges and of losses.

A destination's sum over its in-edges is right in expectation when each edge counts P(v taken) / P(u and v taken); the
loss over all nodes, when each node's counts 1 / P(v taken). Zeng et al., GraphSAINT: Graph Sampling Based Inductive
Learning Method, 2020, https://arxiv.org/abs/1907.04931 (section 3.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import Block
from gnnfast.kernels.cpu import saint as kernels
from gnnfast.kernels.cpu.gather import gather_values

NO_VALUES = np.empty(0, np.float64)


class InclusionWeights(Protocol):
    """Weights of a subgraph's edges and of its nodes' losses."""

    expected_nodes: float
    """Mean number of nodes of a subgraph."""

    def of_edges(self, block: Block, nodes: Tensor, edges: Tensor) -> Tensor:
        """P(v taken) / P(u and v taken) for each edge u -> v of a subgraph, float32.

        Args:
            block: The subgraph.
            nodes: Its nodes, int64, `(num_nodes,)`.
            edges: Positions of its edges in the graph's `indices`, int64, `(num_edges,)`.
        """
        ...

    def of_nodes(self, nodes: Tensor) -> Tensor:
        """1 / P(v taken), float32."""
        ...


class IndependentDraws:
    """The exact weights of subgraphs on the nodes that a number of independent draws take.

    Args:
        draw_probability: That one draw takes a node, float64, `(num_nodes,)`.
        num_draws: Draws of a subgraph.
        joint_probability: Gives the probability that one draw takes both ends of an edge, float64, one per edge of a
            block on given nodes. None where a draw takes a single node.
    """

    def __init__(
        self,
        draw_probability: np.ndarray,
        num_draws: int,
        joint_probability: Callable[[Block, np.ndarray], np.ndarray] | None = None,
    ):
        self.draw_probability = draw_probability
        self.num_draws = num_draws
        self.joint_probability = joint_probability
        self.expected_nodes = float(self.node_probability().sum())

    @property
    def reach_all_pairs(self) -> bool:
        """Whether both ends of any edge can be in one subgraph."""
        return self.num_draws > 1 or self.joint_probability is not None

    def node_probability(self) -> Tensor:
        """P(v taken), float64, `(num_nodes,)`."""
        return torch.from_numpy(_taken(self.draw_probability, self.num_draws))

    def of_edges(self, block: Block, nodes: Tensor, edges: Tensor) -> Tensor:
        joint = NO_VALUES if self.joint_probability is None else self.joint_probability(block, nodes.numpy())
        probability = _at(self.draw_probability, nodes.numpy())
        out = torch.empty(block.num_edges)
        kernels.independent_weights(
            block.indptr.numpy(), block.indices.numpy(), probability, joint, self.num_draws, out.numpy()
        )
        return out

    def of_nodes(self, nodes: Tensor) -> Tensor:
        taken = _taken(_at(self.draw_probability, nodes.numpy()), self.num_draws)
        return torch.from_numpy((1 / taken).astype(np.float32))


class Counts:
    """Weights estimated from how often nodes and edges were in subgraphs drawn beforehand.

    The subgraph that is weighted counts as one more: it is drawn as those were, so over all of them each edge's weights
    have the right mean as soon as the edge is in any, and nothing is divided by 0.

    Args:
        node_count: Subgraphs that hold a node, int32, `(num_nodes,)`.
        edge_count: Subgraphs that hold an edge, int32, `(num_edges,)`.
        num_subgraphs: Subgraphs counted.
    """

    def __init__(self, node_count: np.ndarray, edge_count: np.ndarray, num_subgraphs: int):
        self.node_count = node_count
        self.edge_count = edge_count
        self.num_subgraphs = num_subgraphs
        self.expected_nodes = float(node_count.sum(dtype=np.int64)) / max(num_subgraphs, 1)

    def of_edges(self, block: Block, nodes: Tensor, edges: Tensor) -> Tensor:
        out = torch.empty(block.num_edges)
        dst_count = _at(self.node_count, nodes.numpy())
        kernels.counted_weights(block.indptr.numpy(), edges.numpy(), dst_count, self.edge_count, out.numpy())
        return out

    def of_nodes(self, nodes: Tensor) -> Tensor:
        node_count = _at(self.node_count, nodes.numpy())
        return torch.from_numpy(((self.num_subgraphs + 1) / (node_count + 1)).astype(np.float32))


def count_subgraphs(
    draw: Callable[[int], tuple[Tensor, Tensor]], num_nodes: int, num_edges: int, coverage: float, num_threads: int
) -> dict[str, np.ndarray]:
    """Draws subgraphs until nodes were taken `coverage` times on average, and counts what was in them.

    Args:
        draw: Gives subgraph 0, 1, 2, ...: its nodes and the positions of its edges; called from several threads.
        num_nodes, num_edges: Of the graph.
        coverage: Mean number of subgraphs that hold a node, at least.
        num_threads: Threads that draw; the counts do not depend on it.

    Returns:
        `node_count`, `edge_count` and `num_subgraphs`, as in `Counts`.
    """
    node_count, edge_count = np.zeros(num_nodes, np.int32), np.zeros(num_edges, np.int32)
    num_taken = num_subgraphs = 0
    with ThreadPoolExecutor(num_threads, thread_name_prefix="gnnfast-saint") as threads:
        for nodes, edges in _in_order(threads, draw, 2 * num_threads):
            kernels.count_inclusions(nodes.numpy(), edges.numpy(), node_count, edge_count)
            num_subgraphs += 1
            num_taken += nodes.numel()
            if num_taken >= coverage * num_nodes:
                break
    return {"node_count": node_count, "edge_count": edge_count, "num_subgraphs": np.array(num_subgraphs)}


def _in_order(
    threads: ThreadPoolExecutor, draw: Callable[[int], tuple[Tensor, Tensor]], num_ahead: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Subgraphs 0, 1, 2, ... without end, `num_ahead` of them under way."""
    numbers = count()
    pending: deque[Future[tuple[Tensor, Tensor]]] = deque()
    try:
        pending.extend(threads.submit(draw, number) for number in islice(numbers, num_ahead))
        while True:
            yield pending.popleft().result()
            pending.append(threads.submit(draw, next(numbers)))
    finally:
        for future in pending:
            future.cancel()


def _taken(draw_probability: np.ndarray, num_draws: int) -> np.ndarray:
    with np.errstate(divide="ignore"):  # a node that every draw takes
        return np.asarray(-np.expm1(num_draws * np.log1p(-draw_probability)))


def _at(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    out = np.empty(ids.size, values.dtype)
    gather_values(values, ids, out)
    return out
