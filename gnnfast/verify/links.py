"""What mini-batches of edges promise beyond those of nodes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gnnfast.graph import MiniBatch
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.verify.repeat import equal_row
from gnnfast.verify.report import Row
from gnnfast.verify.subject import Skip, Subject

_NUM_BATCHES = 30
_NUM_UNCONNECTED = 1000


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
    """No negative is an edge of the graph, in either direction, the pair that it is drawn for, or a node with itself,
    where that is promised (`avoid_edges`).
    """
    _need_links(subjects)
    total = 0
    counts = dict.fromkeys(("edges", "edges turned around", "the pair itself", "one node twice"), 0)
    for subject in subjects:
        num_nodes = subject.num_nodes
        edges = subject.dataset.graph.to_edge_index()
        # Of pairs that are no edges, the ones to predict, nothing else keeps the pair itself away.
        for number, seeds in enumerate([subject.seeds, *_unconnected(subject)] * (_NUM_BATCHES // 2)):
            batch = subject.draw(number, seeds)
            assert batch.seed_edges is not None
            num_pairs = seeds.shape[1]
            src, dst = batch.seed_edges[:, num_pairs:]
            if src.numel() == 0:
                continue
            keys, turned = src * num_nodes + dst, dst * num_nodes + src
            known = edges[0] * num_nodes + edges[1]
            own = (seeds[0] * num_nodes + seeds[1]).repeat_interleave(src.numel() // num_pairs)
            counts["edges"] += int(torch.isin(keys, known).sum())
            counts["edges turned around"] += int((torch.isin(turned, known) & ~torch.isin(keys, known)).sum())
            counts["the pair itself"] += int(((keys == own) | (turned == own)).sum())
            counts["one node twice"] += int((src == dst).sum())
            total += src.numel()
    if total == 0:
        raise Skip("no negatives are drawn at these settings")
    found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if not getattr(subjects[0].sampler, "avoid_edges", False):
        raise Skip(f"not promised: {counts['edges']} of {total} negatives are edges of the graph")
    wrong = sum(counts.values())
    return Row("negatives", "failed" if wrong else "passed", f"{wrong} of {total} wrong", "0", found)


def _unconnected(subject: Subject) -> Iterator[Tensor]:
    """Pairs without an edge, int64 `(2, num_pairs)`; many, so that a negative of a small graph may well be its own."""
    num_nodes = subject.num_nodes
    generator = torch.Generator().manual_seed(derive_seed(subject.seed, 78) % 2**63)
    src, dst = torch.randint(num_nodes, (2, _NUM_UNCONNECTED), generator=generator)
    edges = subject.dataset.graph.to_edge_index()
    known = torch.cat([edges[0] * num_nodes + edges[1], edges[1] * num_nodes + edges[0]])
    yield torch.stack([src, dst])[:, ~torch.isin(src * num_nodes + dst, known) & (src != dst)].contiguous()


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
