"""The outside of a peer's process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gnnfast.benchmark.peers.request import Request

_FOLDER = Path(__file__).parent
_ROOT = _FOLDER.parents[2]
# What `runtime.allocator` tells glibc, said to a process that starts: what is told to one that runs cannot be undone.
_KEEPS_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647", "MALLOC_TOP_PAD_": "67108864"}


class PeerError(RuntimeError):
    """A peer could not do what it was asked for."""


class PeerProcess:
    """A process that prepares cases and runs them when told to, so that several sides take turns.

    Args:
        system: "gnnfast", one of `PEERS`, or "kernels" for single operations of several libraries.
        keeps_freed_memory: Whether its allocator keeps what is freed, as gnnfast's commands do; or is as it comes.
        python: The interpreter, for GraphBolt.
        num_threads: That it may compute on.
    """

    def __init__(self, system: str, keeps_freed_memory: bool = True, python: str | None = None, num_threads: int = 1):
        self.system = system
        # Libraries with an OpenMP of their own do not hear what torch is told.
        environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
        environment |= _KEEPS_FREED_MEMORY if keeps_freed_memory else {}
        if python is None:
            module = system if system in ("gnnfast", "kernels") else "pyg"
            command = [sys.executable, "-m", "gnnfast.benchmark.peers.serve", f"gnnfast.benchmark.peers.{module}"]
            environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        else:
            command = [python, str(_FOLDER / "serve.py"), str(_FOLDER / "graphbolt.py")]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
        )

    def prepare(self, request: Request) -> PeerCase:
        """Makes a case ready.

        Raises:
            PeerError: If the peer cannot.
        """
        answer = self.ask({"prepare": asdict(request)})
        return PeerCase(self, answer["case"], answer["facts"])

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and waits for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"{self.system} ended with code {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.system}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no message")


class PeerCase:
    """A prepared case in a peer's process."""

    def __init__(self, process: PeerProcess, number: int, facts: dict[str, Any]):
        self.facts = facts
        self._process = process
        self._number = number

    def run(self, first_call: int, num_calls: int) -> list[float]:
        request = {"run": self._number, "first_call": first_call, "num_calls": num_calls}
        seconds: list[float] = self._process.ask(request)["seconds"]
        return seconds

    def forget(self) -> None:
        """Has the peer drop the case, with all memory that it takes, and say what it has found."""
        self.facts |= self._process.ask({"forget": self._number})["facts"]


class Systems:
    """All processes of a benchmark, started when first needed."""

    def __init__(self, num_threads: int, dgl_python: str | None = None):
        self._num_threads = num_threads
        self._dgl_python = dgl_python
        self._processes: dict[tuple[str, bool], PeerProcess] = {}

    def process(self, system: str, keeps_freed_memory: bool = True) -> PeerProcess:
        """The process of a system with one setting of its allocator."""
        key = (system, keeps_freed_memory)
        if key not in self._processes:
            python = self._dgl_python if system == "graphbolt" else None
            self._processes[key] = PeerProcess(system, keeps_freed_memory, python, self._num_threads)
        return self._processes[key]

    def close(self) -> None:
        """Ends all processes; asked again, new ones start."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def __enter__(self) -> Systems:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
