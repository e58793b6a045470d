"""Layer-neighbor sampling: as many neighbors for every node, from as few distinct ones as possible."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.kernels.cpu import labor as kernels
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import Hop, HopAssembler, InEdges, check_fanouts
from gnnfast.sampler.node_map import NodeMap, NodeMapPool

_CONVERGED = 1e-4  # relative gain of a round below which LABOR-* stops


class LaborSampler:
    """Draws in-neighbors hop by hop so that nodes of a hop share them: fewer distinct nodes at the same variance.

    Balin and Çatalyürek, Layer-Neighbor Sampling: Defusing Neighborhood Explosion in GNNs, 2023,
    https://arxiv.org/abs/2210.13339. Every hop gives each node u one number r_u, uniform in (0, 1), and destination s
    keeps u where r_u <= p_us = min(1, c_s pi_u). LABOR-0 has pi = 1 and p_us = min(1, fanout / in-degree). A round
    raises pi_u to pi_u times the largest c_s of its destinations and solves the c_s anew, so that a sum over
    in-neighbors keeps the variance of Poisson draws of `fanout`, while more destinations keep the same nodes.

    A destination keeps `fanout` in-neighbors on average, never fewer than all of them where it has no more; its number
    varies, and it may keep none: such rows have no edges. `inclusion_weight` = 1 / p_us keeps sums unbiased. Parallel
    edges are kept or left out together.

    Args:
        graph: Graph to sample from; its edge weights play no part in the draws.
        fanouts: In-neighbors kept per node on average, from the seed nodes outwards, one per model layer; -1 keeps all.
        rounds: Of raising pi; 0 is LABOR-0, the fastest; -1 goes on until a round gains nothing, LABOR-*.
        layer_dependency: Whether all hops share a node's number: still fewer distinct nodes, but layers depend.
        batch_dependency: kappa of Balin et al., Cooperative Minibatching in Graph Neural Networks, 2023,
            https://arxiv.org/abs/2310.12403: within so many steps numbers drift to new ones, so that the nodes of
            consecutive mini-batches overlap. 1 makes mini-batches independent. Only `sample_step` knows steps.
        edge_ids: Whether blocks carry the ids of kept edges: the graph's `edge_ids`, or else positions in `indices`.

    Raises:
        ValueError: If a fanout is 0 or below -1, `rounds` is below -1 or `batch_dependency` below 1.
    """

    def __init__(
        self,
        graph: CSCGraph,
        fanouts: Sequence[int],
        rounds: int = 0,
        layer_dependency: bool = False,
        batch_dependency: int = 1,
        edge_ids: bool = False,
    ):
        if rounds < -1 or batch_dependency < 1:
            raise ValueError(
                f"rounds must be at least 0, or -1, and batch_dependency at least 1; got {rounds=}, {batch_dependency=}"
            )
        self.graph = graph
        self.fanouts = check_fanouts(fanouts)
        self.rounds = rounds
        self.layer_dependency = layer_dependency
        self.batch_dependency = batch_dependency
        self.edge_ids = edge_ids
        self._assembler = HopAssembler(graph, edge_ids)
        self._candidate_maps = NodeMapPool(graph.num_nodes)

    @property
    def num_layers(self) -> int:
        return len(self.fanouts)

    @property
    def law(self) -> Law:
        if all(fanout == -1 for fanout in self.fanouts):
            return Law(unbiased=("sum", "mean"), exact=True, edge_inclusion=self._edge_inclusion)
        bias = "a mean divides by the sum of the kept weights, which is random: its bias falls as 1 / fanout"
        depends = self.layer_dependency and self.num_layers > 1
        if depends:
            bias = (
                "a node kept in one hop is kept more readily in the next, which 1 / p does not make up for; and " + bias
            )
        return Law(
            unbiased=() if depends else ("sum",),
            bias=bias,
            edge_inclusion=self._edge_inclusion,
            rank_invariant=self.rounds == 0,
        )

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Samples the message flow that ends at the seed nodes, independently of other mini-batches.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`; duplicates share one row, `MiniBatch.seed_rows` says which.
            seed: Same seed, same mini-batch, on any number of threads.

        Returns:
            One block per fanout, ordered from the model's input to its output; the last block's destinations are the
            distinct seeds in the order of their first appearance.

        Raises:
            ValueError: If a seed is not a node of the graph.
        """
        return self._sample(seed_nodes, lambda hop: _Numbers(derive_seed(seed, hop)))

    def sample_step(self, seed_nodes: Tensor, epoch_seed: int, step: int) -> MiniBatch:
        """As `sample`, for a step of an epoch, whose draws drift away from those of the steps before.

        Args:
            seed_nodes: As for `sample`.
            epoch_seed: Same epoch seed and step, same mini-batch.
            step: Number of the mini-batch in its epoch.
        """
        if self.batch_dependency == 1:
            return self.sample(seed_nodes, derive_seed(epoch_seed, step))
        period, position = divmod(step, self.batch_dependency)
        first, second = derive_seed(epoch_seed, period), derive_seed(epoch_seed, period + 1)
        angle = position / self.batch_dependency * math.pi / 2
        return self._sample(seed_nodes, lambda hop: _Numbers(derive_seed(first, hop), derive_seed(second, hop), angle))

    def _sample(self, seed_nodes: Tensor, numbers_of: Callable[[int], _Numbers]) -> MiniBatch:
        def draw(node_map: NodeMap) -> list[Hop]:
            return [
                self._draw_hop(node_map, fanout, numbers_of(0 if self.layer_dependency else hop))
                for hop, fanout in enumerate(self.fanouts)
            ]

        return self._assembler.mini_batch(seed_nodes, draw)

    def _draw_hop(self, node_map: NodeMap, fanout: int, numbers: _Numbers) -> Hop:
        """Keeps in-neighbors of all nodes so far."""
        # A copy: numbering what is kept may move the node map's array.
        frontier = node_map.nodes().copy()
        expected, largest = kernels.expected_draws(self.graph.indptr.numpy(), frontier, fanout)
        if self.rounds == 0 and numbers.angle is None:
            indptr, edges, weight = self._keep_evenly(frontier, fanout, numbers.key, expected, largest)
        else:
            indptr, edges, weight = self._keep_likely(frontier, fanout, numbers)
        is_complete = fanout < 0 or largest <= fanout
        return self._assembler.hop(node_map, indptr, edges, None if is_complete else weight)

    def _keep_evenly(
        self, frontier: np.ndarray, fanout: int, key: int, expected: int, largest: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """LABOR-0 in one pass over the in-edges, without knowing which sources they share."""
        graph_indptr, empty = self.graph.indptr.numpy(), self._assembler.empty
        indptr = empty(frontier.size + 1, torch.int64)
        room, done = expected + expected // 8 + largest, 0
        edges, weight = empty(room, torch.int64), empty(room, torch.float32)
        while True:
            done = kernels.keep_evenly(
                graph_indptr,
                self.graph.indices.numpy(),
                frontier,
                np.uint64(key),
                fanout,
                done,
                indptr.numpy(),
                edges.numpy(),
                weight.numpy(),
            )
            num_kept = int(indptr[done])
            if done == frontier.size:
                return indptr, edges[:num_kept], weight[:num_kept]
            room += max(room, largest)
            edges, weight = (_grown(old, empty(room, old.dtype), num_kept) for old in (edges, weight))

    def _keep_likely(self, frontier: np.ndarray, fanout: int, numbers: _Numbers) -> tuple[Tensor, Tensor, Tensor]:
        """Any pi, and any way to number nodes: over all in-edges, sources numbered as candidates."""
        empty = self._assembler.empty
        with self._candidate_maps.lend() as candidate_map:
            columns = self._assembler.in_edges(candidate_map, frontier)
            units = empty(candidate_map.count, torch.float64)
            numbers.draw(candidate_map.nodes(), units.numpy())
        probability = self._probabilities(columns, fanout)
        indptr = empty(frontier.size + 1, torch.int64)
        edges, weight = empty(columns.num_edges, torch.int64), empty(columns.num_edges, torch.float32)
        kernels.keep_likely(
            columns.indptr.numpy(),
            columns.edges.numpy(),
            columns.sources.numpy(),
            units.numpy(),
            probability.numpy(),
            indptr.numpy(),
            edges.numpy(),
            weight.numpy(),
        )
        num_kept = int(indptr[-1])
        return indptr, edges[:num_kept], weight[:num_kept]

    def _probabilities(self, columns: InEdges, fanout: int) -> Tensor:
        """p_us of all in-edges of a frontier, float64."""
        empty = self._assembler.empty
        scale = empty(columns.num_dst, torch.float64)
        importance = empty(columns.num_sources, torch.float64).fill_(1)
        indptr, sources = columns.indptr.numpy(), columns.sources.numpy()
        kernels.even_scales(indptr, fanout, scale.numpy())
        if self.rounds:
            scratch = empty(columns.num_sources, torch.float64)
            rounds_left, expected = self.rounds, math.inf
            while rounds_left:
                before = expected
                expected = kernels.raise_importance(indptr, sources, scale.numpy(), importance.numpy(), scratch.numpy())
                kernels.solve_scales(indptr, sources, importance.numpy(), fanout, scale.numpy())
                rounds_left -= 1
                if self.rounds < 0 and expected >= before * (1 - _CONVERGED):
                    break
        probability = empty(columns.num_edges, torch.float64)
        kernels.probabilities(indptr, sources, importance.numpy(), scale.numpy(), fanout, probability.numpy())
        return probability

    def _edge_inclusion(self, seed_nodes: Tensor) -> Tensor:
        with self._candidate_maps.lend() as candidate_map:
            columns = self._assembler.in_edges(candidate_map, seed_nodes.numpy())
        return self._probabilities(columns, self.fanouts[0])


@dataclass(frozen=True)
class _Numbers:
    """How a hop numbers nodes: by one key, or turned by an angle towards those of a second key."""

    key: int
    second_key: int = 0
    angle: float | None = None

    def draw(self, nodes: np.ndarray, out: np.ndarray) -> None:
        if self.angle is None:
            kernels.draw_units(np.uint64(self.key), nodes, out)
        else:
            kernels.draw_turned_units(np.uint64(self.key), np.uint64(self.second_key), self.angle, nodes, out)


def _grown(old: Tensor, new: Tensor, count: int) -> Tensor:
    new[:count] = old[:count]
    return new
