"""Starting the ranks of a run on this host, watching them, and saying which of them failed first.

Ranks find the environment that torchrun would give them, so whatever runs under torchrun runs here. The processes are
this module's own: torch's launcher waits 30 s, fixed, for ranks that outlive a failed one before it kills them, takes a
rank that left with code 0 in the middle for one that is done, and knows the time of a failure to the second only, which
is too coarse to tell the rank that failed from those that then lost their connection to it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic, sleep, time
from types import FrameType
from typing import Any

from gnnfast.runtime.cores import available_cores

_POLL_SECONDS = 0.02
# What ranks have to fail by themselves once one has failed: what they say helps to tell who was first.
_GRACE_SECONDS = 1.5
# What is left, when all work is done, for closing down.
_EXIT_SECONDS = 30.0
# Between the first rank's end and the last one's, once they were asked to stop: they wait for the checkpoint together.
_STOP_SECONDS = 30.0

_SIGNAL_HINTS = {"SIGKILL": ", as the system does when memory runs out", "SIGSEGV": ", a fault in compiled code"}


@dataclass(frozen=True)
class Ending:
    """How a rank ended.

    Args:
        rank: Its number.
        exit_code: As `subprocess` has it: negative for a signal.
        ended_at: Time, in seconds since the epoch.
        message: What it said of its error, in one line; None if it said nothing.
        traceback: Where the error came from.
        is_follow_up: Whether the error is what a rank sees when another one is gone.
    """

    rank: int
    exit_code: int
    ended_at: float
    message: str | None = None
    traceback: str = ""
    is_follow_up: bool = False

    @property
    def description(self) -> str:
        """What happened, without the rank."""
        if self.message is not None:
            return self.message
        if self.exit_code >= 0:
            return f"exited with code {self.exit_code} before its work was done"
        try:
            name = signal.Signals(-self.exit_code).name
        except ValueError:
            name = f"signal {-self.exit_code}"
        return f"was killed by {name}{_SIGNAL_HINTS.get(name, '')}"

    @property
    def suspicion(self) -> tuple[int, float]:
        """Smallest for what came first. NCCL's watchdog aborts ranks that wait for one that is gone."""
        return (2 if self.is_follow_up else int(self.exit_code == -signal.SIGABRT), self.ended_at)


class RankFailed(RuntimeError):
    """A rank failed, and with it the run.

    Args:
        endings: Of the ranks that ended by themselves.
        num_ranks: Of the run.
    """

    def __init__(self, endings: Sequence[Ending], num_ranks: int):
        self.first = min(endings, key=lambda ending: ending.suspicion)
        # What all ranks say alike is the run's, not a rank's: a wrong setting, as a rule.
        messages = {ending.message for ending in endings}
        self.is_common = len(endings) == num_ranks and messages == {self.first.message} != {None}
        separator = ": " if self.first.message is not None else " "
        super().__init__(
            self.first.description if self.is_common else f"rank {self.first.rank}{separator}{self.first.description}"
        )

    @property
    def rank_traceback(self) -> str:
        """Where the first error came from, as the rank saw it; nothing for a signal."""
        return self.first.traceback


class Interrupted(Exception):
    """The run was stopped from outside, and has ended.

    Args:
        signum: The signal.
    """

    def __init__(self, signum: int):
        self.signum = signum
        super().__init__(f"stopped by {signal.Signals(signum).name}")


