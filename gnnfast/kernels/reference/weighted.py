"""Drawing in-edges with unequal probabilities: the probabilities in floats, the draws in Python integers."""

from torch import Tensor

from gnnfast.kernels.reference.random import node_key, random_below

WHOLE = 2**44


def inclusion_probabilities(weights: Tensor, fanout: int) -> Tensor:
    """min(1, weight / tau) for one column, float64, where tau makes them add up to the fanout, or all are 1."""
    weights = weights.double()
    if int((weights > 0).sum()) <= fanout:
        return (weights > 0).double()
    # The more of the largest weights are always drawn, the smaller tau for the rest; the first that fits is tau.
    descending = weights.sort(descending=True).values
    for num_certain in range(fanout):
        tau = descending[num_certain:].sum() / (fanout - num_certain)
        if descending[num_certain] <= tau:
            return (weights / tau).clamp(max=1)
    raise AssertionError("more positive weights than draws, so the last draw is not certain")


def sample_column(sums: Tensor, layer_key: int, node: int) -> list[int]:
    """The positions that a node draws in its column from the summed shares of its edges, without replacement."""
    ends: list[int] = sums.tolist()
    starts = [0, *ends[:-1]]
    key = node_key(layer_key, node)
    drawn: list[int] = []
    for unit in range(ends[-1] // WHOLE if ends else 0):
        start = unit * WHOLE
        crossing = [e for e in range(len(ends)) if starts[e] < start < ends[e]]
        ahead = 0
        if crossing:
            ahead = ends[crossing[0]] - start
            behind = start - starts[crossing[0]]
            if drawn[-1] != crossing[0] and random_below(key, 2 * unit, WHOLE - behind) < ahead:
                drawn += crossing
                continue
        point = start + ahead + random_below(key, 2 * unit + 1, WHOLE - ahead)
        drawn += [e for e in range(len(ends)) if starts[e] <= point < ends[e]]
    return drawn


def sample_column_again(sums: Tensor, layer_key: int, node: int, num_draws: int) -> list[int]:
    """The positions that a node draws with replacement."""
    key = node_key(layer_key, node)
    return [int((sums <= random_below(key, draw, WHOLE)).sum()) for draw in range(num_draws)]
