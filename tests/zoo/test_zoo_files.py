"""Reading the files of a run's folder as data: with the zoo's results, and without running code in them."""

import contextlib
import functools
import io
import os
import pathlib
import pickle
from collections import OrderedDict

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from gymnasium import spaces
from hypothesis import example, given
from hypothesis import strategies as st
from stable_baselines3 import DQN
from stable_baselines3.common import base_class, callbacks, off_policy_algorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lecture_dqn import zoo
from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.training.tuned import read_hyperparams
from sb3_lecture_dqn.zoo.files import load_results, load_statistics, read_as_data, read_record
from sb3_lecture_dqn.zoo.pickled_data import PickledObject, read_pickle

CONFIG, ARGS = "logs/config.yml", "logs/args.yml"


def record(text, path=CONFIG):
    return read_record(pathlib.Path(path), text)


class Calls:
    """Its pickle calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# Settings

plain = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=8,
)


class WithoutAliases(yaml.Dumper):
    def ignore_aliases(self, data):
        return True


@given(st.dictionaries(st.text().map("its {}".format), plain, max_size=4))
@example({"its text": "1e-3", "its table": {"0E0": False}})
def test_settings_that_the_zoo_writes_come_back(settings):
    """The settings are those of the zoo's own loader, which runs code."""
    text = yaml.dump(OrderedDict(settings), Dumper=WithoutAliases)
    assert record(text) == yaml.unsafe_load(text) == settings


@pytest.mark.parametrize("name", ["lecture", "lecture_dqn", "lecture_dqn_masked", "lecture_qrdqn"])
def test_the_settings_of_this_package_come_back(name):
    for settings in read_hyperparams(name).values():
        read = record(yaml.dump(OrderedDict(settings)))
        wrapper = settings.pop("env_wrapper", None)
        assert read.pop("env_wrapper", None) == (None if wrapper is None else [wrapper])
        assert read == settings


