import contextlib
import io
import json
import pathlib
from collections import OrderedDict, deque

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_lecture_dqn import (
    DiscreteEmbeddingExtractor,
    DiscreteObservationWrapper,
    LecturePolicy,
    SuccessFailReplayBuffer,
    TupleToDictWrapper,
    UnsafeFileError,
)
from sb3_lecture_dqn.saving.codec import ArraysInOrder, decode, encode, encoded
from tests.saving.helpers import Own

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "$"), inner),
)


@given(VALUES)
def test_plain_values_come_back(value):
    described = json.loads(json.dumps(encode(value, {}), allow_nan=False))
    assert repr(decode(described, {})) == repr(value)


SPACES = [
    spaces.Discrete(5, start=2),
    spaces.MultiDiscrete([2, 3], start=[1, 0]),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]], np.int32), dtype=np.int32),
    spaces.MultiBinary(3),
    spaces.MultiBinary([2, 3]),
    spaces.Box(0, 255, (3, 4, 1), np.uint8),
    spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32)),
    spaces.Box(-1.0, 1.0, (), np.float64),
    spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1, 1, (2,))}),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_come_back(space):
    restored = decode(encode(space, {}), {})
    assert restored == space
    assert type(restored) is type(space)
    assert restored.dtype == space.dtype
    assert restored.shape == space.shape
    if isinstance(space, spaces.Dict):
        assert list(restored) == list(space)
    assert space.contains(restored.sample())


@pytest.mark.parametrize(
    "value",
    [
        (1, "episode"),
        deque([{"r": 1.0, "l": 2}], maxlen=7),
        OrderedDict(b=np.zeros((1, 2), np.float32), a=1),
        np.float32(0.1),
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.array([True]),
        np.array([0.0, -0.0]),
        np.ones(2, dtype=">i2"),
        np.zeros((0, 3)),
        pathlib.Path("runs/x"),
        TrainFreq(4, TrainFrequencyUnit.EPISODE),
        FloatSchedule(LinearSchedule(1.0, 0.1, 0.5)),
        ConstantSchedule(0.25),
        {1: 2, (3, None): [4.5]},
        {"$": 3},
        OrderedDict({0: "x"}),
        [0.5] * 200,
        [*range(200)],
        [np.float32(0.1)] * 200,
        [np.int64(i) for i in range(200)],
        {i: i / 7 for i in range(200)},
        deque([True, False] * 100, maxlen=300),
        (2**70,) * 200,
        th.arange(100.0)[::3],
        {"x": (th.zeros(0, 3), th.ones(70, dtype=th.bfloat16))},
    ],
    ids=lambda value: repr(value)[:50],
)
def test_values_that_are_no_json_come_back(value):
    for arrays in (None, ArraysInOrder()):
        put, take = (None, None) if arrays is None else (arrays.put, arrays.take)
        description = json.loads(json.dumps(encode(value, {}, put)))
        restored = decode(description, {}, take=take)
        assert type(restored) is type(value)
        assert repr(restored) == repr(value)
        assert len(str(description)) < 10_000


def test_what_is_encoded_stays_what_it_was():
    value = {"x": [np.arange(100.0), [1.5] * 1000], "y": th.zeros(3)}
    before = encoded(value)
    assert before == encoded(value)
    value["x"][0][7] = -1
    assert before != encoded(value)
    arrays = ArraysInOrder()
    description = json.loads(json.dumps(encode([before, encoded(value), np.ones(99)], {}, arrays.put)))
    first, second, last = decode(description, {}, take=arrays.take)
    assert (first["x"][0][7], second["x"][0][7], last.sum()) == (7, -1, 99)
    assert first["x"][1] == [1.5] * 1000


def test_keys_that_python_would_look_for_in_one_place_are_refused():
    for multiple, is_refused in ((2**61 - 1, True), (1 << 40, False)):
        keys = [multiple * i for i in range(2**16)]
        described = {"$": "dict", "keys": keys, "values": keys}
        if is_refused:
            with pytest.raises(UnsafeFileError, match="its keys are chosen"):
                decode(described, {})
        else:
            assert list(decode(described, {})) == keys
    some = [(2**61 - 1) * i for i in range(4, 2000)] + [2**31 + 7 * i for i in range(2500)]  # fewer than half of them
    with pytest.raises(UnsafeFileError, match="its keys are chosen"):
        decode({"$": "dict", "keys": some, "values": some}, {})


ROLES = {
    "features_extractor_class": [FlattenExtractor, NatureCNN, CombinedExtractor, DiscreteEmbeddingExtractor],
    "activation_fn": [th.nn.ReLU, th.nn.Tanh, th.nn.ELU, th.nn.LeakyReLU, th.nn.PReLU, th.nn.SiLU, th.nn.GELU],
    "optimizer_class": [th.optim.SGD, th.optim.Adam, th.optim.AdamW, th.optim.RMSprop, RMSpropTFLike],
    "replay_buffer_class": [ReplayBuffer, DictReplayBuffer, HerReplayBuffer, SuccessFailReplayBuffer],
    "env_wrapper": [DiscreteObservationWrapper, TupleToDictWrapper],
    "policy_class": [LecturePolicy],
}


NAMES = {"LecturePolicy": LecturePolicy}


def in_role(role, description):
    """Settings that have a class in a role."""
    return {role: description} if role not in list(ROLES)[:3] else {"policy_kwargs": {role: description}}


