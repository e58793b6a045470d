"""Mini-batches made once, of output nodes and the nodes that influence them most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.kernels.cpu import ppr as kernels
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.partition import partition_graph
from gnnfast.runtime.cached_file import Input, cached_arrays
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.hops import check_seeds
from gnnfast.sampler.subgraph.induce import Inducer
from gnnfast.sampler.subgraph.ppr import PersonalizedPageRank

# Of what is kept on disk: to be raised when a change of the code changes its mini-batches.
_VERSION = 1
_NUM_ROUNDS = 50


class IBMBSampler:
    """Divides the output nodes once, gives each share the nodes of largest influence on it, and induces.

    Gasteiger, Qian and Guennemann, Influence-Based Mini-Batching for Graph Neural Networks, 2022,
    https://arxiv.org/abs/2212.09083 (sections 3 and 4). Influence is personalized PageRank. Nothing is drawn but the
    order of the mini-batches; their blocks, and what layers derive of them, are made at the first use and stay in
    memory. The choice of nodes is kept on disk under a digest of all it depends on.

    Args:
        graph: Graph to sample from.
        seed_nodes: Output nodes, int64, `(num_outputs,)`: each is an output of one mini-batch; duplicates count once.
        mode: "node": output nodes that influence each other come together, pair by pair, the largest influence first;
            each brings its `top_k` nodes. "batch": the outputs of one part of a partition come together, with the
            `num_nodes / num_parts` nodes of largest influence on all of them.
        max_outputs: Output nodes of a mini-batch: at most for "node", on average for "batch".
        num_parts: Parts for "batch"; None: as many as `max_outputs` asks for.
        top_k: Nodes that an output node brings at most, for "node".
        alpha: Probability that a walk of PageRank ends at the node it is at.
        eps: Where the search for "node" stops: the part of a walk's probability, per in-edge, not followed any further.
        order: "random": mini-batches come in an order drawn for each epoch. "distance": likewise, but the next one is
            drawn by how much its labels differ from the last one's (symmetrized Kullback-Leibler divergence).
        labels: Labels of all nodes, `(num_nodes,)` or `(num_nodes, num_labels)`; for "distance".
        normalization: "full": blocks carry the degrees of the full graph; "batch": those inside the mini-batch, which
            GCN then normalizes with.
        method: Of the partition, as in `partition_graph`, for "batch".
        partition_seed: Of the partition, for "batch".
        cache_dir: Where the choice of nodes is kept; None means `gnnfast` in the user's cache folder.
        edge_ids: Whether blocks carry the ids of their edges: the graph's `edge_ids`, or else positions in `indices`.

    Raises:
        ValueError: If there are no output nodes, one of them is not in the graph, a number is out of range, a word
            unknown, or "distance" has no labels.
    """

    def __init__(
        self,
        graph: CSCGraph,
        seed_nodes: Tensor,
        mode: Literal["node", "batch"] = "node",
        max_outputs: int = 512,
        num_parts: int | None = None,
        top_k: int = 16,
        alpha: float = 0.2,
        eps: float = 1e-4,
        order: Literal["random", "distance"] = "random",
        labels: Tensor | None = None,
        normalization: Literal["full", "batch"] = "full",
        method: str = "auto",
        partition_seed: int = 0,
        cache_dir: str | Path | None = None,
        edge_ids: bool = False,
    ):
        check_seeds(seed_nodes, graph.num_nodes)
        if mode not in ("node", "batch") or order not in ("random", "distance"):
            raise ValueError(f"mode must be 'node' or 'batch', order 'random' or 'distance'; got {mode=}, {order=}")
        if max_outputs < 1:
            raise ValueError(f"max_outputs must be positive, got {max_outputs}")
        if seed_nodes.numel() == 0:
            raise ValueError("seed_nodes is empty: mini-batches are made for given output nodes")
        if order == "distance" and labels is None:
            raise ValueError("order='distance' compares the labels of mini-batches: pass labels")
        self.graph = graph
        self.mode = mode
        self.order = order
        self._ppr = PersonalizedPageRank(graph, top_k, alpha, eps)
        self._inducer = Inducer(graph, edge_ids, normalization)
        outputs = seed_nodes.unique()
        if num_parts is None:
            num_parts = min(math.ceil(outputs.numel() / max_outputs), graph.num_nodes)
        part_of = (
            partition_graph(graph, num_parts, method, partition_seed, cache_dir).part_of if mode == "batch" else None
        )
        self._members = self._choose(outputs, max_outputs, part_of, cache_dir)
        self._made: list[MiniBatch | None] = [None] * self.num_batches
        self._distances = None if labels is None or order == "random" else self._label_distances(labels)
        # The order of the epoch under way: every step asks for it.
        self._order_of = lru_cache(maxsize=2)(self._draw_order)

    @property
    def num_batches(self) -> int:
        return self._members.num_batches

    @property
    def law(self) -> Law:
        """Every output node is an output of one mini-batch; no aggregation is unbiased."""
        return Law(
            bias="Nodes of little influence on the outputs of a mini-batch are left out, with all their edges.",
            node_inclusion=self._inclusion if self.order == "random" else None,
        )

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        """Hands out one of the mini-batches.

        Args:
            batch: Number in the epoch, in [0, num_batches).
            epoch_seed: Same seed and number, same mini-batch, on any thread.

        Returns:
            One block for all layers. The seeds, which come first, are the output nodes only. Attributes of the block
            may be set, its tensors not be written to: those are of all epochs.
        """
        number = int(self._order_of(epoch_seed)[batch])
        made = self._made[number]
        if made is None:
            outputs, nodes = self._members.of(number)
            # Two threads may both make it: the same.
            made = self._made[number] = MiniBatch(outputs, nodes, [self._inducer.induce(nodes)])
        return MiniBatch(made.seed_nodes, made.node_ids, [_LentBlock(block) for block in made.blocks])

    def _choose(
        self, outputs: Tensor, max_outputs: int, part_of: Tensor | None, cache_dir: str | Path | None
    ) -> _Members:
        ppr = self._ppr
        if part_of is None:
            inputs: dict[str, Input] = {"mode": "node", "top_k": ppr.top_k, "eps": ppr.eps, "max_outputs": max_outputs}
        else:
            inputs = {"mode": "batch", "part_of": part_of.numpy(), "num_rounds": _NUM_ROUNDS}
        inputs |= {
            "indptr": self.graph.indptr.numpy(),
            "indices": self.graph.indices.numpy(),
            "outputs": outputs.numpy(),
            "alpha": ppr.alpha,
            "version": _VERSION,
        }

        def compute() -> dict[str, np.ndarray]:
            if part_of is None:
                return _choose_by_node(ppr, outputs, max_outputs)
            return _choose_by_part(ppr, outputs, part_of)

        kept = cached_arrays("ibmb", inputs, compute, cache_dir)
        return _Members(*(torch.from_numpy(kept[name]) for name in ("output_batch", "outputs", "node_batch", "nodes")))

    def _label_distances(self, labels: Tensor) -> np.ndarray:
        """Symmetrized Kullback-Leibler divergence of the mini-batches' labels, float64 `(num_batches, num_batches)`."""
        members = self._members
        known = labels[members.outputs]
        if known.dim() == 1:
            # The last column is for unknown ones.
            num_classes = int(known.max().clamp(min=-1)) + 1
            known = torch.nn.functional.one_hot(torch.where(known < 0, num_classes, known.long()), num_classes + 1)
        count = torch.ones(members.num_batches, known.shape[1], dtype=torch.float64)
        count.index_add_(0, members.output_batch, known.double().nan_to_num())
        share = count / count.sum(1, keepdim=True)
        log_share = share.log()
        own = (share * log_share).sum(1)
        crossed = share @ log_share.T
        distances = own[:, None] + own[None, :] - crossed - crossed.T
        return np.asarray(distances.clamp(min=0))

    def _draw_order(self, epoch_seed: int) -> np.ndarray:
        generator = np.random.default_rng(derive_seed(epoch_seed))
        if self._distances is None:
            return generator.permutation(self.num_batches)
        order = [int(generator.integers(self.num_batches))]
        is_left = np.ones(self.num_batches)
        for _ in range(self.num_batches - 1):
            is_left[order[-1]] = 0
            weight = self._distances[order[-1]] * is_left
            weight = weight if weight.sum() > 0 else is_left
            order.append(int(generator.choice(self.num_batches, p=weight / weight.sum())))
        return np.array(order)

    def _inclusion(self) -> Tensor:
        probability = torch.zeros(self.graph.num_nodes, dtype=torch.float64)
        probability[self._members.outputs] = 1 / self.num_batches
        return probability


