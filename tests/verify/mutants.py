"""Samplers that are wrong in one way each."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numba
import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.kernels.cpu import neighbor as kernels
from gnnfast.kernels.cpu.random import node_key, random_below, random_bits
from gnnfast.kernels.reference.gcn_norm import count_degrees
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.runtime import buffers
from gnnfast.sampler import (
    LaborSampler,
    Law,
    LinkNeighborSampler,
    NeighborSampler,
    SaintEdgeSampler,
    SaintNodeSampler,
    SaintWalkSampler,
)
from gnnfast.sampler.node import neighbor as neighbor_module

FANOUTS = [5, 5]


class Neighbor(NeighborSampler):
    """Right, but for what a mutant does to its mini-batches."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, FANOUTS)

    def spoil(self, batch: MiniBatch) -> MiniBatch:
        for block in batch.blocks:
            self.spoil_block(block)
        return batch

    def spoil_block(self, block: Block) -> None:
        """Nothing to do for those who spoil the whole."""

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        return self.spoil(super().sample(seed_nodes, seed))


class OtherKernel(Neighbor):
    """Draws with a kernel of its own."""

    draw: Callable[..., None]

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        own = mock.Mock(wraps=kernels)
        own.sample_neighbors = type(self).draw
        # A module of its own to look the kernel up in: other samplers, and other threads, keep theirs.
        hop = NeighborSampler._draw_hop
        namespace = {**vars(neighbor_module), "kernels": own}
        patched = type(hop)(hop.__code__, namespace, hop.__name__, hop.__defaults__, hop.__closure__)
        self._draw_hop = patched.__get__(self)  # type: ignore[method-assign]
        return super().sample(seed_nodes, seed)


@numba.njit
def _floyd_with_an_exclusive_bound(dst_nodes, spans, layer_key, fanout, replace, out_indptr, out_edges):  # type: ignore[no-untyped-def]
    for i in range(dst_nodes.size):
        first_edge, degree = spans[i]
        out = out_edges[out_indptr[i] : out_indptr[i + 1]]
        key = node_key(layer_key, dst_nodes[i])
        for k in range(out.size):
            last = degree - out.size + k
            edge = first_edge + (random_below(key, k, last) if last > 0 else 0)
            for j in range(k):
                if out[j] == edge:
                    edge = first_edge + last
            out[k] = first_edge + k if degree == out.size else edge


@numba.njit
def _sixteen_bits_modulo_the_degree(dst_nodes, spans, layer_key, fanout, replace, out_indptr, out_edges):  # type: ignore[no-untyped-def]
    for i in range(dst_nodes.size):
        first_edge, degree = spans[i]
        out = out_edges[out_indptr[i] : out_indptr[i + 1]]
        key = node_key(layer_key, dst_nodes[i])
        num_bits = np.uint64(48 if degree < 65536 else 1)
        draw = 0
        for k in range(out.size):
            is_new = False
            while not is_new:
                edge = first_edge + np.int64(random_bits(key, draw) >> num_bits) % degree
                draw += 1
                is_new = True
                for j in range(k):
                    is_new &= out[j] != edge
            out[k] = first_edge + k if degree == out.size else edge


class ExclusiveFloyd(OtherKernel):
    """torch_sparse's mistake: the last of the edges to draw from is left out of every draw."""

    draw = staticmethod(_floyd_with_an_exclusive_bound)


class ShortRemainder(OtherKernel):
    """pyg-lib's mistake: 16 random bits modulo the degree, which only large degrees show."""

    draw = staticmethod(_sixteen_bits_modulo_the_degree)


class NoWeights(Neighbor):
    """Drawn edges stand for themselves alone."""

    def spoil_block(self, block: Block) -> None:
        block.inclusion_weight = None


class LaborWithoutWeights(LaborSampler):
    """Poisson sampling whose probabilities nothing makes up for."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, FANOUTS)

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        batch = super().sample(seed_nodes, seed)
        for block in batch.blocks:
            block.inclusion_weight = None
        return batch


class FewerThanClaimed(LaborSampler):
    """Keeps 4 where it claims 5, with weights that fit the 4."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, [4, 4])
        self.claimed = LaborSampler(graph, FANOUTS)

    @property
    def law(self) -> Law:
        return self.claimed.law


class FewerInLaterSteps(LaborSampler):
    """Keeps its law where mini-batches are independent, and in the first step of each period."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, FANOUTS, batch_dependency=4)
        self._fewer = LaborSampler(graph, [3, 3], batch_dependency=4)

    def sample_step(self, seed_nodes: Tensor, epoch_seed: int, step: int) -> MiniBatch:
        if step % self.batch_dependency:
            return self._fewer.sample_step(seed_nodes, epoch_seed, step)
        return super().sample_step(seed_nodes, epoch_seed, step)


class InvertedSaintEdge(SaintEdgeSampler):
    """PyG's mistake: the inverse degree is inverted once more, and edges between hubs come oftenest."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, num_edges=60)
        src, dst = graph.to_edge_index()
        weight = (graph.in_degree[src] + graph.in_degree[dst]).double().numpy()
        self._cumulative = np.cumsum(weight / weight.sum()) if weight.size else weight
        self._ends = torch.stack([src, dst], dim=1).numpy()

    def _draw(self, key: int) -> np.ndarray:
        if not hasattr(self, "_ends") or not self._ends.size:
            return super()._draw(key)
        units = np.random.default_rng(key).random(self.num_edges)
        return self._ends[np.searchsorted(self._cumulative, units)].reshape(-1)


