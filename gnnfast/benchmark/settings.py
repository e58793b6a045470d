"""What is measured, and on what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from gnnfast.runtime.cores import available_cores

STAGES = ("sampler", "loader", "kernel", "step", "epoch", "memory")
MODELS = ("sage", "gcn", "gin", "gat")
PEERS = ("torch_sparse", "pyg_lib", "graphbolt")
PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class BenchmarkSettings:
    """How a benchmark goes.

    Args:
        stage: One of `STAGES`, or "all".
        fanouts: In-neighbors drawn per node, from the seed nodes outwards, one entry per model layer.
        batch_size: Seeds per mini-batch; all training nodes, where there are fewer.
        models: Of `MODELS`, for the stages step, epoch and memory.
        hidden_channels: Width of the models.
        heads: Attention heads of gat.
        precision: "32-true", or "bf16-mixed": autocast to bfloat16, on every side.
        repeats: Rounds in which all sides take their turns.
        max_seconds: After which a comparison ends, once three rounds are done.
        num_threads: Of every side's computations; None takes all cores that this process may use.
        peers: Of `PEERS`: PyG with either library below it, and DGL's GraphBolt.
        dgl_python: The Python interpreter of an environment with DGL.

    Raises:
        ValueError: If a word is unknown or a number out of range.
    """

    stage: str = "sampler"
    fanouts: Sequence[int] = (15, 10, 5)
    batch_size: int = 1024
    models: Sequence[str] = MODELS
    hidden_channels: int = 256
    heads: int = 4
    precision: str = "32-true"
    repeats: int = 10
    max_seconds: float = 60.0
    num_threads: int | None = None
    peers: Sequence[str] = field(default=PEERS)
    dgl_python: str | None = None

    def __post_init__(self) -> None:
        _check_words("stage", [self.stage], (*STAGES, "all"))
        _check_words("models", self.models, MODELS)
        _check_words("precision", [self.precision], PRECISIONS)
        _check_words("peer.systems", self.peers, PEERS)
        for name in ("batch_size", "hidden_channels", "heads", "repeats"):
            _check_count(name, getattr(self, name))
        if self.num_threads is not None:
            _check_count("num_threads", self.num_threads)
        if isinstance(self.fanouts, str) or not isinstance(self.fanouts, Sequence) or not self.fanouts:
            raise ValueError(f"fanouts must be a list with one entry per layer, got {self.fanouts!r}")
        for fanout in self.fanouts:
            _check_count("fanouts", fanout)
        if isinstance(self.max_seconds, bool) or not isinstance(self.max_seconds, int | float) or self.max_seconds < 0:
            raise ValueError(f"max_seconds must be a number, 0 or more, got {self.max_seconds!r}")
        if "gat" in self.models and self.hidden_channels % self.heads != 0:
            raise ValueError(f"heads={self.heads} must divide hidden_channels={self.hidden_channels}")
        if self.dgl_python is not None and not os.access(self.dgl_python, os.X_OK):
            raise ValueError(f"peer.dgl_python must be a Python interpreter, got {self.dgl_python!r}")

    @property
    def stages(self) -> tuple[str, ...]:
        """What is measured, in order."""
        return STAGES if self.stage == "all" else (self.stage,)

    @property
    def threads(self) -> int:
        """Threads of every side's computations."""
        return self.num_threads or available_cores()


def _check_words(name: str, words: Sequence[str], known: Sequence[str]) -> None:
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise ValueError(f"{name} must be a list of {', '.join(known)}, got {words!r}")
    for word in words:
        if word not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {word!r}")


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
