import contextlib
import copy
import hashlib
import io
import json
import math
import os
import pathlib
import resource
import sys
import traceback
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict, deque

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_lecture_dqn import (
    DiscreteEmbeddingExtractor,
    DiscreteObservationWrapper,
    LectureCheckpointCallback,
    LectureDQN,
    LecturePolicy,
    LectureQRDQN,
    SuccessFailReplayBuffer,
    TupleToDictWrapper,
    UnsafeFileError,
)
from sb3_lecture_dqn.algorithms import load_model
from sb3_lecture_dqn.saving import memory_file
from sb3_lecture_dqn.saving.codec import ArraysInOrder, decode, encode, encoded
from sb3_lecture_dqn.saving.torch_file import read_tensors
from sb3_lecture_dqn.saving.weights_checks import AllocationLimit, check_finite, check_optimizer_state, n_numbers

GOLDEN = pathlib.Path(__file__).with_name("golden")


unpickled: list[str] = []
sys.addaudithook(lambda event, args: unpickled.append(".".join(args)) if event == "pickle.find_class" else None)


@contextlib.contextmanager
def no_unpickling():
    """Python itself says of every name that is looked up for a pickle."""
    before = len(unpickled)
    yield
    assert unpickled[before:] == []


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    """Numba keeps what it has compiled as pickles of its own, read where it is first needed."""
    path = tmp_path_factory.mktemp("first") / "memory"
    model = LectureDQN("Taxi-v3").learn(total_timesteps=5)
    model.save_replay_buffer(path)
    model.load_replay_buffer(path)


def same_state(a, b):
    return str(a.get_parameters()) == str(b.get_parameters())


# Values


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
    ],
    ids=repr,
)
def test_values_that_are_no_json_come_back(value):
    restored = decode(encode(value, {}), {})
    assert type(restored) is type(value)
    assert repr(restored) == repr(value)


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


class Own(th.nn.ReLU):
    pass


NO_DATA = [lambda x: x, Own, Own(), len, th.zeros(2, requires_grad=True), {1}, io.BytesIO(), object()]


@pytest.mark.parametrize("value", NO_DATA)
def test_what_is_no_data_is_described_as_code(value):
    described = encode({"entry": [value]}, {})
    with pytest.raises(UnsafeFileError, match=r"^entry\[0\] \(.*custom_objects={'entry': \.\.\.}.*trust=True"):
        decode(described, {})


class Extractor(FlattenExtractor):
    pass


@pytest.mark.parametrize("given", ["features_extractor_class", "policy_kwargs.features_extractor_class"])
@pytest.mark.parametrize("method", ["load", "resume"])
def test_a_class_can_be_given_alone(method, given, tmp_path):
    kwargs = {"features_extractor_class": Extractor, "net_arch": [3], "activation_fn": th.nn.Tanh}
    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0, policy_kwargs=kwargs).learn(total_timesteps=5)
    getattr(model, {"load": "save", "resume": "save_checkpoint"}[method])(tmp_path / "file.zip")
    load = getattr(LectureDQN, method)
    with pytest.raises(UnsafeFileError, match=r"custom_objects={'features_extractor_class': \.\.\.}") as caught:
        load(tmp_path / "file.zip")
    assert ("trust=True" in str(caught.value)) == (method == "load")
    loaded = load(tmp_path / "file.zip", custom_objects={given: Extractor})
    assert type(loaded.q_net.features_extractor) is Extractor
    assert same_state(loaded, model)


def test_a_schedule_of_ones_own_is_given_by_either_of_its_names(tmp_path):
    LectureDQN("Taxi-v3", learning_rate=schedule).save(tmp_path / "model")
    for name in ("learning_rate", "lr_schedule"):
        loaded = LectureDQN.load(tmp_path / "model", custom_objects={name: schedule})
        assert loaded.lr_schedule(0.5) == schedule(0.5)
    zoo = {"learning_rate": 0.0, "lr_schedule": schedule, "clip_range": schedule}
    assert LectureDQN.load(tmp_path / "model", custom_objects=zoo).lr_schedule(0.5) == 0


def test_a_file_of_another_kind_is_named_with_what_loads_it(tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0).learn(total_timesteps=5)
    files = {"a model": "save", "a checkpoint": "save_checkpoint", "a replay memory": "save_replay_buffer"}
    for kind, save in files.items():
        getattr(model, save)(tmp_path / f"{kind}.zip")
    ways = {
        "a model": r"LectureDQN\.load\(",
        "a checkpoint": r"LectureDQN\.resume\(",
        "a replay memory": "load_replay_buf",
    }
    loaders = {
        "a model": [LectureDQN.load, load_model, lambda path: LectureDQN.load(path, trust=True)],
        "a checkpoint": [LectureDQN.resume],
        "a replay memory": [model.load_replay_buffer],
    }
    for own, methods in loaders.items():
        for kind in files.keys() - {own}:
            for method in methods:
                with pytest.raises(UnsafeFileError, match=f"it is {kind}.*{ways[kind]}"):
                    method(tmp_path / f"{kind}.zip")


@pytest.mark.parametrize(
    "text", ["\x1b]0;evil\x07", "\x9b31m", "a\nb\r", "\u202eevil", "\udc80", "x" * 10**6], ids=ascii
)
def test_text_of_a_file_is_shown_and_not_obeyed(text, tmp_path, capsys):
    """By a terminal; nor does it fill one."""
    model = LectureDQN("FrozenLake-v1", seed=0)
    model.save(tmp_path / "good")
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(members["sb3_lecture_dqn.json"])
    wrong = [
        {"learning_rate": {"$": "code", "what": text}},
        {"gamma": text},
        {"gamma": {"$": text}},
        {"engine": text},
        {"env_id": text},
        {text: {"$": "code", "what": "x"}},
        {"policy_kwargs": {text: 1}},
        {"policy_kwargs": {text: {"$": "class", "name": text}}},
        {"policy_class": {"$": "name", "name": text}},
        {"observation_space": {"$": "space", "kind": text}},
        {"replay_buffer_kwargs": {text: 1}},
        {"replay_buffer_kwargs": {"success_criterion": text}},
    ]
    for changed in wrong:
        described = {**description, "settings": {**description["settings"], **changed}}
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            for name, content in {**members, "sb3_lecture_dqn.json": json.dumps(described).encode()}.items():
                archive.writestr(name, content)
        with pytest.raises(UnsafeFileError) as caught:
            LectureDQN.load(tmp_path / "evil")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 10_000
        assert "".join(traceback.format_exception(caught.value)).replace("\n", "").isprintable()
    info = f"- OS: {text}\n".encode(errors="replace")
    digest = {"bytes": len(info), "sha256": hashlib.sha256(info).hexdigest()}
    description["members"]["system_info.txt"] = digest
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        changed = {"system_info.txt": info, "sb3_lecture_dqn.json": json.dumps(description).encode()}
        for name, content in {**members, **changed}.items():
            archive.writestr(name, content)
    LectureDQN.load(tmp_path / "evil", print_system_info=True)
    assert capsys.readouterr().out.replace("\n", "").isprintable()


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


