"""TupleToDictWrapper: what SB3 refuses becomes what it takes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture_dqn import LectureDQN, TupleToDictWrapper, make_env, run_test

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