def launch(
    command: Sequence[str],
    num_ranks: int,
    job: str = "",
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs a command as every rank of a run on this host, until all are done.

    The command ends in `run_rank`, which hands the job to the rank's work. SIGINT and SIGTERM go on to all ranks, each
    of which may finish what it is at; a second one kills them. If this process dies, so do the ranks.

    Args:
        command: Program and arguments.
        num_ranks: How many to start.
        job: What they are to do, handed to each.
        environment: Variables to add to this process's own.

    Raises:
        RankFailed: If a rank failed; the others have been stopped.
        Interrupted: If a signal has stopped the run.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # With port 0 the system chooses one that is free, and it is never another attempt's.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(minutes=5))
    store.set("job", job)
    ranks = _Ranks(store)
    with ranks.signals_forwarded():
        try:
            for rank in range(num_ranks):
                ranks.start(command, _environment(rank, num_ranks, store.port, environment or {}))
            ranks.watch()
        finally:
            ranks.kill()


def _environment(rank: int, num_ranks: int, port: int, additions: Mapping[str, str]) -> dict[str, str]:
    threads = str(max(1, available_cores() // num_ranks))
    defaults = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads, "TORCH_CPP_LOG_LEVEL": "ERROR"}
    if os.path.exists("/sys/class/net/lo"):
        # What gloo would find by the host's name may be an address that nothing answers on.
        defaults["GLOO_SOCKET_IFNAME"] = "lo"
    return {
        **defaults,
        **os.environ,
        **additions,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "gnnfast",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "GNNFAST_PARENT": str(os.getpid()),
    }


class _Ranks:
    """The processes of one launch."""

    def __init__(self, store: Any):
        self.store = store
        self.processes: list[subprocess.Popen[bytes]] = []
        self.endings: dict[int, Ending] = {}
        self.signum: int | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # A session of its own: what a terminal sends to all its processes must reach a rank once, from here.
        self.processes.append(
            subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        )

    def watch(self) -> None:
        """Returns when all ranks are done."""
        self._wait_for(lambda: bool(self._failures()) or self._are_done(), None)
        if not self._failures():
            self._wait_for(self._have_ended, _EXIT_SECONDS)
            return
        self._wait_for(self._have_ended, _STOP_SECONDS if self._stopped_in_order() else _GRACE_SECONDS)
        signum = self._stopped_in_order() or self.signum
        if signum and all(ending.message is None or ending.is_follow_up for ending in self.endings.values()):
            raise Interrupted(signum)
        raise RankFailed(self._failures(), len(self.processes))

    def kill(self) -> None:
        """Ends what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.wait()

    def forward(self, signum: int) -> None:
        """Hands a signal on to the ranks; the second one kills them, and so does the first before all are at work."""
        is_first = self.signum is None
        self.signum = self.signum or signum
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signum if is_first and self._are_at_work() else signal.SIGKILL)

    @contextmanager
    def signals_forwarded(self) -> Iterator[None]:
        """Meanwhile SIGINT and SIGTERM are the ranks'."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(signum: int, frame: FrameType | None) -> None:
            self.forward(signum)

        before = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _are_at_work(self) -> bool:
        return bool(self.store.check([f"ready/{rank}" for rank in range(len(self.processes))]))

    def _wait_for(self, condition: Callable[[], bool], seconds: float | None) -> None:
        """Waits until the condition holds, at most some seconds."""
        end = None if seconds is None else monotonic() + seconds
        self._note_endings()
        while not condition() and (end is None or monotonic() < end):
            sleep(_POLL_SECONDS)
            self._note_endings()

    def _note_endings(self) -> None:
        for rank, process in enumerate(self.processes):
            if rank not in self.endings and process.poll() is not None:
                self.endings[rank] = self._ending(rank, process.returncode)

    def _ending(self, rank: int, exit_code: int) -> Ending:
        noticed_at = time()
        if not self.store.check([f"error/{rank}"]):
            return Ending(rank, exit_code, noticed_at)
        error = json.loads(self.store.get(f"error/{rank}"))
        return Ending(rank, exit_code, error["at"], error["message"], error["traceback"], error["is_follow_up"])

    def _is_done(self, rank: int) -> bool:
        return bool(self.store.check([f"done/{rank}"]))

    def _are_done(self) -> bool:
        return self._have_ended() or all(self._is_done(rank) for rank in range(len(self.processes)))

    def _have_ended(self) -> bool:
        return len(self.endings) == len(self.processes)

    def _failures(self) -> list[Ending]:
        return [
            ending for rank, ending in self.endings.items() if ending.message is not None or not self._is_done(rank)
        ]

    def _stopped_in_order(self) -> int:
        """The signal for which all ranks that have ended say that they did, whoever sent it; 0 for none."""
        codes = {ending.exit_code for ending in self.endings.values()}
        return next((signum for signum in (signal.SIGINT, signal.SIGTERM) if codes == {128 + signum}), 0)
