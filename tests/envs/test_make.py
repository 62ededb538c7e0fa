"""The lecture's environment by its id, on every supported gymnasium."""

import contextlib
import hashlib
import json
import subprocess
import sys
import warnings

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, LectureTestCallback, make_env
from sb3_lecture_dqn.envs.make import id_step_limit, make_training_env
from sb3_lecture_dqn.evaluation.like_model import step_limit_of
from sb3_lecture_dqn.registration import VARIANTS, register_taxi_v3

TAXI_DIGEST = "a83a958959d4ed11c7c96a91624a74eda3b7c9bb31194cff56df85742b8560bd"


@pytest.fixture(autouse=True)
def _every_warning_is_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_taxi_v3_is_made_without_a_warning_and_has_the_lectures_dynamics():
    env = make_env("Taxi-v3")
    transitions = [
        [[(float(p), int(n), float(r), bool(d)) for p, n, r, d in env.unwrapped.P[s][a]] for a in range(6)]
        for s in range(500)
    ]
    assert hashlib.sha256(json.dumps(transitions).encode()).hexdigest() == TAXI_DIGEST


def test_taxi_v3_of_gymnasium_itself_is_an_alias_with_gymnasiums_own_advice():
    """Which is a function of gymnasium's, so it is not this package's to leave it out."""
    advised = "Taxi-v4" in gym.registry
    with pytest.warns(DeprecationWarning, match="Taxi-v3 is out of date") if advised else contextlib.nullcontext():
        env = gym.make("Taxi-v3")
    assert env.spec.max_episode_steps == 200


def test_the_model_is_made_from_the_id_without_a_warning():
    LectureDQN("Taxi-v3").learn(3)


