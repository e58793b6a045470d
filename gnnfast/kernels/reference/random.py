"""Keyed random numbers in plain Python integers: what every other home of these functions must reproduce."""

GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def node_key(layer_key: int, node: int) -> int:
    return mix(layer_key ^ (node * GOLDEN & _MASK))


def random_bits(key: int, draw: int) -> int:
    return mix((key + (draw + 1) * GOLDEN) & _MASK)


def random_below(key: int, draw: int, bound: int) -> int:
    bits = random_bits(key, draw)
    while (bits * bound & _MASK) < ((1 << 64) - bound) % bound:
        bits = mix((bits + GOLDEN) & _MASK)
    return bits * bound >> 64


def random_unit(key: int, draw: int) -> float:
    return ((random_bits(key, draw) >> 12) + 0.5) * 2.0**-52


def derive_seed(seed: int, *words: int) -> int:
    """Hashes a seed and further integers (epoch, step, layer) to a new 64-bit seed.

    Different words, in value, number or order, give unrelated seeds.
    """
    state = 0
    for word in (seed, *words):
        state = mix((state ^ mix((word + GOLDEN) & _MASK)) + GOLDEN & _MASK)
    return state
