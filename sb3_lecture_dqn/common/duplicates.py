"""Indexes that find duplicates of a transition in O(1)."""

from hashlib import blake2b
from typing import Protocol

import numpy as np

from sb3_lecture_dqn.kernels.available import why_no_numba

_MAX_PLAIN_KEY = 64


class DuplicateIndex(Protocol):
    """
    Finds a row of a partition that equals a new one.

    Rows are int64 of shape ``(rows, words)``. Two rows are equal if all their words are.
    """

    def __len__(self) -> int:
        """Number of rows in the index."""

    def find(self, rows: np.ndarray, row: np.ndarray) -> int:
        """
        Look up a row.

        :param rows: The partition's rows
        :param row: The row, of shape ``(1, words)``
        :return: The number of the equal row, or -1
        """

    def add(self, rows: np.ndarray, at: int) -> None:
        """
        Add a row that is different from all rows of the index.

        :param rows: The partition's rows
        :param at: The number of the row
        """

    def replace(self, rows: np.ndarray, at: int, row: np.ndarray) -> None:
        """
        Overwrite a row by another that is different from all rows of the index.

        :param rows: The partition's rows
        :param at: The number of the row
        :param row: The new row, of shape ``(1, words)``
        """

    def remove(self, rows: np.ndarray, at: int) -> None:
        """
        Take a row out of the index, without changing the row itself.

        :param rows: The partition's rows
        :param at: The number of the row
        """

    def build(self, rows: np.ndarray, size: int) -> None:
        """
        Index other rows in place of the present ones.

        :param rows: The partition's rows
        :param size: How many of them to index, from the first
        :raises ValueError: If two of them are equal
        """


class DictIndex:
    """An index in a Python dictionary: simple, and about 200 bytes a row."""

    def __init__(self) -> None:
        self._row_of: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def find(self, rows: np.ndarray, row: np.ndarray) -> int:
        """See :meth:`DuplicateIndex.find`."""
        return self._row_of.get(self._key(row), -1)

    def add(self, rows: np.ndarray, at: int) -> None:
        """See :meth:`DuplicateIndex.add`."""
        self._row_of[self._key(rows[at])] = at

    def replace(self, rows: np.ndarray, at: int, row: np.ndarray) -> None:
        """See :meth:`DuplicateIndex.replace`."""
        del self._row_of[self._key(rows[at])]
        rows[at] = row[0]
        self.add(rows, at)

    def remove(self, rows: np.ndarray, at: int) -> None:
        """See :meth:`DuplicateIndex.remove`."""
        del self._row_of[self._key(rows[at])]

    def build(self, rows: np.ndarray, size: int) -> None:
        """See :meth:`DuplicateIndex.build`."""
        row_of: dict[bytes, int] = {}
        for at in range(size):
            if row_of.setdefault(self._key(rows[at]), at) != at:
                raise ValueError(f"transition {at} equals an earlier one")
        self._row_of = row_of

    @staticmethod
    def _key(row: np.ndarray) -> bytes:
        key = row.tobytes()
        # The index holds 128 bits in place of an image; a collision is practically impossible.
        return key if len(key) <= _MAX_PLAIN_KEY else blake2b(key, digest_size=16).digest()


def make_duplicate_index() -> DuplicateIndex:
    """
    Make an empty index.

    :return: The compiled index if numba works, else the dictionary
    """
    if why_no_numba() is not None:
        return DictIndex()
    from sb3_lecture_dqn.common.hash_index import HashIndex  # numba takes half a second to import

    return HashIndex()
