"""Whether mini-batches repeat themselves: on other threads, in another order, on other ranks, after a stop."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import Dataset, LinkDataset, MiniBatch
from gnnfast.loader import DataLoader
from gnnfast.runtime.buffers import Reuse, pooling_from
from gnnfast.verify.contents import digest
from gnnfast.verify.report import Row
from gnnfast.verify.subject import Skip, Subject

_NUM_CALLS = 24
_BATCH_SIZE = 32


def equal_row(check: str, outcomes: list[tuple[str, int, int]], what: str = "differ") -> Row:
    """The row of counts that must be 0: for each graph its name, how many, of how many."""
    graph, wrong, total = max(outcomes, key=lambda outcome: outcome[1])
    total = sum(outcome[2] for outcome in outcomes)
    wrong = sum(outcome[1] for outcome in outcomes)
    return Row(check, "failed" if wrong else "passed", f"{wrong} of {total} {what}", "0", graph if wrong else "")


def pooled_row(row: Row, reuse: Reuse) -> Row:
    """The row of a check that memory goes round in, which says whether any did."""
    if row.verdict == "failed" or not reuse.leased:
        return row
    note = "pooled memory went round" if reuse.again else "no pooled memory came back"
    return replace(row, note=f"{row.note}; {note}" if row.note else note)


def check_same_seed(subjects: list[Subject]) -> Row:
    """The same seed gives the same mini-batch: again, and from a new sampler with the same arguments."""
    outcomes = []
    for subject in subjects:
        first = [digest([subject.draw(number)]) for number in range(8)]
        new = subject.make()
        again = [digest([subject.draw(number)]) for number in range(8)]
        other = [digest([subject.draw(number, sampler=new)]) for number in range(8)]
        wrong = sum(len({a, b, c}) > 1 for a, b, c in zip(first, again, other, strict=True))
        outcomes.append((subject.name, wrong, 8))
    return equal_row("same seed", outcomes)


def check_other_seeds(subjects: list[Subject]) -> Row:
    """Another seed gives another mini-batch, unless nothing is left to chance."""
    outcomes = []
    for subject in subjects:
        # Of an epoch sampler the same mini-batch of several epochs.
        step = subject.sampler.num_batches if subject.kind == "epoch" else 1
        drawn = {digest([subject.draw(number * step)]) for number in range(8)}
        if len(drawn) > 1 or _claims_chance(subject):
            outcomes.append((subject.name, len(drawn)))
    graph, fewest = min(outcomes, key=lambda outcome: outcome[1], default=("", 1))
    if not outcomes:
        raise Skip("every seed gives the same mini-batch: nothing is drawn, or all of it at these settings")
    return Row("other seeds", "passed" if fewest > 1 else "failed", f"{fewest} of 8 distinct", ">= 2", graph)


def _claims_chance(subject: Subject) -> bool:
    """Whether the law names a probability between 0 and 1."""
    law = subject.law
    if subject.kind == "epoch":
        probability = None if law.node_inclusion is None else law.node_inclusion()
    else:
        probability = None if law.edge_inclusion is None else law.edge_inclusion(subject.distinct_seeds)
    return probability is not None and bool(((probability > 0) & (probability < 1)).any())


def check_global_state(subjects: list[Subject]) -> Row:
    """Mini-batches neither depend on the random numbers of torch, numpy and Python nor use them up."""
    outcomes = []
    states = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
    try:
        for subject in subjects:
            seen = []
            used = 0
            for seed in (1, 2):
                random.seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                torch.manual_seed(seed)
                before = _global_numbers()
                random.seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                torch.manual_seed(seed)
                seen.append(digest(subject.draw(number) for number in range(4)))
                used += _global_numbers() != before
            outcomes.append((subject.name, used + (seen[0] != seen[1]), 3))
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
    return equal_row("global random state", outcomes, "used or felt")


def _global_numbers() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


def check_order(subjects: list[Subject]) -> Row:
    """Calls do not influence each other: order is irrelevant, arguments and graph stay as they were."""
    outcomes = []
    for subject in subjects:
        graph = subject.dataset.graph
        held = [tensor.clone() for tensor in _graph_tensors(graph)]
        asked = subject.seeds.clone()
        forward = {number: digest([subject.draw(number)]) for number in range(_NUM_CALLS)}
        backward = {number: digest([subject.draw(number)]) for number in reversed(range(_NUM_CALLS))}
        wrong = sum(forward[number] != backward[number] for number in forward)
        wrong += not torch.equal(asked, subject.seeds)
        wrong += not all(torch.equal(a, b) for a, b in zip(held, _graph_tensors(graph), strict=True))
        outcomes.append((subject.name, wrong, _NUM_CALLS + 2))
    return equal_row("order of calls", outcomes)


def _graph_tensors(graph: Any) -> Iterator[Tensor]:
    for name in ("indptr", "indices", "edge_ids", "edge_weight", "degree", "self_loop_weight"):
        tensor = getattr(graph, name)
        if tensor is not None:
            yield tensor


def check_kept_batches(subjects: list[Subject]) -> Row:
    """A mini-batch stays as it is while others are made."""
    outcomes = []
    with pooling_from(1) as reuse:
        for subject in subjects:
            kept, before = [], []
            for number in range(_NUM_CALLS):
                kept.append(subject.draw(number))
                before.append(digest(kept[-1:]))
            for number in range(_NUM_CALLS):
                subject.draw(_NUM_CALLS + number)
            wrong = sum(digest([batch]) != was for batch, was in zip(kept, before, strict=True))
            outcomes.append((subject.name, wrong, _NUM_CALLS))
    return pooled_row(equal_row("kept mini-batches", outcomes, "changed"), reuse)


def check_threads(subjects: list[Subject]) -> Row:
    """Threads that sample at once, from one sampler, get the mini-batches of one."""
    outcomes = []
    for subject in subjects:
        alone = [digest([subject.draw(number)]) for number in range(_NUM_CALLS)]
        with pooling_from(1) as reuse:
            for num_threads in (2, 8):
                with ThreadPoolExecutor(num_threads) as threads:
                    together = list(threads.map(lambda number: digest([subject.draw(number)]), range(_NUM_CALLS)))  # noqa: B023
                wrong = sum(a != b for a, b in zip(alone, together, strict=True))
                outcomes.append((f"{subject.name}, {num_threads} threads", wrong, _NUM_CALLS))
    return pooled_row(equal_row("threads", outcomes), reuse)


def loader(subject: Subject, num_threads: int = 0, rank: int = 0, world_size: int = 1) -> DataLoader:
    """Feeds the subject's mini-batches as training would."""
    dataset: Dataset | LinkDataset = subject.dataset
    if subject.kind == "link":
        none = subject.seeds[:, :0]
        dataset = LinkDataset(subject.name, dataset.graph, subject.seeds, none, none, subject.dataset.features)
    return DataLoader(
        dataset,
        subject.sampler,
        batch_size=_BATCH_SIZE,
        seed=subject.seed,
        num_threads=num_threads,
        rank=rank,
        world_size=world_size,
    )


