"""What an environment returns is stored as it was, or stops the training before it is stored as something else."""

import copy
import functools
import itertools
import math
import re

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper, VecMonitor, VecNormalize

from sb3_lecture_dqn import LectureDQN
from sb3_lecture_dqn.common.step_checks import StepCheck, WrongStepError
from tests.pairs import every

BOX, LINE, IMAGE = spaces.Box(-1, 1, (3,)), spaces.Discrete(5), spaces.Box(0, 255, (3,), np.uint8)
SEA_LEVELS = spaces.Box(-np.inf, np.inf, (3,))
DICT = spaces.Dict({"where": BOX, "cell": LINE})


class Returns(gym.Env):
    """All is well until the fourth step (0: the first reset), which has something else in one place."""

    action_space = spaces.Discrete(2)

    def __init__(self, space=LINE, at_step=4, **wrong):
        self.observation_space, self.at_step, self.wrong, self.n_steps = space, at_step, wrong, 0

    def returned(self, **usual):
        return list({**usual, **(self.wrong if self.n_steps == self.at_step else {})}.values())

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        obs, *_ = self.returned(obs=zero(self.observation_space))
        return obs, {}

    def step(self, action):
        self.n_steps += 1
        obs, ended = zero(self.observation_space), self.n_steps % 10 == 0
        return *self.returned(obs=obs, reward=0.0, terminated=ended, truncated=False), {}


def zero(space):
    if isinstance(space, spaces.Dict):
        return {key: zero(part) for key, part in space.items()}
    return int(space.start) if isinstance(space, spaces.Discrete) else np.zeros(space.shape, space.dtype)


WRONG_OBSERVATIONS = {
    "half a state": (LINE, 2.5),
    "half a state in an array": (LINE, np.array(2.5)),
    "a text": (LINE, "2"),
    "no number": (LINE, math.nan),
    "nothing": (LINE, None),
    "beyond int64": (LINE, 2**70),
    "a state too many": (LINE, 5),
    "a state before the first": (spaces.Discrete(5, start=2), 1),
    "two states": (LINE, np.array([1, 2])),
    "an array of one state": (LINE, np.array([1])),
    "one number for three": (BOX, 0.5),
    "an array of one for three": (BOX, np.array([0.5], np.float32)),
    "a row": (BOX, np.zeros((1, 3), np.float32)),
    "two numbers for three": (BOX, np.zeros(2, np.float32)),
    "texts": (BOX, ["0", "1", "0"]),
    "complex numbers": (BOX, np.zeros(3, np.complex64)),
    "objects": (BOX, np.array([None] * 3)),
    "lists of several lengths": (BOX, [[0], [0, 1], 0]),
    "no number in a Box": (BOX, np.array([0, math.nan, 0])),
    "a number that float32 cannot hold": (BOX, np.array([0, 1e300, 0])),
    "a number that float32 cannot hold, without bounds": (SEA_LEVELS, np.array([0, 1e300, 0])),
    "fractions in an image": (IMAGE, np.array([0.5, 0, 0])),
    "numbers beyond a byte": (IMAGE, np.array([0, 300, 0])),
    "a negative number in an image": (IMAGE, np.array([0, -1, 0])),
    "a missing key": (DICT, {"cell": 0}),
    "no Dict": (DICT, np.zeros(3)),
    "half a state in a Dict": (DICT, {"where": np.zeros(3), "cell": 0.5}),
    "a number for a part of a Dict": (DICT, {"where": 0.0, "cell": 0}),
    "half a choice": (spaces.MultiDiscrete([3, 3]), np.array([0.5, 0])),
    "one choice for two": (spaces.MultiDiscrete([3, 3]), 1),
    "a choice too many": (spaces.MultiDiscrete([3, 3]), np.array([0, 3])),
    "two in a bit": (spaces.MultiBinary(2), np.array([0, 2])),
    "a number that is a bit but for its lower byte": (spaces.MultiBinary(2), np.array([0, 257])),
    "half a bit": (spaces.MultiBinary(2), np.array([0.5, 0])),
}


