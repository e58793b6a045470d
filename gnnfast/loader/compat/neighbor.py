"""torch_geometric.loader.NeighborLoader, drawn by our kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnfast.loader.compat.attributes import Attributes, homogeneous, node_ids_of
from gnnfast.loader.compat.drawn import Drawn
from gnnfast.loader.compat.neighborhoods import PyGNeighborhoods
from gnnfast.loader.compat.threads import ThreadedLoader

if TYPE_CHECKING:
    from torch_geometric.data import Data
    from torch_geometric.sampler import BaseSampler


class NeighborLoader(ThreadedLoader):
    """PyG's `NeighborLoader`: the same arguments and batch attributes, made by kernels on threads.

    Hamilton et al., Inductive Representation Learning on Large Graphs, 2017, https://arxiv.org/abs/1706.02216
    (algorithm 2). Every node is expanded once, at the hop that reaches it first, and all subsets of its in-edges are
    alike. `torch.manual_seed` decides the order of the seeds, as in PyG, and every draw, whatever `num_workers` is.

    Args:
        data: Homogeneous, with `edge_index` or `adj_t`. What is changed in `loader.data` counts from the next pass on.
        num_neighbors: In-neighbors drawn per node, from the seeds outwards; -1 takes all, 0 none.
        input_nodes: Seeds, as ids or as a mask; None means all nodes.
        replace: Whether a node may draw the same in-edge again.
        subgraph_type: "directional": the drawn edges; "induced": all edges among the drawn nodes; "bidirectional": the
            drawn edges in both directions, each once.
        weight_attr: Edge attribute that draws are proportional to.
        transform: Changes each batch, in the thread that asks for it; in the workers, if `filter_per_worker=True`.
        transform_sampler_output: Changes the `torch_geometric.sampler.SamplerOutput` of each batch, in the workers.
        is_sorted: Not needed: sorting is quick.
        neighbor_sampler: Draws instead: a sampler of gnnfast or a `torch_geometric.sampler.BaseSampler`.
        directed: False is PyG's old word for `subgraph_type="induced"`.
        **kwargs: Arguments of `torch.utils.data.DataLoader`; `num_workers` counts threads of this process.

    Raises:
        TypeError: If `data` is heterogeneous.
        NotImplementedError: If batches are to be disjoint or temporal.
        ValueError: If another argument is out of range.
    """

    def __init__(
        self,
        data: Data,
        num_neighbors: Sequence[int],
        input_nodes: Tensor | Sequence[int] | None = None,
        input_time: Tensor | None = None,
        replace: bool = False,
        subgraph_type: str = "directional",
        disjoint: bool = False,
        temporal_strategy: str = "uniform",
        time_attr: str | None = None,
        weight_attr: str | None = None,
        transform: Callable[[Any], Any] | None = None,
        transform_sampler_output: Callable[[Any], Any] | None = None,
        is_sorted: bool = False,
        filter_per_worker: bool | None = None,
        neighbor_sampler: BaseSampler | Any | None = None,
        directed: bool = True,
        **kwargs: Any,
    ):
        self.data = homogeneous(data, "NeighborLoader")
        self.input_nodes = input_nodes
        self.filter_per_worker = filter_per_worker
        self._seeds, self._input_ids = _seeds_of(data, input_nodes, kwargs.pop("input_id", None))
        self._attributes = Attributes(data)
        self._neighborhoods = PyGNeighborhoods(
            "NeighborLoader",
            data,
            num_neighbors,
            replace,
            subgraph_type if directed else "induced",
            disjoint,
            weight_attr,
            transform_sampler_output,
            neighbor_sampler,
            input_time=input_time,
            time_attr=time_attr,
        )
        super().__init__(self._seeds.numel(), transform, filter_per_worker is True, **kwargs)

    @property
    def node_sampler(self) -> Any:
        """What draws the neighbors."""
        return self._neighborhoods.sampler

    def _begin_epoch(self) -> None:
        self._attributes.refresh()

    def _make_batch(self, index: Tensor, seed: int) -> Any:
        input_id = index if self._input_ids is None else self._input_ids[index]
        drawn = self._neighborhoods.draw(self._seeds[index], seed, input_id)
        batch = batch_of(self._attributes, drawn, self._neighborhoods.is_trusted)
        store = batch._store._mapping
        store["input_id"] = input_id
        store["batch_size"] = index.numel()
        return batch


def batch_of(attributes: Attributes, drawn: Drawn, is_trusted: bool) -> Any:
    """The PyG `Data` of a drawn subgraph, with what all neighbor loaders put into it.

    Args:
        is_trusted: Whether its nodes and edges are known to be the data's.
    """
    if not is_trusted:
        attributes.check_ids(drawn.node_ids, drawn.edge_ids)
    batch = attributes.cut(drawn.node_ids, drawn.edge_index, drawn.edge_ids)
    store = batch._store._mapping
    store.setdefault("n_id", drawn.node_ids)
    if drawn.edge_ids is not None:
        store.setdefault("e_id", drawn.edge_ids)
    for key, value in (
        ("batch", None),
        ("num_sampled_nodes", drawn.num_sampled_nodes),
        ("num_sampled_edges", drawn.num_sampled_edges),
    ):
        if value is None:
            store.pop(key, None)
        else:
            store[key] = value
    return batch


def _seeds_of(data: Any, input_nodes: Any, input_id: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Seeds and, where they are not the positions, what PyG calls their `input_id`: of a mask, the nodes themselves."""
    if input_nodes is None:
        return torch.arange(data.num_nodes), None
    nodes, is_mask = node_ids_of(input_nodes, data.num_nodes, "input_nodes")
    if is_mask and input_id is None:
        input_id = nodes
    if input_id is not None and input_id.numel() != nodes.numel():
        raise ValueError(f"input_id must have one entry per seed, {nodes.numel()}, got {input_id.numel()}")
    return nodes, input_id
