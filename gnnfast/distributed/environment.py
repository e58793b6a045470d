"""Which of a run's processes this one is, by what its launcher has put into the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The place of a process among those of its run.

    Args:
        rank: Number of the process, in [0, world_size).
        world_size: Processes of the run.
        local_rank, local_world_size: The same among those on its host.
        node: Number of the host.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    node: int = 0


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """The place that the environment names, as torchrun and `launch` set it; alone where it names none.

    Raises:
        ValueError: If it names one that cannot be.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return Place()
    rank, world_size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    local_world_size = int(environment.get("LOCAL_WORLD_SIZE", world_size))
    local_rank = int(environment.get("LOCAL_RANK", rank % local_world_size))
    if not 0 <= rank < world_size or not 0 <= local_rank < local_world_size <= world_size:
        raise ValueError(
            f"RANK={rank}, WORLD_SIZE={world_size}, LOCAL_RANK={local_rank}, LOCAL_WORLD_SIZE={local_world_size} "
            "do not fit together: start the processes with torchrun, or unset them"
        )
    node = int(environment.get("GROUP_RANK", rank // local_world_size))
    return Place(rank, world_size, local_rank, local_world_size, node)


def adopt_slurm() -> None:
    """Says in torchrun's words what SLURM says of a task that srun has started beside others; else does nothing.

    Raises:
        ValueError: If hosts have different numbers of tasks.
    """
    environment = os.environ
    # Of the step, not of the job: a script that sbatch runs is one process, whatever the job has been granted.
    num_tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if num_tasks == 1 or "SLURM_PROCID" not in environment or "RANK" in environment:
        return
    from lightning.fabric.plugins.environments import SLURMEnvironment

    per_node = tasks_per_node(environment.get("SLURM_STEP_TASKS_PER_NODE", str(num_tasks)))
    if len(set(per_node)) > 1:
        raise ValueError(f"every host must run the same number of tasks, got {per_node}: use srun --ntasks-per-node")
    slurm = SLURMEnvironment()
    environment |= {
        "MASTER_ADDR": slurm.main_address,
        "MASTER_PORT": str(slurm.main_port),
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": str(num_tasks),
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(per_node[0]),
        "GROUP_RANK": environment["SLURM_NODEID"],
        # Lightning Fabric looks for it before it takes these variables.
        "TORCHELASTIC_RUN_ID": environment.get("SLURM_JOB_ID", "slurm"),
    }


def tasks_per_node(text: str) -> list[int]:
    """SLURM's short form spelled out: "2(x3),1" is [2, 2, 2, 1]."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    return counts