def test_classes_that_are_not_used_again_are_names():
    """Settings that `-params policy_kwargs:"dict(...)"` and `--trial-id` write."""
    settings = {"policy_kwargs": {"optimizer_class": th.optim.Adam, "net_arch": (64, 64)}, "gamma": 0.9}
    read = record(yaml.dump(OrderedDict(settings)))
    kwargs = {"optimizer_class": "torch.optim.adam.Adam", "net_arch": (64, 64)}
    assert read == {"policy_kwargs": kwargs, "gamma": 0.9}
    assert type(read["policy_kwargs"]["optimizer_class"]) is str


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.mkdir [CANARY]", "os.mkdir is code"),
        ("gamma: !!python/object/apply:os.mkdir [CANARY]", "entry 'gamma': .*os.mkdir is code"),
        ("policy_kwargs: {a: [1, !!python/object/new:os.mkdir [CANARY]]}", "entry 'policy_kwargs'"),
        ("callback: !!python/object:os.DirEntry {}", "entry 'callback'"),
        ("gamma: !!python/module:antigravity", "entry 'gamma'"),
        (
            "!!python/object/apply:collections.OrderedDict\n- - - a\n    - !!python/object/apply:os.mkdir [CANARY]",
            "entry 'a': .*os.mkdir is code",
        ),
        ("!!python/object/apply:collections.OrderedDict [[[[1], 2]]]", "is code|no text"),
        ("!!python/object/apply:collections.OrderedDict {args: [[]], state: {x: 1}}", "OrderedDict"),
        ("normalize: __import__('os').mkdir('CANARY')", "entry 'normalize'"),
        ("normalize: dict(norm_obs=__import__('os').mkdir('CANARY'))", "entry 'normalize'"),
        ("normalize: 'dict(norm_obs=(lambda: 1)())'", "entry 'normalize'"),
        ('normalize: "' + "(" * 400 + '"', "entry 'normalize'"),
        ('normalize: "' + "-" * 900 + '1"', "entry 'normalize'"),
        ("normalize: {venv: 1}", "entry 'normalize': 'venv' is not an argument"),
        ("normalize: {norm_obs: yes please}", "norm_obs='yes please' must be true or false"),
        ("normalize: {gamma: []}", "gamma=.. must be a number"),
        ("normalize: [1]", "entry 'normalize'"),
        ("env_wrapper: os.mkdir", "entry 'env_wrapper': os.mkdir is not allowed"),
        ("env_wrapper: [antigravity.Wrapper]", "entry 'env_wrapper'"),
        ("env_wrapper: gymnasium.wrappers.RecordVideo", "entry 'env_wrapper'"),
        ("env_wrapper: !!python/name:os.mkdir", "entry 'env_wrapper'"),
        (
            "env_wrapper: [{gymnasium.wrappers.FrameStackObservation: {stack_size: 1000000000}}]",
            "stack_size|must be a nu",
        ),
        ("env_wrapper: [{gymnasium.wrappers.ClipReward: 3}]", "is not a table of keywords"),
        ("env_wrapper: [{gymnasium.wrappers.ClipReward: {func: !!python/name:os.mkdir ''}}]", "os.mkdir"),
        ("env_wrapper: [{}]", "is not the name of a wrapper"),
        ("env_wrapper: 3", "is not the name of a wrapper"),
        ("vec_env_wrapper: os.mkdir", "entry 'vec_env_wrapper'"),
        ("frame_stack: 1000000000", "entry 'frame_stack': frame_stack=1000000000 must be"),
        ("frame_stack: many", "entry 'frame_stack'"),
        ("env_kwargs: [1]", "entry 'env_kwargs': .1. is not a table"),
        ("env_kwargs: {'a b': 1}", "entry 'env_kwargs'"),
        ("env_kwargs: {reward: !!python/name:os.mkdir ''}", "entry 'env_kwargs': os.mkdir is code"),
        ("env: antigravity:Env-v0", "entry 'env': .*module"),
        ("env: ../../Env-v0", "entry 'env'"),
        ("n_timesteps: [1]", "entry 'n_timesteps'"),
        ("- 1", "not a table of settings"),
        ("a: &x 1\nb: *x", "anchor or alias"),
        ("[" * 10_000, "deep"),
        ("'", "not YAML"),
    ],
    ids=lambda value: value[:60],
)
def test_a_setting_that_is_code_is_refused_by_the_name_of_its_entry(text, message, tmp_path):
    for path in (CONFIG, ARGS):
        with pytest.raises(UnsafeFileError, match=message) as error:
            record(text.replace("CANARY", str(tmp_path / "canary")), path)
        assert "--trust" in str(error.value)
        assert str(error.value).startswith(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["dict(norm_obs=True, norm_reward=False)", "{'norm_obs': False}", "dict(clip_obs=5.0, gamma=0.5)", " dict()"],
)
def test_expressions_that_the_zoo_evaluates_are_read_as_the_same_data(text):
    assert record(yaml.safe_dump({"normalize": text}))["normalize"] == eval(text.strip())


def test_arguments_always_have_the_entries_that_the_zoo_needs():
    assert record("seed: 1", ARGS) == {"seed": 1, "env_kwargs": None, "env": ""}
    assert record("env_kwargs: null\nframe_stack: null", CONFIG) == {}


