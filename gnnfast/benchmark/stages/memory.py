"""How much memory training and inference hold beside the graph and its features."""

from __future__ import annotations

from gnnfast.benchmark.comparison import Bench, Comparison, Row, Side
from gnnfast.benchmark.timing import Timing


def measure_memory(bench: Bench) -> Comparison:
    """gnnfast's peaks over a pass of training steps and an inference, in a process of its own for every model."""
    rows = []
    for conv in bench.settings.models:
        bench.systems.close()
        side = Side("gnnfast", conv, "layer", num_threads=bench.settings.threads)
        facts = bench.systems.process("gnnfast").prepare(bench.request("memory", side)).facts
        held = facts["graph_bytes"] + facts["feature_bytes"]
        for what in ("training", "inference"):
            peak = facts[f"{what}_bytes"]
            facts[f"{what}_bytes_beside"] = None if peak is None else peak - held
        rows.append(Row(side, Timing([facts["seconds"]]), facts))
    gibibytes = held / 2**30
    note = f"peaks beside graph and features, which take {gibibytes:.2f} GiB; Python and its libraries count"
    return Comparison("memory", rows, [note])
