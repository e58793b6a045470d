"""DGL with GraphBolt: run by the interpreter of an environment that has them, so nothing here imports gnnfast."""

# mypy: allow-untyped-defs, disable-error-code="import-not-found"

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch.nn.functional import cross_entropy, relu

_FACTS_OF = 3  # mini-batches that averages are of


def prepare(request):
    """What the host asks for: a function that makes call number i and returns the seconds that count; and facts."""
    torch.set_num_threads(request["num_threads"])
    return {"sampler": _sampler, "loader": _loader, "step": _step}[request["stage"]](request)


def _sampler(request):
    batches = _endless(_pipe(request))

    def call(i):
        torch.set_num_threads(request["num_threads"])
        started_at = perf_counter()
        next(batches)
        return perf_counter() - started_at

    return call, _facts([next(batches) for _ in range(_FACTS_OF)])


def _loader(request):
    import dgl.graphbolt as gb

    loader = gb.DataLoader(_with_features(_pipe(request), request), num_workers=request["num_workers"])

    def call(i):
        started_at = perf_counter()
        count = sum(1 for _ in loader)
        return (perf_counter() - started_at) / count

    return call, _facts(list(loader)[:_FACTS_OF])


def _step(request):
    batches = _endless(_with_features(_pipe(request), request))
    labels = _array(request, "y")
    first = next(batches)
    model = _Model(request, first.node_features["x"].shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

    def call(i):
        batch = next(batches)
        blocks, x, y = batch.blocks, batch.node_features["x"], labels[batch.seed_nodes]
        started_at = perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=request["precision"] == "bf16-mixed"):
            logits = model(blocks, x)
        cross_entropy(logits.float(), y).backward()
        optimizer.step()
        return perf_counter() - started_at

    call(0)
    return call, _facts([next(batches) for _ in range(_FACTS_OF)])


def _pipe(request):
    """Samples the seeds batch by batch, layer by layer."""
    import dgl.graphbolt as gb

    indices = _array(request, "indices")
    graph = gb.fused_csc_sampling_graph(_array(request, "indptr"), indices)
    seeds = torch.from_numpy(np.load(request["seeds"])).to(indices.dtype)
    items = gb.ItemSet(seeds.flatten(), names="seed_nodes")
    # Its fanouts begin at the layer farthest from the seeds.
    return gb.ItemSampler(items, batch_size=seeds.shape[1]).sample_neighbor(graph, request["fanouts"][::-1])


def _with_features(pipe, request):
    import dgl.graphbolt as gb

    store = gb.BasicFeatureStore({("node", None, "x"): gb.TorchBasedFeature(_array(request, "x"))})
    return pipe.fetch_feature(store, node_feature_keys=["x"])


def _array(request, name):
    return _read(Path(request["graph"]), name)


@cache
def _read(folder, name):
    mapped = name == "x" and json.loads((folder / "graph.json").read_text())["memory_mapped"]
    return torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c" if mapped else None))


def _endless(pipe):
    while True:
        yield from pipe


def _facts(batches):
    import dgl

    edges = [sum(layer.sampled_csc.indices.numel() for layer in batch.sampled_subgraphs) for batch in batches]
    nodes = [batch.input_nodes.numel() for batch in batches]
    versions = {"torch": torch.__version__, "dgl": dgl.__version__}
    return {"nodes": sum(nodes) / len(nodes), "edges": sum(edges) / len(edges), "versions": versions}


class _Model(torch.nn.Module):
    """DGL's convolutions with the arguments that make them those of PyG's models."""

    def __init__(self, request, in_channels, out_channels):
        super().__init__()
        self.conv, num_layers = request["conv"], len(request["fanouts"])
        widths = [in_channels, *[request["hidden_channels"]] * (num_layers - 1), out_channels]
        self.layers = torch.nn.ModuleList(
            self._layer(widths[i], widths[i + 1], request["heads"], i + 1 == num_layers) for i in range(num_layers)
        )

    def _layer(self, width, out, heads, is_last):
        import dgl.nn

        if self.conv == "sage":
            return dgl.nn.SAGEConv(width, out, "mean")
        if self.conv == "gcn":
            return dgl.nn.GraphConv(width, out, allow_zero_in_degree=True)
        if self.conv == "gin":
            linear = torch.nn.Linear
            return dgl.nn.GINConv(torch.nn.Sequential(linear(width, out), torch.nn.ReLU(), linear(out, out)), "sum")
        return dgl.nn.GATConv(width, out if is_last else out // heads, heads, allow_zero_in_degree=True)

    def forward(self, blocks, x):
        for i, layer in enumerate(self.layers):
            is_last = i + 1 == len(blocks)
            x = layer(blocks[i], x)
            if self.conv == "gat":
                x = x.mean(1) if is_last else x.flatten(1)
            x = x if is_last else relu(x)
        return x
