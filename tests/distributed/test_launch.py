from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gnnfast.distributed import Interrupted, RankFailed, launch
from gnnfast.distributed.launch import Ending
from tests.distributed.ranks import COMMAND, ROOT


def start(num_ranks: int, *job: Any) -> None:
    launch(COMMAND, num_ranks, json.dumps(job), {"PYTHONPATH": str(ROOT)})


def results(folder: Path, num_ranks: int) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(num_ranks)]


def wait_for(condition: Callable[[], bool], seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_three_ranks_do_the_job_and_tell_each_other(tmp_path: Path):
    start(3, "talk", str(tmp_path))

    told = results(tmp_path, 3)
    assert told[0] == told[1] == told[2]
    assert told[0] == {
        "bounds": [0, 1, 8, 9],
        "rows": [0.0] + 7 * [1.0] + [2.0],
        "sum": [3, 3],
        "largest": [2, 0],
        "agree": "rank 0",
        "gather": [0, 1, 2],
        "first": [0, 0],
        "threads": os.environ.get("OMP_NUM_THREADS", "1"),
    }


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("raises", "rank 1: ValueError: no such thing as this"),
        ("SIGKILL", "rank 1 was killed by SIGKILL, as the system does when memory runs out"),
        ("leaves", "rank 1 exited with code 0 before its work was done"),
        ("leaves with 3", "rank 1 exited with code 3 before its work was done"),
    ],
)
def test_a_rank_that_fails_is_named_with_the_cause(way: str, message: str):
    with pytest.raises(RankFailed) as raised:
        start(2, "fail", way, 1)

    assert str(raised.value) == message
    assert (way == "raises") == ("in fail" in raised.value.rank_traceback)


def test_what_all_ranks_say_is_no_ranks_fault():
    with pytest.raises(RankFailed) as raised:
        start(2, "all_raise")

    assert str(raised.value) == "ValueError: the setting is wrong"
    assert raised.value.is_common


def test_ranks_that_neither_leave_nor_listen_do_not_hold_up_the_end():
    began = time.process_time(), time.monotonic()
    with pytest.raises(RankFailed, match="rank 0: ValueError: one is wrong"):
        start(2, "raise_without_leaving", 0)

    assert time.monotonic() - began[1] < 120


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_rank_once_and_they_end_by_themselves(tmp_path: Path, signum: signal.Signals):
    parent = _parent(tmp_path, "stop_when_told")

    parent.send_signal(signum)

    assert parent.wait(120) == 128 + signum
    assert [told["signals"] for told in results(tmp_path, 2)] == [[signum], [signum]]


def test_a_second_signal_kills_the_ranks(tmp_path: Path):
    parent = _parent(tmp_path, "never_stop")

    parent.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert parent.poll() is None
    parent.send_signal(signal.SIGINT)

    assert parent.wait(120) == 130


@pytest.mark.skipif(sys.platform != "linux", reason="the system ends orphans on Linux only")
def test_ranks_end_with_their_parent(tmp_path: Path):
    parent = _parent(tmp_path, "never_stop")

    parent.kill()
    parent.wait()

    pids = [told["pid"] for told in results(tmp_path, 2)]
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def _parent(folder: Path, job: str) -> subprocess.Popen[bytes]:
    """A process that launches two ranks, and returns once they are at work."""
    code = (
        f"import json, sys\nfrom gnnfast.distributed import Interrupted, launch\n"
        f"try: launch({COMMAND!r}, 2, json.dumps([{job!r}, {str(folder)!r}]))\n"
        "except Interrupted as stopped: sys.exit(128 + stopped.signum)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_for(lambda: all((folder / f"{rank}.json").exists() for rank in range(2)))
    return parent


def test_the_first_cause_is_no_follow_up():
    killed = Ending(1, -9, 10.0)
    lost_it = Ending(0, 1, 9.9, "Connection closed by peer", is_follow_up=True)
    aborted = Ending(2, -6, 9.8)
    late = Ending(3, 1, 11.0, "ValueError")

    assert RankFailed([lost_it, aborted, late, killed], 4).first == killed
    assert RankFailed([lost_it, aborted], 4).first == aborted
    assert str(RankFailed([lost_it], 2)) == "rank 0: Connection closed by peer"


def test_interruption_says_by_what():
    assert str(Interrupted(signal.SIGTERM)) == "stopped by SIGTERM"