class SourceCounts(SaintNodeSampler):
    """PyG's mistake: an edge is divided by the probability of its source, where that of its destination belongs."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, num_nodes=80)
        self._taken = self.law.node_inclusion().float()  # type: ignore[misc]

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        made = super().sample_batch(batch, epoch_seed)
        (block,) = made.blocks
        src, dst = made.node_ids[block.edge_index]
        block.inclusion_weight *= self._taken[src] / self._taken[dst]
        return made


class UnitLossWeights(SaintNodeSampler):
    """Nodes that are taken often count often."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, num_nodes=80)

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        made = super().sample_batch(batch, epoch_seed)
        return replace(made, seed_weight=torch.full((made.num_seeds,), self.graph.num_nodes / made.num_seeds))


class UncountedEdges(SaintWalkSampler):
    """Has counted nodes, and takes each edge of a subgraph for one edge."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, num_roots=30, coverage=100)

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        made = super().sample_batch(batch, epoch_seed)
        made.blocks[0].inclusion_weight = torch.ones(made.num_edges)
        return made


class DegreesOfTheWholeGraph(SaintNodeSampler):
    """Samples the graph of the training nodes with the degrees of another graph."""

    def __init__(self, graph: CSCGraph, seed_nodes: Tensor):
        super().__init__(graph, num_nodes=80, train_only=True, seed_nodes=seed_nodes)

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        made = super().sample_batch(batch, epoch_seed)
        made.blocks[0].src_degree = self.graph.degree[made.node_ids]
        return made


class GlobalRandomNumbers(Neighbor):
    """Draws from torch's generator, as PyG's samplers do."""

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        return super().sample(seed_nodes, int(torch.randint(2**62, ())))


class CountedCalls(Neighbor):
    """Every call gets other random numbers."""

    calls = 0

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        self.calls += 1
        return super().sample(seed_nodes, derive_seed(seed, self.calls))


class SameEverySeed(Neighbor):
    """Always draws the same."""

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        return super().sample(seed_nodes, 1)


class KeyedByBatch(Neighbor):
    """What a node draws depends on how many seeds come with it."""

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        return super().sample(seed_nodes, derive_seed(seed, seed_nodes.numel()))


class RecountedDegrees(Neighbor):
    """PyG's and DGL's way: GCN would normalize by the sample."""

    def spoil_block(self, block: Block) -> None:
        block.src_degree = count_degrees(block.indptr, block.indices, None, block.num_src, torch.float32)[0]


class ReversedEdges(Neighbor):
    """Takes out-edges for in-edges."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph)
        self._right = graph
        src, dst = graph.to_edge_index()
        self.graph = CSCGraph.from_edge_index(torch.stack([dst, src]), graph.num_nodes, graph.edge_weight)
        self._assembler.graph = self.graph


class ShuffledWeights(Neighbor):
    """Edge weights of other edges."""

    def spoil_block(self, block: Block) -> None:
        if block.edge_weight is not None:
            block.edge_weight = block.edge_weight.flip(0)


class Repeats(NeighborSampler):
    """Draws with replacement and says that it does not."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, FANOUTS, replace=True)

    @property
    def law(self) -> Law:
        return replace(super().law, distinct=True)


class SortedSeeds(Neighbor):
    """Forgets that it has sorted the seeds."""

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        batch = super().sample(seed_nodes.sort().values, seed)
        return replace(batch, seed_nodes=seed_nodes)


class ForgottenDuplicates(Neighbor):
    """Gives every seed a row of its own number, repeated ones too."""

    def spoil(self, batch: MiniBatch) -> MiniBatch:
        return replace(batch, seed_rows=None)


class WrongRange(Neighbor):
    """Local ids one too high."""

    def spoil_block(self, block: Block) -> None:
        block.indices += 1


class SharedScratch(Neighbor):
    """Hands out memory that it uses again."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph)
        self._scratch = torch.empty(graph.num_nodes, dtype=torch.int64)

    def spoil(self, batch: MiniBatch) -> MiniBatch:
        node_ids = self._scratch[: batch.num_nodes].copy_(batch.node_ids)
        for block in batch.blocks:
            block.src_nodes = node_ids[: block.num_src]
        return replace(batch, node_ids=node_ids)


class BrokenLeases(Neighbor):
    """Hands out pooled memory that goes back while views of it are still in use."""

    class Pool(buffers.BufferPool):
        def empty(self, shape: Any, dtype: torch.dtype) -> Tensor:
            num_bytes = math.prod(shape) * dtype.itemsize
            if num_bytes < buffers._SMALLEST_POOLED:
                return super().empty(shape, dtype)
            raw = self._take(buffers.pooled_bytes(num_bytes))
            out = torch.from_numpy(raw)[:num_bytes].view(dtype).view(*shape)
            weakref.finalize(out, self._give_back, raw).atexit = False
            return out

    def __init__(self, graph: CSCGraph):
        super().__init__(graph)
        self._assembler._buffers = self.Pool()