def check_loader_threads(subjects: list[Subject]) -> Row:
    """An epoch of the loader is the same with 0, 1, 2 and 8 threads."""
    outcomes = []
    for subject in subjects:
        epochs = [[digest([batch]) for batch in loader(subject, num_threads)] for num_threads in (0, 1, 2, 8)]
        for epoch, num_threads in zip(epochs[1:], (1, 2, 8), strict=True):
            wrong = sum(a != b for a, b in zip(epochs[0], epoch, strict=True))
            outcomes.append((f"{subject.name}, {num_threads} threads", wrong, len(epoch)))
    return equal_row("loader threads", outcomes)


def check_loader_rows(subjects: list[Subject]) -> Row:
    """Features and labels are those of the nodes; an epoch has every training node."""
    outcomes = []
    for subject in subjects:
        dataset = subject.dataset
        wrong = total = 0
        seen: list[Tensor] = []
        for batch in loader(subject):
            assert batch.x is not None
            wrong += not torch.equal(batch.x, dataset.features.gather(batch.node_ids))
            if subject.kind != "link":
                assert batch.y is not None
                wrong += not torch.equal(batch.y, dataset.labels[batch.seed_nodes])
                wrong += not bool(torch.isin(batch.seed_nodes, dataset.train_ids).all())
                seen.append(batch.seed_nodes)
            total += 1
        if subject.kind == "seed":
            wrong += not torch.equal(torch.cat(seen).sort().values, dataset.train_ids.sort().values)
        outcomes.append((dataset.name, wrong, total))
    return equal_row("loader rows", outcomes, "wrong")


