"""What a peer is asked to prepare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.benchmark.graphs import GraphFiles

# Makes call number i and returns the seconds that count; and facts about what is called, as JSON has them.
Prepared = tuple[Callable[[int], float], dict[str, Any]]


@dataclass(frozen=True)
class Request:
    """A case, in words and numbers that any interpreter reads.

    Args:
        stage: Of `STAGES`.
        graph: Folder of a `GraphFiles`.
        seeds: File of int64, `(num_batches, batch_size)`.
        fanouts: From the seed nodes outwards.
        num_threads: Of the computation.
        system: Who is asked: "gnnfast" or one of `PEERS`.
        variant: The way of doing it, where a system has several.
        num_workers: Of a loader: processes, or threads for gnnfast.
        conv, hidden_channels, heads, precision: Of the model.
    """

    stage: str
    graph: str
    seeds: str
    fanouts: list[int]
    num_threads: int
    system: str = "gnnfast"
    variant: str = ""
    num_workers: int = 0
    conv: str = ""
    hidden_channels: int = 256
    heads: int = 4
    precision: str = "32-true"

    @property
    def files(self) -> GraphFiles:
        return GraphFiles(Path(self.graph))

    def seed_batches(self) -> Tensor:
        return torch.from_numpy(np.load(self.seeds))

    def autocast(self) -> torch.autocast:
        """The context that the forward pass runs in."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16-mixed")
