"""
Vectors of eight float32 numbers for numba, by LLVM's own vector type; for products of matrices also of sixteen.

LLVM splits them for the processor at hand: eight are one register with AVX, two with SSE or NEON. No operation here may
be reordered or fused at the compiler's choice: sums are taken in the order that stands here, and :func:`fma` is one
instruction where the processor has one. So a function gives the same bits wherever it is inlined.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

#: Numbers in a vector
LANES = 8

#: Numbers in a wide vector
WIDE_LANES = 16

_FLOAT, _I32 = ir.FloatType(), ir.IntType(32)
_VECTOR, _WIDE = ir.VectorType(_FLOAT, LANES), ir.VectorType(_FLOAT, WIDE_LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)


class Float32x8(types.Type):  # type: ignore[misc]
    """The type of a vector, for numba's type inference."""

    def __init__(self) -> None:
        super().__init__(name="float32x8")


class Float32x16(types.Type):  # type: ignore[misc]
    """The type of a wide vector."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


vector, wide_vector = Float32x8(), Float32x16()


@register_model(Float32x8)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


@register_model(Float32x16)
class _WideModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _WIDE)


# The index of an array is taken as it is: numba's own would first look whether it is negative.


def _number_at(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, of: Any = _VECTOR) -> Any:
    return builder.bitcast(_number_at(context, builder, array_type, array, index), of.as_pointer())


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _splat(builder: Any, x: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
    first = builder.insert_element(undefined, x, ir.Constant(_I32, 0))
    return _shuffle(builder, first, undefined, [0] * lanes)


def _first(builder: Any, n: Any) -> Any:
    """The mask of the first n lanes."""
    n = builder.trunc(n, _I32)
    undefined = ir.Constant(ir.VectorType(_I32, LANES), ir.Undefined)
    limit = builder.insert_element(undefined, n, ir.Constant(_I32, 0))
    limit = _shuffle(builder, limit, undefined, [0] * LANES)
    lanes = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES)))
    return builder.icmp_signed("<", lanes, limit)


@intrinsic
def load(context, array, at):
    """Read the eight numbers of a one-dimensional array from ``at`` on."""

    def generate(context, builder, signature, arguments):
        loaded = builder.load(_address(context, builder, signature.args[0], *arguments))
        loaded.align = 4
        return loaded

    return vector(array, types.intp), generate


@intrinsic
def store(context, array, at, v):
    """Write eight numbers into an array from ``at`` on."""

    def generate(context, builder, signature, arguments):
        array, at, v = arguments
        builder.store(v, _address(context, builder, signature.args[0], array, at)).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def load_first(context, array, at, n):
    """Read the first n of eight numbers, 0 to 8; the others are 0 and not touched."""

    def generate(context, builder, signature, arguments):
        array, at, n = arguments
        address = _address(context, builder, signature.args[0], array, at)
        mask = _first(builder, n)
        return _call(builder, f"llvm.masked.load.v{LANES}f32.p0", _VECTOR, [address, ir.Constant(_I32, 4), mask, _ZERO])

    return vector(array, types.intp, types.intp), generate


@intrinsic
def store_first(context, array, at, v, n):
    """Write the first n of eight numbers, 0 to 8; the array's others are not touched."""

    def generate(context, builder, signature, arguments):
        array, at, v, n = arguments
        address = _address(context, builder, signature.args[0], array, at)
        mask = _first(builder, n)
        _call(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), [v, address, ir.Constant(_I32, 4), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), generate


@intrinsic
def splat(context, x):
    """Make a vector of one number."""

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0], LANES)

    return vector(types.float32), generate


@intrinsic
def splat_at(context, array, at):
    """Make a vector of one number of an array."""

    def generate(context, builder, signature, arguments):
        x = builder.load(_number_at(context, builder, signature.args[0], *arguments))
        return _splat(builder, x, LANES)

    return vector(array, types.intp), generate


@intrinsic
def zero(context):
    """Make a vector of zeros."""

    def generate(context, builder, signature, arguments):
        return _ZERO

    return vector(), generate


def _binary(name: str) -> Callable[..., Any]:
    @intrinsic
    def operation(context, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, name)(*arguments)

        return vector(vector, vector), generate

    return operation


add, sub, mul, div = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def fma(context, a, b, c):
    """Compute ``a * b + c``, in one instruction where the processor has it."""

    def generate(context, builder, signature, arguments):
        return _call(builder, f"llvm.fmuladd.v{LANES}f32", _VECTOR, list(arguments))

    return vector(vector, vector, vector), generate


@intrinsic
def wide_load(context, array, at):
    """Read sixteen numbers of a one-dimensional array from ``at`` on."""

    def generate(context, builder, signature, arguments):
        loaded = builder.load(_address(context, builder, signature.args[0], *arguments, of=_WIDE))
        loaded.align = 4
        return loaded

    return wide_vector(array, types.intp), generate


@intrinsic
def wide_store(context, array, at, v):
    """Write sixteen numbers into an array from ``at`` on."""

    def generate(context, builder, signature, arguments):
        array, at, v = arguments
        builder.store(v, _address(context, builder, signature.args[0], array, at, of=_WIDE)).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, wide_vector), generate


