"""A compiled duplicate index in one array, for large memories."""

import numpy as np

from sb3_lecture_dqn.kernels import index

_MIN_SLOTS = 64


class HashIndex:
    """
    A :class:`DuplicateIndex` by open addressing with linear probing, in 4-byte slots: 5 to 11 bytes a row if it has
    grown row by row, 8 to 16 if it was built at once.

    A slot holds the number of a row, or -1. A removal shifts back the later entries of its run, so there are no
    tombstones, and look-ups stay short however often rows are replaced (Knuth, The Art of Computer Programming 3, 6.4,
    algorithm R).
    """

    def __init__(self) -> None:
        self._slots = np.full(_MIN_SLOTS, -1, np.int32)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def find(self, rows: np.ndarray, row: np.ndarray) -> int:
        """See :meth:`DuplicateIndex.find`."""
        return int(index.find(self._slots, rows, row))

    def add(self, rows: np.ndarray, at: int) -> None:
        """See :meth:`DuplicateIndex.add`."""
        if 4 * (self._size + 1) > 3 * len(self._slots):
            self._slots, _ = index.build(rows, self._size, 2 * len(self._slots))
        index.add(self._slots, rows, at)
        self._size += 1

    def replace(self, rows: np.ndarray, at: int, row: np.ndarray) -> None:
        """See :meth:`DuplicateIndex.replace`."""
        index.replace(self._slots, rows, at, row)

    def remove(self, rows: np.ndarray, at: int) -> None:
        """See :meth:`DuplicateIndex.remove`."""
        index.remove(self._slots, rows, at)
        self._size -= 1

    def build(self, rows: np.ndarray, size: int) -> None:
        """See :meth:`DuplicateIndex.build`."""
        n_slots = max(_MIN_SLOTS, 1 << (2 * size).bit_length())
        slots, duplicate = index.build(rows, size, n_slots)
        if duplicate >= 0:
            raise ValueError(f"transition {duplicate} equals an earlier one")
        self._slots, self._size = slots, size