class _LentBlock(Block):
    """A block of one that is kept: they share tensors, the transpose and, until an attribute is set, what is derived.

    Args:
        kept: Stays as it is.
    """

    def __init__(self, kept: Block):
        vars(self).update(vars(kept), _kept=kept)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # What layers derived from the old value, and will from the new one, is for no other block.
        vars(self)["derived"] = {}

    @cached_property
    def transpose(self) -> tuple[Tensor, Tensor, Tensor]:
        kept: Block = vars(self)["_kept"]
        return kept.transpose


@dataclass(frozen=True)
class _Members:
    """The nodes of each mini-batch.

    Args:
        output_batch: Mini-batch of each output node, ascending, int64, `(num_outputs,)`.
        outputs: Output nodes, int64, `(num_outputs,)`; ascending in each mini-batch.
        node_batch: Mini-batch of each other node, ascending, int64, `(num_others,)`.
        nodes: The other nodes, int64, `(num_others,)`; ascending in each mini-batch.
    """

    output_batch: Tensor
    outputs: Tensor
    node_batch: Tensor
    nodes: Tensor

    @property
    def num_batches(self) -> int:
        return int(self.output_batch[-1]) + 1

    def of(self, batch: int) -> tuple[Tensor, Tensor]:
        """The output nodes of a mini-batch; all its nodes, the output nodes first."""
        bounds = torch.tensor([batch, batch + 1])
        first, last = torch.searchsorted(self.output_batch, bounds).tolist()
        outputs = self.outputs[first:last]
        first, last = torch.searchsorted(self.node_batch, bounds).tolist()
        return outputs, torch.cat([outputs, self.nodes[first:last]])