def test_a_folder_is_read_as_data_by_the_zoos_own_calls_and_only_within_the_context(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(f"!!python/object/apply:os.mkdir ['{tmp_path / 'canary'}']")
    before = yaml.UnsafeLoader, VecNormalize.load, base_class.load_from_zip_file, off_policy_algorithm.load_from_pkl
    with read_as_data(), path.open() as file, pytest.raises(UnsafeFileError):
        yaml.load(file, Loader=yaml.UnsafeLoader)
    assert not (tmp_path / "canary").exists()
    assert before == (
        *(yaml.UnsafeLoader, VecNormalize.load),
        *(base_class.load_from_zip_file, off_policy_algorithm.load_from_pkl),
    )


def test_models_that_would_be_unpickled_are_refused(tmp_path):
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu")
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "memory")
    with read_as_data():
        for load, name in ((DQN.load, "model"), (model.set_parameters, "model"), (model.load_replay_buffer, "memory")):
            with pytest.raises(UnsafeFileError, match=f"{name} belongs to an algorithm .*--trust"):
                load(str(tmp_path / name))
    assert isinstance(DQN.load(tmp_path / "model"), DQN)


# Statistics


class Seen(gym.Env):
    """An environment with random observations of a space."""

    action_space = spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action), False, False, {}


BOX = spaces.Box(-3.0, 5.0, (2, 3))


def normalized(space, **kwargs):
    """A normalised environment after some steps."""
    space.seed(0)
    env = VecNormalize(DummyVecEnv([functools.partial(Seen, space)] * 2), **kwargs)
    env.reset()
    for action in (0, 1, 1, 0):
        env.step(np.array([action, 1]))
    return env


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("space", "kwargs"),
    [
        (BOX, {"clip_obs": 2.0, "gamma": 0.5}),
        (BOX, {"norm_obs": False}),
        (spaces.Dict({"a": BOX, "b": spaces.Box(0, 255, (8, 8, 3), np.uint8)}), {}),
        (spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}), {"norm_obs_keys": ["a"], "norm_reward": False}),
    ],
    ids=["box", "reward", "dict", "some"],
)
def test_statistics_come_back(space, kwargs, protocol, tmp_path):
    env = normalized(space, **kwargs)
    (tmp_path / "stats.pkl").write_bytes(pickle.dumps(env, protocol))
    loaded, stock = (load(str(tmp_path / "stats.pkl"), env.venv) for load in (load_statistics, VecNormalize.load))
    obs = env.get_original_obs()
    for other in (loaded, stock):
        for one, its in zip(*map(_arrays, (env.normalize_obs(obs), other.normalize_obs(obs))), strict=True):
            assert np.array_equal(one, its)
        assert np.array_equal(env.normalize_reward(np.ones(2)), other.normalize_reward(np.ones(2)))
    attributes = ("training", "norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "norm_obs_keys")
    for name in attributes:
        assert getattr(loaded, name) == getattr(stock, name)
    loaded.reset()
    loaded.step(np.array([0, 1]))  # their arrays can be written


def _arrays(obs):
    return list(obs.values()) if isinstance(obs, dict) else [obs]


def test_statistics_with_code_or_without_statistics_are_refused(tmp_path):
    canary = tmp_path / "canary"
    env = normalized(BOX)
    call = Calls(os.mkdir, str(canary))

    def with_attribute(owner, name, value):
        before = getattr(owner, name)
        setattr(owner, name, value)
        content = pickle.dumps(env)
        setattr(owner, name, before)
        return content

    whole = pickle.dumps(env)
    contents = {
        "call": pickle.dumps(call),
        "in a tuple": pickle.dumps((env, call)),
        "as statistics": with_attribute(env, "obs_rms", call),
        "as a mean": with_attribute(env.obs_rms, "mean", call),
        "as an object array": with_attribute(env.obs_rms, "mean", np.array([call], dtype=object)),
        "of another shape": with_attribute(env.obs_rms, "mean", np.zeros(5)),
        "not finite": with_attribute(env.obs_rms, "var", np.full((2, 3), np.nan)),
        "no count": with_attribute(env.obs_rms, "count", "many"),
        "no number": with_attribute(env, "clip_obs", "wide"),
        "no switch": with_attribute(env, "norm_obs", 3),
        "a class": pickle.dumps(VecNormalize),
        "another class": pickle.dumps(env.obs_rms),
        "empty": b"",
        "text": b"a" * 100,
        "memo": b"\x80\x04N" + b"r\xff\xff\xff\x7f" + b".",
        "long": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f" + b".",
        **{f"cut at {n}": whole[:n] for n in range(0, len(whole), 97)},
    }
    for name, content in contents.items():
        (tmp_path / "stats.pkl").write_bytes(content)
        with pytest.raises(UnsafeFileError, match=r"stats\.pkl.*--trust"):
            load_statistics(str(tmp_path / "stats.pkl"), env.venv)
        assert not canary.exists(), name
    # Code in an attribute that is not read does not matter.
    (tmp_path / "stats.pkl").write_bytes(with_attribute(env, "metadata", call))
    load_statistics(str(tmp_path / "stats.pkl"), env.venv)
    assert not canary.exists()


def test_random_damage_of_statistics_is_refused_or_harmless():
    whole = pickle.dumps(normalized(BOX))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(len(content))] = rng.integers(256)
        with contextlib.suppress(UnsafeFileError):
            read_pickle(bytes(content))


