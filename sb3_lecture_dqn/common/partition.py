"""A partition of the lecture's replay memory: an array of rows that grows, with an index of duplicates."""

from typing import Any, Protocol

import numpy as np

from sb3_lecture_dqn.common.duplicates import DictIndex, DuplicateIndex, make_duplicate_index

_MIN_ROWS = 64
_NO_SLOTS = np.zeros(0, np.int32)
_BYTES_AT_ONCE = 1 << 22


class Rows(Protocol):
    """Records that are read slice by slice, first to last: from an array or a file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    ndim: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> np.ndarray: ...


def copy_rows(rows: Rows, to: np.ndarray) -> None:
    """
    Copy rows slice by slice, which takes memory for one slice only.

    :param rows: The rows
    :param to: An array of at least as many rows
    """
    n = max(1, _BYTES_AT_ONCE // max(1, to[:1].nbytes))
    for start in range(0, len(rows), n):
        chunk = rows[start : start + n]
        to[start : start + len(chunk)] = chunk


class Partition:
    """
    A set of transitions, one row each, that finds a transition in O(1).

    The first :attr:`size` records of :attr:`rows` are in use. :attr:`words` and :attr:`floats` are the same memory as
    64-bit integers and as 32-bit floats. The array grows by doubling, so an insert is O(1) amortised.

    :param dtype: Record type of a row, see :class:`TransitionRow`
    :param capacity: Most rows held; a further insert overwrites a uniformly random row. ``None``: no bound
    :param deduplicate: Whether a transition that is already held is not stored again
    """

    def __init__(self, dtype: np.dtype, capacity: int | None, deduplicate: bool) -> None:
        self.capacity = capacity
        self.size = 0
        self._allocate(_MIN_ROWS if capacity is None else min(capacity, _MIN_ROWS), dtype)
        self.index: DuplicateIndex | None = make_duplicate_index() if deduplicate else None

    @property
    def full(self) -> bool:
        """Whether an insert overwrites a row."""
        return self.size == self.capacity

    @property
    def is_compiled(self) -> bool:
        """Whether compiled loops can insert rows themselves, see :meth:`reserve`."""
        return self.index is None or not isinstance(self.index, DictIndex)

    def clear(self) -> None:
        """Forget every transition."""
        self.size = 0
        if self.index is not None:
            self.index.build(self.words, 0)

    def insert(self, row: np.ndarray, rng: np.random.Generator) -> int | None:
        """
        Store one transition.

        :param row: The words of a record, shape ``(1, words)``
        :param rng: Draws the row to overwrite if the partition is full
        :return: The number of its row, or ``None`` if the transition is already held
        """
        if self.holds(row):
            return None
        if not self.full:
            at = self.size
            self._make_room(at + 1)
            self.size += 1
            self.words[at] = row[0]
            if self.index is not None:
                self.index.add(self.words, at)
            return at
        at = int(rng.random() * self.size)
        if self.index is None:
            self.words[at] = row[0]
        else:
            self.index.replace(self.words, at, row)
        return at

    def holds(self, row: np.ndarray) -> bool:
        """
        Look whether :meth:`insert` would not store a transition.

        :param row: The words of a record, shape ``(1, words)``
        :return: Whether an equal transition is held, with ``deduplicate``
        """
        return self.index is not None and self.index.find(self.words, row) >= 0

    def remove(self, at: int) -> None:
        """
        Forget one transition; the last transition moves to its row.

        :param at: The number of its row
        """
        last = self.size - 1
        for row in {at, last} if self.index is not None else ():
            self.index.remove(self.words, row)  # type: ignore[union-attr]
        if at != last:
            self.words[at] = self.words[last]
            if self.index is not None:
                self.index.add(self.words, at)
        self.size = last

    def filled(self) -> np.ndarray:
        """
        Return a copy of the rows in use.

        :return: Records of shape ``(size,)``
        """
        return self.rows[: self.size].copy()

    def holding(self, rows: Rows) -> "Partition":
        """
        Make a partition with the settings of this one and other rows: the inverse of :meth:`filled`.

        :param rows: Records of :meth:`filled`
        :return: The new partition
        :raises ValueError: If the rows are of another record type, too many, or not all different
        """
        if rows.dtype != self.rows.dtype or rows.ndim != 1:
            raise ValueError(f"the rows are {rows.dtype} of shape {rows.shape}, not a column of {self.rows.dtype}")
        if self.capacity is not None and len(rows) > self.capacity:
            raise ValueError(f"there are {len(rows)} transitions, and at most {self.capacity} are held")
        other = Partition(self.rows.dtype, self.capacity, deduplicate=self.index is not None)
        other._make_room(len(rows))
        copy_rows(rows, other.rows)
        other.size = len(rows)
        if other.index is not None:
            other.index.build(other.words, other.size)
        return other

    def check_valid(self) -> None:
        """
        Check that size, rows and index agree.

        :raises ValueError: If they do not; the message says where
        """
        limit = len(self.rows) if self.capacity is None else self.capacity
        if not 0 <= self.size <= min(limit, len(self.rows)):
            raise ValueError(f"size={self.size} is outside [0, {min(limit, len(self.rows))}]")
        if self.index is None:
            return
        if len(self.index) != self.size:
            raise ValueError(f"the duplicate index has {len(self.index)} entries for {self.size} transitions")
        for at in range(self.size):
            row = self.index.find(self.words, self.words[at : at + 1])
            if row != at:
                raise ValueError(f"the duplicate index finds transition {at} at row {row}")

    def __getstate__(self) -> dict[str, Any]:
        # The index depends on whether numba is installed, and is quick to build.
        return {"capacity": self.capacity, "rows": self.filled(), "deduplicate": self.index is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        empty = Partition(state["rows"].dtype, state["capacity"], state["deduplicate"])
        self.__dict__.update(empty.holding(state["rows"]).__dict__)

    def reserve(self, n_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Make room for rows, which a compiled loop may then insert itself; it must call :meth:`set_size` afterwards.

        :param n_rows: Number of rows to make room for, at most the capacity
        :return: :attr:`words`, :attr:`floats` and the slots of the index, see :mod:`kernels.index`; 0 slots without an
            index
        """
        self._make_room(n_rows)
        if self.index is not None:
            self.index.reserve(self.words, n_rows)  # type: ignore[attr-defined]
        return self.words, self.floats, self.slots

    @property
    def slots(self) -> np.ndarray:
        """The slots of a compiled index, int32, see :mod:`kernels.index`; 0 slots without an index."""
        return _NO_SLOTS if self.index is None else self.index.slots  # type: ignore[attr-defined]

    def set_size(self, size: int) -> None:
        """
        Set the number of rows, after a compiled loop has changed the arrays of :meth:`reserve`.

        :param size: The number of rows
        """
        self.size = size
        if self.index is not None:
            self.index.set_size(size)  # type: ignore[attr-defined]

    def _make_room(self, n_rows: int) -> None:
        if n_rows > len(self.rows):
            wanted = max(n_rows, 2 * len(self.rows))
            filled = self.rows[: self.size]
            self._allocate(wanted if self.capacity is None else min(wanted, self.capacity), self.rows.dtype)
            self.rows[: self.size] = filled

    def _allocate(self, n_rows: int, dtype: np.dtype) -> None:
        self.rows = np.zeros(n_rows, dtype)
        # The same memory, as the duplicate index and the compiled loops read it
        self.words = self.rows.view(np.int64).reshape(n_rows, -1)
        self.floats = self.rows.view(np.float32).reshape(n_rows, -1)
