"""What a process does that `launch` has started, around its work."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from time import time
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
# What gloo, NCCL and the store say where the other end is gone.
_LOST_PEER = re.compile(
    r"connection (was )?(closed|reset|refused|lost|abort)|broken pipe|closed by peer|socket error|failed to recv|"
    r"gloo/transport|nccl ?(error|communicator)|remote process exited|dist(network|store|backend)error",
    re.IGNORECASE,
)


def run_rank(work: Callable[[str], None], describe: Callable[[BaseException], str] = repr) -> NoReturn:
    """Does a rank's work and exits, with code 0 when it is done.

    An error is told to the launching process, and nothing of it is printed here. `SystemExit` ends the rank with its
    code, as done if that is 0.

    Args:
        work: Takes the job that `launch` was given.
        describe: What an error is called, in one line.
    """
    end_with_parent()
    store = connect()
    rank = os.environ["RANK"]
    exit_code = 0
    store.set(f"ready/{rank}", "")
    try:
        work(store.get("job").decode())
    except SystemExit as left:
        exit_code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException as error:
        exit_code = 1
        store.set(f"error/{rank}", json.dumps(account_of(error, describe)))
    else:
        store.set(f"done/{rank}", "")
    leave(exit_code)


def connect() -> Any:
    """The store of the launching process, as its client."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, wait_for_workers=False)


def leave(exit_code: int) -> NoReturn:
    """Exits at once: after an error neither threads nor connections to ranks that are gone may hold it up."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(exit_code)


def account_of(error: BaseException, describe: Callable[[BaseException], str]) -> dict[str, Any]:
    """What a rank tells of an error."""
    return {
        "at": time(),
        "message": describe(error),
        "traceback": "".join(traceback.format_exception(error)),
        "is_follow_up": is_lost_peer(error),
    }


def record_for_torchrun(error: BaseException) -> None:
    """Writes an error down where torchrun looks for the cause of a rank's end."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)


def is_lost_peer(error: BaseException) -> bool:
    """Whether the error is what a rank sees of another one's end."""
    if isinstance(error, ConnectionError):
        return True
    return isinstance(error, RuntimeError) and bool(_LOST_PEER.search(f"{type(error).__name__}: {error}"))


def end_with_parent() -> None:
    """Has the system kill this process when the one that launched it ends, on Linux; until then ignores no signal."""
    # Until the work says otherwise, an interrupt ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = int(os.environ.get("GNNFAST_PARENT", os.getppid()))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