def policy_for(space):
    if isinstance(space, spaces.Discrete):
        return "LecturePolicy"
    return "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("at_step", [0, 4, 20])
@pytest.mark.parametrize("case", WRONG_OBSERVATIONS)
def test_an_observation_that_would_be_stored_as_another_stops_the_training(case, at_step):
    """At a reset, within an episode and as its last."""
    space, obs = WRONG_OBSERVATIONS[case]
    model = LectureDQN(policy_for(space), Returns(space, at_step, obs=obs), seed=0)
    with pytest.raises(ValueError, match=rf"observation.* environment step {at_step}\b") as stopped:
        model.learn(40)
    assert "environment 0" in str(stopped.value)
    assert model.num_timesteps == at_step
    assert model.replay_buffer.size() < max(1, at_step)


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("reward", ["3", b"3", np.array("3"), 1 + 2j, np.complex64(1), np.array([1.0, 2.0]), 10**400])
def test_a_reward_that_is_no_number_stops_the_training(reward):
    for make in (lambda: DummyVecEnv([lambda: Returns(reward=reward)]), lambda: Returns(reward=reward)):
        model = LectureDQN("TablePolicy", make(), seed=0)
        with pytest.raises((ValueError, TypeError, OverflowError)) as stopped:
            model.learn(40)
        assert model.replay_buffer.size() < 4
    del stopped


@pytest.mark.parametrize("reward", ["3", b"3", None, 1 + 2j, [1.0, 2.0], {}, np.array([1.0])])
def test_the_reward_at_fault_is_shown(reward):
    """In a ``DummyVecEnv``; SB3's ``Monitor`` around an environment makes a float of it before all else."""
    model = LectureDQN("TablePolicy", DummyVecEnv([Returns, lambda: Returns(reward=reward)]), seed=0)
    with pytest.raises(ValueError, match=re.escape(f"reward of environment 1 is {reward!r} at environment step 8")):
        model.learn(40)


@pytest.mark.parametrize("name", ["terminated", "truncated"])
@pytest.mark.parametrize("value", ["False", "", None, 2, -1, math.nan, [], np.array([True])])
def test_what_is_neither_true_nor_false_ends_no_episode_but_the_training(name, value):
    model = LectureDQN("TablePolicy", DummyVecEnv([lambda: Returns(**{name: value})]), seed=0)
    said = re.escape(f"{name} of environment 0 is {value!r} at environment step 4")
    with pytest.raises(ValueError, match=said):
        model.learn(40)


@pytest.mark.parametrize(
    ("space", "usual"),
    [
        (LINE, {"obs": np.int64(0)}),
        (LINE, {"obs": np.uint8(0)}),
        (LINE, {"obs": np.array(0)}),
        (LINE, {"obs": 0.0}),
        (LINE, {"obs": False}),
        (BOX, {"obs": [0, 0, 0]}),
        (BOX, {"obs": np.zeros(3)}),
        (BOX, {"obs": np.zeros(3, np.int64)}),
        (BOX, {"obs": th.zeros(3)}),
        (spaces.Box(-1, 1, (1,)), {"obs": 0.0}),
        (spaces.Dict({"a": spaces.Box(-1, 1, (1, 1))}), {"obs": {"a": 0.0}}),
        (IMAGE, {"obs": np.zeros(3)}),
        (DICT, {"obs": {"where": [0.0, 0, 0], "cell": np.int32(0), "more": "text"}}),
        (LINE, {"reward": 0}),
        (LINE, {"reward": np.float32(0)}),
        (LINE, {"reward": np.array(0.0)}),
        (LINE, {"reward": th.tensor(0.0)}),
        (LINE, {"terminated": np.False_}),
        (LINE, {"terminated": 0}),
        (LINE, {"truncated": np.array(False)}),
    ],
)
def test_what_is_stored_as_it_was_is_let_through(space, usual):
    for at_step in (0, 4, 10) if "obs" in usual else (4,):
        envs = Returns(space), Returns(space, at_step, **usual)
        plain, other = (LectureDQN(policy_for(space), env, seed=0).learn(20) for env in envs)
        assert_same_training(plain, other)