@pytest.mark.parametrize(
    "value",
    [
        {"a": th.arange(6.0).reshape(2, 3).T, "b": th.zeros(0, 3), "c": th.tensor(5), "d": th.tensor([True, False])},
        OrderedDict(x=th.ones(2, dtype=th.float64)),
        [1, -3, 2**40, 0.5, None, True, "ü", (), (1,), (1, 2, 3, 4), {}, [[]]],
        {"state": {i: {"step": th.tensor(float(i))} for i in range(300)}},
        th.nn.BatchNorm1d(3).state_dict(),
    ],
    ids=range(5),
)
def test_tensors_are_read_as_pytorch_reads_them(value):
    file = io.BytesIO()
    th.save(value, file)
    expected = th.load(io.BytesIO(file.getvalue()), weights_only=True)
    read = read_tensors(file.getvalue())
    assert type(read) is type(expected)
    assert repr(read) == repr(expected)
    assert getattr(read, "_metadata", None) == getattr(expected, "_metadata", None)


def test_paths_of_weights_are_made_for_messages_only():
    state = {"x" * 10**5: {i: float(i) for i in range(10_000)}}
    tracemalloc.start()
    try:
        check_finite(state)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
    with pytest.raises(UnsafeFileError, match=r"^a\[1\]\.b has weights that are NaN"):
        check_finite({"a": [1, {"b": th.tensor([1.0, math.nan])}]})


TUPLES = b")q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(64))


@pytest.mark.parametrize(
    ("program", "reason"),
    {
        b"}" + TUPLES + b"Ns": "a container in several places",  # a key
        b"(" + TUPLES + b"NNNNtQ": "a container in several places",  # a storage
        b"]q\x00]q\x01h\x00a": "a container in several places",  # which could be filled later
        b"(" + b"K\x01" * 100 + b"tq\x00" + b"h\x00" * 100: "a container in several places",
        b"}K\x01\x85Ns": "a key that is no text",
        b"}\x8a\x05\x00\x00\x00\x00\x01Ns": "a key that is no text and no small number",
        b"(t" * 50_000: "too many values",
        b"t": "damaged",  # without a mark
        b"NNR": "it calls what is no function but NoneType",
        b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR": "NoneType where _Storage is expected",
    }.items(),
    ids=range(10),
)
def test_programs_that_would_take_forever_are_refused(program, reason):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
    with pytest.raises(UnsafeFileError, match=reason):
        read_tensors(file.getvalue())


def test_a_few_weights_do_not_count_for_many():
    many = th.zeros(50_000)
    for again in ([many.view(-1) for _ in range(100)], [many] * 100):
        file = io.BytesIO()
        th.save(again, file)
        with pytest.raises(UnsafeFileError, match="the same numbers again and again"):
            read_tensors(file.getvalue())
    assert n_numbers({"policy": {"a": th.zeros(0), "b": th.zeros(3)}}) == 3
    with AllocationLimit(100):
        th.empty(60)
        th.empty(40)
        with pytest.raises(UnsafeFileError, match="for which there are no weights"):
            th.empty(1)
    with AllocationLimit(10**9), pytest.raises(UnsafeFileError, match="for which there are no weights"):
        [th.empty(1) for _ in range(20_000)]


@pytest.mark.parametrize("wrong", [{"step": [1]}, {"evil": [1]}, {"evil": "x"}, {"evil": {}}], ids=str)
def test_moments_are_tensors_or_numbers(wrong):
    parameter = th.nn.Parameter(th.zeros(2))
    optimizer = th.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0] |= {"more": th.zeros(3), "count": 3, "nothing": None}
    check_optimizer_state(state, optimizer)
    state["state"][0] |= wrong
    with pytest.raises((UnsafeFileError, AttributeError), match=r"does not fit it|no attribute 'dtype'"):
        check_optimizer_state(state, optimizer)


# Models


MODELS = {
    "lecture": lambda: LectureDQN("Taxi-v3", seed=0),
    "adam": lambda: LectureDQN("Taxi-v3", seed=0, engine="torch", policy_kwargs={"optimizer_class": th.optim.Adam}),
    "masks": lambda: LectureDQN("Taxi-v3", seed=0, use_masking=True),
    "quantiles": lambda: LectureQRDQN("Taxi-v3", seed=0, policy_kwargs={"n_quantiles": 5}),
    "mlp": lambda: LectureDQN(
        "MlpPolicy", "CartPole-v1", seed=0, policy_kwargs={"net_arch": [8], "activation_fn": th.nn.Tanh}
    ),
    "blackjack": lambda: LectureDQN("Blackjack-v1", seed=0),
    "linear": lambda: LectureDQN(
        "Taxi-v3", seed=0, exploration_decay=None, learning_rate=LinearSchedule(1e-3, 1e-4, 0.5), train_freq=(2, "step")
    ),
    "memory of SB3": lambda: LectureDQN("Taxi-v3", seed=0, replay_buffer_class=ReplayBuffer, buffer_size=20),
    "efficient memory of SB3": lambda: LectureDQN(
        "MlpPolicy",
        "CartPole-v1",
        seed=0,
        buffer_size=20,
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
    ),
    "n steps": lambda: LectureDQN("Taxi-v3", seed=0, n_steps=3, buffer_size=50),
    "dict memory of SB3": lambda: LectureDQN(
        "MultiInputPolicy", "Blackjack-v1", seed=0, replay_buffer_class=DictReplayBuffer, buffer_size=50
    ),
    "recommended settings": lambda: LectureDQN.tuned("Taxi-v3", seed=0),
    "one transition": lambda: LectureDQN("Taxi-v3", seed=0, store_and_replay=False),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_a_model_and_its_memory_are_loaded_without_unpickling(make, tmp_path):
    model = make().learn(total_timesteps=45)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "memory")
    with no_unpickling():
        loaded = type(model).load(tmp_path / "model")
    assert same_state(loaded, model)
    assert loaded.num_timesteps == model.num_timesteps >= 45
    names = model.__dict__.keys() - set(model._excluded_save_params()) - {"policy", "q_net", "q_net_target"}
    names -= {"quantile_net", "quantile_net_target"}
    assert names == loaded.__dict__.keys() & names
    for name in names - {"device", "env"}:
        assert repr(getattr(loaded, name)) == repr(getattr(model, name)), name
    with no_unpickling():
        loaded.load_replay_buffer(tmp_path / "memory")
    assert type(loaded.replay_buffer) is type(model.replay_buffer)
    assert loaded.replay_buffer.size() == model.replay_buffer.size()
    np.random.seed(1)  # noqa: NPY002 (which SB3's buffers draw with)
    expected = model.replay_buffer.sample(50)
    np.random.seed(1)  # noqa: NPY002
    assert repr(loaded.replay_buffer.sample(50)) == repr(expected)
    loaded.learn(total_timesteps=6, reset_num_timesteps=False)
    assert loaded.num_timesteps >= model.num_timesteps + 6


