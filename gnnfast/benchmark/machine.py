"""What the machine is, and what it could do at best, measured in the same run."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnfast.kernels.cpu.gather import gather_rows, gather_values
from gnnfast.nn.linear import linear
from gnnfast.runtime.cores import available_cores

_STREAM_BYTES = 1 << 28  # of each array that is streamed through: far more than caches hold
_MOST_BYTES = 1 << 31  # of an array that rows are gathered from
_NUM_LINES = 1 << 20
_TRIES = 5


@dataclass(frozen=True)
class MachineLimits:
    """The best of a few tries, in units per second; `_one` is by one thread, else by all that the benchmark uses.

    Args:
        copy, triad: Bytes that `a = b` and `a = b + 3 c` read and write.
        copy_one, triad_one: The same.
        rows, rows_one: Bytes that gathering random rows, as wide as the graph's features, reads and writes.
        lines_one: Random cache lines read, out of an array as large as the graph's edges and a number per node: what
            sampling touches.
        float32, bfloat16, float32_one, bfloat16_one: Operations (a multiply-add being two) of matrix products that a
            training step has.
    """

    copy: float
    triad: float
    copy_one: float
    triad_one: float
    rows: float
    rows_one: float
    lines_one: float
    float32: float
    bfloat16: float
    float32_one: float
    bfloat16_one: float

    @property
    def bandwidth(self) -> float:
        """Bytes per second of all threads together."""
        return max(self.copy, self.triad)

    @property
    def bandwidth_one(self) -> float:
        """Bytes per second of one thread."""
        return max(self.copy_one, self.triad_one)


def measure_limits(
    num_threads: int, num_nodes: int, num_edges: int, num_features: int, product_shape: tuple[int, int, int]
) -> MachineLimits:
    """Measures; takes some seconds and about a gigabyte.

    Args:
        num_threads: Of the figures that are not by one thread.
        num_nodes, num_edges, num_features: Of the graph.
        product_shape: Rows, inner and outer width of a matrix product.
    """
    measured: dict[str, float] = {}
    for threads, suffix in ((num_threads, ""), (1, "_one")):
        with torch_threads(threads):
            measured |= {f"{name}{suffix}": rate for name, rate in _stream_rates().items()}
            for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
                measured[f"{name}{suffix}"] = _product_rate(*product_shape, dtype)
        num_rows = max(min(num_nodes, _MOST_BYTES // (4 * num_features)), 1)
        measured[f"rows{suffix}"] = _gather_rate(threads, num_rows, num_features) * num_features * 8
    # More threads are no limit to fewer: where others use the processor, one may be the quicker.
    measured |= {
        name: max(rate, measured[f"{name}_one"]) for name, rate in measured.items() if f"{name}_one" in measured
    }
    num_bytes = min(4 * (num_edges + num_nodes), _MOST_BYTES)
    return MachineLimits(lines_one=_line_rate(num_bytes), **measured)


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """Has torch compute on so many threads, and then on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stream_rates() -> dict[str, float]:
    a, b, c = (torch.ones(_STREAM_BYTES // 4) for _ in range(3))
    return {
        "copy": 2 * _STREAM_BYTES / _quickest(lambda: a.copy_(b)),
        "triad": 3 * _STREAM_BYTES / _quickest(lambda: torch.add(b, c, alpha=3.0, out=a)),
    }


def _product_rate(num_rows: int, inner: int, outer: int, dtype: torch.dtype) -> float:
    """By the quicker of torch's own choice and oneDNN, which torch does not ask for everything."""
    a, b = torch.randn(num_rows, inner).to(dtype), torch.randn(outer, inner).to(dtype)
    out = torch.empty(num_rows, outer, dtype=dtype)
    ways: tuple[Callable[[], object], ...] = (lambda: torch.mm(a, b.T, out=out), lambda: linear(a, b))
    return 2.0 * num_rows * inner * outer / min(_quickest(way) for way in ways)


def _line_rate(num_bytes: int) -> float:
    """Random places read per second, one number each."""
    values = np.ones(num_bytes // 4, np.int32)
    ids = np.random.default_rng(0).integers(values.size, size=_NUM_LINES)
    out = np.empty(ids.size, np.int32)
    return ids.size / _quickest(lambda: gather_values(values, ids, out))


def _gather_rate(num_threads: int, num_rows: int, width: int) -> float:
    """Random rows per second, by the quicker of torch's way and ours."""
    # NumPy's memory has large pages, as that which graphs are read into.
    x = torch.from_numpy(np.ones((num_rows, width), np.float32))
    ids = torch.randint(num_rows, (max((1 << 26) // (4 * width), 1),))
    out = torch.empty(ids.numel(), width)
    parts = list(zip(ids.tensor_split(num_threads), out.tensor_split(num_threads), strict=True))
    rows = x.view(torch.int32).numpy()

    def gather(part: tuple[Tensor, Tensor]) -> None:
        gather_rows(rows, part[0].numpy(), part[1].view(torch.int32).numpy())

    with torch_threads(num_threads), ThreadPoolExecutor(num_threads) as pool:
        ways: tuple[Callable[[], object], ...] = (
            lambda: list(pool.map(gather, parts)),
            lambda: torch.index_select(x, 0, ids, out=out),
        )
        return ids.numel() / min(_quickest(way) for way in ways)


def _quickest(call: Callable[[], object]) -> float:
    """Seconds: what disturbs a measurement of what is possible only adds to it."""
    seconds = []
    for _ in range(_TRIES):
        started_at = perf_counter()
        call()
        seconds.append(perf_counter() - started_at)
    return min(seconds)


def machine_facts() -> dict[str, Any]:
    """What figures have to be read with."""
    info = _read("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": available_cores(),
        "last_cache": _read("/sys/devices/system/cpu/cpu0/cache/index3/size").strip() or "unknown",
        "memory_bytes": _memory_bytes(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
        "system": platform.platform(),
        "torch_build": torch.__config__.show(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
