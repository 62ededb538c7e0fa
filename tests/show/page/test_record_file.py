"""A file of records gives back what was appended, and finds damage."""

import json
import pathlib
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sb3_lecture_dqn.show.page.record_file import RecordFile, read_records

FLOATS = arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
RECORDS = st.lists(
    st.tuples(
        st.dictionaries(st.text(), st.integers(), min_size=1),
        st.lists(st.integers(), max_size=1),
        st.dictionaries(st.text(), FLOATS, max_size=3),
    ),
    min_size=1,
    max_size=5,
)


def write(path: pathlib.Path, records: Any) -> list[int]:
    """Write records, and return where each ends."""
    file, ends = RecordFile(path), []
    path.unlink(missing_ok=True)
    for record in records:
        file.append(*record)
        ends.append(path.stat().st_size)
    return ends


def read(path: pathlib.Path) -> tuple[list[Any], list[str]]:
    damages: list[str] = []
    return list(read_records(path, damages.append)), damages


def assert_same(found: list[Any], expected: Any) -> None:
    assert [(one.described, one.common) for one in found] == [(described, common) for described, common, _ in expected]
    for one, (_, _, numbers) in zip(found, expected, strict=True):
        assert list(one.arrays) == list(numbers)
        for name, array in numbers.items():
            assert one.arrays[name].shape == array.shape
            assert one.arrays[name].tobytes() == array.tobytes()


@settings(max_examples=25, deadline=None)
@given(RECORDS, st.data())
def test_whatever_is_cut_or_changed_is_left_out_and_the_rest_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: Any, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "records"
    ends = write(path, records)
    found, damages = read(path)
    assert_same(found, records)
    assert ([record.end for record in found], damages) == (ends, [])

    content = path.read_bytes()
    n = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:n])  # a process that was killed
    n_whole = sum(end <= n for end in ends)
    found, damages = read(path)
    assert_same(found, records[:n_whole])
    assert len(damages) == (n not in {0, *ends})

    path.write_bytes(content[:n] + bytes(len(content) - n))  # a power cut
    assert_same(read(path)[0][:n_whole], records[:n_whole])
    path.write_bytes(content[:n] + bytes([content[n] ^ 1]) + content[n + 1 :])
    found, damages = read(path)
    assert len(found) < len(records)
    assert damages


@pytest.mark.parametrize("shape", [[-1], [2, -1], [1.0]])
def test_an_array_of_no_size_is_damage(tmp_path: pathlib.Path, shape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dumps = json.dumps
    monkeypatch.setattr(json, "dumps", lambda value, **kwargs: dumps(value, **kwargs).replace("[3]", dumps(shape)))
    write(tmp_path / "records", [({"a": 1}, None, {"numbers": np.arange(3.0)})])
    records, (damage,) = read(tmp_path / "records")
    assert records == []
    assert "an array of shape" in damage


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limits")
def test_a_record_for_which_there_is_no_room_leaves_the_file_as_it_was(tmp_path: pathlib.Path) -> None:
    from tests.saving.helpers import files_of_at_most

    path = tmp_path / "records"
    record = {"a": 1}, None, {"numbers": np.arange(10_000.0)}
    file = RecordFile(path)
    file.append(*record)
    size = path.stat().st_size
    with files_of_at_most(size + 20_000), pytest.raises(OSError, match="File too large"):
        file.append(*record)
    assert path.stat().st_size == size
    file.append(*record)
    assert_same(read(path)[0], [record, record])
