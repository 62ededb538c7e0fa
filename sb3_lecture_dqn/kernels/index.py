"""Compiled hash table with open addressing. It finds duplicate rows in the replay memory."""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import entry, jit


@jit
def _home(row, n_slots):
    """Return the slot where the search for a row begins. ``n_slots`` is a power of two."""
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


@entry
def find(slots, rows, row):
    """
    Find the row that equals a given one.

    :param slots: Numbers of rows, int32 of shape ``(n_slots,)``; -1 in free slots
    :param rows: All rows, int64 of shape ``(n_rows, n_words)``
    :param row: The given row, int64 of shape ``(1, n_words)``
    :return: Number of the equal row, or -1
    """
    at = _home(row[0], slots.shape[0])
    while slots[at] >= 0:
        if _equal(rows[slots[at]], row[0]):
            return slots[at]
        at = (at + 1) & (slots.shape[0] - 1)
    return np.int32(-1)


@entry
def add(slots, rows, number):
    """
    Add a row to the index. No equal row may be in the index, and at least one slot must be free.

    :param slots: As in :func:`find`
    :param rows: As in :func:`find`
    :param number: Number of the row
    """
    at = _home(rows[number], slots.shape[0])
    while slots[at] >= 0:
        at = (at + 1) & (slots.shape[0] - 1)
    slots[at] = number


@entry
def remove(slots, rows, number):
    """
    Remove a row from the index. The row must be in the index.

    :param slots: As in :func:`find`
    :param rows: As in :func:`find`
    :param number: Number of the row
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
        # Move the entry into the hole, unless its home lies (cyclically) between the hole and the entry.
        if (at - home) & last >= (at - hole) & last:
            slots[hole] = slots[at]
            hole = at
    slots[hole] = -1


@entry
def replace(slots, rows, number, row):
    """
    Overwrite a row that is in the index. No row in the index may equal the new one.

    :param slots: As in :func:`find`
    :param rows: As in :func:`find`
    :param number: Number of the row
    :param row: The new row, int64 of shape ``(1, n_words)``
    """
    remove(slots, rows, number)
    for k in range(row.shape[1]):
        rows[number, k] = row[0, k]
    add(slots, rows, number)


@entry
def build(rows, size, n_slots):
    """
    Build the index of rows.

    :param rows: As in :func:`find`
    :param size: Number of rows to index, from the first
    :param n_slots: Number of slots, a power of two above ``size``
    :return: The slots, and -1. If a row equals an earlier one, its number instead of -1; the index then lacks this row
        and all later ones
    """
    slots = np.full(n_slots, -1, np.int32)
    for number in range(size):
        if find(slots, rows, rows[number : number + 1]) >= 0:
            return slots, number
        add(slots, rows, number)
    return slots, -1