@pytest.mark.parametrize("role", ROLES)
def test_classes_come_back_in_their_own_role_only(role):
    for of, kinds in ROLES.items():
        for kind in kinds:
            described = json.loads(json.dumps(encode(in_role(role, kind), NAMES)))
            if of == role:
                assert decode(described, NAMES) == in_role(role, kind)
            else:
                with pytest.raises(UnsafeFileError, match=rf"{role} \(.*{kind.__name__}.*custom_objects={{'{role}'"):
                    decode(described, NAMES)
                assert decode(described, NAMES, {role: Own}) == in_role(role, Own)


@pytest.mark.parametrize("role", [*ROLES, "anything", "gamma"])
def test_of_pytorch_a_file_may_name_a_few_classes_only(role):
    """Every other module would be called with what is none of its arguments."""
    modules = [f"{space.__name__}.{name}" for space in (th.nn, th.optim) for name in vars(space)]
    accepted = []
    for name in modules:
        with contextlib.suppress(UnsafeFileError):
            accepted.append(decode(in_role(role, {"$": "class", "name": name}), NAMES))
    kinds = [settings.get("policy_kwargs", settings)[role] for settings in accepted]
    if role == "optimizer_class":
        assert all(issubclass(kind, th.optim.Optimizer) for kind in kinds)
        assert {th.optim.SGD, th.optim.Adam} <= set(kinds)
        assert not {th.optim.LBFGS, th.optim.Optimizer} & set(kinds)
    elif role == "activation_fn":
        x = th.linspace(-3, 3, 7, requires_grad=True)
        for kind in kinds:  # element by element
            assert kind().eval()(x)[3].equal(kind().eval()(x[3:4])[0])
        assert {th.nn.ReLU, th.nn.Tanh} <= set(kinds)
    else:
        assert kinds == []


NO_DATA = [lambda x: x, Own, Own(), len, th.zeros(2, requires_grad=True), {1}, io.BytesIO(), object()]


@pytest.mark.parametrize("value", NO_DATA)
def test_what_is_no_data_is_described_as_code(value):
    described = encode({"entry": [value]}, {})
    with pytest.raises(UnsafeFileError, match=r"^entry\[0\] \(.*custom_objects={'entry': \.\.\.}.*trust=True"):
        decode(described, {})


@pytest.mark.parametrize(
    "described",
    [
        [{"$": "array", "dtype": "<f8", "shape": [2**24], "all": "AAAAAAAAAAA="}, {"shape": [-(2**60)]}],
        [{"$": "space", "kind": "MultiBinary", "n": [2**23], "flat": True}] * 3,
        [{"$": "array", "dtype": "<f8", "shape": [2**22], "all": "AAAAAAAAAAA="}] * 3,
        {"$": "tensor", "dtype": "float64", "shape": [2**23 + 1], "all": "AAAAAAAAAAA="},
    ],
    ids=["an array", "MultiBinary", "several arrays", "a tensor"],
)
def test_many_numbers_are_refused_before_there_are_any(described):
    with pytest.raises(UnsafeFileError, match="more numbers are declared in arrays than the 16777216"):
        decode(described, {})


def test_messages_do_not_grow_with_a_file():
    code = {"$": "code", "what": "x"}
    with pytest.raises(UnsafeFileError, match="custom_objects") as caught:
        decode({"x" * 10**5: [code] * 10**4}, {})
    assert len(str(caught.value)) < 10**5
    deep = {"$": "array", "dtype": "<f8", "shape": ["x" * 10**5]}
    for _ in range(100):
        deep = {"$": "tuple", "items": [deep]}
    with pytest.raises(UnsafeFileError, match=r"entry\[0\].*no shape") as caught:
        decode({"entry": deep}, {})
    assert len(str(caught.value)) < 10**4


def test_a_class_is_named_only_where_its_name_leads_back_to_it():
    fake = type("Adam", (th.optim.Adam,), {"__module__": "torch.optim"})
    assert encode(fake, {})["$"] == "code"


dtypes = st.sampled_from([th.float64, th.float32, th.float16, th.bfloat16, th.int64, th.int32, th.uint8, th.bool])


tensors = st.builds(
    lambda shape, dtype, seed: th.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    dtypes,
    st.integers(0, 9),
)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(
    st.recursive(
        tensors
        | tensors.map(lambda tensor: tensor.movedim(0, -1) if tensor.ndim else tensor)
        | tensors.map(lambda tensor: tensor[::2] if tensor.ndim else tensor)
        | leaves,
        lambda parts: (
            st.lists(parts, max_size=3)
            | st.lists(parts, max_size=3).map(tuple)
            | st.dictionaries(st.integers(0, 2**31 - 1) | st.text(), parts, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_weights_are_after_reading_what_they_were(value):
    arrays = ArraysInOrder()
    for put, take in ((None, None), (arrays.put, arrays.take)):
        description = json.loads(json.dumps(encode(value, {}, put)))
        read = decode(description, {}, take=take)
        assert str(read) == str(value)
        assert encode(read, {}, None if put is None else ArraysInOrder().put) == description


@pytest.mark.parametrize(
    "value", [th.tensor(1j), th.eye(2).to_sparse(), th.zeros(2, device="meta"), np.array("x")], ids=str
)
def test_what_is_no_number_is_described_as_code(value):
    assert encode(value, {})["$"] == "code"