@given(
    st.sampled_from([np.int8, np.uint8, np.int64, np.float32, np.float64, np.bool_]).flatmap(
        lambda dtype: arrays(dtype, st.sampled_from([(), (1,), (3,), (1, 3), (3, 1)]))
    ),
    st.sampled_from(
        [LINE, BOX, IMAGE, spaces.MultiDiscrete([4, 4, 4]), spaces.MultiBinary(3), spaces.Box(-2, 2, (1,))]
    ),
)
def test_what_passes_is_what_an_array_of_the_space_holds(obs, space):
    """The oracle is the assignment that ``DummyVecEnv`` does."""
    held = np.zeros((1, *space.shape), space.dtype)
    with np.errstate(all="ignore"):
        try:
            held[0] = obs if obs.size > 1 else obs.item()
        except (ValueError, OverflowError, DeprecationWarning):  # NumPy 1 only warns of some that NumPy 2 refuses
            as_it_was = False
        else:
            same = np.array_equal(held[0].ravel(), obs.astype(held.dtype).ravel(), equal_nan=held.dtype.kind == "f")
            if held.dtype.kind == "f":
                exact = bool((np.isfinite(held[0]) | ~np.isfinite(obs)).all())
            else:
                exact = np.array_equal(held[0].ravel(), obs.ravel())
            as_it_was = same and exact and (obs.shape == space.shape or (obs.shape == () and held.size == 1))
    try:
        with np.errstate(over="ignore"):
            StepCheck(space, 0).check_observation(obs)
    except WrongStepError:
        assert not as_it_was
    else:
        assert as_it_was


# Environments whose arrays are not cast: those in processes of their own, and a user's own


class Recast(VecEnvWrapper):
    """Observations, rewards and dones of other types."""

    def __init__(self, venv, obs=lambda o: o, rewards=lambda r: r, dones=lambda d: d):
        super().__init__(venv)
        self.recast = obs, rewards, dones

    def reset(self):
        return self.recast[0](self.venv.reset())

    def step_wait(self):
        *arrays_, infos = self.venv.step_wait()
        return *(recast(array) for recast, array in zip(self.recast, arrays_, strict=True)), infos


class Walk(gym.Env):
    """Five cells in a row, from one whose number is drawn."""

    action_space = spaces.Discrete(2)

    def __init__(self, start=0):
        self.observation_space = spaces.Discrete(5, start=start)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(1, 4))
        return self.at + int(self.observation_space.start), {}

    def step(self, action):
        self.at += 1 if action else -1
        return self.at + int(self.observation_space.start), float(self.at == 4), self.at in (0, 4), False, {}


@pytest.mark.parametrize(
    ("n_envs", "start", "dtype", "least_tried", "engine"),
    every(
        2,
        [
            *itertools.product([1, 3], [0, 3], [np.uint8, np.int32, np.float32, np.float64]),
            *itertools.product([2], [-2], [np.int8, np.int32, np.float32]),
        ],
        [False, True],
        ["torch", "numba"],
    ),
)
def test_states_of_any_type_are_those_states(dtype, least_tried, engine, n_envs, start):
    if engine == "numba":
        pytest.importorskip("numba")
    models = []
    for cast in (False, True):
        env = DummyVecEnv([functools.partial(Walk, start)] * n_envs)
        env = Recast(env, lambda obs: obs.astype(dtype)) if cast else env
        model = LectureDQN("TablePolicy", env, explore_least_tried=least_tried, engine=engine, seed=0)
        models.append(model.learn(30))
    assert_same_training(*models)


