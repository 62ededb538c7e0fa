"""The compiled duplicate index finds what a dictionary finds."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_lecture_dqn import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.duplicates import DictIndex
from tests.lecture_dqn.test_oracle import memory_as_tuples

pytest.importorskip("numba")


from sb3_lecture_dqn.common.hash_index import HashIndex


@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_index_finds_what_a_dictionary_finds(seed):
    """Rows that are overwritten again and again, from few values, so that runs of slots form and wrap around."""
    rng = np.random.default_rng(seed)
    n_rows, n_values = (50, 3_000, 20_000)[seed], (70, 4_000, 10**6)[seed]
    rows, others = np.zeros((n_rows, 4), np.int64), np.zeros((n_rows, 4), np.int64)  # each index writes its own
    compiled, plain, size = HashIndex(), DictIndex(), 0
    for step in range(100_000):
        row = np.array([[rng.integers(n_values), 0, -1, 1 << 62]])
        found = compiled.find(rows, row)
        assert found == plain.find(others, row), step
        if found >= 0:
            continue
        if size < n_rows:
            rows[size] = others[size] = row
            compiled.add(rows, size)
            plain.add(others, size)
            size += 1
        else:
            at = int(rng.integers(n_rows))
            compiled.replace(rows, at, row)
            plain.replace(others, at, row)
            assert np.array_equal(rows[at], row[0])
        assert len(compiled) == len(plain) == size
    assert size == n_rows
    assert np.array_equal(rows, others)
    for at in range(n_rows):
        assert compiled.find(rows, rows[at : at + 1]) == at


@settings(max_examples=100)
@given(st.lists(st.integers(-100, 99), max_size=300))
def test_the_compiled_index_is_a_set_of_rows(values):
    """Few slots and short words: rows collide, runs wrap around the end, holes are filled from behind."""
    compiled, plain = HashIndex(), DictIndex()
    rows, others, size = np.zeros((40, 1), np.int64), np.zeros((40, 1), np.int64), 0
    for value in values:
        row = np.array([[value]])
        assert compiled.find(rows, row) == plain.find(others, row)
        if compiled.find(rows, row) >= 0:
            continue
        if size < len(rows):
            rows[size] = others[size] = value
            compiled.add(rows, size)
            plain.add(others, size)
            size += 1
        else:
            compiled.replace(rows, value % 40, row)
            plain.replace(others, value % 40, row)
        assert len(compiled) == len(plain) == size
        assert np.array_equal(rows, others)
    for value in range(-100, 100):
        row = np.array([[value]])
        assert compiled.find(rows, row) == plain.find(others, row)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63, 64, 65, 1000])
def test_an_index_built_at_once_is_the_one_built_row_by_row(size):
    rows = np.random.default_rng(size).integers(0, 2**63 - 1, (1001, 3))
    at_once, one_by_one = HashIndex(), HashIndex()
    at_once.build(rows, size)
    for at in range(size):
        one_by_one.add(rows, at)
    assert len(at_once) == len(one_by_one) == size
    for at in range(len(rows)):
        expected = at if at < size else -1
        assert at_once.find(rows, rows[at : at + 1]) == one_by_one.find(rows, rows[at : at + 1]) == expected
    if size > 1:
        rows[size - 1] = rows[0]
        with pytest.raises(ValueError, match=f"transition {size - 1} equals an earlier one"):
            at_once.build(rows, size)


@pytest.mark.parametrize("n_steps", [30_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_memory_that_has_overwritten_nearly_all_of_its_rows_is_consistent(n_steps):
    buffer = SuccessFailReplayBuffer(5_000, spaces.Discrete(500), spaces.Discrete(6), "cpu", seed=0)
    rng = np.random.default_rng(0)
    values = rng.integers(0, (500, 500, 6), (n_steps, 3))
    infos, reward, done = [{}], np.array([-1.0], np.float32), np.array([False])
    for s, s_next, a in values[:, :, None]:
        buffer.add(s, s_next, a[None], reward, done, infos)
    buffer.check_valid()
    assert isinstance(buffer.fail.index, HashIndex)
    assert buffer.fail_size == 5_000
    held = memory_as_tuples(buffer)[1]
    assert len(set(held)) == 5_000