def test_a_loaded_memory_does_not_need_one_to_be_there(tmp_path):
    model = MODELS["masks"]().learn(total_timesteps=20)
    model.save_replay_buffer(tmp_path / "memory")
    state, model.replay_buffer = model.replay_buffer.get_state(), None
    model.load_replay_buffer(tmp_path / "memory")
    assert repr(model.replay_buffer.get_state()) == repr(state)


def schedule(progress):
    return 1e-3 * progress


class OwnPolicy(LecturePolicy):
    pass


CODE = {
    "learning_rate": ({"learning_rate": schedule}, schedule),
    "policy_class": ({"policy": OwnPolicy}, OwnPolicy),
    "replay_buffer_kwargs": (
        {"replay_buffer_kwargs": {"success_criterion": lambda reward, terminal, info: reward > 5}},
        {"success_criterion": "terminal"},
    ),
    "policy_kwargs": (
        {"policy": "MlpPolicy", "policy_kwargs": {"activation_fn": Own, "net_arch": [4]}},
        {"activation_fn": Own, "net_arch": [4]},
    ),
}


@pytest.mark.parametrize("entry", CODE)
def test_code_is_named_and_has_two_ways_on(entry, tmp_path):
    settings, given_object = CODE[entry]
    model = LectureDQN(**{"policy": "LecturePolicy", "env": "Taxi-v3", **settings})
    model.save(tmp_path / "model")
    with pytest.raises(UnsafeFileError, match=rf"{entry}.*custom_objects={{'{entry}': \.\.\.}}.*trust=True"):
        LectureDQN.load(tmp_path / "model")
    assert same_state(LectureDQN.load(tmp_path / "model", custom_objects={entry: given_object}), model)
    assert same_state(LectureDQN.load(tmp_path / "model", trust=True), model)


