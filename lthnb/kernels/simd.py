"""Vectors of a few numbers as values inside numba code.

A value of type :class:`Lanes` is an LLVM vector, which stays in registers: AVX-512, AVX, SSE or
NEON. Offsets count elements of the flat array; nothing is checked, and nothing need be aligned.
``a + b``, ``a - b``, ``a * b`` and ``a / b`` work lane by lane, and are never reordered.
"""

from __future__ import annotations

import math
import mmap
import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

_I32, _I64 = ir.IntType(32), ir.IntType(64)
LINE, HUGE = 64, 1 << 21  # bytes of a cache line, and of a huge page


def zeros(shape: int | tuple[int, ...], dtype) -> np.ndarray:
    """As numpy's, at the beginning of a cache line, and where it is large of a huge page: kernels
    read rows from all over a table, where else two equal tables differ in speed by half."""
    dtype = np.dtype(dtype)
    size = math.prod(np.atleast_1d(shape).tolist()) * dtype.itemsize
    step = HUGE if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE") else LINE
    if step == HUGE:
        memory = mmap.mmap(-1, size + step, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
        raw = np.frombuffer(memory, np.uint8)
    else:
        raw = np.zeros(size + step, np.uint8)
    first = -raw.ctypes.data % step
    return raw[first : first + size].view(dtype).reshape(shape)


def aligned(array: np.ndarray, dtype=None) -> np.ndarray:
    """A copy that lies as :func:`zeros` do, of a dtype or of the array's own."""
    copy = zeros(array.shape, array.dtype if dtype is None else dtype)
    copy[...] = array
    return copy


class Lanes(types.Type):
    """`count` numbers of a dtype, side by side."""

    def __init__(self, dtype, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        number = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(number, kind.count))


def _at(context, builder, array_type, array, offset):
    """Pointer to an element of a contiguous array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def _call(builder, name, returns, args):
    kind = ir.FunctionType(returns, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic(prefer_literal=True)
def load(typingctx, array, offset, count):
    """`count` (a constant) elements of a contiguous array, from `offset` on."""
    kind = Lanes(array.dtype, count.literal_value)

    def codegen(context, builder, signature, args):
        start = _at(context, builder, signature.args[0], args[0], args[1])
        start = builder.bitcast(start, context.get_value_type(kind).as_pointer())
        return builder.load(start, align=array.dtype.bitwidth // 8)

    return kind(array, types.intp, count), codegen


@intrinsic
def store(typingctx, array, offset, value):
    """Write a vector into a contiguous array, from `offset` on."""

    def codegen(context, builder, signature, args):
        start = _at(context, builder, signature.args[0], args[0], args[1])
        start = builder.bitcast(start, args[2].type.as_pointer())
        builder.store(args[2], start, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic(prefer_literal=True)
def splat(typingctx, array, number, count):
    """A number in `count` lanes, of the dtype of an array."""
    kind = Lanes(array.dtype, count.literal_value)

    def codegen(context, builder, signature, args):
        vector = context.get_value_type(kind)
        empty = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(empty, args[1], _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
        return builder.shuffle_vector(first, empty, zeros)

    return kind(array, array.dtype, count), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a · b + c, rounded once."""

    def codegen(context, builder, signature, args):
        return _call(builder, f"llvm.fma.v{a.count}f{a.dtype.bitwidth}", args[0].type, args)

    return a(a, b, c), codegen


@intrinsic
def root(typingctx, a):
    """√a."""

    def codegen(context, builder, signature, args):
        return _call(builder, f"llvm.sqrt.v{a.count}f{a.dtype.bitwidth}", args[0].type, args)

    return a(a), codegen


@intrinsic
def total(typingctx, a):
    """The sum of the lanes, in a fixed order: the upper half is added to the lower one, …"""

    def codegen(context, builder, signature, args):
        vector, count = args[0], a.count
        while count > 1:
            count //= 2
            halves = []
            for first in (0, count):
                lanes = ir.Constant(ir.VectorType(_I32, count), [*range(first, first + count)])
                empty = ir.Constant(vector.type, ir.Undefined)
                halves.append(builder.shuffle_vector(vector, empty, lanes))
            vector = builder.fadd(*halves)
        return builder.extract_element(vector, _I32(0))

    return a.dtype(a), codegen


@intrinsic
def keep(typingctx, bits, a):
    """`a` in the lanes whose bit is set (lane 0 has the lowest), 0 in the others."""

    def codegen(context, builder, signature, args):
        lanes = builder.trunc(args[0], ir.IntType(a.count))
        lanes = builder.bitcast(lanes, ir.VectorType(ir.IntType(1), a.count))
        return builder.select(lanes, args[1], ir.Constant(args[1].type, [0.0] * a.count))

    return a(bits, a), codegen


@intrinsic
def reaching(typingctx, a, b):
    """An integer with a bit for each lane in which a ≥ b."""

    def codegen(context, builder, signature, args):
        found = builder.fcmp_ordered(">=", args[0], args[1])
        return builder.zext(builder.bitcast(found, ir.IntType(a.count)), _I64)

    return types.int64(a, b), codegen


@intrinsic
def prefetch(typingctx, array, offset):
    """Ask for the cache line of an element that will be wanted soon."""

    def codegen(context, builder, signature, args):
        start = _at(context, builder, signature.args[0], args[0], args[1])
        start = builder.bitcast(start, ir.IntType(8).as_pointer())
        read, everywhere, data = _I32(0), _I32(3), _I32(1)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [start, read, everywhere, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


def _define(symbol, instruction: str) -> None:
    @intrinsic
    def apply(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, instruction)(*args)

        return a(a, b), codegen

    @overload(symbol)
    def lane_by_lane(a, b):
        if isinstance(a, Lanes) and isinstance(b, Lanes):
            return lambda a, b: apply(a, b)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")
