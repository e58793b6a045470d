"""What a mini-batch cannot do without: bytes to move and products to compute, counted from its sizes.

Bytes are those that operations outside of matrix products read and write, each operand once, as if nothing stayed in a
cache; a smaller graph, or rows that come again soon, may go below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Shape = Sequence[float]  # destinations, sources and edges of a block


@dataclass(frozen=True)
class Work:
    """Bytes to move outside of matrix products, and operations (a multiply-add being two) inside of them."""

    num_bytes: float
    flops: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.num_bytes + other.num_bytes, self.flops + other.flops)

    def times(self, count: float) -> Work:
        """So many times the same."""
        return Work(count * self.num_bytes, count * self.flops)


def sampled_lines(blocks: Sequence[Shape], is_nested: bool) -> float:
    """Cache lines at random places: where each node's edges are, each drawn edge, and the number of its source.

    Args:
        blocks: Of the mini-batch, input first.
        is_nested: Whether the first block holds all drawn edges, as with `expand="once"`.
    """
    drawn = blocks[:1] if is_nested else blocks
    return sum(num_dst + 2 * num_edges for num_dst, _, num_edges in drawn)


def gathered_bytes(num_nodes: float, num_features: int) -> float:
    """Float32 rows read and written."""
    return 8.0 * num_nodes * num_features


def model_work(
    conv: str, blocks: Sequence[Shape], widths: Sequence[int], heads: int, item_bytes: int, training: bool
) -> Work:
    """A model's pass over a mini-batch; in training forward, backward and Adam.

    Args:
        conv: Of `MODELS`.
        blocks: One per layer, input first.
        widths: Of the features and of every layer's output.
        heads: Of gat.
        item_bytes: Of a value that goes from layer to layer.
        training: Whether gradients are computed.
    """
    total = Work(0.0)
    for i, block in enumerate(blocks):
        is_first, is_last = i == 0, i + 1 == len(blocks)
        total += _layer(conv, block, widths[i], widths[i + 1], heads, item_bytes, training, is_first, is_last)
    return total


def _layer(
    conv: str,
    block: Shape,
    width: int,
    out: int,
    heads: int,
    item_bytes: int,
    training: bool,
    is_first: bool,
    is_last: bool,
) -> Work:
    num_dst, num_src, num_edges = block
    if conv == "gat" and is_last:
        out *= heads
    # Aggregated where rows are narrower; gin transforms what it has summed, gat weighs what it has transformed.
    aggregates_first = conv == "gin" or (conv != "gat" and width <= out)
    summed = width if aggregates_first else out
    rows = num_dst if aggregates_first else num_src
    products = rows * width * out
    if conv == "sage":
        products += num_dst * width * out
    if conv == "gin":
        products += num_dst * out * out
    passes = 1.0
    if training:
        # Of the weights always, of the inputs where these are learned.
        passes = 2.0 if is_first else 3.0
    # The rows heard along edges, the edges themselves, the sums.
    moved = item_bytes * summed * (num_edges + num_dst) + 4 * num_edges
    if training and not (is_first and aggregates_first):
        moved += item_bytes * summed * (num_edges + num_src) + 4 * num_edges
    if conv == "gat":
        # Logits and weights of edges, read and written; backward, their gradients and the rows once more.
        moved += 4 * heads * num_edges * (8 if training else 3)
        moved += item_bytes * summed * num_edges if training else 0
    if not is_last:
        # The activation, and its gradient.
        moved += item_bytes * out * num_dst * (5 if training else 2)
    parameters = width * out * (2 if conv == "sage" else 1) + (out * out if conv == "gin" else 0)
    # Adam reads a gradient, and reads and writes a weight and its two moments.
    moved += 4 * 7 * parameters if training else 0
    return Work(moved, 2 * passes * products)


def operation_bytes(operation: str, block: Shape, channels: int, heads: int) -> float:
    """What a single operation of the stage kernel reads and writes.

    Args:
        operation: "sum forward", "sum backward", the same of mean, max and attention; gather, relabel, transpose.
        block: On which.
        channels: Of the rows, in float32.
        heads: Of attention.
    """
    num_dst, num_src, num_edges = block
    row, edges = 4 * channels, 4 * num_edges
    sums = {
        # The rows heard along edges, the edges, and what they are summed to.
        "forward": row * (num_edges + num_dst) + edges,
        "backward": row * (num_edges + num_src) + edges,
    }
    if operation.startswith("max"):
        # Who won, written; and read, with the gradient, where each row of it goes to at most one source.
        return {"forward": sums["forward"] + row * num_dst, "backward": row * (3 * num_dst + num_src)}[operation[4:]]
    if operation.startswith("attention"):
        scores = 4 * heads * (num_src + num_dst)
        # Weights are read again on the way back, and the rows once more for the gradients of the weights.
        return {
            "forward": sums["forward"] + scores + edges * heads,
            "backward": sums["backward"] + row * (num_edges + num_dst) + 2 * edges * heads + 2 * scores,
        }[operation[10:]]
    return {
        "gather": 2 * row * num_src,
        # Ids in, numbers out; the nodes in their order.
        "relabel": (8 + 4) * num_edges + 8 * num_src,
        # Edges in; destinations and positions out.
        "transpose": 3 * edges + 8 * (num_dst + num_src),
    }.get(operation) or sums[operation.partition(" ")[2]]