def poisoned(path, change):
    """The model's file with other weights, and right checksums of them."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = th.load(io.BytesIO(members["policy.pth"]))
    change(weights)
    file = io.BytesIO()
    th.save(weights, file)
    members["policy.pth"] = file.getvalue()
    description = json.loads(members.pop("sb3_lecture_dqn.json"))
    description["version"] = 1  # whose weights are read from the pickle
    del description["weights"]
    description["members"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "sb3_lecture_dqn.json": json.dumps(description)}.items():
            archive.writestr(name, content)


def learns(model):
    """Whether training changes its weights, which are those that its optimizer has."""
    before = copy.deepcopy(model.q_net.state_dict())
    parameters = {id(parameter) for parameter in model.q_net.parameters()}
    model.learn(total_timesteps=60)
    assert {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]} == parameters
    assert {id(parameter) for parameter in model.q_net.parameters()} == parameters
    assert all(parameter.dtype == th.float32 for parameter in model.policy.parameters())
    return any((before[name] != weight).any() for name, weight in model.q_net.state_dict().items())


SWITCHES = {"assign_to_params_buffers": True, "version": 1, "evil": [1]}


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_what_is_noted_beside_weights_does_not_reach_pytorch(engine, tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0, engine=engine)
    model.save(tmp_path / "model")

    def switch(weights):
        weights._metadata = {name: copy.deepcopy(SWITCHES) for name in weights._metadata}

    poisoned(tmp_path / "model.zip", switch)
    expected = copy.deepcopy(model.q_net.state_dict())
    loaded = LectureDQN.load(tmp_path / "model")
    by_file, by_dict = (LectureDQN("FrozenLake-v1", seed=1, engine=engine) for _ in range(2))
    by_file.set_parameters(tmp_path / "model")
    given = model.get_parameters()
    switch(given["policy"])
    by_dict.set_parameters(given)
    for other in (loaded, by_file, by_dict):
        assert all(other.q_net.state_dict()[name].equal(weight) for name, weight in expected.items())
        assert learns(other)
    assert given["policy"]._metadata[""] == SWITCHES  # the caller's own is as it was


@pytest.mark.parametrize("dtype", [th.float64, th.float16, th.bfloat16, th.int64, th.int8, th.bool], ids=str)
@pytest.mark.parametrize("network", ["q_net", "q_net_target"])
def test_weights_of_another_dtype_are_refused_by_name(dtype, network, tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0)
    key = f"{network}.layers.1.weight"

    def convert(weights):
        weights[key] = weights[key].to(dtype)

    model.save(tmp_path / "model")
    poisoned(tmp_path / "model.zip", convert)
    name = str(dtype).removeprefix("torch.")
    message = rf"policy\.{key} .*is {name} of shape \(64, 64\), and float32 of shape \(64, 64\) is expected"
    for load in (LectureDQN.load, model.set_parameters):
        with pytest.raises(UnsafeFileError, match=message.replace(" .*is", ".*is")):
            load(tmp_path / "model")
    model.save_checkpoint(tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    state = json.loads(parts["state.json"])
    given = model.get_parameters()
    n_bytes = sum(len(numbers) for numbers in encoded(given).contents)
    convert(given["policy"])
    changed = encoded(given)
    state["parameters"] = changed.description
    parts["arrays.bin"] = parts["arrays.bin"][:-n_bytes] + b"".join(changed.contents)
    parts["state.json"] = json.dumps(state).encode()
    manifest = json.loads(parts.pop("manifest.json"))
    manifest["parts"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in parts.items()
    }
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        for part, content in {**parts, "manifest.json": json.dumps(manifest)}.items():
            archive.writestr(part, content)
    with pytest.raises(UnsafeFileError, match=message.replace(" .*is", ".*is")):
        LectureDQN.resume(tmp_path / "run.zip")
    given = model.get_parameters()
    convert(given["policy"])
    if dtype.is_floating_point:  # which PyTorch rounds
        model.set_parameters(given)
        assert learns(model)
    else:
        with pytest.raises(ValueError, match=message.replace(" .*is", ".*is")):
            model.set_parameters(given)


def test_weights_that_would_overflow_are_refused():
    model = LectureDQN("FrozenLake-v1", seed=0)
    given = model.get_parameters()
    given["policy"]["q_net.layers.1.weight"] = th.full((64, 64), 1e300, dtype=th.float64)
    with pytest.raises(ValueError, match=r"policy\.q_net\.layers\.1\.weight is float64"):
        model.set_parameters(given)


@pytest.mark.parametrize("wrong", [th.zeros(3), th.zeros(16, 64, dtype=th.int8), "x"], ids=["shape", "dtype", "text"])
def test_moments_that_are_given_fit_too(wrong):
    model = LectureDQN("FrozenLake-v1", seed=0, policy_kwargs={"optimizer_class": th.optim.Adam}).learn(20)
    given = model.get_parameters()
    given["policy.optimizer"]["state"][0]["exp_avg"] = wrong
    with pytest.raises(ValueError, match="exp_avg of parameter 0 does not fit it"):
        model.set_parameters(given)
    given["policy.optimizer"]["state"][0]["exp_avg"] = th.ones(16, 64, dtype=th.float64)
    model.set_parameters(given)
    assert model.policy.optimizer.state_dict()["state"][0]["exp_avg"].dtype == th.float32


def test_of_a_file_that_need_not_match_the_known_weights_are_taken(tmp_path):
    model, other = LectureDQN("FrozenLake-v1", seed=0), LectureDQN("FrozenLake-v1", seed=1)
    model.save(tmp_path / "model")

    def rename(weights):
        weights["q_net.more"] = weights.pop("q_net.layers.0.weight")

    poisoned(tmp_path / "model.zip", rename)
    with pytest.raises(UnsafeFileError, match=r"policy has no 'q_net\.more'"):
        other.set_parameters(tmp_path / "model")
    other.set_parameters(tmp_path / "model", exact_match=False)
    same = [weight.equal(model.q_net.state_dict()[name]) for name, weight in other.q_net.state_dict().items()]
    assert same == [False] + [True] * (len(same) - 1)


def test_a_file_of_stock_sb3_loads_when_it_is_trusted_and_behaves_as_there(tmp_path):
    stock = DQN("MlpPolicy", "CartPole-v1", learning_starts=0, seed=0, policy_kwargs={"net_arch": [8]}).learn(20)
    stock.save(tmp_path / "stock")
    with pytest.raises(UnsafeFileError, match=r"stock.*pickles.*trust=True"):
        LectureDQN.load(tmp_path / "stock")
    loaded = LectureDQN.load(tmp_path / "stock", env="CartPole-v1" and gym.make("CartPole-v1"), trust=True)
    assert same_state(loaded, stock)
    assert (loaded.exploration_decay, loaded.loss) == (None, "huber")
    loaded.learn(total_timesteps=10, reset_num_timesteps=False)
    assert loaded.exploration_rate == stock.exploration_schedule(1 - 30 / 30) or loaded.exploration_rate < 1
    other = LectureDQN("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8], "optimizer_class": th.optim.Adam})
    other.set_parameters(tmp_path / "stock")
    assert same_state(other, stock)


def test_pickles_are_noticed(tmp_path):
    """By the other tests here."""
    LectureDQN("Taxi-v3").save(tmp_path / "model")
    with pytest.raises(AssertionError, match="LecturePolicy"), no_unpickling():
        LectureDQN.load(tmp_path / "model", trust=True)


def test_options_of_the_optimizer_may_be_numbers_of_numpy(tmp_path):
    options = {"eps": np.float64(1e-5), "betas": (np.float64(0.5), 0.75), "weight_decay": np.float32(0)}
    policy = {"optimizer_class": th.optim.Adam, "optimizer_kwargs": options}
    model = LectureDQN("Taxi-v3", seed=0, engine="torch", policy_kwargs=policy).learn(total_timesteps=20)
    model.save(tmp_path / "model")
    with no_unpickling():
        loaded = LectureDQN.load(tmp_path / "model")
    for other in (loaded, DQN.load(tmp_path / "model")):
        assert str(other.get_parameters()["policy"]) == str(model.get_parameters()["policy"])
        (group,) = other.policy.optimizer.param_groups
        assert (group["eps"], group["betas"]) == (1e-5, (0.5, 0.75))
        assert type(group["eps"]) is float
    loaded.learn(total_timesteps=5, reset_num_timesteps=False)


def test_stock_sb3_loads_our_files(tmp_path):
    model = LectureDQN("Taxi-v3", seed=0).learn(total_timesteps=20)
    model.save(tmp_path / "model")
    stock = DQN.load(tmp_path / "model")
    assert same_state(stock, model)
    assert stock.predict(5, deterministic=True)[0] == model.predict(5, deterministic=True)[0]


@pytest.mark.filterwarnings("ignore:`n_steps=3` is ignored")  # which SB3 says of its own files too
def test_our_files_are_for_stock_algorithms_to_learn_on_and_for_ours_as_they_were(tmp_path):
    kinds = {**MODELS, "plain": lambda: LectureDQN("FrozenLake-v1"), "no clipping": lambda: LectureQRDQN("Taxi-v3")}
    kinds["clipping"] = lambda: LectureDQN("FrozenLake-v1", max_grad_norm=3.5, target_update_interval=7)
    for name, make in kinds.items():
        model = make().learn(total_timesteps=45)
        model.save(tmp_path / "model")
        algorithm = QRDQN if isinstance(model, LectureQRDQN) else DQN
        stock = algorithm.load(tmp_path / "model", env=model.get_env())
        assert same_state(stock, model)
        assert type(stock.target_update_interval) is int
        before = copy.deepcopy(stock.policy.state_dict())
        stock.learning_starts = 0
        stock.learn(30)
        assert stock.num_timesteps >= 30
        weights = stock.policy.state_dict()
        assert any((before[key] != weight).any() for key, weight in weights.items()), name
        for trust in (False, True):
            ours = type(model).load(tmp_path / "model", trust=trust)
            for key in ("target_update_interval", "max_grad_norm", "train_freq", "batch_size", "exploration_decay"):
                assert getattr(ours, key) == getattr(model, key), (name, key)
    clipped = DQN.load(tmp_path / "model")
    assert (clipped.max_grad_norm, clipped.target_update_interval) == (3.5, 7)


def test_stock_copies_the_target_about_as_often_as_ours_did(tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0)
    model.save(tmp_path / "new")
    LectureDQN("FrozenLake-v1", target_update_interval=np.int64(30)).save(tmp_path / "numpy")
    assert DQN.load(tmp_path / "numpy").target_update_interval == 30
    assert DQN.load(tmp_path / "new").target_update_interval == 10_000
    model.learn(total_episodes=30).save(tmp_path / "trained")
    assert DQN.load(tmp_path / "trained").target_update_interval == 20 * model.num_timesteps // 30
    other = LectureDQN.load(tmp_path / "trained", trust=True, custom_objects={"target_update_interval": 5})
    assert other.target_update_interval == 5


# Where a loaded model logs


def logging_model(folder, root, **learn):
    model = LectureDQN("FrozenLake-v1", seed=0, tensorboard_log=str(root))
    if learn:
        model.learn(**learn)
    model.save(folder / "model")
    return model


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [None, "named"])
def test_a_loaded_model_logs_on_where_it_logged(name, tmp_path, recwarn):
    root = tmp_path / "runs"
    logging_model(tmp_path, root, total_episodes=2, tb_log_name=name)
    (run,) = root.iterdir()
    LectureDQN.load(tmp_path / "model").learn(total_episodes=1, tb_log_name=name)
    assert len(list(root.iterdir())) == 2
    if name is None:
        LectureDQN.load(tmp_path / "model").learn(total_episodes=1, reset_num_timesteps=False)
        assert len(list(run.iterdir())) == 2
    assert not [warning for warning in recwarn if "nothing is logged" in str(warning.message)]


@pytest.mark.parametrize("kind", ["new", "elsewhere", "logs of others", "a run beside", "below", "an own name"])
def test_a_file_alone_does_not_say_where_to_log(kind, tmp_path, monkeypatch):
    """Nor does it, after it was loaded, where a new run's folder is made."""
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim"
    root = tmp_path / "runs"
    logging_model(tmp_path, root, **({} if kind == "new" else {"total_episodes": 1}))
    changes = {"tensorboard_log": str(victim)}
    if kind == "below":
        changes = {"tensorboard_log": "victim"}
    elif kind != "new":
        (victim / "SR_1").mkdir(parents=True)
        (victim / "SR_1" / "events.out.tfevents.0").write_bytes(b"logs of others")
        if kind == "logs of others":
            changes |= {"_run_folder": str(victim / "SR_1"), "_log_file": "SR_1/events.out.tfevents.1"}
        elif kind == "a run beside":
            changes |= {"_log_file": next(root.rglob("events.*")).relative_to(root).as_posix()}
        elif kind == "an own name":
            changes |= {"_log_file": f"../runs/{next(root.rglob('events.*')).relative_to(root).as_posix()}"}
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(members["sb3_lecture_dqn.json"])
    description["settings"] |= changes
    members["sb3_lecture_dqn.json"] = json.dumps(description).encode()
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    before = files_in(tmp_path)
    model = load_model(tmp_path / "evil")
    with pytest.warns(UserWarning, match=r"tensorboard_log='.*victim.*nothing is logged.*load\(path, tensorboard_log="):
        model.learn(total_episodes=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(total_episodes=1)  # and says it once
    assert files_in(tmp_path) == before
    assert model.make_run_folder().parent == pathlib.Path("runs")
    again = LectureDQN.load(tmp_path / "evil")
    again.save(tmp_path / "again")
    assert LectureDQN.load(tmp_path / "again")._log_of_file == changes["tensorboard_log"]
    for asked in (
        LectureDQN.load(tmp_path / "evil", tensorboard_log=str(victim)),
        LectureDQN.load(tmp_path / "evil", custom_objects={"tensorboard_log": str(victim)}),
    ):
        n_files = len(files_in(victim)) if victim.exists() else 0
        asked.learn(total_episodes=1)
        assert len(files_in(victim)) == n_files + 1


def test_a_wrong_keyword_is_the_callers_mistake_and_not_the_files(tmp_path):
    LectureDQN("Taxi-v3").save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"gamma=1\.5") as caught:
        LectureDQN.load(tmp_path / "model", gamma=1.5)
    assert caught.type is ValueError
    with pytest.raises(ValueError, match="policy kwargs"):
        LectureDQN.load(tmp_path / "model", policy_kwargs={"hidden_dim": 3})
    with pytest.raises(ValueError, match="spaces do not match"):
        LectureDQN.load(tmp_path / "model", env=gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="must be a dict"):
        LectureDQN.load(tmp_path / "model", custom_objects=[1])


