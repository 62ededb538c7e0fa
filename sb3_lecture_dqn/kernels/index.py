"""The compiled loops of the duplicate index."""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import jit
from sb3_lecture_dqn.kernels.updates import _copy


# ---------------------------------------------------------------------------------------- the duplicate index
@jit
def _home(row, n_slots):
    """The slot where a row is looked for first; the number of slots is a power of two."""
    h = np.uint64(1469598103934665603)
    for word in row:
        h = (h ^ np.uint64(word)) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(32)
    return np.int64(h & np.uint64(n_slots - 1))


@jit
def _equal(a, b):
    for k in range(a.shape[0]):  # noqa: SIM110
        if a[k] != b[k]:
            return False
    return True


@jit
def find(slots, rows, row):
    """
    Look a row up.

    :param slots: int32, the numbers of rows, -1 where free.
    :param rows: int64 of shape (rows, words).
    :param row: int64 of shape (1, words).
    :return: The number of the equal row, or -1.
    """
    at = _home(row[0], slots.shape[0])
    while slots[at] >= 0:
        if _equal(rows[slots[at]], row[0]):
            return slots[at]
        at = (at + 1) & (slots.shape[0] - 1)
    return np.int32(-1)


@jit
def add(slots, rows, number):
    """
    Add a row that has no equal in the index. At least one slot must be free.

    :param slots: As in :func:`find`.
    :param rows: As in :func:`find`.
    :param number: The number of the row.
    """
    at = _home(rows[number], slots.shape[0])
    while slots[at] >= 0:
        at = (at + 1) & (slots.shape[0] - 1)
    slots[at] = number


@jit
def remove(slots, rows, number):
    """
    Remove a row that is in the index.

    :param slots: As in :func:`find`.
    :param rows: As in :func:`find`.
    :param number: The number of the row.
    """
    last = slots.shape[0] - 1
    hole = _home(rows[number], slots.shape[0])
    while slots[hole] != number:
        hole = (hole + 1) & last
    at = hole
    while True:
        at = (at + 1) & last
        if slots[at] < 0:
            break
        home = _home(rows[slots[at]], slots.shape[0])
        # An entry may fill the hole unless its home lies behind the hole, cyclically.
        if (at - home) & last >= (at - hole) & last:
            slots[hole] = slots[at]
            hole = at
    slots[hole] = -1


@jit
def replace(slots, rows, number, row):
    """
    Overwrite a row that is in the index by one that has no equal in it.

    :param slots: As in :func:`find`.
    :param rows: As in :func:`find`.
    :param number: The number of the row.
    :param row: int64 of shape (1, words).
    """
    remove(slots, rows, number)
    _copy(row[0], rows[number])
    add(slots, rows, number)


@jit
def build(rows, size, n_slots):
    """
    Index rows.

    :param rows: As in :func:`find`.
    :param size: How many of them, from the first.
    :param n_slots: A power of two, above ``size``.
    :return: The slots, and the number of the first row that equals an earlier one, or -1; the later rows are then not
        in the index.
    """
    slots = np.full(n_slots, -1, np.int32)
    for number in range(size):
        if find(slots, rows, rows[number : number + 1]) >= 0:
            return slots, number
        add(slots, rows, number)
    return slots, -1
