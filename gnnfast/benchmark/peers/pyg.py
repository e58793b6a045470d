"""PyTorch Geometric, sampling by torch_sparse or by pyg-lib."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from time import perf_counter
from typing import Any

import torch
import torch_geometric.nn
import torch_geometric.typing
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader
from torch_geometric.sampler import NeighborSampler, NodeSamplerInput

from gnnfast.benchmark.graphs import GraphFiles
from gnnfast.benchmark.peers.request import Prepared, Request

_FACTS_OF = 3  # mini-batches that averages are of
_MODELS = {"sage": "GraphSAGE", "gcn": "GCN", "gin": "GIN", "gat": "GAT"}
_WORKERS = (0, 1, 2)
_TRIAL_STEPS = 6
_EVALUATED_AT_ONCE = 4096  # nodes, as in PyG's example for ogbn-products


def prepare(values: dict[str, Any]) -> Prepared:
    """What the host asks for; `variant` is "plain" as in PyG's examples, "trimmed", or "trimmed, adj_t"."""
    request = Request(**values)
    torch.set_num_threads(request.num_threads)
    warnings.filterwarnings("ignore", message="Using '.*' without a 'pyg-lib'")
    _sample_by(request.system)
    return {"sampler": _sampler, "loader": _loader, "step": _step, "epoch": _epoch}[request.stage](request)


def _sampler(request: Request) -> Prepared:
    sampler = _neighbor_sampler(request.files, request.fanouts)
    seeds = request.seed_batches()

    def call(i: int) -> float:
        nodes = NodeSamplerInput(None, seeds[i % len(seeds)])
        started_at = perf_counter()
        sampler.sample_from_nodes(nodes)
        return perf_counter() - started_at

    drawn = [sampler.sample_from_nodes(NodeSamplerInput(None, some)) for some in seeds[:_FACTS_OF]]
    return call, _average([(out.node.numel(), out.row.numel()) for out in drawn])


def _loader(request: Request) -> Prepared:
    seeds = request.seed_batches()
    loader = _neighbor_loader(request, seeds.flatten(), seeds.shape[1])

    def call(i: int) -> float:
        started_at = perf_counter()
        for _ in loader:
            pass
        return (perf_counter() - started_at) / len(loader)

    return call, _average([(batch.num_nodes, batch.num_edges) for batch in loader])


def _step(request: Request) -> Prepared:
    seeds = request.seed_batches()
    num_batches, batch_size = seeds.shape
    loader = _neighbor_loader(request, seeds.flatten(), batch_size)
    step = _training_step(request, _make_model(request, loader.data))

    def make(i: int) -> Data:
        first = i % num_batches * batch_size
        return _with_variant(loader(torch.arange(first, first + batch_size)), request)

    def call(i: int) -> float:
        batch = make(i)
        started_at = perf_counter()
        step(batch)
        return perf_counter() - started_at

    batches = [make(i) for i in range(_FACTS_OF)]
    step(batches[0])
    return call, _average([(batch.num_nodes, batch.num_edges) for batch in batches])


def _epoch(request: Request) -> Prepared:
    """Training, then `inference` over all nodes' full neighborhoods, as in PyG's examples for the OGB.

    Trimmed, with the number of workers that is the quickest here.
    """
    files = request.files
    # A trial also does what a first call does.
    seconds = {workers: _trial_seconds(request, workers) for workers in _WORKERS}
    if request.variant != "plain":
        request = replace(request, num_workers=min(seconds, key=seconds.__getitem__))
    loader = _neighbor_loader(request, files.array("train"), request.seed_batches().shape[1])
    everybody = NeighborLoader(
        loader.data,
        [-1],
        neighbor_sampler=_neighbor_sampler(files, [-1]),
        batch_size=_EVALUATED_AT_ONCE,
        num_workers=request.num_workers,
        persistent_workers=request.num_workers > 0,
    )
    evaluated = torch.cat([files.array("val"), files.array("test")])

    def call(i: int) -> float:
        model = _make_model(request, loader.data)
        step = _training_step(request, model)
        started_at = perf_counter()
        for batch in loader:
            step(_with_variant(batch, request))
        model.eval()
        with request.autocast():
            logits = model.inference(everybody)
        (logits[evaluated].argmax(1) == loader.data.y[evaluated]).float().mean().item()
        return perf_counter() - started_at

    return call, {"steps": len(loader), "workers": request.num_workers}


