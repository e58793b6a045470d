"""One door to all partitioners."""

from __future__ import annotations

import logging
from importlib import metadata, util
from pathlib import Path

import numpy as np
import torch

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu.partition import count_cut_edges
from gnnfast.partition.growth import grow
from gnnfast.partition.metis import metis
from gnnfast.partition.neighborhood import Neighborhood
from gnnfast.partition.partition import Partition
from gnnfast.runtime.cached_file import cached_arrays

METHODS = ("auto", "metis", "grow", "random", "block")
# Of what is kept on disk: to be raised when a change of the code changes its parts.
_VERSION = 1

logger = logging.getLogger(__name__)


def partition_graph(
    graph: CSCGraph,
    num_parts: int,
    method: str = "auto",
    seed: int = 0,
    cache_dir: str | Path | None = None,
) -> Partition:
    """Cuts a graph into parts of about equal numbers of nodes, with few edges between parts.

    Edges count by their number, in either direction; their weights do not. What "metis" and "grow" find is kept on disk
    under a digest of the graph and all parameters.

    Args:
        graph: Directed or not, with isolated nodes, self-loops and parallel edges.
        num_parts: From 1 to the number of nodes.
        method: "metis": multilevel k-way partitioning (Karypis and Kumar, A Fast and High Quality Multilevel Scheme for
            Partitioning Irregular Graphs, 1998), parts within 3 % of the average; needs the extra `partition`.
            "grow": the built-in one, parts up to a tenth above the average, about a tenth more edges cut. "auto":
            "metis" where it is installed, else "grow", with a warning. "random": equal sizes, any nodes. "block":
            equal sizes, consecutive ids.
        seed: Of all choices that are left to chance; "block" leaves none.
        cache_dir: Where partitions are kept; None means `gnnfast` in the user's cache folder.

    Raises:
        ValueError: If there are fewer nodes than parts or `method` is another word.
        ModuleNotFoundError: If "metis" is asked for and not installed.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if not 1 <= num_parts <= graph.num_nodes:
        raise ValueError(f"num_parts must be from 1 to the {graph.num_nodes} nodes of the graph, got {num_parts}")
    if method == "auto":
        method = _best_method()
    if method == "random":
        part_of = _block(graph.num_nodes, num_parts)[np.random.default_rng(seed).permutation(graph.num_nodes)]
    elif method == "block":
        part_of = _block(graph.num_nodes, num_parts)
    else:
        part_of = _kept(graph, num_parts, method, seed, cache_dir)
    return Partition(torch.from_numpy(part_of), num_parts, _cut_share(graph, part_of), method)


def _best_method() -> str:
    if util.find_spec("pymetis") is not None:
        return "metis"
    logger.warning("METIS is not installed, the built-in partitioner cuts more edges: pip install 'gnnfast[partition]'")
    return "grow"


def _kept(graph: CSCGraph, num_parts: int, method: str, seed: int, cache_dir: str | Path | None) -> np.ndarray:
    """The parts by METIS or the built-in partitioner, computed once for a graph."""
    library = f"pymetis {metadata.version('pymetis')}" if _needs_metis(method) else "gnnfast"
    inputs: dict[str, np.ndarray | str | int] = {
        "indptr": graph.indptr.numpy(),
        "indices": graph.indices.numpy(),
        "num_parts": num_parts,
        "method": method,
        "seed": seed,
        "library": library,
        "version": _VERSION,
    }

    def compute() -> dict[str, np.ndarray]:
        partitioner = metis if method == "metis" else grow
        part_of = partitioner(Neighborhood.of(graph), num_parts, seed)
        _fill_empty_parts(part_of, num_parts)
        return {"part_of": part_of}

    return cached_arrays("partition", inputs, compute, cache_dir)["part_of"]


def _needs_metis(method: str) -> bool:
    if method == "metis" and util.find_spec("pymetis") is None:
        raise ModuleNotFoundError("method='metis' needs pymetis: pip install 'gnnfast[partition]'", name="pymetis")
    return method == "metis"


def _block(num_nodes: int, num_parts: int) -> np.ndarray:
    return np.arange(num_nodes, dtype=np.int64) * num_parts // num_nodes


def _fill_empty_parts(part_of: np.ndarray, num_parts: int) -> None:
    """Gives parts without nodes, which METIS leaves where parts are tiny, one from the largest part each, in place."""
    sizes = np.bincount(part_of, minlength=num_parts)
    for part in np.flatnonzero(sizes == 0):
        largest = int(sizes.argmax())
        part_of[np.flatnonzero(part_of == largest)[-1]] = part
        sizes[largest] -= 1
        sizes[part] = 1


def _cut_share(graph: CSCGraph, part_of: np.ndarray) -> float:
    num_cut, num_proper = count_cut_edges(graph.indptr.numpy(), graph.indices.numpy(), part_of)
    return float(num_cut / max(num_proper, 1))
