"""The full-graph forward, layer by layer, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from gnnfast.distributed import World
from gnnfast.graph import CSCGraph, FeatureStore, MiniBatch
from gnnfast.kernels.cpu.closure import mark_in_neighbors
from gnnfast.nn import GNN
from gnnfast.runtime.allocator import give_back_freed_memory
from gnnfast.runtime.buffers import BufferPool
from gnnfast.sampler import NeighborSampler
from gnnfast.training.columns import LayerColumns
from gnnfast.training.precision import as_input
from gnnfast.training.split import SplitConv, split_conv

# Chunks are kept between calls as long as all of them together have fewer edges.
_KEPT_EDGES = 2_000_000
# What is made of a chunk should still be in the processor's caches when it is read.
_CACHED_BYTES = 16 << 20
# Of layers' outputs that are kept for the next call: those of a graph of some hundred thousand nodes.
_KEPT_BYTES = 512 << 20
# Of a layer's rows from which on freed memory is given back first.
_LARGE_BYTES = 256 << 20


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Switches dropout and batch statistics off, and afterwards back to how they were."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


class InputRows(Protocol):
    """Rows by global id."""

    def gather(self, ids: Tensor) -> Tensor:
        """The rows of some nodes, floating, `(num_ids, channels)`, on the CPU."""
        ...


class LayerwiseInference:
    """Outputs of the full-graph forward at some nodes, each layer computed once for every node that later ones need.

    Equal to running the model on the whole graph in evaluation mode, up to rounding. Two layers' outputs are held in
    RAM, over the nodes that are needed (with jumping knowledge, every layer's at `nodes`); the rest comes in chunks.

    Args:
        graph: All edges count, as in `CSCGraph.to_block`.
        features: Inputs of the first layer: a `FeatureStore`, or what else has rows by global id.
        nodes: Global ids to compute outputs for, int64, `(num_nodes,)`; any order, duplicates allowed.
        num_layers: Layers of the models it will be called with.
        device: Where chunks are computed.
        chunk_bytes: Memory for the inputs and messages of one chunk.
        world: Ranks that share the work: each computes some of a layer's rows, and all get all of them. They make the
            same calls, in the same order.
    """

    def __init__(
        self,
        graph: CSCGraph,
        features: InputRows,
        nodes: Tensor,
        num_layers: int,
        device: torch.device | str = "cpu",
        chunk_bytes: int = 2 << 30,
        world: World | None = None,
    ):
        self.world = world or World()
        self.graph = graph
        self.features = features
        self.nodes = nodes
        self.device = torch.device(device)
        self.chunk_bytes = chunk_bytes
        # needed[i]: nodes whose rows enter layer i; the last entry: nodes whose outputs are asked for.
        self.needed = [nodes.unique()]
        for _ in range(num_layers):
            self.needed.insert(0, self._with_in_neighbors(self.needed[0]))
        self._kept: dict[int, list[MiniBatch]] = {}
        self._columns: dict[tuple[int, bool, bool], LayerColumns] = {}
        self._bounds: dict[int, list[int]] = {}
        self._buffers = BufferPool(_KEPT_BYTES)

    @property
    def num_edges(self) -> list[int]:
        """Edges that each layer aggregates over."""
        return [int(self.graph.in_degree[nodes].sum()) for nodes in self.needed[1:]]

    @torch.no_grad()
    def __call__(self, model: GNN) -> Tensor:
        """Computes the outputs, floating, `(num_nodes, out_channels)`, on the CPU; the model is left in its mode."""
        with evaluation_mode(model):
            at_nodes = self._layer_outputs(model, model.num_layers, keeps_all=model.jk_mode is not None)
            if model.jk_mode is None:
                return at_nodes[0]
            parts = zip(*(rows.split(65536) for rows in at_nodes), strict=True)
            return torch.cat([model.readout([rows.to(self.device) for rows in part]).cpu() for part in parts])

    @torch.no_grad()
    def embeddings(self, model: GNN) -> Tensor:
        """What enters the last layer, `(num_nodes, hidden_channels)`: the nodes' representations, after activation.

        Raises:
            ValueError: If the model has one layer: what enters it are the features.
        """
        if model.num_layers < 2:
            raise ValueError("a model of one layer has no hidden representations")
        with evaluation_mode(model):
            return self._layer_outputs(model, model.num_layers - 1, keeps_all=False)[0]

    @torch.no_grad()
    def hidden_layers(self, model: GNN) -> Iterator[Tensor]:
        """The output of each layer but the last, first layer first, `(num_nodes, hidden_channels)`."""
        rows: Tensor | None = None
        with evaluation_mode(model):
            for layer in range(model.num_layers - 1):
                rows = self._layer(model, layer, rows)
                yield rows[torch.searchsorted(self.needed[layer + 1], self.nodes)]

    def _layer_outputs(self, model: GNN, num_layers: int, keeps_all: bool) -> list[Tensor]:
        """Rows of `nodes` in the output of the last of the first layers; or of each of them, after those of the inputs
        for a model that reads them out.
        """
        rows: Tensor | None = None
        at_nodes = []
        if len(self.needed[1]) * model.hidden_channels * 4 > _LARGE_BYTES:
            # What training freed lies in pieces too small for such tables, and would be held beside them.
            give_back_freed_memory()
        if keeps_all and getattr(model, "reads_inputs", False):
            at_nodes.append(self.features.gather(self.nodes).to(_dtype(model)))
        for layer in range(num_layers):
            rows = self._layer(model, layer, rows)
            if not keeps_all and layer + 1 == num_layers and torch.equal(self.needed[layer + 1], self.nodes):
                at_nodes.append(rows)
            elif keeps_all or layer + 1 == num_layers:
                at_nodes.append(rows[torch.searchsorted(self.needed[layer + 1], self.nodes)])
        return at_nodes

    def _layer(self, model: GNN, layer: int, inputs: Tensor | None) -> Tensor:
        """The layer's output for all nodes needed after it.

        Args:
            model: In evaluation mode.
            layer: Its number.
            inputs: Rows of the nodes needed before it, which may be overwritten; None for the features.
        """
        split = None
        sources = self._sources(model, layer)
        # A layer of the user's own making runs as it is.
        if self.device.type == "cpu" and getattr(type(model), "layer", None) is GNN.layer:
            split = split_conv(model.convs[layer], lambda: self._degrees(sources))
        if split is None:
            return self._layer_by_mini_batches(model, layer, inputs)
        return self._layer_by_columns(model, layer, split, sources, inputs)

    def _layer_by_columns(
        self, model: GNN, layer: int, split: SplitConv, sources: Tensor | None, inputs: Tensor | None
    ) -> Tensor:
        """Sums the graph's columns where they stand: no row of the input is copied."""
        x = self._features(model, sources) if inputs is None else inputs
        sent = self._send(split, x)
        columns = self._columns_of(layer, sources, split.adds_self)
        item_bytes, heads = x.element_size(), max(1, model.message_channels(layer))
        node_bytes = 4 * item_bytes * heads * max(x.shape[1], model.hidden_channels)
        edge_bytes = 4 + item_bytes * (1 + heads)
        # Destinations' own rows are read before their outputs are written, and no others.
        outputs = inputs if not split.hears_inputs else None
        share = self._share(self._bounds_of(layer))
        for first, last in columns.cut(edge_bytes, node_bytes, min(self.chunk_bytes, _CACHED_BYTES), share):
            chunk = columns[first:last]
            rows = model.finish(layer, split.receive(x, sent, chunk), x, chunk.own)
            shape = (columns.destinations.numel(), rows.shape[1])
            if outputs is None or outputs.shape != shape or outputs.dtype != rows.dtype:
                outputs = self._buffers.empty(shape, rows.dtype)
            outputs[first:last] = rows
        assert outputs is not None
        return self.world.exchange(outputs, self._bounds_of(layer))

    def _bounds_of(self, layer: int) -> list[int]:
        """Where each rank's share of a layer's destinations begins."""
        if layer not in self._bounds:
            self._bounds[layer] = self.world.bounds(self.graph.in_degree[self.needed[layer + 1]] + 1)
        return self._bounds[layer]

    def _share(self, bounds: list[int]) -> slice:
        """This rank's rows. One that has none computes the first, to know what they look like."""
        first, last = bounds[self.world.rank], bounds[self.world.rank + 1]
        return slice(first, last) if first < last else slice(0, 1)

    def _sources(self, model: GNN, layer: int) -> Tensor | None:
        """Which nodes the rows of a layer's input are of; None for all of them."""
        nodes = self.needed[layer]
        if nodes.numel() == self.graph.num_nodes:
            return None
        # Stored features serve where they stand, unless few of their rows are needed.
        in_place = layer == 0 and 2 * nodes.numel() > self.graph.num_nodes and self._stored(model) is not None
        return None if in_place else nodes

    def _stored(self, model: GNN) -> Tensor | None:
        """The features of all nodes, if they are in memory in the type that the model takes them in."""
        if not isinstance(self.features, FeatureStore):
            return None
        rows = self.features.rows
        return rows if as_input(rows[:0], _dtype(model)).dtype == rows.dtype else None

    def _features(self, model: GNN, sources: Tensor | None) -> Tensor:
        stored = self._stored(model)
        if sources is None and stored is not None:
            return stored
        nodes = self.needed[0] if sources is None else sources
        num_rows = max(1, _CACHED_BYTES // (8 * model.in_channels))
        x: Tensor | None = None
        for first in range(0, nodes.numel(), num_rows):
            rows = as_input(self.features.gather(nodes[first : first + num_rows]), _dtype(model))
            if x is None:
                x = self._buffers.empty((nodes.numel(), rows.shape[1]), rows.dtype)
            x[first : first + num_rows] = rows
        assert x is not None
        return x

    def _degrees(self, sources: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`CSCGraph.degree` and `self_loop_weight` of the rows of a layer's input."""
        degree, self_loop = self.graph.degree, self.graph.self_loop_weight
        if sources is None:
            return degree, self_loop
        return degree[sources], None if self_loop is None else self_loop[sources]

    def _columns_of(self, layer: int, sources: Tensor | None, adds_self: bool) -> LayerColumns:
        key = (layer, sources is None, adds_self)
        if key not in self._columns:
            self._columns[key] = LayerColumns(self.graph, sources, self.needed[layer + 1], adds_self)
        return self._columns[key]

    def _send(self, split: SplitConv, x: Tensor) -> tuple[Tensor, ...]:
        """What all rows of the input send."""
        sent: tuple[Tensor, ...] = ()
        num_rows = max(1, _CACHED_BYTES // max(1, x[:1].nbytes))
        bounds = self.world.bounds(torch.ones(x.shape[0], dtype=torch.int8)) if self.world.size > 1 else [0, x.shape[0]]
        share = self._share(bounds)
        for first in range(share.start, share.stop, num_rows):
            own = slice(first, min(first + num_rows, share.stop))
            parts = split.send(x[own])
            if first == share.start:
                sent = tuple(self._buffers.empty((x.shape[0], part.shape[1]), part.dtype) for part in parts)
            for rows, part in zip(sent, parts, strict=True):
                rows[own] = part
        return tuple(self.world.exchange(rows, bounds) for rows in sent)

    def _layer_by_mini_batches(self, model: GNN, layer: int, inputs: Tensor | None) -> Tensor:
        """Copies the rows that some destinations hear, to wherever the model is, and runs the layer on them."""
        sources = self.needed[layer]
        dtype = _dtype(model)
        outputs: list[Tensor] = []
        for chunk in self._chunks(model, layer):
            if inputs is None:
                x = as_input(self.features.gather(chunk.node_ids).to(self.device), dtype)
            else:
                x = inputs[torch.searchsorted(sources, chunk.node_ids)].to(self.device)
            outputs.append(model.layer(layer, x, chunk.blocks[0]).cpu())
        own = torch.cat(outputs)
        if self.world.size == 1:
            return own
        bounds = self._bounds_of(layer)
        rows = own.new_empty((bounds[-1], *own.shape[1:]))
        rows[self._share(bounds)] = own
        return self.world.exchange(rows, bounds)

    def _chunks(self, model: GNN, layer: int) -> Iterator[MiniBatch]:
        """Complete one-hop mini-batches that have, together, this rank's destinations of the layer in order."""
        if layer in self._kept:
            yield from self._kept[layer]
            return
        chunks = []
        sampler = NeighborSampler(self.graph, [-1])
        keeps = sum(self.num_edges) <= _KEPT_EDGES
        for nodes in self._cut(model, layer):
            chunk = sampler.sample(nodes, 0).to(self.device)
            if keeps:
                chunks.append(chunk)
            yield chunk
        if keeps:
            self._kept[layer] = chunks

    def _cut(self, model: GNN, layer: int) -> Iterator[Tensor]:
        """This rank's destinations in pieces that fit `chunk_bytes`; one whose edges do not is a piece by itself."""
        nodes = self.needed[layer + 1][self._share(self._bounds_of(layer))]
        item_bytes = _dtype(model).itemsize
        in_channels = model.in_channels if layer == 0 else model.hidden_channels
        row_bytes = item_bytes * in_channels
        # The widest tensor with a row per edge, five of which are held at once, and indices.
        edge_bytes = item_bytes * 5 * model.message_channels(layer) + 16
        if self.needed[layer].numel() * row_bytes > self.chunk_bytes // 2:
            edge_bytes += row_bytes
        node_bytes = row_bytes + 3 * item_bytes * model.hidden_channels
        bytes_so_far = torch.cumsum(self.graph.in_degree[nodes] * edge_bytes + node_bytes, 0)
        first = 0
        while first < nodes.numel():
            before = int(bytes_so_far[first - 1]) if first else 0
            last = int(torch.searchsorted(bytes_so_far, before + self.chunk_bytes, right=True))
            last = max(last, first + 1)
            yield nodes[first:last]
            first = last

    def _with_in_neighbors(self, nodes: Tensor) -> Tensor:
        if nodes.numel() == self.graph.num_nodes:
            return nodes
        marked = torch.zeros(self.graph.num_nodes, dtype=torch.bool)
        mark_in_neighbors(self.graph.indptr.numpy(), self.graph.indices.numpy(), nodes.numpy(), marked.numpy())
        return marked.nonzero().view(-1)


def _dtype(model: torch.nn.Module) -> torch.dtype:
    """The type that a model computes in; one without parameters takes torch's default."""
    return next((parameter.dtype for parameter in model.parameters()), torch.get_default_dtype())
