"""What a mini-batch must be like, whatever was drawn: its form, and its edges among those of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.kernels.reference.gcn_norm import count_degrees
from gnnfast.sampler import Law
from gnnfast.verify.contents import block_tensors, first_occurrences

Kind = Literal["seed", "epoch", "link"]

# What faults_of finds, by the name of the check.
STRUCTURE, SEEDS = "structure", "seeds in order"
EDGES, WEIGHTS, DEGREES = "edges of the graph", "edge weights", "degrees"
DISTINCT_EDGES, DISTINCT_NODES = "distinct edges", "distinct nodes"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a mini-batch, under the name of a check."""

    check: str
    message: str


def faults_of(
    batch: MiniBatch, graph: CSCGraph, law: Law, kind: Kind, seeds: Tensor | None, has_halo: bool = False
) -> list[Fault]:
    """Everything that is wrong with a mini-batch; where its structure is broken, only that.

    Args:
        batch: As the sampler returned it.
        graph: What it was sampled from, with all nodes.
        law: What the sampler promises.
        kind: Of the sampler.
        seeds: The nodes asked for; None where the sampler chose them.
        has_halo: Whether the one block for all layers may have sources whose rows are historical.
    """
    broken = [Fault(STRUCTURE, message) for message in _structure(batch, graph.num_nodes, kind, has_halo)]
    if broken:
        return broken
    faults = [Fault(SEEDS, message) for message in _seeds(batch, kind, seeds)]
    distinct = batch.node_ids.unique().numel()
    if law.distinct_nodes and distinct < batch.num_nodes:
        faults.append(Fault(DISTINCT_NODES, f"{batch.num_nodes} rows for {distinct} nodes"))
    for number, block in _distinct_blocks(batch):
        where = f"block {number}"
        faults += [Fault(DEGREES, f"{where}: {message}") for message in _degrees(block, batch.node_ids, graph, law)]
        if law.graph_edges:
            faults += [
                Fault(check, f"{where}: {message}") for check, message in _edges(block, batch.node_ids, graph, law)
            ]
    return faults


def _distinct_blocks(batch: MiniBatch) -> Iterator[tuple[int, Block]]:
    seen: set[int] = set()
    for number, block in enumerate(batch.blocks):
        if id(block) not in seen:
            seen.add(id(block))
            yield number, block


def _structure(batch: MiniBatch, num_nodes: int, kind: Kind, has_halo: bool) -> Iterator[str]:
    """Shapes, types and ranges: what layers read without looking."""
    ids = batch.node_ids
    if not batch.blocks:
        yield "no blocks"
        return
    if ids.dtype != torch.int64 or ids.dim() != 1:
        yield f"node_ids must be int64 of one dimension, got {ids.dtype} {tuple(ids.shape)}"
        return
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_nodes:
        yield f"node_ids range from {int(ids.min())} to {int(ids.max())}, nodes from 0 to {num_nodes - 1}"
    if batch.blocks[0].num_src != ids.numel():
        yield f"the first block has {batch.blocks[0].num_src} sources for {ids.numel()} node_ids"
    for number, (block, after) in enumerate(zip(batch.blocks, batch.blocks[1:], strict=False)):
        if block.num_dst != after.num_src:
            yield f"block {number} has {block.num_dst} destinations, block {number + 1} {after.num_src} sources"
    for number, block in _distinct_blocks(batch):
        yield from (f"block {number}: {message}" for message in _block_structure(block, ids))
    num_outputs = batch.blocks[-1].num_dst
    if batch.seed_rows is None:
        if batch.num_seeds > num_outputs:
            yield f"{batch.num_seeds} seeds but {num_outputs} output rows, and no seed_rows"
    elif batch.seed_rows.shape != batch.seed_nodes.shape or not _in_range(batch.seed_rows, num_outputs):
        yield f"seed_rows must be {batch.num_seeds} rows below {num_outputs}, got {batch.seed_rows}"
    weight = batch.seed_weight
    if weight is not None:
        if weight.shape != batch.seed_nodes.shape or weight.dtype != torch.float32:
            yield f"seed_weight must be float32 ({batch.num_seeds},), got {weight.dtype} {tuple(weight.shape)}"
        elif not bool((torch.isfinite(weight) & (weight >= 0)).all()):
            yield "seed_weight must be finite and not negative"
    if kind == "epoch" and (len(batch.blocks) != 1 or (batch.blocks[0].num_src != num_outputs and not has_halo)):
        yield "a sampler that chooses its own nodes returns one block whose sources are its destinations"


