"""GNNAutoScale: a few parts of a partition, and all that they hear."""

from __future__ import annotations

from pathlib import Path

import torch

from gnnfast.graph import CSCGraph, MiniBatch
from gnnfast.partition import partition_graph
from gnnfast.sampler.law import Law
from gnnfast.sampler.node.neighbor import NeighborSampler
from gnnfast.sampler.subgraph.parts import PartDeal


class GASSampler:
    """Joins random parts of a graph to a mini-batch, with all in-edges of their nodes.

    Fey et al., GNNAutoScale: Scalable and Expressive Graph Neural Networks via Historical Embeddings, 2021,
    https://arxiv.org/abs/2106.05609. A mini-batch is one block for all layers of a model. Its destinations are the
    nodes of the parts, its sources those and then their other in-neighbors, the halo. No layer computes the halo: from
    the second layer on its rows are the historical ones, see `gnnfast.training.History`.

    Every node is in one mini-batch of an epoch, so no history is older than an epoch.

    Args:
        graph: Graph to sample from.
        num_parts: Parts that the graph is cut into, once.
        parts_per_batch: Parts of a mini-batch.
        method: As in `partition_graph`.
        partition_seed: Of the partition.
        cache_dir: Where partitions are kept; None means `gnnfast` in the user's cache folder.
        edge_ids: Whether blocks carry the ids of their edges.
        history_dtype: What training keeps the historical rows in: "float32", "float16" or "bfloat16".
        fill_history: Whether training begins with an exact pass that computes them; otherwise they begin as zeros.

    Raises:
        ValueError: If there are fewer nodes than parts or fewer parts than `parts_per_batch`, or `method` or
            `history_dtype` is another word.
    """

    # A model runs on these mini-batches with a history only.
    needs_history = True

    def __init__(
        self,
        graph: CSCGraph,
        num_parts: int = 80,
        parts_per_batch: int = 4,
        method: str = "auto",
        partition_seed: int = 0,
        cache_dir: str | Path | None = None,
        edge_ids: bool = False,
        history_dtype: str = "float32",
        fill_history: bool = True,
    ):
        if history_dtype not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"history_dtype must be float32, float16 or bfloat16, got {history_dtype!r}")
        self.graph = graph
        self.parts_per_batch = parts_per_batch
        self.history_dtype: torch.dtype = getattr(torch, history_dtype)
        self.fill_history = fill_history
        self._neighbors = NeighborSampler(graph, [-1], edge_ids=edge_ids)
        self.partition = partition_graph(graph, num_parts, method, partition_seed, cache_dir)
        self._deal = PartDeal(self.partition, parts_per_batch)

    @property
    def num_batches(self) -> int:
        return self._deal.num_batches

    @property
    def cut_share(self) -> float:
        """Edges between different parts, as a share of all but self-loops: at least their sources may be historical."""
        return self.partition.cut_share

    @property
    def law(self) -> Law:
        """A block lacks no edge of its destinations; what is off are the rows of the halo."""
        return Law(
            unbiased=("sum", "mean"),
            bias="from the second layer on, the rows of nodes outside of the mini-batch are those of earlier weights",
            node_inclusion=self._deal.node_inclusion,
        )

    def sample_batch(self, batch: int, epoch_seed: int) -> MiniBatch:
        """Takes out some parts and their halo.

        Args:
            batch: Number in the epoch, in [0, num_batches).
            epoch_seed: Same seed and number, same mini-batch, on any thread.

        Returns:
            One block, its destinations part by part.
        """
        return self._neighbors.sample(self._deal.nodes(batch, epoch_seed), 0)