@intrinsic
def wide_splat(context, x):
    """Make a wide vector of one number."""

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0], WIDE_LANES)

    return wide_vector(types.float32), generate


@intrinsic
def wide_fma_at(context, array, at, b, c):
    """Compute ``array[at] * b + c`` for wide vectors, as :func:`fma`."""

    def generate(context, builder, signature, arguments):
        array, at, b, c = arguments
        x = builder.load(_number_at(context, builder, signature.args[0], array, at))
        factors = [_splat(builder, x, WIDE_LANES), b, c]
        return _call(builder, f"llvm.fmuladd.v{WIDE_LANES}f32", _WIDE, factors)

    return wide_vector(array, types.intp, wide_vector, wide_vector), generate


@intrinsic
def fnma(context, a, b, c):
    """Compute ``c - a * b``, in one instruction where the processor has it."""

    def generate(context, builder, signature, arguments):
        a, b, c = arguments
        return _call(builder, f"llvm.fmuladd.v{LANES}f32", _VECTOR, [builder.fneg(a), b, c])

    return vector(vector, vector, vector), generate


@intrinsic
def sqrt(context, a):
    """Take the square roots."""

    def generate(context, builder, signature, arguments):
        return _call(builder, f"llvm.sqrt.v{LANES}f32", _VECTOR, list(arguments))

    return vector(vector), generate


@intrinsic
def where_positive(context, z, a, b):
    """Choose from ``a`` where z is above 0, else from ``b``; NaN counts as not above."""

    def generate(context, builder, signature, arguments):
        z, a, b = arguments
        return builder.select(builder.fcmp_ordered(">", z, _ZERO), a, b)

    return vector(vector, vector, vector), generate


@intrinsic
def clamped(context, a, limit):
    """Bring the numbers of a vector into [-limit, limit]; NaN stays NaN."""

    def generate(context, builder, signature, arguments):
        a, limit = arguments
        a = builder.select(builder.fcmp_unordered("<", a, limit), a, limit)
        return builder.select(builder.fcmp_unordered(">", a, builder.fneg(limit)), a, builder.fneg(limit))

    return vector(vector, vector), generate


@intrinsic
def float_of(context, bits):
    """Return the float32 number of which these are the bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.trunc(arguments[0], _I32), _FLOAT)

    return types.float32(types.int64), generate


@intrinsic
def total(context, a):
    """Sum a vector: neighbours are added until one number is left, which is the order of :func:`totals`."""

    def generate(context, builder, signature, arguments):
        (v,) = arguments
        while (n := v.type.count) > 1:
            even, odd = _shuffle(builder, v, v, [*range(0, n, 2)]), _shuffle(builder, v, v, [*range(1, n, 2)])
            v = builder.fadd(even, odd)
        return builder.extract_element(v, ir.Constant(_I32, 0))

    return types.float32(vector), generate


@intrinsic
def totals(context, a0, a1, a2, a3, a4, a5, a6, a7):
    """Sum eight vectors at once: lane i of the result is the sum of the i-th."""

    def generate(context, builder, signature, arguments):
        def paired(a, b):
            even = _shuffle(builder, a, b, [0, 2, 8, 10, 4, 6, 12, 14])
            odd = _shuffle(builder, a, b, [1, 3, 9, 11, 5, 7, 13, 15])
            return builder.fadd(even, odd)

        pairs = [paired(arguments[i], arguments[i + 1]) for i in range(0, LANES, 2)]
        low, high = paired(pairs[0], pairs[1]), paired(pairs[2], pairs[3])
        first = _shuffle(builder, low, high, [0, 1, 2, 3, 8, 9, 10, 11])
        second = _shuffle(builder, low, high, [4, 5, 6, 7, 12, 13, 14, 15])
        return builder.fadd(first, second)

    return vector(*[vector] * LANES), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose eight rows of eight: blocks of 4 change places, then in each the blocks of 2, then the numbers."""
    for width in (4, 2, 1):
        # Of two rows, the first keeps its lanes without the bit `width` and takes those of the second, and so on.
        own = [lane if not lane & width else LANES + lane - width for lane in range(LANES)]
        other = [lane + width if not lane & width else LANES + lane for lane in range(LANES)]
        rows = [
            _shuffle(builder, rows[i], rows[i + width], own)
            if not i & width
            else _shuffle(builder, rows[i - width], rows[i], other)
            for i in range(LANES)
        ]
    return rows


@intrinsic
def store_transposed(context, array, at, stride, a0, a1, a2, a3, a4, a5, a6, a7):
    """Write eight vectors as columns: lane i of them goes to the eight places from ``at + i * stride`` on."""

    def generate(context, builder, signature, arguments):
        array, at, stride, *rows = arguments
        for i, row in enumerate(_transposed(builder, rows)):
            place = builder.add(at, builder.mul(stride, ir.Constant(at.type, i)))
            builder.store(row, _address(context, builder, signature.args[0], array, place)).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, *[vector] * LANES), generate
