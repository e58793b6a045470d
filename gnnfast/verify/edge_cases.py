"""Seeds and graphs at the edge of what there is."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import torch
from torch import Tensor

from gnnfast.runtime.buffers import pooling_from
from gnnfast.runtime.memory import held_bytes
from gnnfast.verify.batches import SEEDS, STRUCTURE, faults_of
from gnnfast.verify.contents import contents
from gnnfast.verify.graphs import edgeless_graph, with_labels
from gnnfast.verify.repeat import pooled_row
from gnnfast.verify.report import Row
from gnnfast.verify.subject import Skip, Subject

_NUM_BATCHES = 100
_LARGEST_LEAK = 0.1


def check_faults(subjects: list[Subject], check: str, num_batches: int) -> Row:
    """No mini-batch has a fault of this name."""
    law = subjects[0].law
    reasons = {
        "edges of the graph": (not law.graph_edges, "edges need not be the graph's, the law says (graph_edges=False)"),
        "edge weights": (not law.graph_edges, "edges need not be the graph's, the law says (graph_edges=False)"),
        "distinct edges": (not law.distinct, "an edge may come again, the law says (distinct=False)"),
        "distinct nodes": (not law.distinct_nodes, "a node may have several rows, the law says (distinct_nodes=False)"),
    }
    applies, reason = reasons.get(check, (False, ""))
    if applies:
        raise Skip(reason)
    wrong, total, first = 0, 0, ""
    for subject in subjects:
        for number in range(num_batches):
            faults = subject.faults(number)
            found = [fault for fault in faults if fault.check == check]
            wrong += bool(found)
            total += 1
            first = first or (f"{subject.name}: {found[0].message}" if found else "")
    return Row(check, "failed" if wrong else "passed", f"{wrong} of {total} wrong", "0", first)


def check_seeds(subjects: list[Subject], case: str) -> Row:
    """Seeds of a special kind get a mini-batch without faults.

    Args:
        case: "no seeds", "one seed", "isolated seeds" or "duplicate seeds".
    """
    if subjects[0].kind == "epoch":
        raise Skip("the sampler chooses its own nodes")
    faults, total, refusal = [], 0, ""
    for subject in subjects:
        for number, seeds in enumerate(_special_seeds(subject, case)):
            try:
                batch = subject.draw(number, seeds)
            except ValueError as error:
                if case != "duplicate seeds" or subject.kind != "seed":
                    raise
                refusal = f"refused ({error}): the loader gives every seed once"
                total += 1
                continue
            asked = seeds if subject.kind == "seed" else None
            name = subject.name
            found = faults_of(batch, subject.graph, subject.law, subject.kind, asked, subject.has_halo)
            # What else is wrong has checks of its own.
            found = [fault for fault in found if fault.check in (STRUCTURE, SEEDS)]
            faults += [f"{name}: {fault.message}" for fault in found[:1]]
            if case in ("no seeds", "isolated seeds") and subject.kind == "seed" and subject.law.graph_edges:
                outputs = batch.at_seeds(batch.blocks[-1].indptr.diff())
                if int(outputs.sum()):
                    faults.append(f"{name}: isolated nodes hear somebody")
            total += 1
    return Row(case, "failed" if faults else "passed", f"{len(faults)} of {total} wrong", "0", (faults or [refusal])[0])


def _special_seeds(subject: Subject, case: str) -> Iterable[Tensor]:
    if subject.kind == "link":
        pairs = subject.seeds
        silent = (subject.dataset.graph.in_degree == 0).nonzero().view(-1)
        cases = {
            "no seeds": [pairs[:, :0]],
            "one seed": [pairs[:, :1], pairs[:, 1:2]],
            "isolated seeds": [torch.stack([silent, silent.flip(0)])],
            "duplicate seeds": [pairs[:, :5].repeat(1, 2)],
        }
        return cases[case]
    graph = subject.dataset.graph
    silent = (graph.in_degree == 0).nonzero().view(-1)
    hub, low = int(graph.in_degree.argmax()), int(graph.in_degree.argmin())
    cases = {
        "no seeds": [torch.empty(0, dtype=torch.int64)],
        "one seed": [torch.tensor([node]) for node in (hub, low, 7)],
        "isolated seeds": [silent] if silent.numel() else [],
        "duplicate seeds": [torch.tensor([hub, low, hub, 7, 7, low, hub]), subject.seeds.repeat(2)],
    }
    return cases[case]


def check_edgeless(subject: Subject) -> Row:
    """A graph without edges gives mini-batches without edges."""
    check = "graph without edges"
    edgeless = subject.on(with_labels(edgeless_graph(), "no edges"))
    if subject.kind == "link":
        raise Skip("there are no pairs to train on")
    try:
        edgeless.sampler  # noqa: B018
    except ValueError as error:
        raise Skip(f"refused: {error}") from error
    faults = []
    for number in range(4):
        faults += edgeless.faults(number)
        num_edges = edgeless.draw(number).num_edges
    if num_edges:
        return Row(check, "failed", f"{num_edges} edges", "0")
    return Row(
        check, "failed" if faults else "passed", f"{len(faults)} faults", "0", faults[0].message if faults else ""
    )


def check_memory(subject: Subject, figures: dict[str, float]) -> Row:
    """Mini-batches give their memory back; their size and the time they take are reported."""
    for number in range(20):
        subject.draw(number)
    before = held_bytes()
    started_at = perf_counter()
    handed_out = largest = 0
    for number in range(_NUM_BATCHES):
        size = sum(tensor.nbytes for _, tensor in contents(subject.draw(number)))
        handed_out += size
        largest = max(largest, size)
    figures["ms per mini-batch"] = round(1e3 * (perf_counter() - started_at) / _NUM_BATCHES, 4)
    figures["bytes per mini-batch"] = handed_out / _NUM_BATCHES
    figures["bytes of the largest"] = largest
    # Memory that goes round at other sizes as well must come back as surely.
    with pooling_from(1) as reuse:
        for number in range(_NUM_BATCHES):
            handed_out += sum(tensor.nbytes for _, tensor in contents(subject.draw(number)))
    after = held_bytes()
    if not before:
        raise Skip("this system does not tell how much memory a process holds")
    growth = max(0, *(after[measure] - before[measure] for measure in before))
    # malloc itself may take a megabyte more.
    is_right = growth <= max(_LARGEST_LEAK * handed_out, 2**20)
    kib = f"{figures['bytes per mini-batch'] / 1024:.0f} KiB per mini-batch"
    measured = f"{growth / 2**20:.2f} MiB kept"
    allowed = f"<= {max(_LARGEST_LEAK * handed_out / 2**20, 1):.1f} MiB"
    note = f"{2 * _NUM_BATCHES} mini-batches, {kib}"
    return pooled_row(Row("memory", "passed" if is_right else "failed", measured, allowed, note), reuse)