def _choose_by_node(ppr: PersonalizedPageRank, outputs: Tensor, max_outputs: int) -> dict[str, np.ndarray]:
    """Output nodes grouped by their influence on each other, each with the nodes of largest influence on it."""
    offsets, found, influence = (tensor.numpy() for tensor in ppr.largest(outputs))
    by = np.repeat(np.arange(outputs.numel()), np.diff(offsets))
    number_of = np.full(ppr.graph.num_nodes, -1, np.int64)
    number_of[outputs.numpy()] = np.arange(outputs.numel())
    other = number_of[found]
    first, second = _pairs_by_influence(by[other >= 0], other[other >= 0], influence[other >= 0], outputs.numel())
    group_of = np.empty(outputs.numel(), np.int64)
    kernels.merge_pairs(first, second, max_outputs, group_of)
    # The smallest groups fill mini-batches together: nothing links them.
    _, group_of, sizes = np.unique(group_of, return_inverse=True, return_counts=True)
    by_size = np.argsort(sizes, kind="stable")
    batch_of_group = np.empty(sizes.size, np.int64)
    packed = np.empty(sizes.size, np.int64)
    kernels.pack_groups(sizes[by_size], max_outputs, packed)
    batch_of_group[by_size] = packed
    batch_of_output = batch_of_group[group_of]
    return _by_batch(batch_of_output, outputs.numpy(), batch_of_output[by], found, ppr.graph.num_nodes)


def _pairs_by_influence(
    first: np.ndarray, second: np.ndarray, influence: np.ndarray, num_outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each pair once, by falling influence of both on each other together."""
    keys, position = np.unique(np.minimum(first, second) * num_outputs + np.maximum(first, second), return_inverse=True)
    total = np.bincount(position, weights=influence, minlength=keys.size)
    keys = keys[np.argsort(-total, kind="stable")]
    return keys // num_outputs, keys % num_outputs


def _choose_by_part(ppr: PersonalizedPageRank, outputs: Tensor, part_of: Tensor) -> dict[str, np.ndarray]:
    """The output nodes of each part, with the nodes of largest influence on them together."""
    graph = ppr.graph
    parts, batch_of_output = part_of[outputs].unique(return_inverse=True)
    num_nodes = math.ceil(graph.num_nodes / (int(part_of.max()) + 1))
    chosen = []
    for batch in range(parts.numel()):
        influence = ppr.of_set(outputs[batch_of_output == batch], _NUM_ROUNDS).numpy()
        most = np.argsort(-influence, kind="stable")[:num_nodes]
        chosen.append(most[influence[most] > 0])
    batch_of_node = np.repeat(np.arange(parts.numel()), [nodes.size for nodes in chosen])
    return _by_batch(batch_of_output.numpy(), outputs.numpy(), batch_of_node, np.concatenate(chosen), graph.num_nodes)


def _by_batch(
    output_batch: np.ndarray, outputs: np.ndarray, node_batch: np.ndarray, nodes: np.ndarray, num_nodes: int
) -> dict[str, np.ndarray]:
    """What `_Members` holds, of pairs in any order; nodes may come twice and be outputs of the same mini-batch."""
    output_keys = np.sort(output_batch * num_nodes + outputs)
    node_keys = np.setdiff1d(node_batch * num_nodes + nodes, output_keys)
    return {
        "output_batch": output_keys // num_nodes,
        "outputs": output_keys % num_nodes,
        "node_batch": node_keys // num_nodes,
        "nodes": node_keys % num_nodes,
    }
