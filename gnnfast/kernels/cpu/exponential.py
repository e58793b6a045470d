"""The exponential function in a form that LLVM vectorizes: calls of the C library's run one by one."""

import math

import numpy as np
from numba import types
from numba.extending import overload

from gnnfast.kernels.cpu.compile import inline

_LOWEST = np.float32(-87)  # below, results are smaller than normal numbers
_LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts, of which the first has few enough bits that its product with a whole number is exact.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(0.6931471805599453 - 0.693359375)
# Adding it to a number leaves the nearest whole one in the lowest bits.
_ROUNDER = np.float32(3 << 22)
_TAYLOR = tuple(np.float32(1 / math.factorial(n)) for n in range(8))


def exponential(x):
    """exp(x) of a float up to 0: in float32 to about 1e-7, 0 below -87; in float64 the C library's."""
    return math.exp(x)


@overload(exponential)
def _choose(x):
    if x == types.float32:
        return lambda x: _single(x)
    return lambda x: math.exp(x)


@inline
def _single(x):
    """exp(x) = 2**k exp(r), where r = x - k ln 2 is in +-ln 2 / 2 and has eight terms of Taylor's series."""
    shifted = x * _LOG2_E + _ROUNDER
    k = shifted - _ROUNDER
    r = x - k * _LN2_HIGH - k * _LN2_LOW
    series = _TAYLOR[7]
    series = series * r + _TAYLOR[6]
    series = series * r + _TAYLOR[5]
    series = series * r + _TAYLOR[4]
    series = series * r + _TAYLOR[3]
    series = series * r + _TAYLOR[2]
    series = series * r + _TAYLOR[1]
    series = series * r + _TAYLOR[0]
    # 2**k by its bits; those of `shifted` above the exponent's fall out.
    bits = np.float32(shifted).view(np.int32)
    power = np.int32((bits << np.int32(23)) + np.int32(127 << 23)).view(np.float32)
    return np.float32(0) if x < _LOWEST else series * power
