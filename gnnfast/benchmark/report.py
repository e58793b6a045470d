"""What is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gnnfast.benchmark.comparison import Comparison, Row
from gnnfast.benchmark.machine import MachineLimits

if TYPE_CHECKING:
    from rich.table import Table

_SYSTEMS = {"torch_sparse": "PyG, torch_sparse", "pyg_lib": "PyG, pyg-lib", "graphbolt": "DGL, GraphBolt", "pyg": "PyG"}


def table(comparison: Comparison) -> Table:
    """A row per side; columns that no row fills are left out.

    Ratios are to gnnfast's quickest row of the same model or operation that draws alike; "same malloc" to that with the
    same setting of the allocator.
    """
    from rich.table import Table

    rows = comparison.rows
    cells = [_cells(row, rows) for row in rows]
    columns = [name for name in cells[0] if any(cell[name] for cell in cells)] if cells else []
    out = Table()
    for name in columns:
        out.add_column(name, justify="left" if name in ("model", "drawn", "system", "setting") else "right")
    for before, (row, cell) in zip([None, *rows], zip(rows, cells, strict=True), strict=False):
        if before is not None and before.side.conv != row.side.conv:
            out.add_section()
        out.add_row(*(cell[name] for name in columns), style="bold" if row.side.system == "gnnfast" else None)
    return out


def _cells(row: Row, rows: list[Row]) -> dict[str, str]:
    side = row.side
    has_workers = any(other.side.num_workers for other in rows)
    has_malloc = any(not other.side.keeps_freed_memory for other in rows)
    setting = [side.variant if side.system != "gnnfast" else ""]
    if has_workers:
        workers = row.facts.get("workers", side.num_workers)
        setting.append(f"{workers} {'threads' if side.system == 'gnnfast' else 'workers'}")
    elif side.system == "graphbolt" and any(other.side.num_threads != side.num_threads for other in rows):
        setting.append(f"{side.num_threads} threads")
    if has_malloc:
        setting.append("kept memory" if side.keeps_freed_memory else "default malloc")
    limit = row.limit
    outside = row.facts.get("outside_to_memory_limit")
    return {
        "model": side.conv,
        "drawn": side.drawn,
        "system": _SYSTEMS.get(side.system, side.system),
        "setting": ", ".join(filter(None, setting)),
        "ms": _milliseconds(row.timing.median),
        "spread": _milliseconds(row.timing.spread),
        "x gnnfast": _ratio(row, rows, same_malloc=False),
        "same malloc": _ratio(row, rows, same_malloc=True) if has_malloc else "",
        "memory limit": "" if limit is None else _milliseconds(limit.memory_seconds),
        "product limit": "" if limit is None or not limit.product_seconds else _milliseconds(limit.product_seconds),
        "of limit": "" if row.share is None else f"{row.share:.0%}",
        "training": _gibibytes(row.facts.get("training_bytes_beside")),
        "inference": _gibibytes(row.facts.get("inference_bytes_beside")),
        "outside products": "" if outside is None else f"{outside:.2f} x memory",
    }


def _gibibytes(num_bytes: int | None) -> str:
    return "" if num_bytes is None else f"{num_bytes / 2**30:.2f} GiB"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:,.0f}"


def _ratio(row: Row, rows: list[Row], same_malloc: bool) -> str:
    """How many times gnnfast's time this is."""
    ours = [
        other.timing.median
        for other in rows
        if other.side.system == "gnnfast"
        and other.side.conv == row.side.conv
        and other.side.drawn == row.side.drawn
        and other.side.keeps_freed_memory in ((row.side.keeps_freed_memory,) if same_malloc else (True,))
    ]
    return f"{row.timing.median / min(ours):.2f}" if ours else ""


def limits_lines(limits: MachineLimits, num_threads: int) -> list[str]:
    """What the machine could do, in two lines."""
    giga = 1e-9
    return [
        f"memory, 1 and {num_threads} threads: copy {limits.copy_one * giga:.1f} and {limits.copy * giga:.1f} GB/s, "
        f"triad {limits.triad_one * giga:.1f} and {limits.triad * giga:.1f}, random rows "
        f"{limits.rows_one * giga:.1f} and {limits.rows * giga:.1f}, random lines "
        f"{limits.lines_one * 1e-6:.0f} M/s on one thread",
        f"matrix products: float32 {limits.float32_one * giga:.0f} and {limits.float32 * giga:.0f} Gflop/s, "
        f"bfloat16 {limits.bfloat16_one * giga:.0f} and {limits.bfloat16 * giga:.0f}",
    ]
