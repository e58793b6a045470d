"""torch_geometric.loader.ShaDowKHopSampler, on our ego graphs."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnfast.graph import MiniBatch
from gnnfast.loader.compat.attributes import Attributes, edges_of, graph_of, homogeneous, node_ids_of
from gnnfast.loader.compat.threads import ThreadedLoader
from gnnfast.sampler import ShadowSampler
from gnnfast.sampler.node.hops import check_seeds

if TYPE_CHECKING:
    from torch_geometric.data import Data


class ShaDowKHopSampler(ThreadedLoader):
    """PyG's `ShaDowKHopSampler`: a `Batch` of subgraphs, one around every seed.

    Zeng et al., Decoupling the Depth and Scope of Graph Neural Networks, 2021, https://arxiv.org/abs/2201.07858.
    A batch has `batch` and `ptr` for the subgraphs, `root_n_id` for the row of each seed, `y` of the seeds, and all
    else by node or edge; a node of two subgraphs has two rows.

    Args:
        data: Homogeneous, with `edge_index` or `adj_t`.
        depth: Hops from the seed.
        num_neighbors: In-neighbors drawn per node and hop; -1 takes all.
        node_idx: Seeds, as ids or as a mask; None means all nodes.
        replace: Whether a node may draw the same in-edge again.
        **kwargs: Arguments of `torch.utils.data.DataLoader`; `num_workers` counts threads of this process.

    Raises:
        TypeError: If `data` is heterogeneous.
        ValueError: If a number is out of range or a seed is not a node of the graph.
    """

    def __init__(
        self,
        data: Data,
        depth: int,
        num_neighbors: int,
        node_idx: Tensor | None = None,
        replace: bool = False,
        **kwargs: Any,
    ):
        self.data = copy.copy(homogeneous(data, "ShaDowKHopSampler"))
        self.depth = depth
        self.num_neighbors = num_neighbors
        self.replace = replace
        if node_idx is None:
            self.node_idx = torch.arange(data.num_nodes)
        else:
            self.node_idx, _ = node_ids_of(node_idx, data.num_nodes, "node_idx")
        check_seeds(self.node_idx, data.num_nodes)
        self._attributes = Attributes(self.data)
        self.is_sparse_tensor = "edge_index" not in data
        self._graph = graph_of(data)
        self._sampler = ShadowSampler(self._graph, depth, num_neighbors, replace, edge_ids=True)
        self._template: Any = None
        super().__init__(self.node_idx.numel(), **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_template": None}

    @cached_property
    def adj_t(self) -> Any:
        """The edges as `torch_sparse.SparseTensor` of destinations by sources: the data's, or ids (extra `sparse`)."""
        if self.is_sparse_tensor:
            return self.data.adj_t.cpu()
        from torch_sparse import SparseTensor

        (src, dst), edge_ids = edges_of(self._graph)
        num_nodes = self._graph.num_nodes
        return SparseTensor(row=dst, col=src, value=edge_ids, sparse_sizes=(num_nodes, num_nodes))

    def _begin_epoch(self) -> None:
        from torch_geometric.data import Batch

        self._attributes.refresh()
        self._template = Batch(batch=torch.empty(0), ptr=torch.empty(0))
        for key, value in self.data.items():
            if key not in ("edge_index", "adj_t", "num_nodes", "batch", "ptr"):
                self._template[key] = value

    def _make_batch(self, index: Tensor, seed: int) -> Any:
        seed_nodes = self.node_idx[index]
        node_ids, edge_index, edge_ids, ptr = _in_order(*self._sampler.sample_with_bounds(seed_nodes, seed))
        batch = copy.copy(self._template)
        self._attributes.fill(batch, node_ids, edge_index, edge_ids)
        store = batch._store._mapping
        store.pop("num_nodes", None)
        store["batch"] = torch.repeat_interleave(torch.arange(index.numel()), ptr.diff(), output_size=node_ids.numel())
        store["ptr"] = ptr
        store["root_n_id"] = ptr[:-1]
        if self._attributes.is_by_node("y"):
            store["y"] = self.data.y[seed_nodes]
        return batch


def _in_order(sampled: MiniBatch, bounds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ego graphs one behind the other, each beginning with its seed: the sampler has all seeds first.

    Args:
        sampled: Of a `ShadowSampler`.
        bounds: Where egos begin among its other nodes, int64, `(num_egos + 1,)`.

    Returns:
        (nodes, edges in local ids, their ids, where egos begin).
    """
    num_egos = sampled.num_seeds
    num_others = sampled.num_nodes - num_egos
    ptr = bounds + torch.arange(num_egos + 1)
    row = torch.empty(sampled.num_nodes, dtype=torch.int64)
    row[:num_egos] = ptr[:-1]
    row[num_egos:] = torch.arange(num_others) + torch.repeat_interleave(
        torch.arange(1, num_egos + 1), bounds.diff(), output_size=num_others
    )
    node_ids = torch.empty_like(row)
    node_ids[row] = sampled.node_ids
    (block,) = sampled.blocks
    assert block.edge_ids is not None
    return node_ids, row[block.edge_index], block.edge_ids, ptr
