"""Uniform neighbor sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.kernels.cpu import neighbor as kernels
from gnnfast.kernels.cpu.gather import gather_values
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.runtime.buffers import BufferPool
from gnnfast.sampler.node_map import NodeMap, NodeMapPool


class NeighborSampler:
    """Draws a fixed number of in-neighbors per node, hop by hop.

    Hamilton et al., Inductive Representation Learning on Large Graphs, 2017, https://arxiv.org/abs/1706.02216
    (algorithm 2). Every in-edge of a node is drawn with probability min(1, fanout / in-degree), and all subsets of that
    size alike; `inclusion_weight` = in-degree / fanout keeps weighted sums unbiased, plain means are unbiased as they
    are.

    Draws are keyed by (seed, hop, node): what a seed draws does not depend on which other seeds are in its batch.

    Args:
        graph: Graph to sample from.
        fanouts: In-neighbors drawn per node, from the seed nodes outwards, one entry per model layer; -1 takes all.
        replace: Whether a node may draw the same in-edge again. It then always draws `fanout` of them.
        expand: "layer" draws anew for every layer. "once" draws each node's neighbors once, at the hop that reaches it
            first, and uses them in all layers, as PyG's loaders do; cheaper, but with unequal fanouts the draws of a
            node depend on its batch.
        edge_ids: Whether blocks carry the ids of drawn edges: the graph's `edge_ids`, or else positions in `indices`.

    Raises:
        ValueError: If a fanout is 0 or below -1, or `expand` is another word.
    """

    def __init__(
        self,
        graph: CSCGraph,
        fanouts: Sequence[int],
        replace: bool = False,
        expand: Literal["layer", "once"] = "layer",
        edge_ids: bool = False,
    ):
        if not isinstance(fanouts, Sequence) or not fanouts or not all(_is_fanout(fanout) for fanout in fanouts):
            raise ValueError(
                f"fanouts must be positive, or -1 for all in-neighbors, whole numbers, one per layer; got {fanouts}"
            )
        fanouts = list(fanouts)
        if expand not in ("layer", "once"):
            raise ValueError(f"expand must be 'layer' or 'once', got {expand!r}")
        self.graph = graph
        self.fanouts = fanouts
        self.replace = replace
        self.expand = expand
        self.edge_ids = edge_ids
        self._node_maps = NodeMapPool(graph.num_nodes)
        self._buffers = BufferPool()

    @property
    def num_layers(self) -> int:
        return len(self.fanouts)

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Samples the message flow that ends at the seed nodes.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`; duplicates share one row, `MiniBatch.seed_rows` says which.
            seed: Same seed, same mini-batch, on any number of threads.

        Returns:
            One block per fanout, ordered from the model's input to its output; the last block's destinations are the
            distinct seeds in the order of their first appearance.

        Raises:
            ValueError: If a seed is not a node of the graph.
        """
        _check_seeds(seed_nodes, self.graph.num_nodes)
        with self._node_maps.lend() as node_map:
            seed_rows = node_map.start(seed_nodes.numpy())
            num_distinct = node_map.count
            hops = self._draw_once(node_map, seed) if self.expand == "once" else self._draw_layers(node_map, seed)
            node_ids = self._empty(node_map.count, torch.int64)
            np.copyto(node_ids.numpy(), node_map.nodes())
        degree = self._at_nodes(self.graph.degree, node_ids)
        self_loop = self.graph.self_loop_weight
        loops = None if self_loop is None else self._at_nodes(self_loop, node_ids)
        blocks = [
            Block(
                hop.indptr,
                hop.indices,
                num_src=hop.num_src,
                src_nodes=node_ids[: hop.num_src],
                edge_ids=hop.edge_ids,
                edge_weight=hop.edge_weight,
                inclusion_weight=hop.inclusion_weight,
                src_degree=degree[: hop.num_src],
                self_loop_weight=None if loops is None else loops[: hop.num_src],
            )
            for hop in reversed(hops)
        ]
        has_duplicates = num_distinct < seed_nodes.numel()
        return MiniBatch(seed_nodes, node_ids, blocks, torch.from_numpy(seed_rows) if has_duplicates else None)

    def _draw_layers(self, node_map: NodeMap, seed: int) -> list[_Hop]:
        """Every hop draws for all nodes so far: layer by layer, independent samples."""
        return [self._draw_hop(node_map, 0, fanout, derive_seed(seed, hop)) for hop, fanout in enumerate(self.fanouts)]

    def _draw_once(self, node_map: NodeMap, seed: int) -> list[_Hop]:
        """Every hop draws for its new nodes only; a layer's block is all hops up to it, joined."""
        hops: list[_Hop] = []
        first_new = 0
        # One key for all hops: which one reaches a node first depends on the batch.
        key = derive_seed(seed, 0)
        for fanout in self.fanouts:
            num_before = node_map.count
            drawn = self._draw_hop(node_map, first_new, fanout, key)
            hops.append(hops[-1].join(drawn) if hops else drawn)
            first_new = num_before
        return hops

    def _draw_hop(self, node_map: NodeMap, first: int, fanout: int, layer_key: int) -> _Hop:
        """Draws for the nodes from number `first` on and numbers what they drew."""
        graph = self.graph
        graph_indptr = graph.indptr.numpy()
        # A copy: numbering what is drawn may move the node map's array.
        frontier = node_map.nodes()[first:].copy()
        indptr = self._empty(frontier.size + 1, torch.int64)
        is_complete = kernels.count_neighbors(graph_indptr, frontier, fanout, self.replace, indptr.numpy())
        edges = self._empty(int(indptr[-1]), torch.int64)
        kernels.sample_neighbors(
            graph_indptr, frontier, np.uint64(layer_key), fanout, self.replace, indptr.numpy(), edges.numpy()
        )
        indices = self._empty(edges.numel(), torch.int32)
        node_map.add(graph.indices.numpy(), edges.numpy(), indices.numpy())
        weight = None
        if not is_complete:
            weight = self._empty(edges.numel(), torch.float32)
            kernels.inclusion_weights(graph_indptr, frontier, indptr.numpy(), weight.numpy())
        edge_ids = None
        if self.edge_ids:
            edge_ids = edges if graph.edge_ids is None else self._at_nodes(graph.edge_ids, edges)
        return _Hop(
            indptr,
            indices,
            num_src=node_map.count,
            edge_ids=edge_ids,
            edge_weight=None if graph.edge_weight is None else self._at_nodes(graph.edge_weight, edges),
            inclusion_weight=weight,
        )

    def _at_nodes(self, values: Tensor, positions: Tensor) -> Tensor:
        out = self._empty(positions.numel(), values.dtype)
        gather_values(values.numpy(), positions.numpy(), out.numpy())
        return out

    def _empty(self, size: int, dtype: torch.dtype) -> Tensor:
        return self._buffers.empty((size,), dtype)