def _trial_seconds(request: Request, num_workers: int) -> float:
    """Seconds of a few steps with so many workers."""
    seeds = request.seed_batches()[: _TRIAL_STEPS + 1]
    loader = _neighbor_loader(replace(request, num_workers=num_workers), seeds.flatten(), seeds.shape[1])
    step = _training_step(request, _make_model(request, loader.data))
    started_at = 0.0
    for i, batch in enumerate(loader):
        step(_with_variant(batch, request))
        # The first one waits for the workers to start.
        started_at = perf_counter() if i == 0 else started_at
    return perf_counter() - started_at


def _sample_by(library: str) -> None:
    """Has PyG sample by one of the libraries that it would choose between."""
    try:
        import_module(library)
    except ImportError as error:
        raise ImportError(f"{library} cannot be imported: {error}") from error
    torch_geometric.typing.WITH_PYG_LIB = library == "pyg_lib"


def _neighbor_sampler(files: GraphFiles, fanouts: list[int]) -> NeighborSampler:
    """PyG's sampler on the columns as they are: building them from an `edge_index` would take memory three times."""
    nothing = Data(edge_index=torch.empty(2, 0, dtype=torch.int64), num_nodes=files.facts["num_nodes"])
    sampler = NeighborSampler(nothing, fanouts, is_sorted=True)
    sampler.colptr, sampler.row = files.array("indptr"), _sources(files)
    return sampler


# Cases of one process share what they read.
@lru_cache(maxsize=1)
def _data(files: GraphFiles) -> Data:
    """Features and labels; the sampler has the edges."""
    return Data(x=files.array("x"), y=files.array("y"), edge_index=torch.empty(2, 0, dtype=torch.int64))


@lru_cache(maxsize=1)
def _sources(files: GraphFiles) -> Tensor:
    """As PyG's samplers take them, in int64."""
    return files.array("indices").long()


def _neighbor_loader(request: Request, seeds: Tensor, batch_size: int) -> NeighborLoader:
    files = request.files
    return NeighborLoader(
        _data(files),
        request.fanouts,
        input_nodes=seeds,
        neighbor_sampler=_neighbor_sampler(files, request.fanouts),
        batch_size=batch_size,
        shuffle=request.stage == "epoch",
        num_workers=request.num_workers,
        persistent_workers=request.num_workers > 0,
    )


def _with_variant(batch: Data, request: Request) -> Data:
    """Adds what a trimming model needs; torch_sparse does not count, but keeps nodes and edges in order of hops."""
    if request.variant == "plain":
        return batch
    nodes, edges = hop_sizes(batch.edge_index, batch.batch_size, len(request.fanouts))
    batch.hops = {"num_sampled_nodes_per_hop": nodes, "num_sampled_edges_per_hop": edges}
    if request.variant == "trimmed, adj_t":
        from torch_sparse import SparseTensor

        (src, dst), size = batch.edge_index, (batch.num_nodes, batch.num_nodes)
        batch.adj_t = SparseTensor(row=dst, col=src, sparse_sizes=size, is_sorted=False, trust_data=True)
    return batch


def hop_sizes(edge_index: Tensor, num_seeds: int, num_hops: int) -> tuple[list[int], list[int]]:
    """Nodes and edges that each hop adds: edges come in the order in which their destinations were reached."""
    num_nodes, num_edges = [num_seeds], [0]
    for _ in range(num_hops):
        num_edges.append(int(torch.searchsorted(edge_index[1], num_nodes[-1])))
        reached = int(edge_index[0, : num_edges[-1]].max()) + 1 if num_edges[-1] else 0
        num_nodes.append(max(reached, num_nodes[-1]))
    nodes, edges = torch.tensor(num_nodes), torch.tensor(num_edges)
    return [num_seeds, *nodes.diff().tolist()], edges.diff().tolist()


def _make_model(request: Request, data: Data) -> Any:
    torch.manual_seed(0)
    num_classes = request.files.facts["num_classes"]
    widths = (data.num_features, request.hidden_channels, len(request.fanouts), num_classes)
    heads = {"heads": request.heads} if request.conv == "gat" else {}
    return getattr(torch_geometric.nn, _MODELS[request.conv])(*widths, **heads)


def _training_step(request: Request, model: Any) -> Callable[[Data], Tensor]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

    def step(batch: Data) -> Tensor:
        optimizer.zero_grad()
        with request.autocast():
            graph = batch.adj_t if "adj_t" in batch else batch.edge_index
            logits = model(batch.x, graph, **(batch.hops if "hops" in batch else {}))[: batch.batch_size]
        loss = cross_entropy(logits.float(), batch.y[: batch.batch_size])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _average(sizes: list[tuple[int, int]]) -> dict[str, float]:
    nodes, edges = torch.tensor(sizes).double().mean(0).tolist()
    return {"nodes": nodes, "edges": edges}
