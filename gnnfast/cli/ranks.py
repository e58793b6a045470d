"""Training on several devices: who composes the configuration, who starts ranks, and what each of them does.

One process runs Hydra: with `training.devices=N` the one that was started, which then starts N ranks and watches them;
under torchrun and srun the first rank. The ranks, or the other ranks, are told their jobs: config, run folder, and
whether to go on there.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gnnfast.cli.hydra_app import explain
from gnnfast.cli.main import prepare_process
from gnnfast.distributed import Interrupted, RankFailed, World, launch, place, run_rank, world
from gnnfast.distributed.environment import adopt_slurm
from gnnfast.distributed.rank import is_lost_peer, leave, record_for_torchrun
from gnnfast.runtime.cores import available_cores

log = logging.getLogger("gnnfast")

_COMMAND = (sys.executable, "-m", "gnnfast.cli.ranks")
# What the ranks have to say that they failed as well, once one has.
_AGREEMENT_SECONDS = 3.0
# More make no sense but for a trial.
_RANKS_PER_CORE = 4


def train_on_ranks(folder: Path, config: DictConfig, resume: bool) -> float | None:
    """Starts the ranks of a run, and starts them anew where one fails; returns the validation metric.

    Args:
        folder: Of the run.
        config: Of the run.
        resume: Whether to go on from the newest checkpoint in the folder.

    Raises:
        RankFailed: If a rank failed, and there are no restarts left or none would help.
    """
    from gnnfast.cli.train import write_status

    _check_devices(config)
    max_restarts = config.training.max_restarts
    for attempt in count(1):
        before = _checkpoints(folder)
        try:
            launch(_COMMAND, config.training.devices, _told(folder, config, resume or attempt > 1))
            break
        except Interrupted as stopped:
            if not (folder / "result.json").exists():
                write_status(folder, "interrupted", str(stopped))
            sys.exit(128 + stopped.signum)
        except RankFailed as failed:
            # What all ranks say, and had said before they came any further, they would say again.
            is_hopeless = failed.is_common and _checkpoints(folder) == before
            if attempt > max_restarts or is_hopeless:
                raise
            log.warning(f"{failed}: restart {attempt} of {max_restarts}, from the newest checkpoint")
    result = json.loads((folder / "result.json").read_text())
    value: float | None = result["val"].get(result["metric"])
    return value


def _check_devices(config: DictConfig) -> None:
    """Refuses more processes than a machine can run, before it runs them."""
    import torch

    accelerator, devices, cores = config.training.accelerator, config.training.devices, available_cores()
    on_gpus = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    if not on_gpus and devices > _RANKS_PER_CORE * cores:
        are = "is 1 core" if cores == 1 else f"are {cores} cores"
        raise ValueError(f"training.devices={devices}, but there {are} for as many processes: use training.devices=1")


def _checkpoints(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").glob("*.pt")}


def _told(folder: Path, config: DictConfig, resume: bool) -> str:
    """A job, for another process."""
    hydra_config = HydraConfig.instance().cfg
    return json.dumps(
        {
            "folder": str(folder),
            "config": OmegaConf.to_yaml(config),
            "hydra": OmegaConf.to_yaml(hydra_config),
            "resume": resume,
        }
    )


def _do(job: str, datasets: Any = None) -> None:
    """What a rank does that was told a job."""
    from hydra.core.utils import configure_log

    from gnnfast.cli.train import LastDataset, train_in

    told = json.loads(job)
    hydra_config = OmegaConf.create(told["hydra"])
    assert isinstance(hydra_config, DictConfig)
    HydraConfig.instance().cfg = hydra_config
    if place().rank == 0:
        configure_log(hydra_config.hydra.job_logging, hydra_config.hydra.verbose)
    else:
        _complain_only(place().rank)
    train_in(Path(told["folder"]), OmegaConf.create(told["config"]), datasets or LastDataset(), told["resume"])


def _complain_only(rank: int) -> None:
    """Has the log of a rank show warnings, and say whose they are."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"rank {rank}: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def as_one_of_several(run: Callable[[], None]) -> None:
    """Has the first of several ranks run a command, and the others do the jobs that it comes upon.

    Args:
        run: The command; in a process by itself it is run as it is.
    """
    adopt_slurm()
    if place().world_size == 1:
        run()
    elif place().rank > 0:
        _follow()
    else:
        here = world()
        try:
            run()
        finally:
            here.store.set(f"job/{here.store.add('jobs', 0)}", "")


def _follow() -> NoReturn:
    """Does the jobs of the first rank, until that has no more."""
    from gnnfast.cli.train import LastDataset

    here = world()
    datasets = LastDataset()
    failures = 0
    for number in count():
        # Not by the store's own waiting, in which a process is deaf to signals.
        while not here.store.check([f"job/{number}"]):
            sleep(0.05)
        job = here.store.get(f"job/{number}").decode()
        if not job:
            break
        try:
            with _settled(here, number):
                _do(job, datasets)
        except Exception:
            failures += 1
    leave(int(failures > 0))


@contextmanager
def told_to_the_others(folder: Path, config: DictConfig, resume: bool) -> Iterator[None]:
    """Around a job of the first rank: has the others do it as well. Does nothing in any other process."""
    if place().world_size == 1 or place().rank > 0 or "GNNFAST_PARENT" in os.environ:
        yield
        return
    if config.training.get("max_restarts", 0):
        log.warning("training.max_restarts is for ranks that gnnfast starts itself: go on with resume=RUN")
    here = world()
    number = here.store.add("jobs", 1) - 1
    here.store.set(f"job/{number}", _told(folder, config, resume))
    with _settled(here, number):
        yield


@contextmanager
def _settled(here: World, number: int) -> Iterator[None]:
    """Around a job: where it failed on some ranks only, those end the run, whose others would wait for them."""
    try:
        yield
    except Exception as error:
        here.store.set(f"ended/{number}/{here.rank}", "failed")
        if is_lost_peer(error) or not _all_failed(here, number):
            record_for_torchrun(error)
            print(f"gnnfast train: rank {here.rank}: {explain(error)}", file=sys.stderr)
            leave(1)
        raise
    else:
        here.store.set(f"ended/{number}/{here.rank}", "done")


def _all_failed(here: World, number: int) -> bool:
    keys = [f"ended/{number}/{rank}" for rank in range(here.size)]
    end = monotonic() + _AGREEMENT_SECONDS
    while not here.store.check(keys):
        if monotonic() > end:
            return False
        sleep(0.05)
    return all(here.store.get(key) == b"failed" for key in keys)


if __name__ == "__main__":
    prepare_process()
    run_rank(_do, explain)