def test_an_id_that_imports_a_module_is_code(tmp_path):
    """`gymnasium.make("module:Name-v0")` imports the module."""
    model = LectureDQN("Taxi-v3")
    model.env_id = "antigravity:Evil-v0"
    model.save(tmp_path / "model")
    with pytest.raises(UnsafeFileError, match="env_id"):
        LectureDQN.load(tmp_path / "model")
    assert LectureDQN.load(tmp_path / "model", custom_objects={"env_id": "Taxi-v3"}).env_id == "Taxi-v3"


# Files


def test_files_are_named_as_by_sb3(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = LectureDQN("FrozenLake-v1")
    model.save("plain")
    model.save("with.zip")
    model.save(tmp_path / "with.other")
    (tmp_path / "folder.zip").mkdir()
    with pytest.warns(UserWarning, match="folder"):
        model.save("folder")
    with pytest.warns(UserWarning, match="does not exist"):
        model.save("new/folder/model")
    model.save_replay_buffer("memory")
    model.save_replay_buffer("memory.pkl")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        "plain.zip",
        "with.zip",
        "with.other",
        "folder.zip_2",
        "new/folder/model.zip",
        "memory.npz",
        "memory.pkl",
    }
    for path in ("plain", "with.zip", pathlib.Path("with.other"), "folder.zip_2"):
        assert same_state(LectureDQN.load(path), model)
    model.load_replay_buffer("memory")
    model.load_replay_buffer("memory.pkl")


