"""Single operations on one block of a mini-batch, by gnnfast, plain torch, torch_sparse and PyG, in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.benchmark.peers.gnnfast import neighbor_sampler
from gnnfast.benchmark.peers.request import Prepared, Request
from gnnfast.graph import Block, FeatureStore
from gnnfast.nn.aggregate import segment_max, segment_mean, segment_sum
from gnnfast.nn.attention import gat_attention
from gnnfast.sampler.node_map import DenseNodeMap

Call = Callable[[], Any]


@dataclass(frozen=True)
class Subject:
    """The block that reads most rows, with rows of features and what operations need besides."""

    block: Block
    x: Tensor  # (num_src, channels)
    g: Tensor  # (num_dst, channels), a gradient
    heads: int

    @property
    def by_head(self) -> tuple[int, int, int]:
        """The shape of rows in heads."""
        return -1, self.heads, self.x.shape[1] // self.heads


def prepare(values: dict[str, Any]) -> Prepared:
    """What the host asks for: `conv` is the operation, `system` the library."""
    request = Request(**values)
    torch.set_num_threads(request.num_threads)
    subject = _subject(request)
    operation, _, direction = request.conv.partition(" ")
    if operation in ("sum", "mean", "max"):
        call = _differentiable(_segment(operation, request.system, subject), subject, direction)
    elif operation == "attention":
        call = _differentiable(_attention(request.system, subject), subject, direction)
    else:
        call = {"gather": _gather, "relabel": _relabel, "transpose": _transpose}[operation](request.system, subject)

    def timed(i: int) -> float:
        torch.set_num_threads(request.num_threads)
        started_at = perf_counter()
        call()
        return perf_counter() - started_at

    block = subject.block
    return timed, {"block": [block.num_dst, block.num_src, block.num_edges], "channels": subject.x.shape[1]}


def _subject(request: Request) -> Subject:
    return _make_subject(request.graph, request.seeds, tuple(request.fanouts), request.hidden_channels, request.heads)


@lru_cache(maxsize=1)
def _make_subject(graph: str, seeds: str, fanouts: tuple[int, ...], channels: int, heads: int) -> Subject:
    request = Request("kernel", graph, seeds, list(fanouts), 1, variant="layer")
    block = neighbor_sampler(request, request.files.graph()).sample(request.seed_batches()[0], 0).blocks[0]
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(num_rows, channels, generator=generator) for num_rows in (block.num_src, block.num_dst))
    return Subject(block, x, g, heads)


def _differentiable(function: Callable[[Tensor], Tensor], subject: Subject, direction: str) -> Call:
    """The function's forward pass; or its backward pass alone, of a forward pass made once."""
    if direction == "forward":

        def forward() -> Tensor:
            with torch.no_grad():
                return function(subject.x)

        return forward
    x = subject.x.detach().requires_grad_()
    out = function(x)
    g = subject.g.view_as(out)
    return lambda: torch.autograd.grad(out, x, g, retain_graph=True)


def _segment(reduce: str, library: str, subject: Subject) -> Callable[[Tensor], Tensor]:
    block = subject.block
    src, dst = block.edge_index
    if library == "gnnfast":
        function = {"sum": segment_sum, "mean": segment_mean, "max": segment_max}[reduce]
        return lambda x: function(x, block)
    if library == "torch_sparse":
        from torch_sparse import matmul

        return lambda x: matmul(block.adj_t, x, reduce)
    if library == "pyg":
        from torch_geometric.utils import scatter

        return lambda x: scatter(x.index_select(0, src), dst, 0, block.num_dst, reduce)
    if reduce == "max":
        index = dst[:, None].expand(-1, subject.x.shape[1])
        return lambda x: x.new_zeros(block.num_dst, x.shape[1]).scatter_reduce(
            0, index, x.index_select(0, src), "amax", include_self=False
        )
    degree = (block.indptr[1:] - block.indptr[:-1]).clamp(min=1)[:, None]

    def add(x: Tensor) -> Tensor:
        out = x.new_zeros(block.num_dst, x.shape[1]).index_add(0, dst, x.index_select(0, src))
        return out / degree if reduce == "mean" else out

    return add


def _attention(library: str, subject: Subject) -> Callable[[Tensor], Tensor]:
    """Scores, softmax and weighted sum: what a GAT layer does between its two linear maps."""
    block = subject.block
    src, dst = block.edge_index
    rows = subject.x.view(subject.by_head)
    src_score, dst_score = rows.mean(-1), rows[: block.num_dst].mean(-1)
    if library == "gnnfast":
        return lambda x: gat_attention(x.view(subject.by_head), src_score, dst_score, block, add_self_loops=False)
    from torch_geometric.utils import scatter, softmax

    def attend(x: Tensor) -> Tensor:
        score = torch.nn.functional.leaky_relu(src_score.index_select(0, src) + dst_score.index_select(0, dst), 0.2)
        weight = softmax(score, dst, num_nodes=block.num_dst)
        messages = x.view(subject.by_head).index_select(0, src) * weight[..., None]
        out: Tensor = scatter(messages, dst, 0, block.num_dst, "sum")
        return out

    return attend


def _gather(library: str, subject: Subject) -> Call:
    """Random rows into memory that is there."""
    ids = torch.randperm(subject.x.shape[0])
    out = torch.empty_like(subject.x)
    store = FeatureStore(subject.x)
    if library == "gnnfast":
        return lambda: store.gather(ids, out)
    return lambda: torch.index_select(subject.x, 0, ids, out=out)


def _relabel(library: str, subject: Subject) -> Call:
    """Global ids to local ones, in the order of first appearance; torch's are in the order of ids."""
    block = subject.block
    assert block.src_nodes is not None
    sources = block.src_nodes[block.indices.long()]
    if library != "gnnfast":
        return lambda: torch.unique(sources, return_inverse=True)
    node_map = DenseNodeMap(int(sources.max()) + 1)
    out, positions = np.empty(sources.numel(), np.int32), np.arange(sources.numel())
    seeds = block.src_nodes[: block.num_dst].numpy()
    seeds = seeds[seeds <= int(sources.max())]

    def relabel() -> None:
        node_map.start(seeds)
        node_map.add(sources.numpy(), positions, out)

    return relabel


def _transpose(library: str, subject: Subject) -> Call:
    block = subject.block
    if library == "gnnfast":
        return lambda: Block(block.indptr, block.indices, block.num_src).transpose
    if library == "torch_sparse":
        adj_t = block.adj_t
        return lambda: adj_t.clear_cache_().storage.csr2csc()

    def transpose() -> tuple[Tensor, Tensor]:
        order = torch.argsort(block.indices, stable=True)
        return torch.bincount(block.indices, minlength=block.num_src).cumsum(0), order

    return transpose