def test_a_fresh_interpreter_shows_no_warning_either():
    """What a user sees: nothing on the error stream, which gymnasium's own advice to upgrade would reach."""
    code = (
        "import sb3_lecture_dqn, warnings\n"
        "warnings.simplefilter('error')\n"
        "sb3_lecture_dqn.make_env('Taxi-v3').reset(seed=0)\n"
        "sb3_lecture_dqn.TabularVecEnv('Taxi-v3').reset()\n"
        "sb3_lecture_dqn.run_test(sb3_lecture_dqn.LectureDQN('Taxi-v3').learn(3), n_episodes=1)\n"
        "print('made')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("made\n", "")


@pytest.mark.parametrize(("n_envs", "left_open"), [(1, 1), (3, 3)])
def test_an_environment_that_was_only_looked_at_is_closed(n_envs, left_open, monkeypatch):
    opened = []

    class Counts(CartPoleEnv):
        def __init__(self, render_mode=None):
            super().__init__(render_mode=render_mode)
            opened.append(self)

        def close(self):
            opened.remove(self)
            super().close()

    spec = EnvSpec("Counts-v0", entry_point=Counts, max_episode_steps=9)
    monkeypatch.setitem(gym.registry, "Counts-v0", spec)
    env = make_training_env("Counts-v0", n_envs=n_envs)
    assert len(opened) == left_open
    env.close()
    assert opened == []


def test_environments_in_processes_of_their_own_are_made_from_the_id_that_names_the_package():
    """A new process knows the id only once it has imported the package."""
    fresh = {"start_method": "spawn"}  # others are forked from one that has imported it, see conftest.py
    env = make_vec_env("sb3_lecture_dqn:Taxi-v3", n_envs=1, seed=0, vec_env_cls=SubprocVecEnv, vec_env_kwargs=fresh)
    try:
        assert env.reset().shape == (1,)
    finally:
        env.close()


def test_the_advice_to_upgrade_other_environments_is_still_given():
    """Only that on Taxi-v3 is left out."""
    gym.register(id="Stale-v0", entry_point="gymnasium.envs.toy_text.taxi:TaxiEnv")
    gym.register(id="Stale-v1", entry_point="gymnasium.envs.toy_text.taxi:TaxiEnv")
    try:
        with pytest.warns(DeprecationWarning, match="Stale-v0 is out of date"):
            gym.make("Stale-v0")
    finally:
        del gym.registry["Stale-v0"], gym.registry["Stale-v1"]


def test_registering_twice_changes_nothing():
    before = gym.spec("Taxi-v3")
    register_taxi_v3()
    assert gym.spec("Taxi-v3") is before


@pytest.mark.parametrize(
    ("given", "limit"), [({}, 1000), ({"max_episode_steps": 7}, 7), ({"max_episode_steps": None}, 1000)]
)
def test_make_env_puts_the_lectures_limit_in_place_of_the_ids(given, limit):
    env = make_env("Taxi-v3", **given)
    env.reset(seed=0)
    for step in range(1, limit + 1):
        _, _, terminated, truncated, _ = env.step(0)
        assert not terminated
        assert truncated == (step == limit)


@pytest.mark.parametrize(
    ("env_id", "limit"),
    [
        *((env_id, 1000) for env_id in ("Taxi-v3", *VARIANTS)),
        *((env_id, 1000) for env_id in ("Taxi-v4",) if env_id in gym.registry),  # gymnasium >= 1.3
        *(("CartPole-v1", 500), ("FrozenLake-v1", 100), ("MountainCar-v0", 200), ("Blackjack-v1", None)),
    ],
)
def test_the_lectures_limit_is_that_of_its_own_ids(env_id, limit):
    assert id_step_limit(env_id) == limit
    venv = make_training_env(env_id)
    assert step_limit_of(venv if isinstance(venv, VecEnv) else DummyVecEnv([lambda: venv])) == limit


def test_an_environment_of_another_package_keeps_its_limit_under_an_id_of_the_variants(monkeypatch):
    spec = EnvSpec("TaxiRainy-v3", lambda **_: gym.make("FrozenLake-v1").unwrapped, max_episode_steps=30)
    monkeypatch.setitem(gym.registry, "TaxiRainy-v3", spec)
    assert id_step_limit("TaxiRainy-v3") == 30


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
@pytest.mark.parametrize(("env_id", "limit"), [("CartPole-v1", 500), ("Taxi-v3", 1000), ("FrozenLake-v1", 100)])
def test_training_and_tests_have_the_limit_of_the_id(env_id, limit, algorithm):
    policy = "MlpPolicy" if env_id == "CartPole-v1" else "LecturePolicy"
    model = algorithm(policy, env_id, seed=0)
    test = LectureTestCallback(test_freq=4, n_test_episodes=2, verbose=0)
    model.learn(5, test)
    assert {step_limit_of(model.get_env()), step_limit_of(test.test_env), model.max_episode_steps} == {limit}
    given = algorithm(policy, make_env(env_id, max_episode_steps=77))
    assert {step_limit_of(given.get_env()), given.max_episode_steps} == {77}


def test_a_limit_that_a_given_environment_does_not_have_is_refused():
    LectureDQN(gym.make("FrozenLake-v1"), max_episode_steps=100)
    with pytest.raises(ValueError, match=r"max_episode_steps=50 is only for .* has 100: wrap .*TimeLimit"):
        LectureDQN(gym.make("FrozenLake-v1"), max_episode_steps=50)


def test_make_env_passes_arguments_on():
    assert make_env("FrozenLake-v1", map_name="8x8").observation_space.n == 64
    assert make_env("Taxi-v3", render_mode=None).render_mode is None
    assert make_env("Taxi-v3").render_mode == "rgb_array"


@pytest.mark.parametrize(
    ("unknown", "near"),
    [("Taxy-v3", "Taxi-v3"), ("taxi-v3", "Taxi-v3"), ("Cartpole-v1", "CartPole-v1"), ("Taxi", "Taxi-v3")],
)
def test_an_unknown_id_is_answered_with_the_nearest_known_one(unknown, near):
    with pytest.raises(ValueError, match=rf"env='{unknown}'.*'{near}'"):
        make_env(unknown)


def test_an_id_like_no_other_is_answered_with_where_to_look():
    with pytest.raises(ValueError, match=r"env='\?\?'.*pprint_registry"):
        make_env("??")


def test_an_id_of_a_module_that_is_not_installed_is_named():
    with pytest.raises(ValueError, match="no_such_module"):
        make_env("no_such_module:Taxi-v3")


class Plain(gym.Env):
    """As a user begins: without pictures, and without a word about them."""

    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)

    def __init__(self, **_):
        pass

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 1, 0.0, True, False, {}


def test_an_environment_without_pictures_is_made_without_a_warning_about_them(monkeypatch):
    """Unless they are asked for."""
    monkeypatch.setitem(gym.registry, "Plain-v0", EnvSpec("Plain-v0", entry_point=Plain))
    LectureDQN("Plain-v0").learn(3)
    with pytest.warns(UserWarning, match="not in the possible render_modes"):
        make_env("Plain-v0", render_mode="ansi")
