"""PyG's samplers in our loaders, and our samplers in PyG's."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.loader.compat.drawn import Drawn
from gnnfast.loader.compat.neighborhoods import draw_with_pyg

if TYPE_CHECKING:
    from torch_geometric.sampler import BaseSampler


class PyGSampler:
    """Makes a seed sampler of a `torch_geometric.sampler.BaseSampler`.

    Where it counts what each hop drew (`num_sampled_nodes`, `num_sampled_edges`), a mini-batch has one block per hop,
    which only computes what later ones read; else it has one block of all edges for every layer.

    torch's generator is seeded for every call and put back, one call at a time: the calls of loader threads would
    disturb draws that the training thread makes meanwhile, say of dropout. Train with `num_threads=0` where that
    matters. A sampler that draws from elsewhere, as PyG's own does where torch_sparse draws for it, does not repeat
    itself.

    Args:
        base_sampler: Draws from nodes of a homogeneous graph.
        graph: The same graph, for what GCN needs: degrees and, by `edge_ids`, edge weights. Without it convolutions
            count degrees in the blocks.

    Raises:
        ValueError: If the graph has edge weights but no `edge_ids`, by which an edge's weight could be found.
    """

    def __init__(self, base_sampler: BaseSampler, graph: CSCGraph | None = None):
        self.base_sampler = base_sampler
        self.graph = graph
        self._weight_of: Tensor | None = None
        if graph is not None and graph.edge_weight is not None:
            if graph.edge_ids is None:
                raise ValueError(
                    "a graph with edge weights needs edge_ids too: CSCGraph.from_pyg(data, keep_edge_ids=True)"
                )
            self._weight_of = torch.empty_like(graph.edge_weight).index_copy_(0, graph.edge_ids, graph.edge_weight)

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        """Samples the message flow that ends at the seed nodes.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`; duplicates share one row, `MiniBatch.seed_rows` says which.
            seed: Of torch's generator during the call.
        """
        distinct, seed_rows = _distinct(seed_nodes)
        drawn = draw_with_pyg(self.base_sampler, distinct, seed)
        nodes, edges = drawn.num_sampled_nodes, drawn.num_sampled_edges
        if nodes is None or edges is None or len(nodes) != len(edges) + 1:
            blocks = [self._block(drawn, drawn.node_ids.numel(), drawn.node_ids.numel(), drawn.edge_index.shape[1])]
        else:
            num_nodes, num_edges = torch.tensor(nodes).cumsum(0).tolist(), torch.tensor(edges).cumsum(0).tolist()
            blocks = [
                self._block(drawn, num_nodes[hop], num_nodes[hop + 1], num_edges[hop])
                for hop in reversed(range(len(edges)))
            ]
        return MiniBatch(seed_nodes, drawn.node_ids, blocks, seed_rows)

    def _block(self, drawn: Drawn, num_dst: int, num_src: int, num_edges: int) -> Block:
        src, dst = drawn.edge_index[:, :num_edges]
        edge_ids = None if drawn.edge_ids is None else drawn.edge_ids[:num_edges]
        if not bool((dst[1:] >= dst[:-1]).all()):
            order = torch.argsort(dst, stable=True)
            src, dst = src[order], dst[order]
            edge_ids = None if edge_ids is None else edge_ids[order]
        indptr = torch.zeros(num_dst + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(dst, minlength=num_dst), 0, out=indptr[1:])
        nodes = drawn.node_ids[:num_src]
        block = Block(indptr, src.int(), num_src=num_src, src_nodes=nodes, edge_ids=edge_ids)
        if self.graph is not None:
            block.src_degree = self.graph.degree[nodes]
            if self.graph.self_loop_weight is not None:
                block.self_loop_weight = self.graph.self_loop_weight[nodes]
            if self._weight_of is not None:
                if edge_ids is None:
                    raise ValueError(f"{type(self.base_sampler).__name__} names no edges: their weights are unknown")
                block.edge_weight = self._weight_of[edge_ids]
        return block


def to_pyg_sampler(sampler: Any) -> BaseSampler:
    """Makes a `torch_geometric.sampler.BaseSampler` of a seed sampler, for PyG's `NodeLoader` and `LinkLoader`.

    All blocks' edges come as one subgraph, an edge of several layers once, with a row for every seed; samplers that
    expand every node once (`NeighborSampler(expand="once")`) give the counts of every hop too, by which models trim.
    Edges have ids, and PyG's batches edge attributes, where the sampler was made with `edge_ids=True`, from a graph
    with `edge_ids`.

    Draws are seeded from torch's generator.

    Args:
        sampler: Has `sample(seed_nodes, seed)` and `graph`.

    Raises:
        TypeError: If it has no `sample`.
    """
    if not callable(getattr(sampler, "sample", None)):
        raise TypeError(f"{type(sampler).__name__} is no seed sampler: it has no method sample(seed_nodes, seed)")
    return _pyg_sampler_class()(sampler)


@cache
def _pyg_sampler_class() -> Any:
    """Made when it is first needed: importing this module must not import PyG."""
    from torch_geometric.sampler import BaseSampler, EdgeSamplerInput, NodeSamplerInput, SamplerOutput
    from torch_geometric.sampler.neighbor_sampler import edge_sample, node_sample

    class GnnfastSampler(BaseSampler):
        def __init__(self, sampler: Any):
            self.sampler = sampler

        def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: Any) -> SamplerOutput:
            return node_sample(index, self._sample)

        def sample_from_edges(self, index: EdgeSamplerInput, neg_sampling: Any = None) -> SamplerOutput:
            return edge_sample(
                index, self._sample, self.sampler.graph.num_nodes, disjoint=False, neg_sampling=neg_sampling
            )

        def _sample(self, seed_nodes: Tensor, seed_time: Tensor | None = None, **kwargs: Any) -> SamplerOutput:
            if seed_time is not None:
                raise NotImplementedError(f"{type(self.sampler).__name__} does not draw by time")
            batch = self.sampler.sample(seed_nodes, int(torch.empty((), dtype=torch.int64).random_()))
            return Drawn.of(batch, by_hop=getattr(self.sampler, "expand", None) == "once").to_output()

        def __repr__(self) -> str:
            return f"{type(self).__name__}({self.sampler!r})"

    return GnnfastSampler


def _distinct(seed_nodes: Tensor) -> tuple[Tensor, Tensor | None]:
    """Seeds in the order of their first appearance, and the row of each where some come twice."""
    ordered, inverse = seed_nodes.unique(return_inverse=True)
    if ordered.numel() == seed_nodes.numel():
        return seed_nodes, None
    first = torch.full_like(ordered, seed_nodes.numel())
    first = first.scatter_reduce(0, inverse, torch.arange(seed_nodes.numel()), "amin")
    rank = torch.argsort(torch.argsort(first))
    return seed_nodes[first.sort().values], rank[inverse]
