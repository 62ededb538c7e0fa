"""Draws from NumPy's generators in compiled code."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_POINTER = ir.IntType(8).as_pointer()
_NEXT_DOUBLE = ir.FunctionType(ir.DoubleType(), [_POINTER]).as_pointer()
# NumPy's `bitgen_t`: the state, and the functions next_uint64, next_uint32, next_double and next_raw
_BITGEN = ir.LiteralStructType([_POINTER, _POINTER, _POINTER, _NEXT_DOUBLE, _POINTER])


@intrinsic
def random(context, bitgen):
    """
    Draw what ``Generator.random()`` draws: a float64 in [0, 1).

    Numba takes generators as arguments too, but reads each of them for 8 microseconds at every call.

    :param bitgen: Address of the generator's ``bitgen_t``, see :func:`address_of`
    """

    def generate(context, builder, signature, arguments):
        bitgen = builder.load(builder.inttoptr(arguments[0], _BITGEN.as_pointer()))
        return builder.call(builder.extract_value(bitgen, 3), [builder.extract_value(bitgen, 0)])

    return types.float64(types.int64), generate


def address_of(rng):
    """
    Return where a generator is.

    :param rng: A generator, which must be kept alive
    :return: Address of its ``bitgen_t``
    """
    return int(rng.bit_generator.ctypes.bit_generator.value)
