"""All checks of a sampler, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import torch

from gnnfast.graph import CSCGraph, Dataset
from gnnfast.verify import batches, edge_cases, law, links, repeat
from gnnfast.verify.graphs import NUM_NODES, awkward_dataset, hub_graph, with_labels
from gnnfast.verify.report import Report, Row
from gnnfast.verify.subject import Skip, Subject

_NUM_EXAMINED = 60  # mini-batches per graph that are looked at edge by edge


def verify(
    sampler_factory: Callable[..., Any],
    *,
    dataset: Dataset | None = None,
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
    datasets = [dataset] if dataset is not None else _default_datasets(num_nodes)
    subjects = [Subject(sampler_factory, each, seed) for each in datasets]
    for subject in subjects:
        subject.kind, subject.law  # noqa: B018  # what is no sampler at all is the caller's error, no finding
    started_at = perf_counter()
    report = Report(type(subjects[0].sampler).__name__, [], seed, num_draws)
    for name, check in _checks(subjects, num_draws, report.figures):
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
    return [
        *((name, partial(edge_cases.check_faults, subjects, name, _NUM_EXAMINED)) for name in forms),
        ("edge inclusion", partial(law.check_edge_inclusion, draws)),
        ("hub inclusion", lambda: law.check_hub_inclusion(first, with_labels(hub_graph(), "hubs"))),
        ("node inclusion", partial(law.check_node_inclusion, draws)),
        ("unbiased sum", partial(law.check_unbiased, draws, "sum")),
        ("unbiased mean", partial(law.check_unbiased, draws, "mean")),
        ("loss weights", partial(law.check_loss_weights, draws)),
        ("exact outputs", partial(law.check_exact, subjects)),
        ("same seed", partial(repeat.check_same_seed, subjects)),
        ("other seeds", partial(repeat.check_other_seeds, subjects)),
        ("global random state", partial(repeat.check_global_state, subjects)),
        ("order of calls", partial(repeat.check_order, subjects)),
        ("kept mini-batches", partial(repeat.check_kept_batches, subjects)),
        ("threads", partial(repeat.check_threads, subjects)),
        ("loader threads", partial(repeat.check_loader_threads, subjects)),
        ("loader rows", partial(repeat.check_loader_rows, subjects)),
        ("ranks", partial(repeat.check_ranks, subjects)),
        ("resume", partial(repeat.check_resume, subjects[:2])),
        *((case, partial(edge_cases.check_seeds, subjects, case)) for case in cases),
        ("graph without edges", partial(edge_cases.check_edgeless, first)),
        ("pairs and labels", partial(links.check_labels, subjects)),
        ("negatives", partial(links.check_negatives, subjects)),
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
