"""Sampling alone: from seeds to blocks, without features."""

from __future__ import annotations

from dataclasses import replace

from gnnfast.benchmark.comparison import DRAWN, Bench, Comparison, Limit, Row, Side, sizes_note
from gnnfast.benchmark.work import Work, sampled_lines

_IN_A_ROW = 5


def compare_samplers(bench: Bench) -> Comparison:
    """One thread each; GraphBolt, which draws on several, also with all."""
    sides = [Side("gnnfast", drawn=drawn) for drawn in ("once", "layer")]
    sides += [Side(peer, drawn=DRAWN[peer]) for peer in bench.peers]
    if "graphbolt" in bench.peers and bench.settings.threads > 1:
        sides.append(Side("graphbolt", drawn="layer", num_threads=bench.settings.threads))
    notes: list[str] = []
    rows = bench.compare("sampler", sides, notes, calls_in_a_row=_IN_A_ROW)
    return Comparison("sampler", with_limits(rows, bench), [*sizes_note(rows), *notes])


def with_limits(rows: list[Row], bench: Bench, num_features: int = 0) -> list[Row]:
    """Adds what drawing, and gathering features, takes at least on one thread."""
    limits = {row.side.drawn: sampling_limit(row, bench, num_features) for row in rows if row.side.system == "gnnfast"}
    return [replace(row, limit=limits[row.side.drawn]) for row in rows]


def sampling_limit(row: Row, bench: Bench, num_features: int) -> Limit:
    """Of one of gnnfast's rows."""
    lines = sampled_lines(row.facts["blocks"], row.side.drawn == "once")
    sampling = Limit.of(Work(64 * lines), 64 * bench.limits.lines_one)
    if num_features == 0:
        return sampling
    gathering = Limit.of(Work(8 * row.facts["nodes"] * num_features), bench.limits.rows_one)
    return Limit(sampling.memory_seconds + gathering.memory_seconds, 0.0, sampling.num_bytes + gathering.num_bytes, 0.0)
