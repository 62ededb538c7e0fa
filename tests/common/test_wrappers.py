"""Observations that SB3 refuses become a Dict, or one number."""

import copy
import itertools
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture_dqn import (
    ActionMaskInfo,
    DiscreteObservationWrapper,
    LectureCheckpointCallback,
    LectureDQN,
    ResumableEnv,
    TupleToDictWrapper,
    make_env,
    run_test,
)
from sb3_lecture_dqn.common import wrappers
from sb3_lecture_dqn.common.wrappers import OwnName
from sb3_lecture_dqn.envs.masks import give_mask_infos
from sb3_lecture_dqn.saving.env_state import make_resumable

NESTED = spaces.Tuple(
    [
        spaces.Discrete(3, start=5),
        spaces.Tuple([spaces.MultiBinary(2), spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "y": spaces.Discrete(2)})]),
    ]
)


class Observing(gym.Env):
    """Observes anything of a space."""

    action_space = spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.last = self.observation_space.sample()
        return self.last, {}

    def step(self, action):
        self.last = self.observation_space.sample()
        return self.last, 0.0, bool(self.np_random.random() < 0.3), False, {}


def test_blackjack_has_three_parts_with_its_own_observations():
    env, bare = TupleToDictWrapper(gym.make("Blackjack-v1")), gym.make("Blackjack-v1")
    assert env.observation_space == spaces.Dict(
        {"0": spaces.Discrete(32), "1": spaces.Discrete(11), "2": spaces.Discrete(2)}
    )
    for seed in range(20):
        obs, theirs = env.reset(seed=seed)[0], bare.reset(seed=seed)[0]
        assert obs == dict(zip("012", theirs, strict=True))
        (obs, *rest), (theirs, *others) = env.step(1), bare.step(1)
        assert obs == dict(zip("012", theirs, strict=True))
        assert rest == others
    check_env(env)


def test_parts_within_parts_have_joined_keys():
    env = TupleToDictWrapper(Observing(NESTED))
    assert dict(env.observation_space.spaces) == {
        "0": NESTED[0],
        "1_0": NESTED[1][0],
        "1_1_x": NESTED[1][1]["x"],
        "1_1_y": NESTED[1][1]["y"],
    }
    obs, _ = env.reset(seed=0)
    for _ in range(10):
        last = env.unwrapped.last
        assert obs == {"0": last[0], "1_0": last[1][0], "1_1_x": last[1][1]["x"], "1_1_y": last[1][1]["y"]}
        assert env.observation_space.contains(obs)
        obs = env.step(0)[0]


def test_keys_that_would_collide_and_other_spaces_are_refused():
    colliding = spaces.Dict({"a_0": spaces.Discrete(2), "a": spaces.Tuple([spaces.Discrete(2)])})
    with pytest.raises(ValueError, match=r"two parts.*key 'a_0'"):
        TupleToDictWrapper(Observing(colliding))
    with pytest.raises(ValueError, match=r"Discrete\(500\), it must be a Tuple or a Dict"):
        TupleToDictWrapper(gym.make("Taxi-v3"))


def test_an_id_is_wrapped_where_sb3_needs_it_and_only_there():
    assert isinstance(make_env("Blackjack-v1"), TupleToDictWrapper)
    assert not isinstance(make_env("CartPole-v1"), TupleToDictWrapper)


def test_blackjack_given_by_id_is_learned_tested_saved_and_loaded(tmp_path):
    model = LectureDQN("Blackjack-v1", seed=0).learn(60)
    assert model.replay_buffer.size() > 10
    states = [{"0": total, "1": card, "2": ace} for total in (12, 21) for card in (1, 10) for ace in (0, 1)]
    single = [int(model.predict(state, deterministic=True)[0]) for state in states]
    batch = {key: np.array([state[key] for state in states]) for key in "012"}
    assert model.predict(batch, deterministic=True)[0].tolist() == single
    result = run_test(model, n_episodes=25, seed=0)
    assert result == run_test(model, "Blackjack-v1", n_episodes=25, seed=0)
    assert -1 <= result.mean_reward <= 1.5
    assert result.optimality is None, "its table is not known"
    model.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model")
    assert loaded.predict(batch, deterministic=True)[0].tolist() == single
    assert loaded.learn(10).num_timesteps >= 10


