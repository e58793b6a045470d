"""A graph with everything that training on it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gnnfast.graph.csc import CSCGraph
from gnnfast.graph.features import FeatureStore

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass(eq=False)
class Dataset:
    """Graph, features, labels and the three splits of a node-classification task.

    Args:
        name: What logs and plots call it.
        graph: Who hears whom.
        features: One row per node.
        labels: Classes, int64, `(num_nodes,)`, -1 where unknown; or 0/1 per label, floating, `(num_nodes, num_labels)`,
            NaN where unknown (multi-label).
        train_ids, val_ids, test_ids: Global ids, int64, one dimension.
        num_classes: Defaults to the largest class plus 1, or the number of label columns.
        attainable: Best metrics that any model can reach, where they are known (synthetic graphs).

    Raises:
        ValueError: If sizes do not agree, a split names a node that is not there, a split node's features are not
            finite, or its class is outside `num_classes`.
    """

    name: str
    graph: CSCGraph
    features: FeatureStore
    labels: Tensor
    train_ids: Tensor
    val_ids: Tensor
    test_ids: Tensor
    num_classes: int = 0
    attainable: dict[str, float] = field(default_factory=dict)
    task: str = "node"

    def __post_init__(self) -> None:
        for what, rows in (("features", self.features.num_rows), ("labels", self.labels.shape[0])):
            if rows != self.num_nodes:
                raise ValueError(f"{self.name}: {what} have {rows} rows but the graph has {self.num_nodes} nodes")
        if not self.is_multilabel:
            self.labels = self.labels.long()
        if self.is_multilabel and self.num_classes not in (0, self.labels.shape[1]):
            raise ValueError(
                f"{self.name}: {self.labels.shape[1]} columns of labels cannot be {self.num_classes} classes"
            )
        if self.num_classes == 0:
            self.num_classes = self.labels.shape[1] if self.is_multilabel else int(self.labels.max().clamp(min=-1)) + 1
        for split in ("train", "val", "test"):
            self._check_split(split, getattr(self, f"{split}_ids"))

    @classmethod
    def from_pyg(cls, data: Data, name: str = "pyg") -> Dataset:
        """From a PyG `Data` with `x`, `y`, `train_mask`, `val_mask` and `test_mask`."""
        from gnnfast.graph.pyg import dataset_from_pyg

        return dataset_from_pyg(data, name)

    def to_pyg(self) -> Data:
        """As a PyG `Data` with masks."""
        from gnnfast.graph.pyg import dataset_to_pyg

        return dataset_to_pyg(self)

    @property
    def num_nodes(self) -> int:
        return self.graph.num_nodes

    @property
    def num_features(self) -> int:
        return self.features.num_features

    @property
    def is_multilabel(self) -> bool:
        return self.labels.dim() == 2

    @property
    def split_ids(self) -> dict[str, Tensor]:
        return {"train": self.train_ids, "val": self.val_ids, "test": self.test_ids}

    def _check_split(self, split: str, ids: Tensor) -> None:
        if ids.dtype != torch.int64 or ids.dim() != 1:
            raise ValueError(f"{self.name}: {split}_ids must be int64 of one dimension, got {ids.dtype} {ids.shape}")
        if ids.numel() == 0:
            return
        low, high = (int(bound) for bound in torch.aminmax(ids))
        if low < 0 or high >= self.num_nodes:
            raise ValueError(
                f"{self.name}: the {split} split names node {low if low < 0 else high}, "
                f"but nodes are numbered 0 to {self.num_nodes - 1}"
            )
        for some in ids.split(1 << 14):
            is_finite = torch.isfinite(self.features.gather(some)).all(dim=1)
            if not bool(is_finite.all()):
                node = int(some[int(is_finite.long().argmin())])
                raise ValueError(f"{self.name}: features of node {node}, of the {split} split, are not finite")
        if self.is_multilabel:
            return
        labels = self.labels[ids]
        low, high = (int(bound) for bound in torch.aminmax(labels))
        if low < 0 or high >= self.num_classes:
            node = int(ids[int((labels == (low if low < 0 else high)).nonzero()[0])])
            raise ValueError(
                f"{self.name}: node {node} of the {split} split has label {low if low < 0 else high}, "
                f"but classes are numbered 0 to {self.num_classes - 1}"
            )

    def __repr__(self) -> str:
        splits = "/".join(str(ids.numel()) for ids in self.split_ids.values())
        return (
            f"Dataset({self.name!r}, {self.num_nodes} nodes, {self.graph.num_edges} edges, "
            f"{self.num_features} features, {self.num_classes} classes, train/val/test {splits})"
        )
