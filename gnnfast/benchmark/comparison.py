"""Sides that take turns, and the table that comes of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gnnfast.benchmark.graphs import GraphFiles
from gnnfast.benchmark.machine import MachineLimits
from gnnfast.benchmark.peers.process import PeerCase, PeerError, Systems
from gnnfast.benchmark.peers.request import Request
from gnnfast.benchmark.settings import BenchmarkSettings
from gnnfast.benchmark.timing import Timing, in_turns
from gnnfast.benchmark.work import Work

log = logging.getLogger(__name__)

DRAWN = {"torch_sparse": "once", "pyg_lib": "once", "graphbolt": "layer"}
_TOLERANCE = 0.03  # between the sizes of two systems' mini-batches


@dataclass(frozen=True)
class Side:
    """Who takes part, and how.

    Args:
        system: "gnnfast", one of `PEERS`, or in the stage kernel a library.
        conv: Of the model; the operation, in the stage kernel.
        drawn: When neighbors are: "once" for each node, or for every "layer" anew.
        variant: See the peer's `prepare`.
        num_threads: Of its computations.
        num_workers: Of its loader.
        keeps_freed_memory: Whether its allocator does.
    """

    system: str
    conv: str = ""
    drawn: str = ""
    variant: str = ""
    num_threads: int = 1
    num_workers: int = 0
    keeps_freed_memory: bool = True


@dataclass(frozen=True)
class Row:
    """What a side came to.

    Args:
        side: Who.
        timing: Its seconds.
        facts: What it said about itself.
        limit: The least seconds that this machine's memory and its matrix products need, one after the other, and what
            they are of.
    """

    side: Side
    timing: Timing
    facts: dict[str, Any] = field(default_factory=dict)
    limit: Limit | None = None

    @property
    def share(self) -> float | None:
        """Of the limit that is reached, 1 being all of it."""
        return None if self.limit is None else self.limit.seconds / self.timing.median

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {
            **asdict(self.side),
            "median_seconds": self.timing.median,
            "interquartile_range_seconds": self.timing.spread,
            "seconds": self.timing.seconds,
            "facts": self.facts,
            "limit": None if self.limit is None else asdict(self.limit),
            "share_of_limit": self.share,
        }


@dataclass(frozen=True)
class Limit:
    """The least seconds that work takes on a machine."""

    memory_seconds: float
    product_seconds: float
    num_bytes: float
    flops: float

    @property
    def seconds(self) -> float:
        return self.memory_seconds + self.product_seconds

    @classmethod
    def of(cls, work: Work, bytes_per_second: float, flops_per_second: float = float("inf")) -> Limit:
        """The limit of a machine that moves so many bytes and computes so many operations."""
        return cls(work.num_bytes / bytes_per_second, work.flops / flops_per_second, work.num_bytes, work.flops)


@dataclass
class Comparison:
    """What a stage found: rows, and lines to read them with."""

    stage: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {"rows": [row.to_dict() for row in self.rows], "notes": self.notes}


class Bench:
    """The table at which stages set up their comparisons.

    Args:
        settings: What is measured.
        files: The graph.
        seeds: File of seeds, int64, `(num_batches, batch_size)`.
        systems: Processes of the sides.
        limits: Of this machine.
        peers: Of `PEERS`, those that are there.
    """

    def __init__(
        self,
        settings: BenchmarkSettings,
        files: GraphFiles,
        seeds: Path,
        systems: Systems,
        limits: MachineLimits,
        peers: Sequence[str],
    ):
        self.settings = settings
        self.files = files
        self.seeds = seeds
        self.systems = systems
        self.limits = limits
        self.peers = peers
        self.num_features = files.shape("x")[1]
        hidden = [settings.hidden_channels] * (len(settings.fanouts) - 1)
        # Of the features and of every layer's output.
        self.widths = [self.num_features, *hidden, files.facts["num_classes"]]

    def request(self, stage: str, side: Side) -> Request:
        """What a side is asked to prepare."""
        settings = self.settings
        return Request(
            stage,
            str(self.files.folder),
            str(self.seeds),
            list(settings.fanouts),
            side.num_threads,
            side.system,
            side.drawn if side.system == "gnnfast" else side.variant,
            side.num_workers,
            side.conv,
            settings.hidden_channels,
            settings.heads,
            settings.precision,
        )

    def compare(
        self,
        stage: str,
        sides: Sequence[Side],
        notes: list[str],
        calls_in_a_row: int = 1,
        warm_up: bool = True,
        min_rounds: int = 3,
        process: str | None = None,
    ) -> list[Row]:
        """Times the sides in turns. A peer that fails leaves a note instead of a row.

        Args:
            stage: What all sides do.
            sides: Who.
            notes: Where failures are noted.
            calls_in_a_row, warm_up, min_rounds: See `in_turns`.
            process: The system whose process they all run in; None means that of each.

        Raises:
            PeerError: If gnnfast itself fails.
        """
        settings = self.settings
        what = " ".join(filter(None, [stage, sides[0].conv]))
        # Peers may need minutes for a round: whoever waits is to know for what.
        log.info(f"{what}: {len(sides)} ways in turns, {settings.repeats} rounds or about {settings.max_seconds:.0f} s")
        cases: dict[Side, _Forgiving] = {}
        # All begin to import at once.
        processes = [self.systems.process(process or side.system, side.keeps_freed_memory) for side in sides]
        for side, peer in zip(sides, processes, strict=True):
            try:
                case = peer.prepare(self.request(stage, side))
                cases[side] = _Forgiving(case, side, notes)
            except PeerError as error:
                _note(notes, side, error)
        timings = in_turns(cases, settings.repeats, settings.max_seconds, calls_in_a_row, warm_up, min_rounds)
        for prepared in cases.values():
            prepared.forget()
        return [Row(side, timing, cases[side].facts) for side, timing in timings.items() if timing.seconds]


class _Forgiving:
    """A case that stops, with a note, where its side fails."""

    def __init__(self, case: PeerCase, side: Side, notes: list[str]):
        self.facts = case.facts
        self._case: PeerCase | None = case
        self._side = side
        self._notes = notes

    def run(self, first_call: int, num_calls: int) -> list[float]:
        if self._case is None:
            return []
        try:
            return self._case.run(first_call, num_calls)
        except PeerError as error:
            _note(self._notes, self._side, error)
            self._case = None
            return []

    def forget(self) -> None:
        """Gives up what the case holds; its facts are complete then."""
        if self._case is not None:
            with contextlib.suppress(PeerError):
                self._case.forget()


def _note(notes: list[str], side: Side, error: PeerError) -> None:
    if side.system == "gnnfast":
        raise error
    what = " ".join(filter(None, [side.conv, side.variant]))
    note = f"{error}{f' ({what})' if what else ''}"
    if note not in notes:
        notes.append(note)


def sizes_note(rows: Sequence[Row]) -> list[str]:
    """Whether systems that draw alike drew mini-batches of one size."""
    notes = []
    for drawn in ("once", "layer"):
        sizes = {row.side.system: row.facts for row in rows if row.side.drawn == drawn}
        ours = sizes.pop("gnnfast", None)
        if ours is None:
            continue
        text = f"mini-batches, drawn {drawn}: gnnfast {ours['nodes']:,.0f} nodes, {ours['edges']:,.0f} edges"
        for system, theirs in sizes.items():
            text += f"; {system} {theirs['nodes']:,.0f}, {theirs['edges']:,.0f}"
            if any(abs(theirs[size] / ours[size] - 1) > _TOLERANCE for size in ("nodes", "edges")):
                text += " (DIFFERENT: not the same work)"
        notes.append(text)
    return notes