@pytest.mark.parametrize(
    "env", [lambda: gym.make("Blackjack-v1"), lambda: DummyVecEnv([lambda: gym.make("Blackjack-v1")])]
)
def test_a_users_own_tuple_environment_is_refused_with_the_remedy(env, tmp_path):
    model = LectureDQN("Blackjack-v1")
    model.save(tmp_path / "model")
    for use in (
        lambda: LectureDQN(env()),
        lambda: model.set_env(env()),
        lambda: LectureDQN.load(tmp_path / "model", env=env()),
        lambda: run_test(model, env(), n_episodes=1),
    ):
        with pytest.raises(ValueError, match=r"Tuple\(Discrete\(32\).*sb3_lecture_dqn\.TupleToDictWrapper"):
            use()


def test_nested_observations_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"nested.*sb3_lecture_dqn\.TupleToDictWrapper"):
        LectureDQN(Observing(spaces.Dict({"a": NESTED})))


@pytest.mark.parametrize("algorithm", [LectureDQN, DQN])
def test_nested_observations_are_learned_in_the_wrapper(algorithm):
    """With numbers that start at 5, a vector and bits; in several environments."""
    env = make_vec_env(lambda: TupleToDictWrapper(Observing(NESTED)), n_envs=2)
    kwargs = {"learning_starts": 4, "buffer_size": 50}
    policy = "LecturePolicy" if algorithm is LectureDQN else LectureDQN.policy_aliases["LecturePolicy"]
    model = algorithm(policy, env, seed=0, **kwargs).learn(40)
    obs = env.observation_space.sample()
    assert model.predict(obs, deterministic=True)[0].shape == ()


def all_of(space):
    """All observations of a space, in the order of their parts."""
    if isinstance(space, spaces.Discrete):
        return [int(space.start) + i for i in range(int(space.n))]
    if isinstance(space, spaces.Tuple):
        return list(itertools.product(*map(all_of, space)))
    if isinstance(space, spaces.Dict):
        return [dict(zip(space, values, strict=True)) for values in itertools.product(*map(all_of, space.values()))]
    sizes = np.full(space.shape, 2) if isinstance(space, spaces.MultiBinary) else space.nvec
    starts = getattr(space, "start", np.zeros_like(sizes))
    parts = [range(s, s + n) for s, n in zip(starts.ravel(), sizes.ravel(), strict=True)]
    return [np.reshape(values, space.shape).astype(space.dtype) for values in itertools.product(*parts)]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Tuple([spaces.Discrete(3, start=5), spaces.Discrete(1), spaces.Discrete(4, start=-2)]),
        spaces.MultiDiscrete([3, 1, 4]),
        spaces.MultiDiscrete([[3, 2], [1, 4]]),
        spaces.MultiDiscrete([2, 3], start=[-1, 7]),
        spaces.MultiBinary(4),
        spaces.MultiBinary((2, 1)),
        spaces.Tuple([spaces.MultiBinary(2), spaces.Discrete(3, start=1), spaces.MultiDiscrete([2, 3])]),
        spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple([spaces.MultiBinary(1), spaces.Discrete(3)])}),
    ],
)
def test_every_observation_has_a_number_of_its_own(space):
    """In the order of itertools.product over the parts, which is that of a mixed radix with the last part fastest."""
    env = DiscreteObservationWrapper(Observing(space))
    observations = all_of(space)
    assert env.observation_space == spaces.Discrete(len(observations))
    assert all(map(space.contains, observations))
    numbers = [env.observation(observation) for observation in observations]
    assert numbers == list(range(len(observations)))
    check_env(env)


def test_blackjack_in_one_number_is_blackjack_and_trained_by_compiled_loops():
    env, bare = DiscreteObservationWrapper(gym.make("Blackjack-v1")), gym.make("Blackjack-v1")
    for seed in range(20):
        assert env.reset(seed=seed)[0] == np.ravel_multi_index(bare.reset(seed=seed)[0], (32, 11, 2))
        (obs, *rest), (theirs, *others) = env.step(1), bare.step(1)
        assert obs == np.ravel_multi_index(theirs, (32, 11, 2))
        assert rest == others
    model = LectureDQN(env, engine="numba", explore_least_tried=True, seed=0).learn(40)
    assert run_test(model, n_episodes=5, seed=0).mean_reward <= 1, "made anew from the wrapped environment's spec"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Discrete(5), r"Discrete\(5\), it must be a MultiDiscrete, a MultiBinary, or a Tuple or Dict"),
        (NESTED, "it must be a MultiDiscrete"),
        (spaces.Box(0, 1, (2,), np.int64), "it must be a MultiDiscrete"),
        (spaces.MultiBinary(20), r"1,048,576 states, there may be 1,000,000 at most"),
        (spaces.MultiDiscrete([1000, 1001]), r"1,001,000 states, there may be 1,000,000 at most"),
        (spaces.MultiDiscrete([2**40, 2**40]), "there may be 1,000,000 at most"),  # more than an int64 holds
    ],
)
def test_observations_that_have_no_number_are_refused(space, message):
    with pytest.raises(ValueError, match=message):
        DiscreteObservationWrapper(Observing(space))


