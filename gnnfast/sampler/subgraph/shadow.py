"""An ego graph for every seed."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.kernels.cpu import shadow as kernels
from gnnfast.kernels.cpu.gather import gather_values
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.runtime.buffers import BufferPool
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import check_seeds
from gnnfast.sampler.subgraph.ppr import PersonalizedPageRank


class ShadowSampler:
    """Gives every seed a small subgraph of its own: the depth of the model no longer decides what it reads.

    Zeng et al., Decoupling the Depth and Scope of Graph Neural Networks, 2021, https://arxiv.org/abs/2201.07858
    (section 3: the k-hop and the PPR extractor). An ego graph has the nodes chosen for its seed and all edges of the
    graph among them. Egos never touch: a node of two egos has two rows, and what a seed gets depends on (seed, its
    node) alone. A seed that comes twice has two equal egos.

    Args:
        graph: Graph to sample from.
        depth: Hops from the seed, for "hops".
        budget: In-neighbors drawn per node and hop, for "hops", as `NeighborSampler` draws them; a hop draws for the
            nodes that the one before it discovered. -1 takes all.
        replace: Whether a node may draw the same in-edge again, for "hops".
        selection: "hops" for a drawn neighborhood, "ppr" for the nodes of largest approximate personalized PageRank,
            which are the same at every visit.
        top_k: Nodes beside the seed, for "ppr".
        alpha: Probability that a walk ends at the node it is at, for "ppr".
        eps: Where "ppr" stops: the part of a walk's probability, per in-edge, that is not followed any further.
        normalization: "full": blocks carry the degrees of the full graph; "batch": those inside the ego graph, which
            GCN then normalizes with.
        edge_ids: Whether blocks carry the ids of their edges: the graph's `edge_ids`, or else positions in `indices`.

    Raises:
        ValueError: If a number is out of range or a word unknown.
    """

    def __init__(
        self,
        graph: CSCGraph,
        depth: int = 2,
        budget: int = 10,
        replace: bool = False,
        selection: Literal["hops", "ppr"] = "hops",
        top_k: int = 32,
        alpha: float = 0.2,
        eps: float = 1e-3,
        normalization: Literal["full", "batch"] = "full",
        edge_ids: bool = False,
    ):
        if depth < 1 or (budget < 1 and budget != -1):
            raise ValueError(f"depth must be positive, budget positive or -1 for all; got {depth=}, {budget=}")
        if selection not in ("hops", "ppr"):
            raise ValueError(f"selection must be 'hops' or 'ppr', got {selection!r}")
        if normalization not in ("full", "batch"):
            raise ValueError(f"normalization must be 'full' or 'batch', got {normalization!r}")
        self.graph = graph
        self.depth = depth
        self.budget = budget
        self.replace = replace
        self.selection = selection
        self.normalization = normalization
        self.edge_ids = edge_ids
        self._ppr = PersonalizedPageRank(graph, top_k, alpha, eps)
        self._buffers = BufferPool()
        # Rows and edges per seed of the largest mini-batch so far: room to begin with. Never part of the result.
        self._others_per_seed = self._seed_edges_per_seed = self._other_edges_per_seed = 16.0

    @cached_property
    def law(self) -> Law:
        return Law(
            exact=self.selection == "hops" and self.budget == -1 and self.normalization == "full",
            bias="An ego graph leaves out what is beyond its nodes, on purpose: the model is one of neighborhoods of "
            "limited scope, not of the whole graph.",
            distinct_nodes=False,
        )

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Takes out the ego graphs of the seeds.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`.
            seed: Same seed, same mini-batch, on any number of threads.

        Returns:
            One block for all layers. Row i is seed i; the other nodes of the egos come after all seeds, ego by ego,
            in the order of their discovery or of their influence. Columns keep the graph's order.

        Raises:
            ValueError: If a seed is not a node of the graph.
        """
        check_seeds(seed_nodes, self.graph.num_nodes)
        return self.sample_with_bounds(seed_nodes, seed)[0]

    def sample_with_bounds(self, seed_nodes: Tensor, seed: int) -> tuple[MiniBatch, Tensor]:
        """As `sample`, for callers that have checked their seeds, with the bounds of egos.

        Returns:
            The mini-batch, and where each ego begins among the nodes that are no seeds, int64, `(num_seeds + 1,)`.
        """
        if self.selection == "ppr":
            ego_ptr, others, _ = self._ppr.largest(seed_nodes)
        else:
            ego_ptr, others = self._draw(seed_nodes, seed)
        node_ids = self._joined(seed_nodes, others)
        batch = MiniBatch(seed_nodes, node_ids, [self._induce(seed_nodes, ego_ptr, others, node_ids)])
        return batch, ego_ptr

    def _draw(self, seed_nodes: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Where each ego's nodes begin, and the nodes without the seeds."""
        graph, num_egos = self.graph, seed_nodes.numel()
        hop_keys = np.array([derive_seed(seed, hop) for hop in range(self.depth)], np.uint64)
        ego_ptr = torch.zeros(num_egos + 1, dtype=torch.int64)
        others = self._empty(_room(self._others_per_seed, num_egos), torch.int64)
        done = 0
        while True:
            done = kernels.draw_egos(
                graph.indptr.numpy(),
                graph.indices.numpy(),
                seed_nodes.numpy(),
                done,
                hop_keys,
                self.budget,
                self.replace,
                ego_ptr.numpy(),
                others.numpy(),
            )
            if done == num_egos:
                break
            others = self._doubled(others, int(ego_ptr[done]))
        num_others = int(ego_ptr[-1])
        self._others_per_seed = max(self._others_per_seed, num_others / max(num_egos, 1))
        return ego_ptr, others[:num_others]

    def _induce(self, seed_nodes: Tensor, ego_ptr: Tensor, others: Tensor, node_ids: Tensor) -> Block:
        graph, num_egos = self.graph, seed_nodes.numel()
        needs_positions = self.edge_ids or graph.edge_weight is not None
        seed_ptr = torch.zeros(num_egos + 1, dtype=torch.int64)
        other_ptr = self._empty(others.numel() + 1, torch.int64)
        other_ptr[0] = 0
        seed_room = _room(self._seed_edges_per_seed, num_egos)
        other_room = _room(self._other_edges_per_seed, num_egos)
        seed_indices, other_indices = (self._empty(room, torch.int32) for room in (seed_room, other_room))
        seed_edges, other_edges = (
            self._empty(room if needs_positions else 0, torch.int64) for room in (seed_room, other_room)
        )
        done = 0
        while True:
            done = kernels.induce_egos(
                graph.indptr.numpy(),
                graph.indices.numpy(),
                self._is_sorted,
                seed_nodes.numpy(),
                ego_ptr.numpy(),
                others.numpy(),
                done,
                seed_ptr.numpy(),
                seed_indices.numpy(),
                seed_edges.numpy(),
                other_ptr.numpy(),
                other_indices.numpy(),
                other_edges.numpy(),
            )
            if done == num_egos:
                break
            num_seed_edges, num_other_edges = int(seed_ptr[done]), int(other_ptr[ego_ptr[done]])
            seed_indices = self._doubled(seed_indices, num_seed_edges)
            seed_edges = self._doubled(seed_edges, num_seed_edges)
            other_indices = self._doubled(other_indices, num_other_edges)
            other_edges = self._doubled(other_edges, num_other_edges)
        num_seed_edges, num_other_edges = int(seed_ptr[-1]), int(other_ptr[-1])
        self._seed_edges_per_seed = max(self._seed_edges_per_seed, num_seed_edges / max(num_egos, 1))
        self._other_edges_per_seed = max(self._other_edges_per_seed, num_other_edges / max(num_egos, 1))
        indptr = self._joined(seed_ptr, other_ptr[1:].add_(num_seed_edges))
        indices = self._joined(seed_indices[:num_seed_edges], other_indices[:num_other_edges])
        edges = None
        if needs_positions:
            edges = self._joined(seed_edges[:num_seed_edges], other_edges[:num_other_edges])
        return self._block(indptr, indices, edges, node_ids)

    def _block(self, indptr: Tensor, indices: Tensor, edges: Tensor | None, node_ids: Tensor) -> Block:
        graph = self.graph
        block = Block(indptr, indices, num_src=node_ids.numel(), src_nodes=node_ids)
        if edges is not None and graph.edge_weight is not None:
            block.edge_weight = self._take(graph.edge_weight, edges)
        if edges is not None and self.edge_ids:
            block.edge_ids = edges if graph.edge_ids is None else self._take(graph.edge_ids, edges)
        if graph.self_loop_weight is not None:
            block.self_loop_weight = self._take(graph.self_loop_weight, node_ids)
        if self.normalization == "full":
            block.src_degree = self._take(graph.degree, node_ids)
        else:
            block.src_degree = CSCGraph(indptr, indices, edge_weight=block.edge_weight, validate=False).degree
        return block

    @cached_property
    def _is_sorted(self) -> bool:
        """Whether columns much longer than an ego can be searched instead of read."""
        return bool(kernels.are_columns_sorted(self.graph.indptr.numpy(), self.graph.indices.numpy()))

    def _take(self, values: Tensor, positions: Tensor) -> Tensor:
        out = self._empty(positions.numel(), values.dtype)
        gather_values(values.numpy(), positions.numpy(), out.numpy())
        return out

    def _joined(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second], out=self._empty(first.numel() + second.numel(), first.dtype))

    def _doubled(self, values: Tensor, num_used: int) -> Tensor:
        grown = self._empty(2 * values.numel(), values.dtype)
        grown[:num_used] = values[:num_used]
        return grown

    def _empty(self, size: int, dtype: torch.dtype) -> Tensor:
        return self._buffers.empty((size,), dtype)


def _room(per_seed: float, num_seeds: int) -> int:
    """A little more than batches have needed: they differ."""
    return int(1.1 * per_seed * num_seeds) + 64