def _check_seeds(seed_nodes: Tensor, num_nodes: int) -> None:
    if seed_nodes.dtype != torch.int64 or seed_nodes.dim() != 1:
        raise ValueError(f"seed_nodes must be int64 of one dimension, got {seed_nodes.dtype} {tuple(seed_nodes.shape)}")
    if seed_nodes.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(seed_nodes))
    if low < 0 or high >= num_nodes:
        bad = low if low < 0 else high
        raise ValueError(f"seed_nodes holds node {bad}, but the sampler's graph numbers nodes 0 to {num_nodes - 1}")


def _is_fanout(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (value > 0 or value == -1)


@dataclass
class _Hop:
    """What one hop drew, in local numbers, before all nodes of the mini-batch are known."""

    indptr: Tensor
    indices: Tensor
    num_src: int
    edge_ids: Tensor | None
    edge_weight: Tensor | None
    inclusion_weight: Tensor | None

    def join(self, later: _Hop) -> _Hop:
        """The columns of this hop followed by those of a later one."""
        weight = None
        if self.inclusion_weight is not None or later.inclusion_weight is not None:
            weight = torch.cat([_or_ones(self.inclusion_weight, self), _or_ones(later.inclusion_weight, later)])
        return _Hop(
            torch.cat([self.indptr, later.indptr[1:] + self.indptr[-1]]),
            torch.cat([self.indices, later.indices]),
            later.num_src,
            None if self.edge_ids is None or later.edge_ids is None else torch.cat([self.edge_ids, later.edge_ids]),
            None
            if self.edge_weight is None or later.edge_weight is None
            else torch.cat([self.edge_weight, later.edge_weight]),
            weight,
        )


def _or_ones(weight: Tensor | None, hop: _Hop) -> Tensor:
    return torch.ones(hop.indices.numel()) if weight is None else weight