def test_open_files_are_written_and_read(tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0).learn(total_timesteps=9)
    model_file, memory_file = io.BytesIO(), io.BytesIO()
    model.save(model_file)
    model.save_replay_buffer(memory_file)
    with (tmp_path / "model.zip").open("wb") as write_only:
        model.save(write_only)
    loaded = LectureDQN.load(model_file)
    loaded.load_replay_buffer(memory_file)
    assert same_state(loaded, model)
    assert same_state(LectureDQN.load(tmp_path / "model"), model)
    assert repr(loaded.replay_buffer.get_state()) == repr(model.replay_buffer.get_state())


@pytest.mark.parametrize("letter", ["m", "é", "모", "🚕"])
@pytest.mark.parametrize("n_bytes", [1, 40, 200, 229, 233, 234, 247, 251, 252, 255])
def test_every_name_that_sb3_can_save_is_saved(letter, n_bytes, tmp_path):
    """The system allows for 255 bytes, of which the suffix has four."""
    name = letter * (n_bytes // len(letter.encode()) or 1)
    ours, theirs = LectureDQN("FrozenLake-v1"), DQN("MlpPolicy", "FrozenLake-v1", buffer_size=10)
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    saved = []
    for model, folder in ((theirs, "theirs"), (ours, "ours")):
        for save in (model.save, model.save_replay_buffer):
            with contextlib.suppress(OSError):
                save(tmp_path / folder / name)
                saved.append((folder, save.__name__))
    assert [save for folder, save in saved if folder == "ours"] == [
        save for folder, save in saved if folder == "theirs"
    ]
    assert len(os.listdir(tmp_path / "ours")) == len(os.listdir(tmp_path / "theirs"))  # and nothing is left beside
    if saved:
        assert same_state(LectureDQN.load(tmp_path / "ours" / name), ours)


@pytest.fixture
def full_disk():
    """No file may grow beyond 2 kB, which the system reports as it does a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("method", ["save", "save_replay_buffer"])
def test_a_file_that_cannot_be_written_leaves_the_one_before(method, tmp_path, request):
    model = LectureDQN("Taxi-v3", seed=0).learn(total_timesteps=200)
    path = tmp_path / "file.zip"
    getattr(model, method)(path)
    before = path.read_bytes()
    request.getfixturevalue("full_disk")
    with pytest.raises(OSError, match="File too large"):
        getattr(model, method)(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file.zip"]


@pytest.mark.parametrize("wrong", ["weights", "a description", "a space"])
def test_what_could_not_be_loaded_is_not_saved(wrong, tmp_path, monkeypatch):
    model = LectureDQN("FrozenLake-v1", seed=0)
    model.save(tmp_path / "model")
    before = (tmp_path / "model.zip").read_bytes()
    if wrong == "weights":
        with th.no_grad():
            next(iter(model.q_net.parameters()))[0] = math.nan
        message = r"policy\.q_net\..* has weights that are NaN or infinite"
    elif wrong == "a description":
        monkeypatch.setattr("sb3_lecture_dqn.saving.files.MAX_ENTRIES", 50)
        message = "has more than 50 entries"
    else:
        monkeypatch.setattr("sb3_lecture_dqn.saving.codec.MAX_NUMBERS", 50)
        model.observation_space = spaces.Box(-1, 1, (30,))
        message = "more numbers are declared in arrays than the 50 that are allowed"
    with pytest.raises(ValueError, match=f"the model is not saved, because it could not be loaded: .*{message}"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.zip").read_bytes() == before
    assert os.listdir(tmp_path) == ["model.zip"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b)))
    LectureDQN("FrozenLake-v1").save(tmp_path / "model")
    flushed, replaced, folder = events
    assert pathlib.Path(flushed).parent == tmp_path
    assert flushed.endswith(".tmp")
    assert (replaced, folder) == ("replace", str(tmp_path))


def test_a_symbolic_link_stays_one_and_permissions_are_the_usual_ones(tmp_path):
    (tmp_path / "link.zip").symlink_to(tmp_path / "target.zip")
    LectureDQN("FrozenLake-v1").save(tmp_path / "link")
    (tmp_path / "other").touch()
    assert (tmp_path / "link.zip").is_symlink()
    assert (tmp_path / "target.zip").stat().st_mode == (tmp_path / "other").stat().st_mode
    (tmp_path / "target.zip").chmod(0o600)
    LectureDQN("FrozenLake-v1").save(tmp_path / "link")
    assert (tmp_path / "target.zip").stat().st_mode & 0o777 == 0o600


# Memories


def test_a_memory_is_a_file_that_numpy_reads(tmp_path):
    model = LectureDQN("Taxi-v3", seed=0).learn(total_episodes=2)
    model.save_replay_buffer(tmp_path / "memory")
    with np.load(tmp_path / "memory.npz", allow_pickle=False) as file:
        assert (file["1"] == model.replay_buffer.fail.filled()).all()


def test_fields_are_read_by_name(tmp_path):
    """Another version may put them in another order."""
    model = LectureDQN("Taxi-v3", seed=0).learn(total_timesteps=30)
    model.save_replay_buffer(tmp_path / "memory")
    rows = model.replay_buffer.fail.filled()
    turned = np.zeros(len(rows), [(name, *rows.dtype.fields[name][:1]) for name in reversed(rows.dtype.names)])
    for name in rows.dtype.names:
        turned[name] = rows[name]
    with zipfile.ZipFile(tmp_path / "memory.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "turned.npz", "w") as archive:
        for name, content in members.items():
            if name == "1.npy":
                file = io.BytesIO()
                np.save(file, turned)
                content = file.getvalue()
            archive.writestr(name, content)
    model.replay_buffer.reset()
    model.load_replay_buffer(tmp_path / "turned")
    assert (model.replay_buffer.fail.filled() == rows).all()


def test_a_memory_of_another_kind_or_size_does_not_fit(tmp_path):
    model = LectureDQN("Taxi-v3", seed=0, buffer_size=50).learn(total_timesteps=100)
    model.save_replay_buffer(tmp_path / "memory")
    smaller = LectureDQN("Taxi-v3", seed=0, buffer_size=5)
    before = repr(smaller.replay_buffer.get_state())
    for other, message in (
        (smaller, "at most 5 are held"),
        (LectureDQN("FrozenLake-v1", buffer_size=50), "outside the space"),
        (LectureDQN("MlpPolicy", "CartPole-v1"), "rows of"),
        (LectureDQN("Taxi-v3", replay_buffer_class=ReplayBuffer), "it is of a SuccessFailReplayBuffer"),
    ):
        with pytest.raises(UnsafeFileError, match=rf"memory.*{message}"):
            other.load_replay_buffer(tmp_path / "memory")
    assert repr(smaller.replay_buffer.get_state()) == before


def filled(space, n, **settings):
    """One of SB3's memories of 5 transitions, after n of observations that are as in the space."""
    buffer = ReplayBuffer(5, space, spaces.Discrete(2, start=1), "cpu", **settings)
    for _ in range(n):
        obs, next_obs = (np.array(space.sample()).reshape(1, *buffer.obs_shape) for _ in range(2))
        buffer.add(obs, next_obs, np.array([1]), np.array([0.5]), np.array([False]), [{}])
    return buffer


def reread(buffer, other, changed=lambda array: None):
    """What of a memory comes back after a change of what is in the file."""
    file = io.BytesIO()
    changed(buffer)
    memory_file.write_memory(file, buffer)
    file.seek(0)
    return memory_file.read_memory(file, other)


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 7])
@pytest.mark.parametrize("efficient", [False, True])
@pytest.mark.parametrize("space", [spaces.Discrete(4, start=3), spaces.MultiDiscrete([2, 3], start=[1, 2])], ids=str)
def test_a_memory_of_states_that_begin_above_0_need_not_be_full(space, efficient, n):
    """The row that is next to be filled has zeros, which are no states here."""
    space.seed(0)
    settings = {"optimize_memory_usage": efficient, "handle_timeout_termination": not efficient}
    buffer = filled(space, n, **settings)
    read = reread(buffer, filled(space, 0, **settings))
    assert (read.pos, read.full) == (buffer.pos, buffer.full)
    for name in ("observations", "actions", "rewards", "dones", *(() if efficient else ("next_observations",))):
        assert (getattr(read, name) == getattr(buffer, name)).all()


