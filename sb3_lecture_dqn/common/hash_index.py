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
        #: Numbers of rows, see :mod:`kernels.index`
        self.slots = np.full(_MIN_SLOTS, -1, np.int32)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def find(self, rows: np.ndarray, row: np.ndarray) -> int:
        """See :meth:`DuplicateIndex.find`."""
        return int(index.find(self.slots, rows, row))

    def add(self, rows: np.ndarray, at: int) -> None:
        """See :meth:`DuplicateIndex.add`."""
        self.reserve(rows, self._size + 1)
        index.add(self.slots, rows, at)
        self._size += 1

    def replace(self, rows: np.ndarray, at: int, row: np.ndarray) -> None:
        """See :meth:`DuplicateIndex.replace`."""
        index.replace(self.slots, rows, at, row)

    def remove(self, rows: np.ndarray, at: int) -> None:
        """See :meth:`DuplicateIndex.remove`."""
        index.remove(self.slots, rows, at)
        self._size -= 1

    # What a compiled loop needs to change the index itself, see `training/stretches.py`

    def reserve(self, rows: np.ndarray, n: int) -> None:
        """
        Make room for rows.

        :param rows: The partition's rows
        :param n: Number of rows that the index shall have room for
        """
        n_slots = len(self.slots)
        while 4 * n > 3 * n_slots:
            n_slots *= 2
        if n_slots != len(self.slots):
            self.slots, _ = index.build(rows, self._size, n_slots)

    def set_size(self, size: int) -> None:
        """
        Set the number of rows, after the slots were changed.

        :param size: The number of rows in the slots
        """
        self._size = size

    def build(self, rows: np.ndarray, size: int) -> None:
        """See :meth:`DuplicateIndex.build`."""
        n_slots = max(_MIN_SLOTS, 1 << (2 * size).bit_length())
        slots, duplicate = index.build(rows, size, n_slots)
        if duplicate >= 0:
            raise ValueError(f"transition {duplicate} equals an earlier one")
        self.slots, self._size = slots, size
