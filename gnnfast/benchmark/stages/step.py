"""A training step: forward, backward and Adam on a mini-batch that is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gnnfast.benchmark.comparison import DRAWN, Bench, Comparison, Limit, Row, Side, sizes_note
from gnnfast.benchmark.work import model_work

_IN_A_ROW = 2


def compare_steps(bench: Bench) -> Comparison:
    """Model by model, in every system's ways and with both settings of the allocator."""
    rows: list[Row] = []
    notes: list[str] = []
    for conv in bench.settings.models:
        found = bench.compare("step", _sides(bench, conv), notes, _IN_A_ROW)
        ours = {row.side.drawn: row for row in found if row.side.system == "gnnfast"}
        limits = {drawn: step_limit(bench, conv, row.facts["blocks"]) for drawn, row in ours.items()}
        found = [replace(row, limit=limits[row.side.drawn]) for row in found]
        rows += [replace(row, facts=row.facts | _outside_products(row)) for row in found]
    return Comparison("step", rows, [*sizes_note(rows), *notes])


def step_limit(bench: Bench, conv: str, blocks: Any) -> Limit:
    """What a step on these blocks takes at least, with all threads."""
    settings, limits = bench.settings, bench.limits
    is_half = settings.precision == "bf16-mixed"
    work = model_work(conv, blocks, bench.widths, settings.heads, 2 if is_half else 4, training=True)
    return Limit.of(work, limits.bandwidth, limits.bfloat16 if is_half else limits.float32)


def _sides(bench: Bench, conv: str) -> list[Side]:
    sides = []
    for keeps in (True, False):
        ways = [("gnnfast", "once", ""), ("gnnfast", "layer", "")]
        ways += [(peer, DRAWN[peer], way) for peer in bench.peers for way in _variants(peer, keeps)]
        sides += [Side(system, conv, drawn, way, bench.settings.threads, 0, keeps) for system, drawn, way in ways]
    return sides


def _variants(peer: str, keeps_freed_memory: bool) -> tuple[str, ...]:
    """PyG's default is neither trimmed nor told about memory; its best is both, with the quicker kind of edges."""
    if peer == "graphbolt":
        return ("",)
    return ("plain", "trimmed", "trimmed, adj_t") if keeps_freed_memory else ("plain",)


def _outside_products(row: Row) -> dict[str, float]:
    """How often the step's bytes could have been moved while no matrices were multiplied."""
    if "seconds_outside_products" not in row.facts:
        return {}
    assert row.limit is not None
    return {"outside_to_memory_limit": row.facts["seconds_outside_products"] / row.limit.memory_seconds}
