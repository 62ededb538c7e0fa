"""Arrays of a page are read as they were written."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sb3_lecture_dqn.show.page.arrays import TYPES, packed, packed_values, unpacked


@given(
    st.sampled_from(TYPES).flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(max_dims=3, max_side=5))),
    st.booleans(),
)
def test_an_array_is_read_as_it_was_written(array: np.ndarray, delta: bool) -> None:
    kind = array.dtype.name
    described = packed(array, kind, delta=delta and kind != "float32")
    again = unpacked(described)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert np.array_equal(again, array, equal_nan=kind == "float32")


def test_the_bytes_are_raw_deflate_of_differences_in_little_endian() -> None:
    described = packed([[1, 2], [3, 1]], "int16", delta=True)
    content = zlib.decompress(base64.b64decode(described["data"]), wbits=-15)
    assert content == bytes([1, 0, 2, 0, 2, 0, 255, 255])
    assert (described["type"], described["shape"], described["delta"]) == ("int16", [2, 2], True)


@pytest.mark.parametrize(("array", "kind"), [([256], "uint8"), ([-1], "uint16"), ([40000], "int16"), ([0.5], "int32")])
def test_a_number_that_the_type_cannot_hold_is_an_error(array: list[float], kind: str) -> None:
    with pytest.raises(ValueError, match=kind):
        packed(array, kind)


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="kind='float64'"):
        packed([1.0], "float64")


@given(hnp.arrays(np.float32, (3, 2, 4), elements=st.floats(-40, 40, width=32)))
def test_values_are_read_within_half_a_level(values: np.ndarray) -> None:
    described = packed_values(values, limit=100)
    error = np.abs(unpacked(described) - values)
    assert error.max() <= described["scale"] / 2 * 1.001 + 1e-12
    assert described["scale"] <= 80 / 65534 * 1.001 or described["scale"] == 1.0


def test_values_of_a_run_that_diverges_leave_the_others_their_levels() -> None:
    values = np.array([[[1.0, 2.0]], [[3e20, -5.0]]])
    again = unpacked(packed_values(values, limit=50))
    assert again == pytest.approx(np.array([[[1.0, 2.0]], [[50.0, -5.0]]]), abs=1e-3)