def test_predictions_explore_in_states_of_any_type():
    model = LectureDQN("TablePolicy", Walk(), explore_least_tried=True, exploration_initial_eps=1.0, seed=0).learn(20)
    for dtype in (np.float32, np.uint8):
        assert model.predict(np.array([2, 3], dtype))[0].shape == (2,)


def half(values):
    return values + 0.5


@pytest.mark.parametrize(
    ("recast", "said"),
    [
        ({"obs": half}, "observation of environment 0 is .*5.* at environment step 0, outside"),
        ({"obs": lambda o: o[:, None]}, r"shape \(1,\) at environment step 0"),
        ({"obs": lambda o: o.astype(str)}, "observation at environment step 0 is <U"),
        ({"obs": lambda o: o.tolist()}, "observation at environment step 0 is list"),
        ({"obs": lambda o: o.astype(object)}, "observation at environment step 0 is object"),
        ({"rewards": lambda r: r.astype(str)}, "environment 0 returned the reward .*'.*'.* at environment step 2"),
        ({"rewards": lambda r: r[:, None]}, r"rewards at environment step 2 have the shape \(2, 1\)"),
        ({"rewards": lambda r: np.array([None, None])}, "environment 0 returned the reward None"),
        ({"rewards": lambda r: np.array([0, math.nan])}, "environment 1 returned the reward nan"),
        ({"dones": lambda d: d.astype(str)}, "environment 0 returned done=.*'True'.* at environment step 2"),
        ({"dones": lambda d: np.array([None, None])}, "environment 0 returned done=None"),
        ({"dones": lambda d: d + 2}, "environment 0 returned done=.*2"),
    ],
)
def test_arrays_of_a_users_vecenv_are_checked(recast, said):
    model = LectureDQN("TablePolicy", Recast(DummyVecEnv([Walk, Walk]), **recast), seed=0)
    with pytest.raises(ValueError, match=said):
        model.learn(40)
    assert model.replay_buffer.size() == 0


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_dones_of_numbers_are_those_dones(dtype):
    plain, other = (
        LectureDQN("TablePolicy", env, seed=0).learn(60)
        for env in (DummyVecEnv([Walk, Walk]), Recast(DummyVecEnv([Walk, Walk]), dones=lambda d: d.astype(dtype)))
    )
    assert_same_training(plain, other)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"obs": 2.5}, "observation of environment 0 is 2.5 at environment step 4, outside"),
        ({"reward": "3"}, "environment 0 returned the reward .*'3'.* at environment step 4"),
        ({"terminated": "False"}, "environment 0 returned done=.*'False'.* at environment step 4"),
    ],
)
def test_what_comes_from_a_process_of_its_own_is_checked(wrong, said):
    env = SubprocVecEnv([functools.partial(Returns, **wrong)], start_method="fork")
    try:
        model = LectureDQN("TablePolicy", env, seed=0)
        with pytest.raises(ValueError, match=said):
            model.learn(40)
    finally:
        env.close()


# Environments that write the next observation into the array of the last one


class Sailing(gym.Env):
    """Drifts, and ends by chance; its arrays and its info are new ones every time."""

    action_space = spaces.Discrete(2)

    def __init__(self, space=None):
        self.observation_space = space or spaces.Box(-10, 10, (2,))

    def observed(self):
        place = self.place.astype(np.float32)
        return {"place": place, "side": int(place[0] > 0)} if isinstance(self.observation_space, spaces.Dict) else place

    def mask(self):
        return np.array([self.place[0] < 1, True])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=2)
        return self.observed(), {"action_mask": self.mask()}

    def step(self, action):
        self.place += self.np_random.normal(size=2) + (0.1 if action else -0.1)
        ended = bool(self.np_random.random() < 0.1)
        return self.observed(), float(self.place[0]), ended, False, {"action_mask": self.mask()}