def _block_structure(block: Block, node_ids: Tensor) -> Iterator[str]:
    indptr, indices = block.indptr, block.indices
    if indptr.dtype != torch.int64 or indices.dtype not in (torch.int32, torch.int64):
        yield f"indptr must be int64 and indices int32 or int64, got {indptr.dtype} and {indices.dtype}"
        return
    if int(indptr[0]) != 0 or int(indptr[-1]) != indices.numel() or bool((indptr[1:] < indptr[:-1]).any()):
        yield f"indptr must rise from 0 to the {indices.numel()} edges"
    if not _in_range(indices, block.num_src):
        yield f"indices must be below num_src, {block.num_src}"
    if block.num_src < block.num_dst:
        yield f"{block.num_dst} destinations must be among {block.num_src} sources"
    if block.src_nodes is not None and not torch.equal(block.src_nodes, node_ids[: block.num_src]):
        yield "src_nodes must be the first node_ids"
    for name, tensor in block_tensors(block):
        if name in ("indptr", "indices"):
            continue
        size = block.num_src if name in ("src_nodes", "src_degree", "self_loop_weight") else block.num_edges
        if tensor.shape != (size,):
            yield f"{name} must have shape ({size},), got {tuple(tensor.shape)}"
        if name in ("src_nodes", "edge_ids"):
            continue
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            yield f"{name} must be finite and floating"
        elif name == "inclusion_weight" and bool((tensor < 0).any()):
            yield "inclusion_weight must not be negative"


def _in_range(numbers: Tensor, bound: int) -> bool:
    return numbers.numel() == 0 or (int(numbers.min()) >= 0 and int(numbers.max()) < bound)


def _seeds(batch: MiniBatch, kind: Kind, asked: Tensor | None) -> Iterator[str]:
    """Seeds as asked for, first, each with its own output row."""
    outputs = batch.node_ids[: batch.blocks[-1].num_dst]
    if asked is not None and not torch.equal(batch.seed_nodes, asked):
        yield "seed_nodes are not those asked for, in their order"
        return
    if not torch.equal(batch.at_seeds(outputs), batch.seed_nodes):
        yield "the output rows of the seeds belong to other nodes"
    if kind == "epoch" and batch.seed_rows is not None:
        yield "seeds that the sampler chose itself must come first, without seed_rows"
    if kind == "seed" and len(batch.blocks) > 1 and not torch.equal(outputs, first_occurrences(batch.seed_nodes)):
        yield "the last block's destinations must be the distinct seeds, in the order in which they come first"


def _degrees(block: Block, node_ids: Tensor, graph: CSCGraph, law: Law) -> Iterator[str]:
    """Degrees and self-loops of the graph: GCN normalizes with them.

    A subgraph that claims no unbiased sum may carry those counted inside it.
    """
    ids = node_ids[: block.num_src]
    counted = None
    if block.num_src == block.num_dst and "sum" not in law.unbiased:
        counted = count_degrees(block.indptr, block.indices, block.edge_weight, block.num_src, torch.float64)[0]
    if block.src_degree is None:
        if "sum" in law.unbiased:
            yield "no src_degree: GCN would count degrees on the block, and its sums be biased"
    elif not _close(block.src_degree, graph.degree[ids]) and (counted is None or not _close(block.src_degree, counted)):
        yield f"src_degree is {_first_difference(block.src_degree, graph.degree[ids], ids)}"
    loops = graph.self_loop_weight
    if (block.self_loop_weight is None) != (loops is None):
        has, had = ("no", "has") if block.self_loop_weight is None else ("a", "has none")
        yield f"{has} self_loop_weight, but the graph {had}"
    elif block.self_loop_weight is not None and loops is not None and not _close(block.self_loop_weight, loops[ids]):
        yield f"self_loop_weight is {_first_difference(block.self_loop_weight, loops[ids], ids)}"


def _close(some: Tensor, others: Tensor) -> bool:
    return torch.allclose(some.double(), others.double(), rtol=1e-5, atol=1e-6)


def _first_difference(some: Tensor, others: Tensor, ids: Tensor) -> str:
    row = int((some.double() - others.double()).abs().argmax())
    return f"{float(some[row]):.6g} at node {int(ids[row])}, the graph's is {float(others[row]):.6g}"