@pytest.mark.parametrize(
    "outside", [(3, 0), (0, 2), (-1, 1), (0.5, 1), ("0", 1), (None, 1), (0,), (0, 1, 0), 1, ([0, 1], 1), (math.nan, 1)]
)
def test_an_observation_outside_the_space_has_no_number(outside):
    env = DiscreteObservationWrapper(Observing(spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2)])))
    with pytest.raises(ValueError, match="which is not in Tuple"):
        env.observation(outside)


class WithoutOptions(gym.Env):
    """Its reset takes a seed alone, which SB3 allows."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def reset(self, seed=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return int(self.np_random.integers(2)), 1.0, bool(self.np_random.random() < 0.2), False, {}

    def action_masks(self):
        return np.array([True, False])


@pytest.mark.parametrize("use_masking", [False, True])
def test_environments_whose_reset_knows_no_options_are_trained_on(use_masking):
    model = LectureDQN(env=WithoutOptions(), max_episode_steps=None, use_masking=use_masking)
    assert model.learn(total_timesteps=20).num_timesteps == 20


class Settable(gym.Wrapper):
    """With an attribute that a user changes while training goes on."""

    difficulty = 1


class WithState(WithoutOptions):
    """Draws from NumPy's old kind of generator."""

    def reset(self, seed=None):
        self.np_random = np.random.RandomState(seed)
        return 0, {}

    def step(self, action):
        return int(self.np_random.randint(2)), 1.0, bool(self.np_random.random() < 0.2), False, {}


OUR_NAMES = sorted({*dir(ResumableEnv(WithoutOptions())), *dir(ActionMaskInfo(WithoutOptions()))})


def stock_and_ours(monitored):
    """The user's environments, and vectorised ones as SB3 makes them and as a model trains on, with masks."""
    users, venvs = [WithoutOptions(), WithoutOptions()], []
    for user in users:
        wrapped = Monitor(TimeLimit(user, 9)) if monitored else user
        venvs.append(DummyVecEnv([lambda wrapped=wrapped: wrapped]))
    make_resumable(venvs[1])
    give_mask_infos(venvs[1])
    assert isinstance(venvs[1].envs[0], ActionMaskInfo)
    return users, venvs


def outcome(ask, *args):
    """What comes of a question, in a form that does not depend on which of two equal environments is asked."""
    try:
        value = ask(*args)
    except Exception as error:
        return type(error)
    if isinstance(value, list | dict | str | int | float | bool | None):
        return [one if one is MARK else (type(one), getattr(one, "__qualname__", "")) for one in np.atleast_1d(value)]
    return value if value is MARK else type(value)


def MARK(*args):
    return MARK


@settings(max_examples=300)
@given(
    name=st.from_regex(r"\A[a-z_][a-z0-9_]{0,12}\Z") | st.sampled_from(OUR_NAMES),
    owner=st.sampled_from(["user", "nobody"]),
    monitored=st.booleans(),
)
def test_every_name_is_the_users_as_without_us(name, owner, monitored):
    """Read, asked for, called, set, and read again, by names that our wrappers have too."""
    users, venvs = stock_and_ours(monitored)
    outcomes = []
    for user, venv in zip(users, venvs, strict=True):
        if owner == "user":
            vars(user)[name] = MARK
        asked = [outcome(venv.has_attr, name)]
        if name not in ("reset", "step"):  # which are to be ours, and do what the user's do
            asked += [outcome(venv.get_attr, name)]
            if owner == "user" and not monitored:
                asked += [outcome(venv.env_method, name)]
        asked += [outcome(venv.set_attr, name, MARK)]
        if name not in ("reset", "step"):
            asked += [outcome(venv.get_attr, name), outcome(venv.env_method, name)]
        outcomes.append(asked)
    assert outcomes[0] == outcomes[1]


def test_what_was_set_is_read_on_the_environment_itself():
    for name in ("_start", "_actions", "_obs", "_return", "episode_state", "spec_", "_saved_kwargs", "_cached_spec"):
        users, (_, venv) = stock_and_ours(monitored=False)
        venv.set_attr(name, 3)
        assert vars(users[1])[name] == 3
        assert venv.get_attr(name) == [3]
        assert venv.envs[0].has_wrapper_attr(name)
        assert venv.envs[0].set_wrapper_attr(name, 4)
        assert getattr(users[1], name) == 4