class Hoarder(Neighbor):
    """Never gives memory back."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph)
        self._kept: list[Tensor] = []

    def spoil(self, batch: MiniBatch) -> MiniBatch:
        self._kept.append(torch.zeros(30_000))
        return batch


class ClaimsToBeExact(Neighbor):
    @property
    def law(self) -> Law:
        return replace(super().law, exact=True)


class ExactForOneLayer(NeighborSampler):
    """All nodes, but in-edges of the seeds alone: enough for one layer, and for no model that is deeper."""

    law = Law(exact=True)  # type: ignore[assignment]
    num_layers = property()  # type: ignore[assignment]

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, [-1])

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        batch = super().sample(seed_nodes, seed)
        nodes = torch.cat([batch.node_ids, torch.arange(self.graph.num_nodes)]).tolist()
        node_ids = torch.tensor(list(dict.fromkeys(nodes)))
        (block,) = batch.blocks
        indptr = block.indptr.new_full((node_ids.numel() + 1,), block.num_edges)
        indptr[: block.indptr.numel()] = block.indptr
        return replace(batch, node_ids=node_ids, blocks=[self._square(block, indptr, node_ids)])

    def _square(self, block: Block, indptr: Tensor, node_ids: Tensor) -> Block:
        loops = self.graph.self_loop_weight
        return Block(
            indptr,
            block.indices,
            num_src=node_ids.numel(),
            src_nodes=node_ids,
            edge_weight=block.edge_weight,
            src_degree=self.graph.degree[node_ids],
            self_loop_weight=None if loops is None else loops[node_ids],
        )


class StumblesOverNothing(Neighbor):
    """Has not thought of an empty share of the seeds."""

    def spoil(self, batch: MiniBatch) -> MiniBatch:
        if batch.num_seeds == 0:
            raise IndexError("index 0 is out of range")
        return batch


class LeavesSeedEdges(LinkNeighborSampler):
    """Promises what it does not do: messages flow along the edges to predict."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, FANOUTS, exclude_seed_edges=True)
        self._leaves = LinkNeighborSampler(graph, FANOUTS)

    def sample_edges(self, seed_edges: Tensor, seed: int) -> MiniBatch:
        return self._leaves.sample_edges(seed_edges, seed)


class NegativesFirst(LinkNeighborSampler):
    def __init__(self, graph: CSCGraph):
        super().__init__(graph, FANOUTS)

    def sample_edges(self, seed_edges: Tensor, seed: int) -> MiniBatch:
        batch: Any = super().sample_edges(seed_edges, seed)
        return replace(
            batch,
            seed_edges=batch.seed_edges.flip(1),
            edge_rows=batch.edge_rows.flip(1),
            edge_labels=batch.edge_labels.flip(0),
        )


class WrongNegatives(LinkNeighborSampler):
    """Avoids edges, but for what a mutant puts in the place of negatives."""

    def __init__(self, graph: CSCGraph):
        super().__init__(graph, FANOUTS, avoid_edges=True)
        src, dst = graph.to_edge_index()
        self._keys = src * graph.num_nodes + dst

    def is_edge(self, pairs: Tensor) -> Tensor:
        return torch.isin(pairs[0] * self.graph.num_nodes + pairs[1], self._keys)

    def wrong(self, positives: Tensor) -> tuple[tuple[int, int], Tensor]:
        """Which ends of a positive are those of its negative, and for which positives."""
        raise NotImplementedError

    def sample_edges(self, seed_edges: Tensor, seed: int) -> MiniBatch:
        batch = super().sample_edges(seed_edges, seed)
        assert batch.seed_edges is not None
        assert batch.edge_rows is not None
        ends, chosen = self.wrong(seed_edges)
        where = chosen.nonzero().view(-1)
        pairs, rows = batch.seed_edges.clone(), batch.edge_rows.clone()
        for tensor in (pairs, rows):
            tensor[:, where + seed_edges.shape[1]] = tensor[:, where][list(ends)]
        return replace(batch, seed_edges=pairs, edge_rows=rows)


class TurnedNegatives(WrongNegatives):
    """Looks only for edges in the direction of the pair."""

    def wrong(self, positives: Tensor) -> tuple[tuple[int, int], Tensor]:
        return (1, 0), self.is_edge(positives) & ~self.is_edge(positives.flip(0))


class OwnNegatives(WrongNegatives):
    """Looks only for edges of the graph, which those to predict need not be."""

    def wrong(self, positives: Tensor) -> tuple[tuple[int, int], Tensor]:
        is_new = ~self.is_edge(positives) & ~self.is_edge(positives.flip(0))
        return (0, 1), is_new & (positives.sum(0) % 50 == 0)


class LoopNegatives(WrongNegatives):
    """Tells nodes from themselves."""

    def wrong(self, positives: Tensor) -> tuple[tuple[int, int], Tensor]:
        return (0, 0), ~self.is_edge(positives[[0, 0]])
