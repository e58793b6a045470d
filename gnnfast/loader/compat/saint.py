"""torch_geometric.loader.GraphSAINT*Sampler, on our GraphSAINT samplers."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.loader.compat.attributes import Attributes, edges_of, graph_of, homogeneous
from gnnfast.loader.compat.edges_among import EdgesAmong
from gnnfast.loader.compat.threads import ThreadedLoader
from gnnfast.sampler import SaintEdgeSampler, SaintNodeSampler, SaintWalkSampler

if TYPE_CHECKING:
    from torch_geometric.data import Data


class GraphSAINTSampler(ThreadedLoader):
    """What the three loaders share: random subgraphs of a graph, and what makes them stand for the whole.

    Zeng et al., GraphSAINT: Graph Sampling Based Inductive Learning Method, 2020, https://arxiv.org/abs/1907.04931.

    With `sample_coverage` above 0 a batch has `node_norm`, 1 / (P(v taken) * number of nodes), and `edge_norm`,
    P(v taken) / P(u and v taken) for an edge u -> v, as the paper has it. PyG has P(u taken) there, which is
    biased. Nodes and edges have their probabilities in closed form; walks are counted in subgraphs drawn
    beforehand, and the counts kept on disk under a digest of all that they depend on.

    Of PyG's attributes `adj`, `node_norm` and `edge_norm` are made when they are first asked for. Subclasses with a
    `_sample_nodes` of their own and subgraphs by `loader[i]` are left out: those are for PyG's way of drawing.

    Args:
        data: Homogeneous, with `edge_index`, without `node_norm` and `edge_norm`.
        batch_size: Draws of a subgraph: nodes, edges or walks.
        num_steps: Subgraphs of an epoch.
        sample_coverage: How often a node is in the subgraphs that are counted, on average; 0: no norms.
        save_dir: Folder of kept counts; None means `gnnfast` in the user's cache folder.
        log: Taken and not needed: nothing is printed.
        **kwargs: Arguments of `torch.utils.data.DataLoader`; `num_workers` counts threads of this process.

    Raises:
        TypeError: If `data` is heterogeneous.
        ValueError: If `data` holds norms, or a number is out of range.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        num_steps: int = 1,
        sample_coverage: int = 0,
        save_dir: str | None = None,
        log: bool = True,
        **kwargs: Any,
    ):
        self.data = homogeneous(data, type(self).__name__)
        if "node_norm" in data or "edge_norm" in data:
            raise ValueError("node_norm and edge_norm are what this loader adds: take them out of the data first")
        self.num_steps = num_steps
        self.sample_coverage = sample_coverage
        self.save_dir = save_dir
        self.log = log
        self._attributes = Attributes(data)
        graph = self._graph = graph_of(data)
        self.N, self.E = graph.num_nodes, graph.num_edges
        self._edges_among = EdgesAmong(graph)
        self._sampler = self._make_sampler(graph, batch_size)
        super().__init__(num_steps, batch_size=1, **kwargs)

    def _make_sampler(self, graph: CSCGraph, batch_size: int) -> Any:
        """The sampler of one subgraph per epoch, seeded anew for every batch."""
        raise NotImplementedError

    def _begin_epoch(self) -> None:
        self._attributes.refresh()

    def _make_batch(self, index: Tensor, seed: int) -> Any:
        if self.sample_coverage <= 0:
            nodes = self._sampler.draw_nodes(derive_seed(seed, 0))
            batch = self._attributes.cut(nodes, *self._edges_among.take(nodes))
            batch._store._mapping["num_nodes"] = nodes.numel()
            return batch
        drawn = self._sampler.sample_batch(0, seed)
        block = drawn.blocks[0]
        batch = self._attributes.cut(drawn.node_ids, block.edge_index, block.edge_ids)
        store = batch._store._mapping
        store["num_nodes"] = drawn.node_ids.numel()
        device = self._attributes.edge_device
        store["node_norm"] = (drawn.seed_weight / self.N).to(device)
        store["edge_norm"] = block.inclusion_weight.to(device)
        return batch

    @property
    def node_norm(self) -> Tensor:
        """That of every node, `(num_nodes,)`; there only with `sample_coverage` above 0."""
        return self._norms[0]

    @property
    def edge_norm(self) -> Tensor:
        """That of every edge, `(num_edges,)`; there only with `sample_coverage` above 0."""
        return self._norms[1]

    @cached_property
    def adj(self) -> Any:
        """The edges as `torch_sparse.SparseTensor` of sources by destinations, with their ids (extra `sparse`)."""
        from torch_sparse import SparseTensor

        (src, dst), edge_ids = edges_of(self._graph)
        return SparseTensor(row=src, col=dst, value=edge_ids, sparse_sizes=(self.N, self.N))

    @cached_property
    def _norms(self) -> tuple[Tensor, Tensor]:
        weights = self._sampler.weights_of_all()
        if weights is None:
            raise AttributeError("there are no norms: ask for them with sample_coverage above 0")
        edge_norm = weights[1] if self._graph.edge_ids is None else torch.empty_like(weights[1])
        if self._graph.edge_ids is not None:
            edge_norm[self._graph.edge_ids] = weights[1]
        return weights[0] / self.N, edge_norm

    @property
    def _normalization(self) -> str | None:
        return "exact" if self.sample_coverage > 0 else None


class GraphSAINTNodeSampler(GraphSAINTSampler):
    """PyG's `GraphSAINTNodeSampler`: the subgraph on `batch_size` nodes drawn in proportion to out-degree.

    Args: See `GraphSAINTSampler`.
    """

    def _make_sampler(self, graph: CSCGraph, batch_size: int) -> SaintNodeSampler:
        return SaintNodeSampler(
            graph, batch_size, num_batches=1, normalization=self._normalization, cache_dir=self.save_dir, edge_ids=True
        )


class GraphSAINTEdgeSampler(GraphSAINTSampler):
    """PyG's `GraphSAINTEdgeSampler`: the subgraph on the ends of `batch_size` edges.

    An edge u -> v is drawn in proportion to 1 / degree(u) + 1 / degree(v), as in the paper. PyG inverts the inverse, so
    that there the edges of hubs are the likeliest; it also draws a number for every edge of the graph in each batch.

    Args: See `GraphSAINTSampler`.
    """

    def _make_sampler(self, graph: CSCGraph, batch_size: int) -> SaintEdgeSampler:
        return SaintEdgeSampler(
            graph, batch_size, num_batches=1, normalization=self._normalization, cache_dir=self.save_dir, edge_ids=True
        )


class GraphSAINTRandomWalkSampler(GraphSAINTSampler):
    """PyG's `GraphSAINTRandomWalkSampler`: the subgraph on the nodes of `batch_size` random walks.

    Args:
        walk_length: Steps of a walk.
        The rest: see `GraphSAINTSampler`.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        walk_length: int,
        num_steps: int = 1,
        sample_coverage: int = 0,
        save_dir: str | None = None,
        log: bool = True,
        **kwargs: Any,
    ):
        self.walk_length = walk_length
        super().__init__(data, batch_size, num_steps, sample_coverage, save_dir, log, **kwargs)

    def _make_sampler(self, graph: CSCGraph, batch_size: int) -> SaintWalkSampler:
        return SaintWalkSampler(
            graph,
            batch_size,
            self.walk_length,
            num_batches=1,
            normalization="estimated" if self.sample_coverage > 0 else None,
            coverage=max(self.sample_coverage, 1),
            cache_dir=self.save_dir,
            edge_ids=True,
        )