def check_resume(subjects: list[Subject]) -> Row:
    """A loader that is given another's state inside an epoch goes on with the same mini-batches."""
    outcomes = []
    for subject in subjects:
        whole = [digest([batch]) for batch in loader(subject)] + [digest([batch]) for batch in _second_epoch(subject)]
        num_steps = len(loader(subject))
        for stop in {1, num_steps // 2, num_steps}:
            stopped = loader(subject, num_threads=2)
            batches = iter(stopped)
            for _ in islice(batches, stop):
                pass
            state = stopped.state_dict()
            resumed = loader(subject, num_threads=1)
            resumed.load_state_dict(state)
            rest = [digest([batch]) for batch in resumed]
            rest += [digest([batch]) for batch in resumed]
            expected = whole[stop:]
            wrong = abs(len(rest) - len(expected)) + sum(a != b for a, b in zip(rest, expected, strict=False))
            outcomes.append((f"{subject.name}, after step {stop}", wrong, len(expected)))
    return equal_row("resume", outcomes)


def _second_epoch(subject: Subject) -> Iterator[MiniBatch]:
    second = loader(subject)
    second.set_epoch(1)
    return iter(second)


def check_ranks(subjects: list[Subject]) -> Row:
    """What several ranks make of a step is, together, what one makes of it."""
    subjects = [subject for subject in subjects if subject.kind == "epoch" or subject.law.rank_invariant]
    if not subjects:
        raise Skip("draws depend on the whole batch, the law says (rank_invariant=False)")
    outcomes = []
    for subject in subjects:
        for world_size in (2, 3):
            loaders = [loader(subject, rank=rank, world_size=world_size) for rank in range(world_size)]
            wrong = total = 0
            for one, *shares in zip(loader(subject), *loaders, strict=True):
                wrong += not _adds_up(subject, one, shares)
                total += 1
            outcomes.append((f"{subject.name}, {world_size} ranks", wrong, total))
    return equal_row("ranks", outcomes, "steps differ")


def _adds_up(subject: Subject, one: MiniBatch, shares: list[MiniBatch]) -> bool:
    if any(share.num_step_seeds != one.num_step_seeds for share in shares):
        return False
    parts = [_seeds_by_label(share) for share in shares]
    together = [torch.cat(same, dim=-1) for same in zip(*parts, strict=True)]
    if not all(torch.equal(a, b) for a, b in zip(together, _seeds_by_label(one), strict=True)):
        return False
    if subject.kind == "epoch":
        return all(
            digest([MiniBatch(one.node_ids, share.node_ids, share.blocks)])
            == digest([MiniBatch(one.node_ids, one.node_ids, one.blocks)])
            for share in shares
        )
    if not subject.law.distinct_nodes:
        # Every seed has rows of its own: they add up.
        return all(
            Counter(_edges_by_row(one, layer))
            == Counter(edge for share in shares for edge in _edges_by_row(share, layer))
            for layer in range(len(one.blocks))
        )
    is_subgraph = len(one.blocks) == 1 and one.num_nodes == one.num_outputs
    for layer in range(len(one.blocks)):
        whole = dict(_columns(one, layer))
        union: dict[int, tuple[Any, ...]] = {}
        for share in shares:
            for node, column in _columns(share, layer):
                # At the rim of a share's subgraph edges may be missing that another share brings in.
                if is_subgraph and node not in share.seed_nodes:
                    if not set(column) <= set(whole.get(node, ())):
                        return False
                elif whole.get(node) != column:
                    return False
                union[node] = column
        if union.keys() != whole.keys():
            return False
    return True


def _seeds_by_label(batch: MiniBatch) -> tuple[Tensor, ...]:
    """Seed nodes; of edges those that are and those that are none."""
    if batch.seed_edges is None or batch.edge_labels is None:
        return (batch.seed_nodes,)
    return batch.seed_edges[:, batch.edge_labels == 1], batch.seed_edges[:, batch.edge_labels == 0]


def _columns(batch: MiniBatch, layer: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Each destination of a layer with what was drawn for it, in global ids."""
    block = batch.blocks[layer]
    edges = list(_edges_by_row(batch, layer))
    bounds = block.indptr.tolist()
    for row, node in enumerate(batch.node_ids[: block.num_dst].tolist()):
        yield node, tuple(edges[bounds[row] : bounds[row + 1]])


def _edges_by_row(batch: MiniBatch, layer: int) -> Iterator[tuple[Any, ...]]:
    """Destination, source, weights and id of each edge."""
    block, ids = batch.blocks[layer], batch.node_ids
    parts = [ids[block.dst_index].tolist(), ids[block.indices.long()].tolist()]
    if block.edge_weight is not None:
        parts.append(block.edge_weight.tolist())
    # A share may have no edge left out, and so no weights.
    weight = torch.ones(block.num_edges) if block.inclusion_weight is None else block.inclusion_weight
    parts.append(weight.tolist())
    if block.edge_ids is not None:
        parts.append(block.edge_ids.tolist())
    return zip(*parts, strict=True)