# Results

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.tuples(parts, parts) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=8,
)


@given(values, st.integers(3, pickle.HIGHEST_PROTOCOL))
def test_pickles_of_data_come_back(value, protocol):
    assert read_pickle(pickle.dumps(value, protocol)) == value


def test_results_with_arrays_come_back_and_code_does_not(tmp_path):
    column = {"timesteps": np.arange(4), "mean": np.arange(6.0).reshape(2, 3).T, "std_error": np.float64(0.5)}
    results = {"Taxi": {"a": column, "b": column}, "results_table": {"headers": ["a"], "value_matrix": [[""], ["1"]]}}
    path = tmp_path / "results.pkl"
    path.write_bytes(pickle.dumps(results))
    with path.open("rb") as file:
        read = load_results(file)
    assert read["results_table"] == results["results_table"]
    for name, array in column.items():
        assert np.array_equal(read["Taxi"]["b"][name], array)
    for bad in (
        {**results, "x": Calls(os.mkdir, str(tmp_path / "canary"))},
        {**results, "x": [os.mkdir]},
        Calls(os.mkdir, str(tmp_path / "canary")),
        [1],
        {"Taxi": {}},
    ):
        path.write_bytes(pickle.dumps(bad))
        with path.open("rb") as file, pytest.raises(UnsafeFileError, match=r"results\.pkl: .*--trust"):
            load_results(file)
    assert not (tmp_path / "canary").exists()


def test_a_pickle_that_shares_its_parts_takes_no_longer():
    shared = []
    for _ in range(40):
        shared = [shared, shared]
    assert read_pickle(pickle.dumps(shared))[0][1] is not None
    file = io.BytesIO(pickle.dumps({"results_table": {}, "x": shared}))
    file.name = "results.pkl"
    load_results(file)


class SharesItsBytes:
    """Its pickle is an array that shares its bytes with other arrays."""

    def __init__(self, content):
        self.content = content

    def __reduce__(self):
        state = (1, (len(self.content),), np.dtype(np.uint8), False, self.content)
        return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), state


def test_arrays_do_not_have_the_same_bytes_again_and_again():
    content = bytes(10_000)
    assert len(read_pickle(pickle.dumps([SharesItsBytes(content)] * 3))) == 3
    with pytest.raises(UnsafeFileError, match="share their bytes"):
        read_pickle(pickle.dumps([SharesItsBytes(content) for _ in range(5)]))


def test_other_objects_are_only_named():
    made = read_pickle(pickle.dumps(spaces.Discrete(3)))
    assert isinstance(made, PickledObject)
    assert made.name == "gymnasium.spaces.discrete.Discrete"
    assert made.state["n"] == 3


def test_nothing_is_replaced_by_registering_or_by_a_context_that_is_over():
    before = callbacks.evaluate_policy
    with zoo.masked_evaluation():
        assert callbacks.evaluate_policy is not before
    assert callbacks.evaluate_policy is before
