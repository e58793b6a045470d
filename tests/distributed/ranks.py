"""What the ranks of these tests do: `python -m tests.distributed.ranks`, the job being a function's name."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "tests.distributed.ranks")
ROOT = Path(__file__).parents[2]


def rank() -> int:
    return int(os.environ["RANK"])


def write(folder: str, result: Any) -> None:
    (Path(folder) / f"{rank()}.json").write_text(json.dumps(result))


def fail(way: str, rank_: int) -> None:
    """One rank fails in some way while the others wait for it."""
    from gnnfast.distributed import world

    here = world()
    here.wait()
    if here.rank == rank_:
        match way:
            case "raises":
                raise ValueError("no such thing\nas this")
            case "leaves":
                os._exit(0)
            case "leaves with 3":
                os._exit(3)
            case _:
                os.kill(os.getpid(), signal.Signals[way])
    here.wait()


def all_raise() -> None:
    raise ValueError("the setting is wrong")


def raise_without_leaving(rank_: int) -> None:
    """A rank raises while a thread of its own goes on, and the other computes for ever, deaf to SIGTERM."""
    if rank() == rank_:
        threading.Thread(target=time.sleep, args=(600,)).start()
        raise ValueError("one is wrong")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def talk(folder: str) -> None:
    import torch

    from gnnfast.distributed import world

    here = world()
    bounds = here.bounds(torch.tensor([5.0, 0, 0, 1, 1, 1, 1, 1, 5]))
    rows = torch.full((9, 2), -1.0, dtype=torch.bfloat16)
    rows[bounds[here.rank] : bounds[here.rank + 1]] = here.rank
    first = [torch.full((2,), here.rank)]
    here.copy_from_first(first)
    write(
        folder,
        {
            "bounds": bounds,
            "rows": here.exchange(rows, bounds)[:, 1].tolist(),
            "sum": here.sum(torch.tensor([here.rank, 1])).tolist(),
            "largest": here.largest([here.rank, -here.rank]),
            "agree": here.agree(f"rank {here.rank}"),
            "gather": here.gather(here.rank),
            "first": first[0].tolist(),
            "threads": os.environ["OMP_NUM_THREADS"],
        },
    )


def stop_when_told(folder: str) -> None:
    """Writes down every signal; leaves a second after the first."""
    signals: list[int] = []
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, frame: signals.append(number))
    write(folder, {"pid": os.getpid(), "signals": []})
    while not signals:
        time.sleep(0.02)
    time.sleep(1)
    write(folder, {"pid": os.getpid(), "signals": signals})
    sys.exit(128 + signals[0])


def never_stop(folder: str) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    write(folder, {"pid": os.getpid()})
    time.sleep(600)


def share(folder: str, num_features: int, features: str | None) -> None:
    """Says what a shared data set holds and what memory it takes."""
    import gc

    import torch

    from gnnfast.distributed import shared, world
    from gnnfast.graph import FeatureStore
    from gnnfast.runtime.allocator import give_back_freed_memory, keep_freed_memory
    from tests.distributed.datasets import NUM_NODES, ring

    keep_freed_memory()
    here = world()
    built: list[int] = []

    def build() -> object:
        built.append(here.rank)
        return ring(num_features, None if features is None else FeatureStore.from_npy(features))

    def total_of(dataset: Any) -> float:
        """Goes through everything."""
        total = sum(float(dataset.features.gather(ids).double().sum()) for ids in torch.arange(NUM_NODES).split(1000))
        total += sum(float(rows.double().sum()) for rows in dataset.features.rows.split(1000))
        return total + float(dataset.graph.indices.sum() + dataset.labels.sum())

    total_of(ring(1))  # compiled code is memory as well
    give_back_freed_memory()
    before = pss_bytes()
    dataset: Any = shared(here, build, "ring")
    gc.collect()
    total = total_of(dataset)
    give_back_freed_memory()
    here.wait()
    told = {"total": total, "built": built, "pss": pss_bytes() - before}
    here.wait()
    dataset.features.rows[0] = here.rank
    here.wait()
    write(folder, {**told, "first": float(dataset.features.rows[0, 0])})
    here.wait()


def pss_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def share_failure() -> None:
    from gnnfast.distributed import shared, world

    def build() -> object:
        raise FileNotFoundError("there is no such data set")

    shared(world(), build, "missing")


def share_what_cannot_be(folder: str) -> None:
    from gnnfast.distributed import shared, world

    value = shared(world(), lambda: [lambda: 3], "functions")
    write(folder, value[0]())


def evaluate(folder: str) -> None:
    """Every evaluation, by all ranks together and by each alone."""
    from gnnfast.distributed import World, world
    from tests.distributed.evaluations import evaluations

    together, alone = evaluations(world()), evaluations(World())
    write(folder, {"together": together, "alone": alone})


def steps(folder: str, name: str) -> None:
    from tests.distributed.trainings import fifty_steps

    write(folder, fifty_steps(name))


def uneven(folder: str, num_runs: int) -> None:
    from tests.distributed.trainings import uneven_runs

    write(folder, uneven_runs(num_runs))


def resume(folder: str, kind: str) -> None:
    from tests.distributed.trainings import unbroken_and_resumed_run

    unbroken_and_resumed_run(Path(folder), kind)


def do(job: str) -> None:
    name, *arguments = json.loads(job)
    work: Callable[..., None] = globals()[name]
    work(*arguments)


if __name__ == "__main__":
    from gnnfast.distributed import run_rank

    run_rank(do, lambda error: f"{type(error).__name__}: {' '.join(str(error).split())}")