def test_what_is_not_filled_is_not_read():
    space = spaces.Discrete(4, start=3)

    def poison(buffer):
        buffer.observations[3:] = 99
        buffer.rewards[3] = np.nan

    read = reread(filled(space, 3), filled(space, 0), poison)
    assert (read.rewards[3:] == 0).all()
    assert (read.observations[3:] == 0).all()
    # But the memory-efficient variant has the last next observation there.
    efficient = {"optimize_memory_usage": True, "handle_timeout_termination": False}
    with pytest.raises(UnsafeFileError, match="99 is outside the space"):
        reread(filled(space, 3, **efficient), filled(space, 0, **efficient), poison)


def test_a_memory_of_many_long_names_comes_back():
    space = spaces.Dict({f"{i:0120}": spaces.Discrete(2) for i in range(300)})
    buffer, other = (SuccessFailReplayBuffer(10, space, spaces.Discrete(2), "cpu", seed=0) for _ in range(2))
    obs = {name: np.array([1]) for name in space}
    buffer.add(obs, obs, np.array([1]), np.array([1.0]), np.array([False]), [{}])
    with pytest.warns(UserWarning, match="format 2.0"):
        reread(buffer, other)
    assert str(other.get_state()) == str(buffer.get_state())


class OwnBuffer(ReplayBuffer):
    pass


def test_a_memory_of_an_own_class_is_a_pickle_that_has_to_be_trusted(tmp_path):
    model = LectureDQN("Taxi-v3", seed=0, replay_buffer_class=OwnBuffer).learn(total_timesteps=20)
    model.save_replay_buffer(tmp_path / "memory")
    assert os.listdir(tmp_path) == ["memory.pkl"]
    model.replay_buffer.reset()
    with pytest.raises(UnsafeFileError, match="trust=True"):
        model.load_replay_buffer(tmp_path / "memory.pkl")
    model.load_replay_buffer(tmp_path / "memory", trust=True)
    assert model.replay_buffer.size() == 20


def her_model():
    return LectureDQN(
        "MultiInputPolicy",
        BitFlippingEnv(n_bits=4, max_steps=4),
        replay_buffer_class=HerReplayBuffer,
        learning_starts=5,
        batch_size=8,
        buffer_size=50,
    )


MEMORIES = {
    "ours": lambda: LectureDQN("Taxi-v3"),
    "one transition": lambda: LectureDQN("Taxi-v3", store_and_replay=False),
    "SB3's": MODELS["memory of SB3"],
    "SB3's of a Dict": MODELS["dict memory of SB3"],
    "SB3's of n steps": MODELS["n steps"],
    "HER's": her_model,
    "an own class": lambda: LectureDQN("Taxi-v3", replay_buffer_class=OwnBuffer, buffer_size=50),
}


