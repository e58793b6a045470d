"""What exact evaluation holds at once: the tables of layer-wise inference, counted without computing them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from math import prod
from typing import Any

import torch

from gnnfast.runtime.buffers import pooled_bytes
from gnnfast.training.inference import LayerwiseInference
from gnnfast.training.split import split_conv

# Of one chunk of columns, with what is made of it.
_CHUNK_BYTES = 3 << 24
_INDEX_BYTES = 8


def inference_bytes(inference: LayerwiseInference, model: Any) -> tuple[int, int]:
    """Memory of one evaluation: what it holds at most, and what stays with it afterwards.

    The tables come from a pool that keeps what comes back; its leases are followed layer by layer.

    Args:
        inference: Of a split.
        model: The one it will be called with, on the CPU or another device; tables are always on the CPU.
    """
    pool, peak = _Pool(), 0
    item_bytes = next((parameter.element_size() for parameter in model.parameters()), 4)
    rows_in: tuple[int, ...] | None = None
    sizes = [nodes.numel() for nodes in inference.needed]
    kept = _INDEX_BYTES * sum(sizes)
    for layer in range(model.num_layers):
        before = rows_in
        split = None
        sources = inference._sources(model, layer)
        if inference.device.type == "cpu":
            split = split_conv(model.convs[layer], partial(inference._degrees, sources))
        num_sources = inference.graph.num_nodes if sources is None else sources.numel()
        width_in = model.in_channels if layer == 0 else model._widths[layer]
        width_out = model._widths[layer + 1]
        if layer == 0 and (sources is not None or inference._stored(model) is None):
            before = pool.take(num_sources, width_in, item_bytes)
        out = (sizes[layer + 1], width_out)
        if split is None:
            # Rows, messages and outputs of a chunk, and all outputs twice while they are joined.
            edges = int(inference.graph.in_degree[inference.needed[layer + 1]].sum())
            chunk = edges * (16 + 5 * item_bytes * model.message_channels(layer)) + num_sources * width_in * item_bytes
            peak = max(peak, pool.total + min(chunk, inference.chunk_bytes) + 2 * prod(out) * item_bytes)
            rows_in = pool.take(*out, item_bytes)
            pool.give_back(before)
            continue
        probe = torch.zeros(1, width_in, dtype=next(model.parameters()).dtype)
        with torch.no_grad():
            sent = [pool.take(num_sources, part.shape[1], part.element_size()) for part in split.send(probe)]
        is_in_place = not split.hears_inputs and before is not None and layer > 0 and before == (*out, item_bytes)
        rows_in = before if is_in_place else pool.take(*out, item_bytes)
        all_columns = 3 * (4 * prod(out) * item_bytes + 8 * inference.num_edges[layer])
        peak = max(peak, pool.total + min(_CHUNK_BYTES, all_columns) + 12 * num_sources)
        for lease in (*sent, None if is_in_place else before):
            pool.give_back(lease)
    kept += sum(
        columns_bytes for columns_bytes in (8 * edges for edges in inference.num_edges) if columns_bytes <= 128 << 20
    )
    return peak + kept, min(pool.total, 512 << 20) + kept


class _Pool:
    """The bytes of a `BufferPool` that never frees."""

    def __init__(self) -> None:
        self.total = 0
        self._free: Counter[int] = Counter()

    def take(self, num_rows: int, channels: int, item_bytes: int) -> tuple[int, ...]:
        num_bytes = pooled_bytes(num_rows * channels * item_bytes)
        if self._free[num_bytes]:
            self._free[num_bytes] -= 1
        else:
            self.total += num_bytes
        return num_rows, channels, item_bytes

    def give_back(self, lease: tuple[int, ...] | None) -> None:
        if lease is not None:
            self._free[pooled_bytes(prod(lease))] += 1
