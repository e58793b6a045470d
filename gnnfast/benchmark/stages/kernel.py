"""Single operations on the largest block of a mini-batch, each beside other libraries'."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from gnnfast.benchmark.comparison import Bench, Comparison, Limit, Row, Side
from gnnfast.benchmark.work import Work, operation_bytes

_DIRECTIONS = ("forward", "backward")
_OTHERS = {
    **{f"{reduce} {way}": ("torch", "torch_sparse", "pyg") for reduce in ("sum", "mean", "max") for way in _DIRECTIONS},
    **{f"attention {way}": ("pyg",) for way in _DIRECTIONS},
    "gather": ("torch",),
    "relabel": ("torch",),
    "transpose": ("torch", "torch_sparse"),
}
_SERIAL = ("gather", "relabel", "transpose")  # run by the loader's threads, each its own


def compare_kernels(bench: Bench) -> Comparison:
    """All in one process that keeps freed memory, operation by operation."""
    rows: list[Row] = []
    notes: list[str] = []
    for operation, libraries in _OTHERS.items():
        threads = 1 if operation in _SERIAL else bench.settings.threads
        known = [name for name in libraries if name != "torch_sparse" or find_spec(name) is not None]
        sides = [Side(library, operation, num_threads=threads) for library in ("gnnfast", *known)]
        found = bench.compare("kernel", sides, notes, process="kernels")
        rows += [replace(row, limit=_limit(row, bench)) for row in found]
    num_dst, num_src, num_edges = rows[0].facts["block"]
    block = f"the block: {num_dst:,} destinations, {num_src:,} sources, {num_edges:,} edges; "
    return Comparison("kernel", rows, [f"{block}{rows[0].facts['channels']} channels", *notes])


def _limit(row: Row, bench: Bench) -> Limit:
    limits = bench.limits
    work = Work(operation_bytes(row.side.conv, row.facts["block"], row.facts["channels"], bench.settings.heads))
    if row.side.conv == "gather":
        return Limit.of(work, limits.rows_one)
    return Limit.of(work, limits.bandwidth_one if row.side.conv in _SERIAL else limits.bandwidth)
