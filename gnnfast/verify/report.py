"""What came of the checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Row:
    """The outcome of one check.

    Args:
        check: Its name.
        verdict: "passed", "failed" or "skipped".
        measured: The figure that decided.
        threshold: What it had to keep to.
        note: Where the figure was worst; for a skipped check the reason.
        seconds: What the check took.
    """

    check: str
    verdict: Verdict
    measured: str = ""
    threshold: str = ""
    note: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        figures = f": {self.measured}, must be {self.threshold}" if self.threshold else ""
        return f"{self.check} {self.verdict}{figures}{f' ({self.note})' if self.note else ''}"


@dataclass
class Report:
    """What `verify` found.

    Args:
        sampler: Class of the sampler.
        rows: One per check.
        seed: Of every draw: the same seed gives the same report.
        num_draws: Mini-batches that the statistics are of, per graph.
        figures: What was measured without being judged, say seconds per mini-batch.
        seconds: What the whole took.
    """

    sampler: str
    rows: list[Row]
    seed: int
    num_draws: int
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [row.check for row in self.rows if row.verdict == "failed"]

    @property
    def skipped(self) -> list[str]:
        """Names of the checks that were not made."""
        return [row.check for row in self.rows if row.verdict == "skipped"]

    def __getitem__(self, check: str) -> Row:
        for row in self.rows:
            if row.check == check:
                return row
        raise KeyError(f"no check {check!r}: there are {', '.join(row.check for row in self.rows)}")

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {"passed": self.passed, **asdict(self)}

    def __str__(self) -> str:
        """One line per check."""
        lines = [
            f"{row.check:24} {row.verdict:8} {row.measured:>16} {row.threshold:16} {row.note}".rstrip()
            for row in self.rows
        ]
        return "\n".join([f"{self.sampler}: {'passed' if self.passed else 'failed'}", *lines])
