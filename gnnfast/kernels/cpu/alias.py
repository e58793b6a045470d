"""Drawing from a fixed distribution in constant time."""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.random import random_below, random_unit

_TOGETHER = 32  # draws whose slots are asked for before any is read


@kernel
def build_alias(weights, accept, alias):
    """Makes the alias table of a distribution: n slots, drawn alike, each holding at most two items.

    Walker, An Efficient Method for Generating Discrete Random Variables, 1977. The table is filled in one sweep, as
    Huebschle-Schneider and Sanders, Parallel Weighted Random Sampling, 2019, https://arxiv.org/abs/1903.00227, do:
    items above the mean fill up the slots of those below it in turn, with no lists of either. An item of weight 0 is
    never drawn, whatever is rounded.

    weights  floating (n,)         at least 0, with a positive finite sum
    accept   float64 (n,)          filled: the probability that slot i stands for item i
    alias    int32 or int64 (n,)   filled: the item that slot i stands for otherwise
    """
    n = weights.size
    mean = _sum(weights) / n
    heavy = _next_above(weights, mean, 0)
    if heavy == n:
        # All items alike up to rounding: any of positive weight may take what is missing.
        heavy = np.argmax(weights)
        for i in range(n):
            accept[i] = min(1.0, weights[i] / mean)
            alias[i] = heavy
        return
    left = np.float64(weights[heavy])  # of the heavy item, not yet given to slots
    light = 0
    while light < n:
        if weights[light] > mean:
            light += 1
        elif left > mean:
            accept[light] = weights[light] / mean
            alias[light] = heavy
            left -= mean - weights[light]
            light += 1
        else:
            following = _next_above(weights, mean, heavy + 1)
            if following == n:
                # Rounding only: what is left of the last heavy item was to fill this slot.
                accept[light] = weights[light] / mean
                alias[light] = heavy
                light += 1
            else:
                accept[heavy] = max(0.0, left / mean)
                alias[heavy] = following
                left += weights[following] - mean
                heavy = following
    while heavy < n:
        following = _next_above(weights, mean, heavy + 1)
        accept[heavy] = 1.0 if following == n else min(1.0, max(0.0, left / mean))
        alias[heavy] = heavy if following == n else following
        if following < n:
            left += weights[following] - mean
        heavy = following


@inline
def _sum(weights):
    """The sum with the rounding of every addition made up for (Kahan, 1965): n may be in the billions."""
    total, lost = 0.0, 0.0
    for i in range(weights.size):
        term = weights[i] - lost
        grown = total + term
        lost = (grown - total) - term
        total = grown
    return total


@inline
def _next_above(weights, mean, first):
    while first < weights.size and weights[first] <= mean:
        first += 1
    return first


@inline
def draw_alias(accept, alias, key, draw):
    """Item number `draw` of a stream of draws from the table that `build_alias` made."""
    slot = random_below(key, 2 * draw, accept.size)
    return slot if random_unit(key, 2 * draw + 1) < accept[slot] else np.int64(alias[slot])


@kernel
def draw_aliases(accept, alias, key, out):
    """Fills `out`, int64 (num_draws,), with draws 0, 1, 2, ... of the stream of `key`, uint64, as `draw_alias` does."""
    for first in range(0, out.size, _TOGETHER):
        last = min(first + _TOGETHER, out.size)
        for draw in range(first, last):
            slot = random_below(key, 2 * draw, accept.size)
            out[draw] = slot
            prefetch(accept, slot)
            prefetch(alias, slot)
        for draw in range(first, last):
            slot = out[draw]
            if random_unit(key, 2 * draw + 1) >= accept[slot]:
                out[draw] = alias[slot]
