"""bfloat16, which NumPy and numba lack: rows travel as uint16 bit patterns and are computed with as float32."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic  # type: ignore[untyped-decorator]
def widened(typing_context: Any, value: Any) -> Any:
    """The float32 that a bfloat16 bit pattern stands for; floats as they are."""
    if value != types.uint16:
        return value(value), lambda context, builder, signature, arguments: arguments[0]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        bits = builder.shl(builder.zext(arguments[0], word), ir.Constant(word, 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(value), generate


@intrinsic  # type: ignore[untyped-decorator]
def rounded_to(typing_context: Any, array: Any, value: Any) -> Any:
    """`value` as an entry of `array`: for bit patterns the nearest bfloat16, ties to even, NaN as NaN."""
    if array.dtype != types.uint16:
        signature = array.dtype(array, value)

        def convert(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return context.cast(builder, arguments[1], signature.args[1], signature.return_type)

        return signature, convert

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, half = ir.IntType(32), ir.IntType(16)
        number = context.cast(builder, arguments[1], signature.args[1], types.float32)
        bits = builder.bitcast(number, word)
        lowest_kept = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        nearest = builder.add(bits, builder.add(lowest_kept, ir.Constant(word, 0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", number, number)
        nearest = builder.select(is_nan, ir.Constant(word, 0x7FC00000), nearest)
        return builder.trunc(builder.lshr(nearest, ir.Constant(word, 16)), half)

    return types.uint16(array, value), generate
