"""torch_geometric.loader.RandomNodeLoader, induced by our kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gnnfast.loader.compat.attributes import Attributes, graph_of, homogeneous
from gnnfast.loader.compat.edges_among import EdgesAmong
from gnnfast.loader.compat.threads import ThreadedLoader

if TYPE_CHECKING:
    from torch_geometric.data import Data


class RandomNodeLoader(ThreadedLoader):
    """PyG's `RandomNodeLoader`: the subgraphs on the parts of the nodes, consecutive ones or, shuffled, random ones.

    Args:
        data: Homogeneous, with `edge_index` or `adj_t`.
        num_parts: Batches of an epoch, up to rounding.
        **kwargs: Arguments of `torch.utils.data.DataLoader`; `num_workers` counts threads of this process.

    Raises:
        TypeError: If `data` is heterogeneous.
    """

    def __init__(self, data: Data, num_parts: int, **kwargs: Any):
        self.data = homogeneous(data, "RandomNodeLoader")
        self.num_parts = num_parts
        self.num_nodes = int(data.num_nodes)
        self._attributes = Attributes(data)
        self._edges_among = EdgesAmong(graph_of(data))
        super().__init__(self.num_nodes, batch_size=math.ceil(self.num_nodes / num_parts), **kwargs)

    @property
    def edge_index(self) -> Tensor | None:
        """The data's."""
        edge_index: Tensor | None = self.data.edge_index
        return edge_index

    def _begin_epoch(self) -> None:
        self._attributes.refresh()

    def _make_batch(self, index: Tensor, seed: int) -> Any:
        return self._attributes.cut(index, *self._edges_among.take(index))
