"""Arrays in the data of a page: compressed, as text, and back."""

import base64
import zlib
from typing import Any

import numpy as np

#: The types that the page's script reads
TYPES = ("uint8", "int16", "uint16", "int32", "float32")
#: Integers that an action value can have in a page
_STEPS = 2**15 - 1


def packed(array: Any, kind: str, delta: bool = False) -> dict[str, Any]:
    """
    Compress an array for a page.

    :param array: Numbers that the type can hold
    :param kind: One of :data:`TYPES`
    :param delta: Whether to store each entry along the first axis as its difference from the one before. Integers
        wrap, so that the sum of the differences is exact
    :return: Type, shape, and raw deflate of the little-endian bytes in C order, as base64
    :raises ValueError: If the type is unknown, or cannot hold an integer of the array
    """
    if kind not in TYPES:
        raise ValueError(f"kind={kind!r} must be one of {TYPES}")
    given = np.asarray(array)
    numbers = given.astype(kind)
    if kind != "float32" and not np.array_equal(numbers, given):
        raise ValueError(f"the array has numbers that {kind} cannot hold")
    content = numbers.copy()
    if delta:
        content[1:] -= numbers[:-1]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    little = np.ascontiguousarray(content).astype(content.dtype.newbyteorder("<"))
    data = deflate.compress(little.tobytes()) + deflate.flush()
    described: dict[str, Any] = {"type": kind, "shape": list(numbers.shape), "data": base64.b64encode(data).decode()}
    return {**described, "delta": True} if delta else described


def unpacked(described: dict[str, Any]) -> np.ndarray:
    """
    Read an array of a page; the inverse of :func:`packed`.

    :param described: What :func:`packed` returned
    :return: The array; with ``scale`` and ``offset`` (see :func:`packed_values`) float64, else of the stored type
    """
    content = zlib.decompress(base64.b64decode(described["data"]), -15)
    dtype = np.dtype(described["type"]).newbyteorder("<")
    numbers = np.frombuffer(content, dtype).reshape(described["shape"]).astype(described["type"])
    if described.get("delta"):
        numbers = np.cumsum(numbers, axis=0, dtype=numbers.dtype)
    if "scale" in described:
        return np.asarray(described["offset"] + described["scale"] * numbers.astype(np.float64))
    return numbers


def packed_values(values: np.ndarray, limit: float) -> dict[str, Any]:
    """
    Compress action values of many moments, with 65,535 levels between the lowest and the highest.

    :param values: Finite numbers of shape ``(M, S, A)``
    :param limit: Values beyond it, up or down, are shown as this value: those of a run that diverges would leave no
        levels for the others
    :return: As :func:`packed`, int16 with ``delta``, ``scale`` and ``offset``: a value is
        ``offset + scale * integer``
    """
    clipped = np.clip(values.astype(np.float64), -limit, limit)
    low, high = float(clipped.min()), float(clipped.max())
    scale = (high - low) / (2 * _STEPS) or 1.0
    offset = (low + high) / 2
    integers = np.clip(np.rint((clipped - offset) / scale), -_STEPS, _STEPS)
    return {**packed(integers, "int16", delta=True), "scale": scale, "offset": offset}
