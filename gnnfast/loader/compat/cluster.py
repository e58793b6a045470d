"""torch_geometric.loader.ClusterData and ClusterLoader, on our partitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gnnfast.graph import CSCGraph
from gnnfast.loader.compat.attributes import Attributes, edges_of, graph_of, homogeneous
from gnnfast.loader.compat.edges_among import EdgesAmong
from gnnfast.loader.compat.threads import ThreadedLoader
from gnnfast.partition import partition_graph
from gnnfast.sampler.node.hops import check_seeds

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass(frozen=True)
class Clusters:
    """The nodes by cluster.

    Edges are sorted by one end, in an order that is found when it is first asked for.

    Args:
        partptr: Where clusters begin in `node_perm`, int64, `(num_parts + 1,)`.
        node_perm: Global ids, cluster by cluster, int64, `(num_nodes,)`.
        sparse_format: The end that edges are sorted by: sources ("csr") or destinations ("csc").
        graph: The edges.
    """

    partptr: Tensor
    node_perm: Tensor
    sparse_format: str
    graph: CSCGraph

    @property
    def indptr(self) -> Tensor:
        """Where the edges of each position in `node_perm` begin, int64, `(num_nodes + 1,)`."""
        return self._edges[0]

    @property
    def index(self) -> Tensor:
        """The other end of each edge, a position in `node_perm`, int64, `(num_edges,)`."""
        return self._edges[1]

    @property
    def edge_perm(self) -> Tensor:
        """The id of each edge: its column in the data's `edge_index`, int64, `(num_edges,)`."""
        return self._edges[2]

    @cached_property
    def _edges(self) -> tuple[Tensor, Tensor, Tensor]:
        num_nodes = self.node_perm.numel()
        position = torch.empty_like(self.node_perm)
        position[self.node_perm] = torch.arange(num_nodes)
        edge_index, edge_ids = edges_of(self.graph)
        own, other = position[edge_index if self.sparse_format == "csr" else edge_index.flip(0)]
        order = torch.argsort(own * num_nodes + other, stable=True)
        indptr = torch.zeros(num_nodes + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(own, minlength=num_nodes), 0, out=indptr[1:])
        return indptr, other[order], edge_ids[order]

    def nodes(self, cluster: int) -> Tensor:
        """Global ids of a cluster."""
        return self.node_perm[self.partptr[cluster] : self.partptr[cluster + 1]]


class ClusterData(Dataset[Any]):
    """PyG's `ClusterData`: a graph cut into parts, each of them a `Data`.

    Chiang et al., Cluster-GCN: An Efficient Algorithm for Training Deep and Large Graph Convolutional Networks, 2019,
    https://arxiv.org/abs/1905.07953. Parts come from `gnnfast.partition.partition_graph`, which keeps them on disk
    under a digest of the graph and all parameters: those of another graph are never taken for this one's.
    `partition` has PyG's fields. `data` is the graph as it was given; PyG has it in the order of `partition` there.

    Args:
        data: Homogeneous, with `edge_index`.
        num_parts: Number of clusters; none is empty.
        recursive, filename, log: Taken and not needed: the partitioner knows when to bisect, names its files itself and
            prints nothing.
        save_dir: Folder of kept partitions; None means `gnnfast` in the user's cache folder.
        keep_inter_cluster_edges: Whether `cluster_data[i]` holds the edges to other clusters too: their other end is
            then, as in PyG, a position in `partition.node_perm`, while its own nodes count from 0. `ClusterLoader`
            takes no notice of it.
        sparse_format: Which ends of edges decide that they belong to a cluster, for `keep_inter_cluster_edges`: sources
            ("csr") or destinations ("csc").

    Raises:
        TypeError: If `data` is heterogeneous.
        ValueError: If there are fewer nodes than parts, `sparse_format` is another word, or edges to other clusters
            are to be kept in `adj_t`.
    """

    def __init__(
        self,
        data: Data,
        num_parts: int,
        recursive: bool = False,
        save_dir: str | None = None,
        filename: str | None = None,
        log: bool = True,
        keep_inter_cluster_edges: bool = False,
        sparse_format: str = "csr",
    ):
        if sparse_format not in ("csr", "csc"):
            raise ValueError(f"sparse_format must be 'csr' or 'csc', got {sparse_format!r}")
        self.data = homogeneous(data, "ClusterData")
        if keep_inter_cluster_edges and data._store.get("adj_t") is not None:
            raise ValueError(
                "keep_inter_cluster_edges needs edge_index without adj_t: adj_t of a cluster has no place for nodes of "
                "others"
            )
        self.num_parts = num_parts
        self.recursive = recursive
        self.keep_inter_cluster_edges = keep_inter_cluster_edges
        self.sparse_format = sparse_format
        graph = graph_of(data)
        part_of = partition_graph(graph, num_parts, cache_dir=save_dir).part_of
        sizes = torch.bincount(part_of, minlength=num_parts)
        self.partition = Clusters(
            torch.cat([sizes.new_zeros(1), torch.cumsum(sizes, 0)]),
            torch.argsort(part_of, stable=True),
            sparse_format,
            graph,
        )
        self._attributes = Attributes(data)
        self._edges_among = EdgesAmong(graph)

    def __len__(self) -> int:
        return self.num_parts

    def __getitem__(self, idx: int) -> Any:
        if not -len(self) <= idx < len(self):
            raise IndexError(f"cluster {idx} of {len(self)}")
        cluster = idx % len(self)
        return self._with_all_edges(cluster) if self.keep_inter_cluster_edges else self.union([cluster])

    def subgraph(self, nodes: Tensor) -> Any:
        """The `Data` of some nodes and all edges among them.

        Args:
            nodes: Global ids, int64, `(num_nodes,)`, distinct.

        Raises:
            ValueError: If one of them is not a node of the graph.
        """
        check_seeds(nodes, self.partition.node_perm.numel())
        return self._induced(nodes)

    def union(self, clusters: list[int]) -> Any:
        """The `Data` of the nodes of some clusters, each in [0, num_parts), and all edges among them."""
        return self._induced(torch.cat([self.partition.nodes(cluster) for cluster in clusters]))

    def refresh(self) -> None:
        """Takes over what was changed in `data`."""
        self._attributes.refresh()

    def _induced(self, nodes: Tensor) -> Any:
        return self._attributes.cut(nodes, *self._edges_among.take(nodes))

    def _with_all_edges(self, cluster: int) -> Any:
        partition = self.partition
        first, last = partition.partptr[cluster : cluster + 2].tolist()
        indptr = partition.indptr[first : last + 1]
        edges = slice(int(indptr[0]), int(indptr[-1]))
        own = torch.repeat_interleave(torch.arange(last - first), indptr.diff())
        ends = torch.stack([own, partition.index[edges]])
        ends = ends if self.sparse_format == "csr" else ends.flip(0)
        return self._attributes.cut(partition.nodes(cluster), ends, partition.edge_perm[edges])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_parts})"


class ClusterLoader(ThreadedLoader):
    """PyG's `ClusterLoader`: `batch_size` clusters at a time, with the edges between them.

    Args:
        cluster_data: The clusters.
        **kwargs: Arguments of `torch.utils.data.DataLoader`; `num_workers` counts threads of this process.
    """

    def __init__(self, cluster_data: ClusterData, **kwargs: Any):
        self.cluster_data = cluster_data
        super().__init__(len(cluster_data), **kwargs)

    def _begin_epoch(self) -> None:
        self.cluster_data.refresh()

    def _make_batch(self, index: Tensor, seed: int) -> Any:
        return self.cluster_data.union(index.tolist())
