"""What mini-batches of edges promise beyond those of nodes."""

from __future__ import annotations

import torch

from gnnfast.graph import MiniBatch
from gnnfast.verify.repeat import equal_row
from gnnfast.verify.report import Row
from gnnfast.verify.subject import Skip, Subject

_NUM_BATCHES = 30


def check_labels(subjects: list[Subject]) -> Row:
    """The seed edges come first and are labelled 1, their negatives 0; rows are those of their ends."""
    _need_links(subjects)
    wrong = total = 0
    first = ""
    for subject in subjects:
        for number in range(_NUM_BATCHES):
            message = _label_fault(subject, subject.draw(number))
            wrong += bool(message)
            total += 1
            first = first or (f"{subject.name}: {message}" if message else "")
    return Row("pairs and labels", "failed" if wrong else "passed", f"{wrong} of {total} wrong", "0", first)


def _label_fault(subject: Subject, batch: MiniBatch) -> str:
    pairs, rows, labels = batch.seed_edges, batch.edge_rows, batch.edge_labels
    num_positives = subject.seeds.shape[1]
    if pairs is None or rows is None or labels is None:
        return "seed_edges, edge_rows or edge_labels is missing"
    if rows.shape != pairs.shape or labels.shape != pairs.shape[1:] or labels.dtype != torch.float32:
        return f"shapes do not fit: {tuple(pairs.shape)}, {tuple(rows.shape)}, {tuple(labels.shape)}"
    if not torch.equal(pairs[:, :num_positives], subject.seeds):
        return "the pairs do not begin with the seed edges"
    if not bool((labels[:num_positives] == 1).all()) or bool((labels[num_positives:] != 0).any()):
        return "labels are not 1 for the seed edges and 0 after them"
    if (pairs.shape[1] - num_positives) % max(num_positives, 1):
        return f"{pairs.shape[1] - num_positives} negatives for {num_positives} seed edges"
    outputs = batch.node_ids[: batch.blocks[-1].num_dst]
    if int(rows.max()) >= outputs.numel() or not torch.equal(outputs[rows], pairs):
        return "edge_rows are not those of the ends"
    return ""


def check_negatives(subjects: list[Subject]) -> Row:
    """No negative is an edge of the graph, where that is promised (`avoid_edges`)."""
    _need_links(subjects)
    total = wrong = 0
    for subject in subjects:
        graph = subject.dataset.graph
        num_nodes = graph.num_nodes
        edges = graph.to_edge_index()
        keys = edges[0] * num_nodes + edges[1]
        for number in range(_NUM_BATCHES):
            batch = subject.draw(number)
            assert batch.seed_edges is not None
            negatives = batch.seed_edges[:, subject.seeds.shape[1] :]
            found = torch.isin(negatives[0] * num_nodes + negatives[1], keys)
            wrong += int(found.sum())
            total += negatives.shape[1]
    if total == 0:
        raise Skip("no negatives are drawn at these settings")
    if not getattr(subjects[0].sampler, "avoid_edges", False):
        raise Skip(f"not promised: {wrong} of {total} negatives are edges of the graph")
    return Row("negatives", "failed" if wrong else "passed", f"{wrong} of {total} are edges", "0")


def check_excluded(subjects: list[Subject]) -> Row:
    """No message flows along a seed edge, in either direction, where that is promised (`exclude_seed_edges`)."""
    _need_links(subjects)
    if not getattr(subjects[0].sampler, "exclude_seed_edges", False):
        raise Skip("not promised (exclude_seed_edges)")
    outcomes = []
    for subject in subjects:
        num_nodes = subject.num_nodes
        ends = torch.cat([subject.seeds, subject.seeds.flip(0)], dim=1)
        excluded = ends[0] * num_nodes + ends[1]
        wrong = total = 0
        for number in range(_NUM_BATCHES):
            batch = subject.draw(number)
            for block in batch.blocks:
                src, dst = batch.node_ids[block.edge_index]
                wrong += int(torch.isin(src * num_nodes + dst, excluded).sum())
                total += block.num_edges
        outcomes.append((subject.name, wrong, total))
    return equal_row("excluded edges", outcomes, "are seed edges")


def _need_links(subjects: list[Subject]) -> None:
    if not subjects:
        raise Skip("the sampler is not one of edges")
