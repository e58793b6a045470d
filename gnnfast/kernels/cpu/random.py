"""Keyed random numbers: a draw depends on its key alone, never on what was drawn before it.

The generator is SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014): a counter
pushed through a bijection of 64 bits. A key (seed, layer, node) is hashed to the start of the counter, the number of
the draw moves it on. The same functions, bit for bit, stand in `kernels/reference/random.py`.
"""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, multiply_high_low

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio, made odd
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_UNIT_STEP = 2.0**-52


@inline
def mix(x):
    """SplitMix64's finalizer, a bijection of 64 bits."""
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


@inline
def node_key(layer_key, node):
    """The start of a node's own stream of draws under a key derived from (seed, layer)."""
    return mix(layer_key ^ (np.uint64(node) * GOLDEN))


@inline
def random_bits(key, draw):
    """64 uniform bits for draw 0, 1, 2, ... of a stream."""
    return mix(key + np.uint64(draw + 1) * GOLDEN)


@inline
def random_below(key, draw, bound):
    """A uniform integer in [0, bound), without the bias of a remainder.

    Lemire, Fast Random Integer Generation in an Interval, 2019: the high word of bits x bound, redrawn in the rare
    case that the low word falls into the part that would come once too often.
    """
    n = np.uint64(bound)
    bits = random_bits(key, draw)
    high, low = multiply_high_low(bits, n)
    if low < n:
        threshold = (np.uint64(0) - n) % n
        while low < threshold:
            bits = mix(bits + GOLDEN)
            high, low = multiply_high_low(bits, n)
    return np.int64(high)


@inline
def random_unit(key, draw):
    """A uniform float64 between 0 and 1, never either: the middle of one of 2**52 equal intervals."""
    return (np.float64(random_bits(key, draw) >> np.uint64(12)) + 0.5) * _UNIT_STEP
