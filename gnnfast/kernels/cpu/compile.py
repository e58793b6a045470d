"""How a kernel is compiled: without the interpreter lock, kept on disk, and with memory prefetch at hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gnnfast.kernels.cache import kernel_cache_dir, source_digest

_CACHE_DIR = kernel_cache_dir()


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a serial kernel that runs without the interpreter lock; threads may run several at once."""
    return _compile(function, nogil=True)


def inline(function: Callable[..., Any]) -> Any:
    """Compiles a function that kernels call; LLVM inlines it."""
    return _compile(function)


def inline_unordered(function: Callable[..., Any]) -> Any:
    """As `inline`, for a sum whose terms LLVM may add in another order: so it is vectorized."""
    return _compile(function, fastmath={"reassoc", "nsz", "contract"})


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    if _CACHE_DIR is None:
        return numba.njit(**options)(function)
    # numba reads its cache folder while it decorates: ours must not become that of the user's own functions.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_CACHE_DIR / source_digest(Path(function.__code__.co_filename).resolve()))
    try:
        return numba.njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = before


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, position: Any) -> Any:
    """Asks the processor to load `array[position]` (flat position) into its caches; never faults."""
    signature = types.void(array, position)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(view.data, [arguments[1]])
        byte_pointer = ir.IntType(8).as_pointer()
        word = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte_pointer, word, word, word]),
            "llvm.prefetch.p0",
        )
        read, keep, data = (ir.Constant(word, value) for value in (0, 3, 1))
        builder.call(function, [builder.bitcast(address, byte_pointer), read, keep, data])
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def multiply_high_low(typing_context: Any, a: Any, b: Any) -> Any:
    """The 128-bit product of two unsigned 64-bit numbers as (high, low)."""
    signature = types.UniTuple(types.uint64, 2)(types.uint64, types.uint64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        low = builder.trunc(product, word)
        return context.make_tuple(builder, signature.return_type, [high, low])

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def copy_past_caches(typing_context: Any, src: Any, src_position: Any, dst: Any, dst_position: Any, count: Any) -> Any:
    """Copies `count` entries between arrays of one type, from and to flat positions, without keeping them in caches.

    The entries are a multiple of 16 bytes, and begin at one in `dst`. `finish_copies` must follow before another thread
    reads them.
    """
    signature = types.void(src, src_position, dst, dst_position, count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_array, to_array = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 2)
        )
        item_bytes = signature.args[0].dtype.bitwidth // 8
        vector = ir.VectorType(ir.IntType(8 * item_bytes), 16 // item_bytes).as_pointer()
        source = builder.bitcast(builder.gep(from_array, [arguments[1]]), vector)
        target = builder.bitcast(builder.gep(to_array, [arguments[3]]), vector)
        nontemporal = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        num_vectors = builder.udiv(arguments[4], ir.Constant(arguments[4].type, 16 // item_bytes))
        with cgutils.for_range(builder, num_vectors) as loop:
            entries = builder.load(builder.gep(source, [loop.index]))
            entries.align = item_bytes
            store = builder.store(entries, builder.gep(target, [loop.index]))
            store.align = 16
            store.set_metadata("nontemporal", nontemporal)
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def finish_copies(typing_context: Any) -> Any:
    """Orders what `copy_past_caches` wrote before all that is written later."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