def _edges(block: Block, node_ids: Tensor, graph: CSCGraph, law: Law) -> Iterator[tuple[str, str]]:
    """Each edge is one of its column, with its weight, and stands there no oftener than in the graph."""
    ids = node_ids.numpy()
    src = ids[block.indices.long().numpy()]
    column = block.dst_index.numpy()
    positions, columns = column_positions(graph, node_ids[: block.num_dst])
    graph_src = graph.indices[positions].long().numpy()
    # Parallel edges are told apart by their weights, where they have some.
    drawn, there = _counts_by_group((column, src), (columns, graph_src))
    if (drawn > 0)[there == 0].any():
        edge = int(np.flatnonzero(~_is_member((column, src), (columns, graph_src)))[0])
        yield EDGES, f"{src[edge]} -> {ids[column[edge]]} is no edge of the graph"
        return
    if law.distinct and (drawn > there).any():
        yield DISTINCT_EDGES, f"{int((drawn > there).sum())} edges stand in a column oftener than in the graph"
    if (block.edge_weight is None) != (graph.edge_weight is None):
        yield WEIGHTS, "no edge_weight" if block.edge_weight is None else "edge_weight, which the graph has not"
    elif block.edge_weight is not None and graph.edge_weight is not None:
        drawn, there = _counts_by_group(
            (column, src, block.edge_weight.double().numpy()),
            (columns, graph_src, graph.edge_weight[positions].double().numpy()),
        )
        if (drawn > 0)[there == 0].any():
            yield WEIGHTS, f"{int((drawn > 0)[there == 0].sum())} edges have a weight that is not theirs"
        elif law.distinct and (drawn > there).any():
            yield DISTINCT_EDGES, "one of several parallel edges stands in a column twice"
    if block.edge_ids is not None:
        yield from _edge_ids(block, src, ids[column], graph, law)


def _edge_ids(block: Block, src: np.ndarray, dst: np.ndarray, graph: CSCGraph, law: Law) -> Iterator[tuple[str, str]]:
    assert block.edge_ids is not None
    edge_ids = block.edge_ids
    if graph.edge_ids is not None:
        order = graph.edge_ids.argsort()
        found = torch.searchsorted(graph.edge_ids[order], edge_ids).clamp(max=graph.num_edges - 1)
        positions = order[found]
        is_known = bool((graph.edge_ids[positions] == edge_ids).all())
    else:
        positions = edge_ids
        is_known = _in_range(edge_ids, graph.num_edges)
    if not is_known:
        yield EDGES, "edge_ids hold an id that is none of the graph's"
        return
    column = torch.searchsorted(graph.indptr, positions, right=True) - 1
    if not (np.array_equal(graph.indices[positions].numpy(), src) and np.array_equal(column.numpy(), dst)):
        yield EDGES, "edge_ids name other edges"
    if law.distinct and law.distinct_nodes and edge_ids.unique().numel() < edge_ids.numel():
        yield DISTINCT_EDGES, "an edge id stands in a block twice"


def column_positions(graph: CSCGraph, nodes: Tensor) -> tuple[Tensor, np.ndarray]:
    """Positions in `indices` of all in-edges of the nodes, node by node, and the number of the node they belong to."""
    degree = graph.in_degree[nodes]
    columns = torch.repeat_interleave(torch.arange(nodes.numel()), degree)
    first = torch.repeat_interleave(graph.indptr[nodes] - degree.cumsum(0) + degree, degree)
    return first + torch.arange(columns.numel()), columns.numpy()


def _counts_by_group(drawn: tuple[np.ndarray, ...], there: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """How often each distinct tuple occurs among those drawn and among those there are."""
    group, num_groups = _groups(drawn, there)
    size = drawn[0].size
    return np.bincount(group[:size], minlength=num_groups), np.bincount(group[size:], minlength=num_groups)


def _is_member(drawn: tuple[np.ndarray, ...], there: tuple[np.ndarray, ...]) -> np.ndarray:
    group, num_groups = _groups(drawn, there)
    size = drawn[0].size
    return np.asarray(np.bincount(group[size:], minlength=num_groups)[group[:size]] > 0)


def _groups(drawn: tuple[np.ndarray, ...], there: tuple[np.ndarray, ...]) -> tuple[np.ndarray, int]:
    """A number for each tuple, the same for equal ones."""
    keys = [np.concatenate(pair) for pair in zip(drawn, there, strict=True)]
    if keys[0].size == 0:
        return np.empty(0, np.int64), 0
    order = np.lexsort(keys[::-1])
    is_new = np.zeros(order.size, bool)
    for key in keys:
        is_new[1:] |= key[order][1:] != key[order][:-1]
    group = np.empty(order.size, np.int64)
    group[order] = np.cumsum(is_new)
    return group, int(group[order[-1]]) + 1
