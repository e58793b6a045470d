"""The neighborhoods of seeds, as the arguments of PyG's neighbor loaders ask for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import neighbor as kernels
from gnnfast.kernels.cpu.coo import list_edges
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.loader.compat.attributes import graph_of
from gnnfast.loader.compat.drawn import Drawn
from gnnfast.loader.compat.edges_among import EdgesAmong
from gnnfast.runtime.buffers import BufferPool
from gnnfast.sampler import WeightedNeighborSampler
from gnnfast.sampler.node.hops import check_seeds
from gnnfast.sampler.node_map import NodeMapPool

_NO_IDS = np.empty(0, np.int64)
# PyG's samplers draw from generators of the process.
_GENERATOR = threading.Lock()


class Neighborhoods:
    """Draws neighborhoods that expand each node once; safe to use from several threads.

    Draws what `NeighborSampler(expand="once")` draws, and leaves out what only blocks need: weights and degrees.

    Args:
        graph: Graph to sample from.
        fanouts: In-neighbors drawn per node, from the seeds outwards; -1 takes all, 0 none.
        replace: Whether a node may draw the same in-edge again.
        edge_weight: What draws are proportional to, in the order of `graph.indices`; None: all alike.
    """

    def __init__(self, graph: CSCGraph, fanouts: Sequence[int], replace: bool, edge_weight: Tensor | None = None):
        self.graph = graph
        self.fanouts = list(fanouts)
        self.replace = replace
        self._weighted: dict[int, WeightedNeighborSampler] = {}
        if edge_weight is not None:
            plain = CSCGraph(graph.indptr, graph.indices, validate=False)
            for fanout in set(self.fanouts) - {0}:
                self._weighted[fanout] = WeightedNeighborSampler(plain, [fanout], replace, edge_weight, edge_ids=True)
        self._node_maps = NodeMapPool(graph.num_nodes)
        self._buffers = BufferPool()

    def draw(self, seed_nodes: Tensor, seed: int) -> tuple[Drawn, Tensor]:
        """The neighborhood of some seeds.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`.
            seed: Same seed, same neighborhood, on any thread.

        Returns:
            What was drawn, repeated seeds once; and the row of each seed, int64, `(num_seeds,)`.

        Raises:
            ValueError: If a seed is not a node of the graph.
        """
        check_seeds(seed_nodes, self.graph.num_nodes)
        indices, key = self.graph.indices.numpy(), derive_seed(seed, 0)
        ids = _NO_IDS if self.graph.edge_ids is None else self.graph.edge_ids.numpy()
        hops: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        with self._node_maps.lend() as node_map:
            seed_rows = node_map.start(seed_nodes.numpy())
            counts = [0, node_map.count]
            for fanout in self.fanouts:
                # A copy: numbering what is drawn may move the node map's array.
                indptr, edges = self._draw_edges(node_map.nodes()[counts[-2] :].copy(), fanout, key)
                sources = self._empty(edges.size, torch.int32).numpy()
                node_map.add(indices, edges, sources)
                hops.append((indptr, edges, sources))
                counts.append(node_map.count)
            node_ids = self._empty(node_map.count, torch.int64)
            np.copyto(node_ids.numpy(), node_map.nodes())
        num_edges = [edges.size for _, edges, _ in hops]
        edge_index = self._buffers.empty((2, sum(num_edges)), torch.int64)
        edge_ids = self._empty(sum(num_edges), torch.int64)
        out = edge_index.numpy(), edge_ids.numpy()
        first = 0
        for (indptr, edges, sources), first_dst in zip(hops, counts, strict=False):
            part = slice(first, first + edges.size)
            list_edges(indptr, sources, edges, ids, first_dst, out[0][0, part], out[0][1, part], out[1][part])
            first = part.stop
        num_nodes = [after - before for before, after in pairwise(counts)]
        return Drawn(node_ids, edge_index, edge_ids, num_nodes, num_edges), torch.from_numpy(seed_rows)

    def _draw_edges(self, frontier: np.ndarray, fanout: int, key: int) -> tuple[np.ndarray, np.ndarray]:
        """(indptr, positions in `graph.indices`) of in-edges of some nodes."""
        if fanout == 0:
            return np.zeros(frontier.size + 1, np.int64), _NO_IDS
        if self._weighted:
            block = self._weighted[fanout].sample(torch.from_numpy(frontier), key).blocks[0]
            assert block.edge_ids is not None
            return block.indptr.numpy(), block.edge_ids.numpy()
        graph_indptr = self.graph.indptr.numpy()
        indptr = self._empty(frontier.size + 1, torch.int64).numpy()
        spans = np.empty((frontier.size, 2), np.int64)
        kernels.count_neighbors(graph_indptr, frontier, fanout, self.replace, indptr, spans)
        edges = self._empty(int(indptr[-1]), torch.int64).numpy()
        kernels.sample_neighbors(frontier, spans, np.uint64(key), fanout, self.replace, indptr, edges)
        return indptr, edges

    def _empty(self, size: int, dtype: torch.dtype) -> Tensor:
        return self._buffers.empty((size,), dtype)


def fanouts_of(num_neighbors: Any) -> list[int]:
    """PyG's `num_neighbors` as a list: of a sequence, an array or a `torch_geometric.sampler.NumNeighbors`.

    Raises:
        ValueError: If it is empty, or holds others than whole numbers from -1 on.
    """
    values = num_neighbors
    if not isinstance(values, Mapping | Sequence | np.ndarray | Tensor):
        values = getattr(values, "values", values)
    values = values.tolist() if isinstance(values, np.ndarray | Tensor) else values
    is_list = isinstance(values, Sequence) and len(values) > 0
    if not is_list or not all(map(_is_num_neighbors, values)):
        raise ValueError(
            "num_neighbors must hold one whole number per layer, at least 0, or -1 for all in-neighbors; "
            f"got {num_neighbors}"
        )
    return [int(value) for value in values]


def _is_num_neighbors(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and -1 <= int(value) < 2**63


class PyGNeighborhoods:
    """Draws subgraphs around seeds in the way that the arguments of PyG's neighbor loaders say.

    Args:
        loader: Name of the loader, for errors.
        others: `input_time`, `time_attr` and their like: what must be left out.
        The rest: see `NeighborLoader`.
    """

    def __init__(
        self,
        loader: str,
        data: Any,
        num_neighbors: Any,
        replace: bool,
        subgraph_type: Any,
        disjoint: bool,
        weight_attr: str | None,
        transform: Callable[[Any], Any] | None,
        sampler: Any | None,
        **others: Any,
    ):
        temporal = [name for name, value in others.items() if value is not None]
        if temporal:
            raise NotImplementedError(
                f"gnnfast.loader.{loader} does not draw by time ({', '.join(temporal)}): use "
                f"torch_geometric.loader.{loader}"
            )
        if disjoint:
            raise NotImplementedError(
                "disjoint subgraphs are not drawn hop by hop: use gnnfast.loader.ShaDowKHopSampler, which gives every "
                f"seed a subgraph of its own, or torch_geometric.loader.{loader}"
            )
        self.subgraph_type = str(getattr(subgraph_type, "value", subgraph_type))
        if self.subgraph_type not in ("directional", "induced", "bidirectional"):
            raise ValueError(
                f"subgraph_type must be 'directional', 'induced' or 'bidirectional', got {self.subgraph_type!r}"
            )
        if sampler is not None and weight_attr is not None:
            raise ValueError("weight_attr belongs to the sampler: pass it to the one given as neighbor_sampler")
        self.sampler: Any = sampler
        self._transform = transform
        self._edges_among: EdgesAmong | None = None
        if sampler is not None:
            num_nodes = getattr(getattr(sampler, "graph", None), "num_nodes", None)
            if num_nodes is not None and num_nodes != data.num_nodes:
                raise ValueError(
                    f"neighbor_sampler draws from a graph of {num_nodes} nodes, but the data has {data.num_nodes}"
                )
        else:
            graph = graph_of(data)
            weight = None if weight_attr is None else _in_graph_order(data[weight_attr], graph)
            self.sampler = Neighborhoods(graph, fanouts_of(num_neighbors), replace, weight)
            self._edges_among = EdgesAmong(graph) if self.subgraph_type == "induced" else None

    @property
    def is_trusted(self) -> bool:
        """Whether all that is drawn comes from the data's own graph."""
        return self._transform is None and isinstance(self.sampler, Neighborhoods)

    def draw(self, seed_nodes: Tensor, seed: int, input_id: Tensor) -> Drawn:
        """The subgraph around some seeds, whose rows come first, repeated ones again.

        Args:
            seed_nodes: Global ids, int64, `(num_seeds,)`.
            seed: Of the draws.
            input_id: What `transform_sampler_output` finds in the metadata.
        """
        if not isinstance(self.sampler, Neighborhoods):
            return self._transformed(self._draw_foreign(seed_nodes, seed, input_id), input_id)
        drawn, seed_rows = self._draw_own(self.sampler, seed_nodes, seed)
        if seed_nodes.numel() and int(seed_rows.max()) + 1 < seed_nodes.numel():
            drawn = drawn.with_repeated_seeds(seed_nodes, seed_rows)
        return self._transformed(self._directed(drawn), input_id)

    def draw_distinct(self, seed_nodes: Tensor, seed: int, input_id: Tensor) -> tuple[Drawn, Tensor]:
        """As `draw`, with one row for equal seeds, and the row of each seed, int64, `(num_seeds,)`."""
        if isinstance(self.sampler, Neighborhoods):
            drawn, seed_rows = self._draw_own(self.sampler, seed_nodes, seed)
            drawn = self._directed(drawn)
        else:
            distinct, seed_rows = seed_nodes.unique(return_inverse=True)
            drawn = self._draw_foreign(distinct, seed, input_id)
        return self._transformed(drawn, input_id), seed_rows

    def _draw_own(self, sampler: Neighborhoods, seed_nodes: Tensor, seed: int) -> tuple[Drawn, Tensor]:
        drawn, seed_rows = sampler.draw(seed_nodes, seed)
        if self._edges_among is not None:
            drawn = Drawn(drawn.node_ids, *self._edges_among.take(drawn.node_ids))
        return drawn, seed_rows

    def _draw_foreign(self, seed_nodes: Tensor, seed: int, input_id: Tensor) -> Drawn:
        if not hasattr(self.sampler, "sample_from_nodes"):
            return Drawn.of(
                self.sampler.sample(seed_nodes, seed), by_hop=getattr(self.sampler, "expand", None) == "once"
            )
        return draw_with_pyg(self.sampler, seed_nodes, seed, input_id)

    def _directed(self, drawn: Drawn) -> Drawn:
        return drawn.in_both_directions() if self.subgraph_type == "bidirectional" else drawn

    def _transformed(self, drawn: Drawn, input_id: Tensor) -> Drawn:
        return drawn if self._transform is None else drawn.transformed(self._transform, (input_id, None))


def draw_with_pyg(sampler: Any, seed_nodes: Tensor, seed: int, input_id: Tensor | None = None) -> Drawn:
    """What a `torch_geometric.sampler.BaseSampler` draws around some nodes.

    torch's generator is seeded for the call and put back after it; one call at a time. What the sampler draws from
    elsewhere, as torch_sparse does, is beyond `seed`.
    """
    from torch_geometric.sampler import NodeSamplerInput

    with _GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        output = sampler.sample_from_nodes(NodeSamplerInput(input_id, seed_nodes))
    return Drawn.of_output(output, sampler.edge_permutation)


def _in_graph_order(edge_values: Tensor, graph: CSCGraph) -> Tensor:
    values = (edge_values if edge_values.is_floating_point() else edge_values.float()).cpu()
    return values.view(-1) if graph.edge_ids is None else values.view(-1)[graph.edge_ids]
