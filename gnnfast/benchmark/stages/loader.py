"""Mini-batches ready with features and labels, as a training loop takes them."""

from __future__ import annotations

from gnnfast.benchmark.comparison import DRAWN, Bench, Comparison, Side, sizes_note
from gnnfast.benchmark.stages.sampler import with_limits

_WORKERS = (0, 1, 2)


def compare_loaders(bench: Bench) -> Comparison:
    """Whole passes over the seeds, nothing made ahead of them: seconds per mini-batch, by number of workers."""
    threads = bench.settings.threads
    sides = [
        Side("gnnfast", drawn=drawn, num_threads=threads, num_workers=workers)
        for drawn in ("once", "layer")
        for workers in _WORKERS
    ]
    sides += [
        Side(peer, drawn=DRAWN[peer], num_threads=threads, num_workers=workers)
        for peer in bench.peers
        for workers in _WORKERS
    ]
    notes: list[str] = []
    rows = bench.compare("loader", sides, notes)
    notes.append("the limit is that of one thread, which several together may pass")
    return Comparison("loader", with_limits(rows, bench, bench.num_features), [*sizes_note(rows), *notes])