def test_a_wrapper_that_is_put_below_ours_is_below_it():
    """`env` is a name that every wrapper has; as the inner environment's, such a wrapper would be in itself."""
    venv = DummyVecEnv([lambda: ResumableEnv(Monitor(gym.make("CartPole-v1")))])
    (outermost,) = venv.envs
    outermost.env = Settable(outermost.env)
    assert type(outermost.env) is Settable
    assert venv.reset().shape == (1, 4)
    venv.set_attr("difficulty", 2)
    assert outermost.env.difficulty == 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_of_the_wrappers_are_wrappers(copied):
    env = ActionMaskInfo(ResumableEnv(WithoutOptions()))
    env.reset(seed=1)
    env.step(0)
    other = copied(env)
    state = other.get_wrapper_attr(OwnName("episode_state"))()
    assert state["actions"].tolist() == [0]
    assert not hasattr(other, "__nothing__")
    assert not hasattr(ResumableEnv.__new__(ResumableEnv), "anything")


def test_the_spec_is_that_of_the_environment():
    env = gym.make("FrozenLake-v1")
    assert ActionMaskInfo(ResumableEnv(make_masked(env))).spec == make_masked(env).spec
    assert ResumableEnv(env).spec == env.spec


def make_masked(env):
    return ActionMasker(env, lambda _: np.ones(4, bool))


class Colliding(WithoutOptions):
    """With names of its own that our wrappers have too."""

    episode_state, replay_episode = "calm", "never"
    _start, _actions, _obs, _return = 1, ["left", "right"], None, "ticket"

    def reset(self, seed=None):
        obs = super().reset(seed=seed)
        self._n, self._transparent_made = self._start, 0
        return obs

    def step(self, action):
        self._n += 1
        return int(self.np_random.integers(2)), float(self._n), self._n > 6, False, {}


def test_an_environment_with_our_names_is_trained_on_saved_and_resumed(tmp_path):
    def make():
        return DummyVecEnv([Colliding, Colliding])

    model = LectureDQN("TablePolicy", make(), seed=0, learning_starts=0)
    model.learn(7)
    model.get_env().set_attr("_resumable_record", 3)
    assert model.get_env().get_attr("episode_state") == ["calm"] * 2
    model.save_checkpoint(tmp_path / "c.zip")
    resumed = LectureDQN.resume(tmp_path / "c.zip", env=make())
    assert resumed.learn(40)._last_obs.tolist() == model.learn(40 - 8, reset_num_timesteps=False)._last_obs.tolist()
    assert resumed.num_timesteps == model.num_timesteps == 40
    weights = model.policy.state_dict(), resumed.policy.state_dict()
    assert all(th.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("wrapper", [ResumableEnv, lambda env: ActionMaskInfo(ResumableEnv(env))])
def test_attributes_are_read_and_set_through_the_wrappers_that_are_put_around_unasked(wrapper):
    settable = Settable(WithoutOptions())
    venv = DummyVecEnv([lambda: wrapper(settable)])
    venv.set_attr("difficulty", 3)
    assert settable.difficulty == 3
    assert venv.get_attr("difficulty") == [3]
    assert venv.envs[0].difficulty == 3
    assert not hasattr(venv.envs[0], "nothing")
    copied = copy.deepcopy(venv.envs[0])
    copied.difficulty = 4
    assert (copied.difficulty, settable.difficulty) == (4, 3)


def test_an_environment_with_another_kind_of_generator_is_trained_on_and_cannot_be_resumed(tmp_path):
    model = LectureDQN(env=WithState(), seed=0)
    with pytest.warns(UserWarning, match="DummyVecEnv: their position in an episode cannot be saved"):
        model.learn(total_timesteps=30, callback=LectureCheckpointCallback(10, tmp_path))
    with pytest.warns(UserWarning, match="new episodes begin"):
        resumed = LectureDQN.resume(tmp_path, env=WithState())
    assert resumed.learn(total_timesteps=40).num_timesteps == 40


def test_of_an_endless_episode_no_more_actions_are_kept_than_are_replayed(monkeypatch):
    monkeypatch.setattr(wrappers, "MAX_REPLAYED", 5)
    env = ResumableEnv(WithoutOptions())
    env.reset(seed=0)
    for _ in range(20):
        env.step(0)
    assert len(env.episode_state()["actions"]) == 6
