"""torch_geometric.loader.LinkNeighborLoader, drawn by our kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import derive_seed
from gnnfast.loader.compat.attributes import Attributes, homogeneous, whole_numbers
from gnnfast.loader.compat.neighbor import batch_of
from gnnfast.loader.compat.neighborhoods import PyGNeighborhoods
from gnnfast.loader.compat.threads import ThreadedLoader

if TYPE_CHECKING:
    from torch_geometric.data import Data
    from torch_geometric.sampler import BaseSampler, NegativeSampling

_NEGATIVES = 1  # word that keeps draws of negatives apart from those of neighbors


class LinkNeighborLoader(ThreadedLoader):
    """PyG's `LinkNeighborLoader`: the neighborhoods of both ends of some edges, and of negatives drawn for them.

    Negatives follow PyG's law: uniform nodes, or in proportion to the weights of a `NegativeSampling`; edges are not
    avoided. "binary" draws both ends, "triplet" destinations only. All else is as in `NeighborLoader`.

    Args:
        data: Homogeneous, with `edge_index` or `adj_t`.
        edge_label_index: Edges to go through, int64, `(2, num_links)`; None means all edges of the data.
        edge_label: Their labels, `(num_links, ...)`. With binary negatives, which have label 0, classes that begin at 0
            are moved up by 1.
        neg_sampling: `torch_geometric.sampler.NegativeSampling`, or "binary" or "triplet" for one negative each.
        neg_sampling_ratio: PyG's old word for binary negatives: how many per edge.
        The rest: see `NeighborLoader`.

    Raises:
        TypeError: If `data` is heterogeneous.
        NotImplementedError: If batches are to be disjoint or temporal.
        ValueError: If labels come with triplets, there are no edges to go through, one of them has an end that is no
            node, or another argument is out of range.
    """

    def __init__(
        self,
        data: Data,
        num_neighbors: Sequence[int],
        edge_label_index: Tensor | Sequence[Any] | None = None,
        edge_label: Tensor | Sequence[Any] | None = None,
        edge_label_time: Tensor | None = None,
        replace: bool = False,
        subgraph_type: str = "directional",
        disjoint: bool = False,
        temporal_strategy: str = "uniform",
        neg_sampling: NegativeSampling | str | dict[str, Any] | None = None,
        neg_sampling_ratio: float | None = None,
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
        from torch_geometric.sampler import NegativeSampling

        self.data = homogeneous(data, "LinkNeighborLoader")
        self.edge_label_index = edge_label_index
        if neg_sampling_ratio:
            neg_sampling = NegativeSampling("binary", neg_sampling_ratio)
        self.neg_sampling = NegativeSampling.cast(neg_sampling)
        if self.neg_sampling is not None and edge_label is not None and self.neg_sampling.is_triplet():
            raise ValueError("triplets have no labels: leave edge_label out, or ask for neg_sampling='binary'")
        self._links = _links_of(data, edge_label_index)
        self._labels = None if edge_label is None else torch.as_tensor(edge_label).cpu()
        if self._labels is not None and self._labels.shape[:1] != self._links.shape[1:]:
            raise ValueError(
                f"edge_label must have one entry per link, {self._links.shape[1]}, got {tuple(self._labels.shape)}"
            )
        if self.neg_sampling is not None and self._labels is not None and self._labels.numel():
            self._labels = self._labels + 1 if self._labels.min() == 0 else self._labels
        input_id = kwargs.pop("input_id", None)
        self._input_ids = None if input_id is None else input_id.cpu()
        self.filter_per_worker = filter_per_worker
        self._attributes = Attributes(data)
        self._neighborhoods = PyGNeighborhoods(
            "LinkNeighborLoader",
            data,
            num_neighbors,
            replace,
            subgraph_type if directed else "induced",
            disjoint,
            weight_attr,
            transform_sampler_output,
            neighbor_sampler,
            edge_label_time=edge_label_time,
            time_attr=time_attr,
        )
        self._src_draws, self._dst_draws = (
            NodeDraws(data.num_nodes, None if self.neg_sampling is None else getattr(self.neg_sampling, name))
            for name in ("src_weight", "dst_weight")
        )
        super().__init__(self._links.shape[1], transform, filter_per_worker is True, **kwargs)

    @property
    def link_sampler(self) -> Any:
        """What draws the neighbors."""
        return self._neighborhoods.sampler

    def _begin_epoch(self) -> None:
        self._attributes.refresh()

    def _make_batch(self, index: Tensor, seed: int) -> Any:
        src, dst = self._links[:, index]
        num_links, triplets = index.numel(), self.neg_sampling is not None and self.neg_sampling.is_triplet()
        num_negatives = 0
        if self.neg_sampling is not None:
            num_negatives = math.ceil(num_links * self.neg_sampling.amount)
            generator = torch.Generator()
            generator.manual_seed(derive_seed(seed, _NEGATIVES) >> 1)
            if not triplets:
                src = torch.cat([src, self._src_draws.draw(num_negatives, generator)])
            dst = torch.cat([dst, self._dst_draws.draw(num_negatives, generator)])
        input_id = index if self._input_ids is None else self._input_ids[index]
        drawn, rows = self._neighborhoods.draw_distinct(torch.cat([src, dst]), seed, input_id)
        batch = batch_of(self._attributes, drawn, self._neighborhoods.is_trusted)
        store = batch._store._mapping
        store["input_id"] = input_id
        for key in ("edge_label_index", "edge_label_time"):
            store.pop(key, None)
        if triplets:
            store["src_index"] = rows[:num_links]
            store["dst_pos_index"] = rows[num_links : 2 * num_links]
            store["dst_neg_index"] = rows[2 * num_links :].view(num_links, -1).squeeze(-1)
            return batch
        store["edge_label_index"] = rows.view(2, -1)
        store.pop("edge_label", None)
        label = None if self._labels is None else self._labels[index]
        if self.neg_sampling is not None:
            label = torch.ones(num_links) if label is None else label
            label = torch.cat([label, label.new_zeros(num_negatives, *label.shape[1:])])
        if label is not None:
            store["edge_label"] = label
        return batch


def _links_of(data: Any, edge_label_index: Any) -> Tensor:
    """The edges to go through, int64, `(2, num_links)`."""
    if edge_label_index is None:
        if data._store.get("edge_index") is None:
            raise ValueError("data without edge_index has no edges to go through: pass edge_label_index")
        edge_label_index = data.edge_index
    elif isinstance(edge_label_index, list | tuple):
        edge_label_index = torch.stack([whole_numbers(ends, "edge_label_index") for ends in edge_label_index])
    links = whole_numbers(edge_label_index, "edge_label_index")
    if links.dim() != 2 or links.shape[0] != 2 or links.dtype == torch.bool:
        raise ValueError(f"edge_label_index must have the shape (2, num_links), got {tuple(links.shape)}")
    links = links.to(torch.int64)
    if links.numel():
        low, high = (int(bound) for bound in torch.aminmax(links))
        if low < 0 or high >= data.num_nodes:
            bad = low if low < 0 else high
            raise ValueError(f"edge_label_index holds node {bad}, but the data numbers nodes 0 to {data.num_nodes - 1}")
    return links


class NodeDraws:
    """Draws nodes uniformly, or in proportion to weights, with replacement.

    Args:
        num_nodes: Of the graph.
        weight: Finite and at least 0, `(num_nodes,)`; None: all alike.

    Raises:
        ValueError: If there is not one weight per node, or none is positive.
    """

    def __init__(self, num_nodes: int, weight: Tensor | None):
        if weight is not None and not (
            weight.shape == (num_nodes,)
            and bool((weight >= 0).all())
            and bool(weight.isfinite().all())
            and bool(weight.any())
        ):
            raise ValueError(f"negatives need one weight per node, {num_nodes}, finite, at least 0 and not all 0")
        self.num_nodes = num_nodes
        # Searched, not given to torch.multinomial, which takes at most 2**24 nodes and reads them all for every batch.
        self._sums = None if weight is None else torch.cumsum(weight.cpu().double(), 0)

    def draw(self, num_draws: int, generator: torch.Generator) -> Tensor:
        """Global ids, int64, `(num_draws,)`."""
        if self._sums is None:
            return torch.randint(self.num_nodes, (num_draws,), generator=generator)
        places = torch.rand(num_draws, dtype=torch.float64, generator=generator) * self._sums[-1]
        return torch.searchsorted(self._sums, places, right=True)
