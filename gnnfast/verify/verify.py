"""All checks of a sampler, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import torch

from gnnfast.graph import CSCGraph, Dataset, LinkDataset
from gnnfast.verify import batches, edge_cases, law, links, repeat
from gnnfast.verify.graphs import NUM_NODES, awkward_dataset, hub_graph, with_labels
from gnnfast.verify.report import Report, Row
from gnnfast.verify.subject import Skip, Subject

_NUM_EXAMINED = 60  # mini-batches per graph that are looked at edge by edge, at most


def verify(
    sampler_factory: Callable[..., Any],
    *,
    dataset: Dataset | LinkDataset | None = None,
    graph: CSCGraph | None = None,
    seed: int = 0,
    num_draws: int = 2000,
    num_nodes: int = NUM_NODES,
    progress: Callable[[Row], None] | None = None,
) -> Report:
    """Holds a sampler to its law, and to what the loader expects of every sampler.

    Checked are the form of mini-batches, their edges against the graph's, the frequencies of edges and nodes and the
    unbiasedness that `sampler.law` claims, repetition under one seed on any thread, rank and after a stop, and seeds
    and graphs at the edge of what there is. A statistical check fails a right sampler for one `seed` in a thousand.

    Args:
        sampler_factory: Makes the sampler: takes a graph, or those of `graph`, `seed_nodes` and `labels` that are among
            its parameters. It is called several times, with several graphs.
        dataset: What to sample from, with training nodes and labels; by default three graphs made to trip samplers,
            with hubs, isolated nodes, self-loops and parallel edges: directed, weighted, undirected.
        graph: A graph without features and labels, instead of `dataset`.
        seed: Of every draw: the same seed gives the same report.
        num_draws: Mini-batches per graph that statistics are taken of.
        num_nodes: Size of the default graphs, at least 50.
        progress: Called with each row as soon as it is known.

    Returns:
        One row per check; those that do not apply say why.

    Raises:
        TypeError: If the factory makes no sampler.
        ValueError: If both `dataset` and `graph` are given, or `num_draws` is below 100.
    """
    if dataset is not None and graph is not None:
        raise ValueError("give a dataset or a graph, not both")
    if num_draws < 100:
        raise ValueError(f"num_draws must be at least 100, got {num_draws}")
    if graph is not None:
        dataset = with_labels(graph, "the graph given")
    elif isinstance(dataset, LinkDataset):
        dataset = with_labels(dataset.graph, dataset.name)
    datasets = [dataset] if dataset is not None else _default_datasets(num_nodes)
    subjects = [Subject(sampler_factory, each, seed) for each in datasets]
    for subject in subjects:
        subject.kind, subject.law  # noqa: B018  # what is no sampler at all is the caller's error, no finding
    started_at = perf_counter()
    report = Report(type(subjects[0].sampler).__name__, [], seed, num_draws)
    for name, check in _checks(subjects, num_draws, report.figures):
        if batches.STRUCTURE in report.failed:
            # Nothing but errors, or worse, can come of reading them.
            row = Row(name, "skipped", note="the structure of mini-batches is broken")
        else:
            row = _run(name, check)
        report.rows.append(row)
        if progress is not None:
            progress(row)
    report.seconds = round(perf_counter() - started_at, 3)
    return report


def _default_datasets(num_nodes: int) -> list[Dataset]:
    return [
        awkward_dataset(num_nodes=num_nodes),
        awkward_dataset(weighted=True, num_nodes=num_nodes),
        awkward_dataset(undirected=True, num_nodes=num_nodes),
    ]


def _checks(subjects: list[Subject], num_draws: int, figures: dict[str, float]) -> list[tuple[str, Callable[[], Row]]]:
    """Names and checks, in the order in which a reader wants to know."""
    first = subjects[0]
    num_examined = min(_NUM_EXAMINED, num_draws // 5)
    # Of the undirected graph, whose law is that of the others, no statistics.
    draws = [law.Draws(subject, num_draws) for subject in subjects[:2]]
    forms = (
        batches.STRUCTURE,
        batches.SEEDS,
        batches.EDGES,
        batches.WEIGHTS,
        batches.DEGREES,
        batches.DISTINCT_EDGES,
        batches.DISTINCT_NODES,
    )
    cases = ("no seeds", "one seed", "isolated seeds", "duplicate seeds")
    pairs = [subject if subject.kind == "link" else subject.as_links() for subject in subjects if subject.makes_links]
    # A sampler of edges that also takes nodes is both.
    all_kinds = [*subjects, *(pair for pair in pairs if pair not in subjects)]
    return [
        *((name, partial(edge_cases.check_faults, all_kinds, name, num_examined)) for name in forms),
        ("edge inclusion", partial(law.check_edge_inclusion, draws)),
        ("hub inclusion", lambda: law.check_hub_inclusion(first, with_labels(hub_graph(), "hubs"))),
        ("node inclusion", partial(law.check_node_inclusion, draws)),
        ("unbiased sum", partial(law.check_unbiased, draws, "sum")),
        ("unbiased mean", partial(law.check_unbiased, draws, "mean")),
        ("estimated weights", partial(law.check_estimated_weights, draws)),
        ("loss weights", partial(law.check_loss_weights, draws)),
        ("exact outputs", partial(law.check_exact, subjects)),
        ("same seed", partial(repeat.check_same_seed, all_kinds)),
        ("other seeds", partial(repeat.check_other_seeds, all_kinds)),
        ("global random state", partial(repeat.check_global_state, all_kinds)),
        ("order of calls", partial(repeat.check_order, all_kinds)),
        ("kept mini-batches", partial(repeat.check_kept_batches, all_kinds)),
        ("threads", partial(repeat.check_threads, all_kinds)),
        ("loader threads", partial(repeat.check_loader_threads, all_kinds)),
        ("loader rows", partial(repeat.check_loader_rows, all_kinds)),
        ("ranks", partial(repeat.check_ranks, all_kinds)),
        ("resume", partial(repeat.check_resume, all_kinds)),
        *((case, partial(edge_cases.check_seeds, all_kinds, case)) for case in cases),
        ("graph without edges", partial(edge_cases.check_edgeless, first)),
        ("pairs and labels", partial(links.check_labels, pairs)),
        ("negatives", partial(links.check_negatives, pairs)),
        ("excluded edges", partial(links.check_excluded, pairs)),
        ("memory", partial(edge_cases.check_memory, first, figures)),
    ]


def _run(name: str, check: Callable[[], Row]) -> Row:
    started_at = perf_counter()
    try:
        with torch.random.fork_rng(devices=[]):
            row = check()
    except Skip as skip:
        row = Row(name, "skipped", note=str(skip))
    except Exception as error:
        # Whatever a sampler raises is a finding about it, and the other checks go on.
        where = "; ".join(getattr(error, "__notes__", []))
        row = Row(name, "failed", note=f"{type(error).__name__}: {error}{f' ({where})' if where else ''}")
    return replace(row, check=name, seconds=round(perf_counter() - started_at, 3))
