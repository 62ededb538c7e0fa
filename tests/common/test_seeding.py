"""Generators as data: every state that one can be in is given back, and no other makes C read beyond its words."""

import copy
import random

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_lecture_dqn.common.seeding import (
    _BIT_GENERATORS,
    generator_state,
    global_generators,
    new_generator,
    set_generator_state,
    set_global_generators,
)

KINDS = {kind.__name__: kind for kind in _BIT_GENERATORS}


@pytest.fixture(autouse=True)
def globals_as_they_were():
    before = global_generators()
    yield
    set_global_generators(before)


def draw_globally():
    return random.random(), np.random.rand(3).tolist(), np.random.randn(), th.rand(3).tolist(), th.randn(3).tolist()  # noqa: NPY002


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.sampled_from(["rand", "randn", "double", "bits"]), st.integers(1, 700)), max_size=4),
)
def test_global_generators_come_back_from_wherever_they_are(seed, draws):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    th.manual_seed(seed)
    for kind, n in draws:
        random.gauss(0, 1)
        np.random.randn(n)  # noqa: NPY002
        {
            "rand": lambda n: th.rand(n),
            "randn": lambda n: th.randn(n % 17 + 1),
            "double": lambda n: th.randn(n % 3 + 1, dtype=th.float64),
            "bits": lambda n: th.randint(0, 2**60, (n,)),
        }[kind](n)
    state = copy.deepcopy(global_generators())
    expected = draw_globally()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    th.manual_seed(1)
    set_global_generators(state)
    assert draw_globally() == expected


def torch_state(**fields):
    """A state of PyTorch's generator with other values in some places."""
    places = {"left": (8, "<i4"), "seeded": (12, "<i4"), "next": (16, "<u8"), "normal": (5040 - 16 - 8, "<f8")}
    content = th.get_rng_state().numpy().copy()
    for name, value in fields.items():
        at, dtype = places[name]
        size = np.dtype(dtype).itemsize
        content[at : at + size] = np.frombuffer(np.array([value], dtype).tobytes(), np.uint8)
    return content


@settings(max_examples=200, deadline=None)
@given(st.integers(-3, 630), st.integers(0, 630))
def test_pytorch_is_not_made_to_read_beyond_its_words(left, position):
    """It reads the words at the position and after, all but one of those that are said to be left."""
    state = {**global_generators(), "torch": torch_state(left=left, next=position)}
    if left >= 1 and position + left - 1 <= 624 and position <= 624:
        set_global_generators(state)
        th.rand(700)
        assert len(global_generators()["torch"]) == 5056
    else:
        before = draw_state()
        with pytest.raises(ValueError, match="PyTorch's generator"):
            set_global_generators(state)
        assert draw_state() == before


def draw_state():
    return th.get_rng_state().tolist()


@pytest.mark.parametrize(
    "state",
    [
        lambda: torch_state(seeded=2),
        lambda: torch_state(left=1, next=2**64 - 1),
        lambda: torch_state()[:-8],
        lambda: torch_state().astype(np.int64),
        lambda: torch_state()[::-1][::2],
        lambda: "text",
        lambda: None,
    ],
)
def test_what_is_no_state_of_pytorchs_is_refused(state):
    with pytest.raises(ValueError, match="PyTorch's generator"):
        set_global_generators({**global_generators(), "torch": state()})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_wait_to_be_drawn_are_finite(value):
    for part, change in (("python", {"gauss": value}), ("numpy", {"gauss": value, "has_gauss": 1})):
        state = global_generators()
        state[part] = {**state[part], **change}
        with pytest.raises(ValueError, match="second number"):
            set_global_generators(state)


def test_another_global_generator_of_numpys_comes_back_too():
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(3))
    try:
        state, expected = global_generators(), np.random.rand()  # noqa: NPY002
        set_global_generators(state)
        assert np.random.rand() == expected  # noqa: NPY002
    finally:
        np.random.set_bit_generator(before)
    with pytest.raises(ValueError, match="not the state of a MT19937"):
        set_global_generators(state)


# Generators of environments, memories and callbacks


def draw(generator):
    return generator.random(3).tolist(), generator.integers(0, 9, 5, np.uint8).tolist(), generator.normal()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 3, 4, 623, 624, 1000])
def test_every_kind_comes_back(kind, n):
    generator = np.random.Generator(KINDS[kind](5))
    generator.integers(0, 2**32, n, np.uint32)
    state = generator_state(generator)
    other = new_generator(state)
    set_generator_state(other, state)
    assert draw(other) == draw(generator)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["MT19937", "Philox"]), st.integers(-(2**31), 2**31 - 1) | st.integers(-5, 700))
def test_positions_beyond_the_words_are_refused(kind, position):
    generator = np.random.Generator(KINDS[kind](5))
    state = copy.deepcopy(generator_state(generator))
    where, name, least, most = (state["state"], "pos", 0, 624) if kind == "MT19937" else (state, "buffer_pos", 1, 4)
    where[name] = position
    if least <= position <= most:
        set_generator_state(generator, state)
        draw(generator)
    else:
        with pytest.raises(ValueError, match=f"position in {kind}"):
            set_generator_state(generator, state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda state: None,
        lambda state: {},
        lambda state: {**state, "bit_generator": "Other"},
        lambda state: {**state, "state": {}},
        lambda state: {**state, "state": [1, 2]},
        lambda state: {**state, "state": dict.fromkeys(state["state"], "text")},
        lambda state: {**state, "state": dict.fromkeys(state["state"], -1)},
    ],
)
def test_what_is_no_state_is_refused_by_name(kind, change):
    generator = np.random.Generator(KINDS[kind](5))
    with pytest.raises(ValueError):  # noqa: PT011  # of several words
        set_generator_state(generator, change(generator_state(generator)))


def test_generators_of_other_kinds_have_no_state():
    class Own(np.random.PCG64):
        pass

    for generator in (np.random.RandomState(0), np.random.Generator(Own()), None, random):
        assert generator_state(generator) is None
        with pytest.raises(ValueError, match="not a generator whose state can be set"):
            set_generator_state(generator, {})