@pytest.mark.parametrize("name", ["memory", "memory.npz", "memory.pkl", "memory.other", "a.b"])
@pytest.mark.parametrize("make", MEMORIES.values(), ids=MEMORIES.keys())
def test_a_memory_is_loaded_by_the_name_that_it_was_saved_by(make, name, tmp_path):
    model = make().learn(total_timesteps=20)
    model.save_replay_buffer(tmp_path / name)
    size = model.replay_buffer.size()
    model.replay_buffer.reset()
    if memory_file.is_described_memory(model.replay_buffer):
        model.load_replay_buffer(tmp_path / name)
    else:
        with pytest.raises(UnsafeFileError, match=r"pickle.*trust=True"):
            model.load_replay_buffer(tmp_path / name)
        model.load_replay_buffer(tmp_path / name, truncate_last_traj=False, trust=True)
    assert model.replay_buffer.size() == size > 0


def test_of_two_memories_under_one_name_the_one_of_this_kind_is_loaded(tmp_path):
    her, ours = her_model().learn(total_timesteps=20), LectureDQN("Taxi-v3", seed=0).learn(total_timesteps=20)
    for model in (her, ours):
        model.save_replay_buffer(tmp_path / "memory")
    state = repr(ours.replay_buffer.get_state())
    her.load_replay_buffer(tmp_path / "memory", truncate_last_traj=False, trust=True)
    ours.load_replay_buffer(tmp_path / "memory", trust=True)
    assert type(her.replay_buffer) is HerReplayBuffer
    assert repr(ours.replay_buffer.get_state()) == state
    with pytest.raises(FileNotFoundError, match="nothing"):
        ours.load_replay_buffer(tmp_path / "nothing")


@pytest.mark.parametrize("trust", [False, True])
def test_buffer_size_means_in_a_file_of_version_1_what_it_meant_there(trust, tmp_path):
    def bounds(model):
        return model.replay_buffer.bounds_all, model.replay_buffer.success.capacity, model.replay_buffer.fail.capacity

    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0, buffer_size=20, gradient_steps=0)
    assert bounds(model) == (True, 20, 20)
    model.save(tmp_path / "version 2")
    del model._version_1_memory  # which it did not know
    model.save(tmp_path / "version 1")
    assert bounds(LectureDQN.load(tmp_path / "version 2", trust=trust)) == (True, 20, 20)
    loaded = LectureDQN.load(tmp_path / "version 1", trust=trust)
    assert bounds(loaded) == (False, None, 20)
    loaded.learn(600)
    assert loaded.replay_buffer.size() > 20
    loaded.save_replay_buffer(tmp_path / "memory")
    loaded.save(tmp_path / "again")
    again = LectureDQN.load(tmp_path / "again")
    again.load_replay_buffer(tmp_path / "memory")
    assert again.replay_buffer.size() == loaded.replay_buffer.size()
    with pytest.raises(UnsafeFileError, match=r"buffer_size=20 .*success_capacity=math.inf"):
        LectureDQN.load(tmp_path / "version 2").load_replay_buffer(tmp_path / "memory")
    kwargs = {"success_capacity": math.inf}
    LectureDQN("MlpPolicy", "CartPole-v1", buffer_size=20, replay_buffer_kwargs=kwargs).save(tmp_path / "unbounded")
    assert bounds(LectureDQN.load(tmp_path / "unbounded")) == (False, None, 20)


def test_a_large_memory_is_never_there_twice(tmp_path):
    settings = {"buffer_size": 1_000_000, "replay_buffer_kwargs": {"deduplicate": False}}
    model = LectureDQN("Taxi-v3", seed=0, **settings)
    rows = np.zeros(1_000_000, model.replay_buffer.fail.rows.dtype)
    rows["observations"][:, 0] = np.arange(1_000_000) % 500
    model.replay_buffer.fail = model.replay_buffer.fail.holding(rows)
    model.save_replay_buffer(tmp_path / "memory")
    loaded = LectureDQN("Taxi-v3", seed=0, **settings)
    tracemalloc.start()
    try:
        model.save_replay_buffer(tmp_path / "memory")
        _, to_save = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        loaded.load_replay_buffer(tmp_path / "memory")
        _, to_load = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert to_save < 0.6 * rows.nbytes
    assert to_load < 1.5 * rows.nbytes
    assert (loaded.replay_buffer.fail.rows[: len(rows)] == rows).all()


# Files of released versions, and of 2.0 before its source was moved: made by `python tests/saving/golden/make.py`


@pytest.mark.parametrize("version", ["0.1.0", "1.0.0", "2.0.0.dev0"])
@pytest.mark.parametrize("name", ["dqn", "qrdqn"])
def test_files_of_every_version_load(name, version):
    algorithm = {"dqn": LectureDQN, "qrdqn": LectureQRDQN}[name]
    with no_unpickling():
        model = algorithm.load(GOLDEN / f"{name}-{version}.zip")
        model.load_replay_buffer(GOLDEN / f"{name}-{version}.npz")
    expected = np.load(GOLDEN / f"{name}-{version}.expected.npz")
    actions, _ = model.predict(np.arange(16), deterministic=True)
    assert (actions == expected["actions"]).all()
    assert (model.replay_buffer.observations == expected["observations"]).all()
    assert (model.num_timesteps, model.replay_buffer.size()) == tuple(expected["counts"])


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0.dev0"])
@pytest.mark.parametrize("name", ["dqn", "qrdqn"])
def test_checkpoints_of_every_version_resume(name, version, tmp_path):
    algorithm = {"dqn": LectureDQN, "qrdqn": LectureQRDQN}[name]
    with no_unpickling():
        model = algorithm.resume(GOLDEN / f"{name}-{version}.checkpoint.zip", device="cpu")
    assert model.num_timesteps == 60
    model.learn(callback=LectureCheckpointCallback(60, tmp_path))
    expected = np.load(GOLDEN / f"{name}-{version}.after.npz")
    assert (model.replay_buffer.observations == expected["observations"]).all()
    assert (model.exploration_rng.random(3) == expected["drawn"]).all()
    assert (model.num_timesteps, model._episode_num) == tuple(expected["counts"])


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
    for store in (None, arrays):
        description = json.loads(json.dumps(encode(value, {}, store)))
        read = decode(description, {}, arrays=store)
        assert str(read) == str(value)
        assert encode(read, {}, None if store is None else ArraysInOrder()) == description


@pytest.mark.parametrize(
    "value", [th.tensor(1j), th.eye(2).to_sparse(), th.zeros(2, device="meta"), np.array("x")], ids=str
)
def test_what_is_no_number_is_described_as_code(value):
    assert encode(value, {})["$"] == "code"
