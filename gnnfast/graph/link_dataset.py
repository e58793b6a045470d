"""A graph with everything that predicting its edges needs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnfast.graph.csc import CSCGraph
from gnnfast.graph.features import FeatureStore


@dataclass(eq=False)
class LinkDataset:
    """Graph, features and the three splits of a link-prediction task.

    Pairs have a source, whose partners are ranked, and a destination, one of its partners; the relation itself has no
    direction, and each pair stands in one split, once.

    Args:
        name: What logs and plots call it.
        graph: What messages flow along: the training pairs in both directions, none of the others.
        train_edges, val_edges, test_edges: Global ids, int64, `(2, num_pairs)`: sources above destinations.
        features: One row per node; None where nodes have none and models learn embeddings instead.
        val_negatives, test_negatives: Pairs that are none, int64, `(2, num_negatives)`, the same for everyone; ROC AUC
            and average precision compare with them. None: these metrics are undefined.
        src_range, dst_range: First node and the one after the last, of those that sources and destinations come from,
            say users and items; None means all nodes. Rankings are over `dst_range`.
        attainable: Best metrics that any model can reach, where they are known.

    Raises:
        ValueError: If sizes do not agree, or a pair names a node that is not there or outside of its range.
    """

    name: str
    graph: CSCGraph
    train_edges: Tensor
    val_edges: Tensor
    test_edges: Tensor
    features: FeatureStore | None = None
    val_negatives: Tensor | None = None
    test_negatives: Tensor | None = None
    src_range: tuple[int, int] | None = None
    dst_range: tuple[int, int] | None = None
    attainable: dict[str, float] = field(default_factory=dict)
    task: str = "link"

    def __post_init__(self) -> None:
        if self.features is not None and self.features.num_rows != self.num_nodes:
            raise ValueError(
                f"{self.name}: features have {self.features.num_rows} rows but the graph has {self.num_nodes} nodes"
            )
        for what, bounds in (("src_range", self.src_range), ("dst_range", self.dst_range)):
            if bounds is not None and not 0 <= bounds[0] < bounds[1] <= self.num_nodes:
                raise ValueError(f"{self.name}: {what} {bounds} is not within the {self.num_nodes} nodes")
        for what in ("train_edges", "val_edges", "test_edges", "val_negatives", "test_negatives"):
            pairs = getattr(self, what)
            if pairs is not None:
                self._check_pairs(what, pairs)

    @property
    def num_nodes(self) -> int:
        return self.graph.num_nodes

    @property
    def num_features(self) -> int:
        return 0 if self.features is None else self.features.num_features

    @property
    def sources(self) -> tuple[int, int]:
        """First node and the one after the last that a pair may begin with."""
        return self.src_range or (0, self.num_nodes)

    @property
    def destinations(self) -> tuple[int, int]:
        """First node and the one after the last that a pair may end with."""
        return self.dst_range or (0, self.num_nodes)

    @property
    def split_ids(self) -> dict[str, Tensor]:
        """What is predicted, by split: pairs, `(2, num_pairs)`, where a node task has nodes."""
        return {"train": self.train_edges, "val": self.val_edges, "test": self.test_edges}

    @property
    def negatives(self) -> dict[str, Tensor | None]:
        """The given negatives by split."""
        return {"train": None, "val": self.val_negatives, "test": self.test_negatives}

    def _check_pairs(self, what: str, pairs: Tensor) -> None:
        if pairs.dtype != torch.int64 or pairs.dim() != 2 or pairs.shape[0] != 2:
            shape = tuple(pairs.shape)
            raise ValueError(f"{self.name}: {what} must be int64 of shape (2, num_pairs), got {pairs.dtype} {shape}")
        if pairs.shape[1] == 0:
            return
        for end, nodes, (first, last) in zip(
            ("source", "destination"), pairs, (self.sources, self.destinations), strict=True
        ):
            low, high = (int(bound) for bound in torch.aminmax(nodes))
            if low < first or high >= last:
                raise ValueError(
                    f"{self.name}: {what} has {end} {low if low < first else high}, "
                    f"but {end}s are numbered {first} to {last - 1}"
                )

    def __repr__(self) -> str:
        splits = "/".join(str(pairs.shape[1]) for pairs in self.split_ids.values())
        features = f"{self.num_features} features" if self.features is not None else "no features"
        return (
            f"LinkDataset({self.name!r}, {self.num_nodes} nodes, {self.graph.num_edges} edges, {features}, "
            f"train/val/test pairs {splits})"
        )