class Reusing(gym.Wrapper):
    """The same in the same memory every time."""

    def __init__(self, env):
        super().__init__(env)
        self.kept, self.info, self.place = None, {}, np.zeros(2, np.float32)

    def reused(self, obs, info):
        place = obs["place"] if isinstance(obs, dict) else obs
        self.place[:] = place
        if isinstance(obs, dict):
            self.kept = {} if self.kept is None else self.kept
            self.kept.update(obs, place=self.place)
        else:
            self.kept = self.place
        mask = self.info.setdefault("action_mask", info["action_mask"].copy())
        mask[:] = info["action_mask"]
        self.info.clear()
        self.info["action_mask"] = mask
        return self.kept, self.info

    def reset(self, **kwargs):
        return self.reused(*self.env.reset(**kwargs))

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        obs, info = self.reused(obs, info)
        return obs, reward, terminated, truncated, info


SEA = spaces.Dict({"place": spaces.Box(-10, 10, (2,)), "side": spaces.Discrete(2)})


@pytest.mark.filterwarnings("ignore:.*outside its space")
@pytest.mark.parametrize("use_masking", [False, True])
@pytest.mark.parametrize("space", [None, SEA])
@pytest.mark.parametrize("n_envs", [0, 1, 3])
def test_an_environment_may_use_its_memory_again(n_envs, space, use_masking):
    """By chance, and by a time limit, where the last observation is bootstrapped from. ``n_envs=0``: no ``VecEnv``."""
    models = []
    for wrap in (lambda env: env, Reusing):
        make = functools.partial(lambda wrap: TimeLimit(wrap(Sailing(space)), 7), wrap)
        env = DummyVecEnv([make] * n_envs) if n_envs else make()
        kwargs = {"learning_starts": 0, "seed": 0, "use_masking": use_masking}
        models.append(LectureDQN(policy_for(env.observation_space), env, **kwargs).learn(70))
    assert_same_training(*models)


class Kept(VecEnvWrapper):
    """Returns the same arrays every time, as they are now."""

    arrays = None

    def kept(self, obs):
        self.arrays = copy.deepcopy(obs) if self.arrays is None else self.arrays
        for key in obs if isinstance(obs, dict) else [...]:
            self.arrays[key][...] = obs[key]
        return self.arrays

    def reset(self):
        return self.kept(self.venv.reset())

    def step_wait(self):
        obs, *rest = self.venv.step_wait()
        return self.kept(obs), *rest


@pytest.mark.filterwarnings("ignore:.*outside its space")
@pytest.mark.parametrize("wrapper", ["none", "monitor", "rewards normalised", "all normalised"])
@pytest.mark.parametrize("space", [None, SEA])
def test_a_vectorised_environment_may_use_its_memory_again(wrapper, space):
    wrap = {
        "none": lambda env: env,
        "monitor": VecMonitor,
        "rewards normalised": lambda env: VecNormalize(env, norm_obs=False, norm_obs_keys=space and []),
        "all normalised": lambda env: VecNormalize(env, norm_obs_keys=space and ["place"]),
    }[wrapper]
    models = []
    for reuse in (lambda env: env, Kept):
        env = wrap(reuse(DummyVecEnv([lambda: TimeLimit(Sailing(space), 7)] * 2)))
        model = LectureDQN(policy_for(env.observation_space), env, learning_starts=0, seed=0)
        models.append(model.learn(60))
    assert_same_training(*models)


def assert_same_training(one, other):
    """The same memory, and the same weights."""
    assert one.num_timesteps == other.num_timesteps
    ours, theirs = one.replay_buffer.get_state(), other.replay_buffer.get_state()
    np.testing.assert_equal(ours, theirs)
    weights = one.policy.state_dict(), other.policy.state_dict()
    assert all(th.equal(weights[0][name], weights[1][name]) for name in weights[0])
