"""An epoch: training on all training nodes, and evaluation of all validation and test nodes."""

from __future__ import annotations

from gnnfast.benchmark.comparison import Bench, Comparison, Row, Side

_PEERS = ("torch_sparse", "pyg_lib")


def compare_epochs(bench: Bench) -> Comparison:
    """gnnfast's loop as it comes; PyG's as in its examples, and trimmed with kept memory and its best workers."""
    rows: list[Row] = []
    notes: list[str] = []
    for conv in bench.settings.models:
        threads = bench.settings.threads
        sides = [Side("gnnfast", conv, drawn, num_threads=threads, num_workers=1) for drawn in ("once", "layer")]
        for peer in (peer for peer in bench.peers if peer in _PEERS):
            sides.append(Side(peer, conv, "once", "trimmed", threads))
            sides.append(Side(peer, conv, "once", "plain", threads, keeps_freed_memory=False))
        # Sides have warmed up on some steps; a whole epoch would take as long as what is measured.
        rows += bench.compare("epoch", sides, notes, warm_up=False, min_rounds=1)
    return Comparison("epoch", rows, notes)
