"""run_test: the lecture's test against a plain loop, on whatever SB3 wraps an environment in."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from examples.lecture_loop import make_taxi
from sb3_lecture_dqn import LectureDQN, TabularVecEnv, TestResult, exact_test, run_test
from sb3_lecture_dqn.evaluation.environment import make_test_env
from sb3_lecture_dqn.evaluation.like_model import step_limit_of
from tests.lecture_dqn.test_oracle import OneDrawPerEpisode


@pytest.fixture(scope="module")
def model():
    """A little trained, so that its tests have penalties and different lengths."""
    return LectureDQN("Taxi-v3", max_episode_steps=50, seed=0).learn(200)


def plain_test(model, env, n_episodes, max_episode_steps, seed, penalty_reward=-10):
    """The lecture's test as one loop."""
    steps, penalties, total, solved = 0, 0, 0.0, 0
    for episode in range(n_episodes):
        obs, _ = env.reset(seed=seed if episode == 0 else None)
        for _ in range(max_episode_steps):
            action, _ = model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(int(action))
            steps += 1
            penalties += reward == penalty_reward
            total += reward
            solved += terminated
            if terminated or truncated:
                break
    return TestResult(steps / n_episodes, penalties / n_episodes, total / n_episodes, solved / n_episodes, n_episodes)


def test_the_figures_are_those_of_a_plain_loop_on_the_same_starts(model):
    for seed in range(3):
        result = run_test(model, OneDrawPerEpisode(make_taxi()), n_episodes=6, max_episode_steps=30, seed=seed)
        assert result == plain_test(model, OneDrawPerEpisode(make_taxi()), 6, 30, seed)


class Dice(gym.Env):
    """A start of so many steps to go; the last of them succeeds, and every action 0 is a penalty of 7."""

    observation_space = spaces.Discrete(30)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.to_go = int(self.np_random.integers(1, 30))
        return self.to_go, {}

    def step(self, action):
        self.to_go -= 1
        return self.to_go, -7.0 if action == 0 else 1.0, self.to_go == 0, False, {}


def test_episodes_of_all_lengths_count_alike():
    """Also those that end in the middle of a round, and at the very step of the cut."""
    model = LectureDQN(Dice(), seed=1)
    results = [
        run_test(model, OneDrawPerEpisode(Dice()), n_episodes=40, max_episode_steps=20, penalty_reward=-7, seed=seed)
        for seed in range(5)
    ]
    plain = [plain_test(model, OneDrawPerEpisode(Dice()), 40, 20, seed, penalty_reward=-7) for seed in range(5)]
    assert results == plain
    assert all(0 < result.success_rate < 1 for result in results)
    assert any(result.mean_penalties > 0 for result in results)


class OfLength(gym.Env):
    """Episodes of a fixed length."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def __init__(self, length):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return 0, {}

    def step(self, action):
        self.n_steps += 1
        return 0, 1.0, self.n_steps == self.length, False, {}


def test_an_environment_with_short_episodes_does_not_play_more_of_them():
    """Else the averages would favour short episodes, as those of the first hundred to end do."""
    env = DummyVecEnv([lambda: OfLength(1), lambda: OfLength(9)])
    model = LectureDQN(env)
    assert run_test(model, env, n_episodes=20) == TestResult(5, 0, 5, 1, 20)
    assert run_test(model, env, n_episodes=3) == TestResult((1 + 9 + 1) / 3, 0, (1 + 9 + 1) / 3, 1, 3)


def test_an_episode_is_cut_after_max_episode_steps_and_is_no_success():
    stuck = LectureDQN("TablePolicy", "Taxi-v3")  # goes south for ever
    assert run_test(stuck, n_episodes=4, max_episode_steps=13) == TestResult(13, 0, -13, 0, 4)
    assert run_test(stuck, gym.make("Taxi-v3"), 2, max_episode_steps=13) == TestResult(13, 0, -13, 0, 2)
    assert run_test(stuck, "Taxi-v3", 2, max_episode_steps=13) == TestResult(13, 0, -13, 0, 2)
    assert run_test(stuck, make_vec_env("Taxi-v3", 2), 3, max_episode_steps=13) == TestResult(13, 0, -13, 0, 3)


def test_without_max_episode_steps_the_environments_own_limit_holds():
    stuck = LectureDQN("TablePolicy", "Taxi-v3")
    assert run_test(stuck, gym.make("Taxi-v3"), 1).mean_steps == 200
    assert run_test(LectureDQN("TablePolicy", gym.make("Taxi-v3")), n_episodes=1).mean_steps == 200
    assert run_test(PPO("MlpPolicy", "Taxi-v3", n_steps=8, batch_size=8), n_episodes=1).mean_steps <= 200
    assert run_test(stuck, "Taxi-v3", 1).mean_steps == 1000, "the lecture's, by id"


def test_the_lectures_cut_is_1000_steps_and_its_test_has_100_episodes():
    stuck = LectureDQN("TablePolicy", "Taxi-v3")
    assert run_test(stuck, n_episodes=1) == TestResult(1000, 0, -1000, 0, 1)
    assert run_test(stuck, max_episode_steps=2).n_episodes == 100


@pytest.mark.parametrize("test", [exact_test, partial(run_test, n_episodes=2)], ids=["exact_test", "run_test"])
@pytest.mark.parametrize("loaded", [False, True])
def test_an_environments_own_limit_can_be_asked_for(test, loaded, tmp_path):
    for limit, own in ((70, 70), (None, 1000)):
        stuck = LectureDQN("TablePolicy", "Taxi-v3", max_episode_steps=limit)
        if loaded:
            stuck.save(tmp_path / "model")
            stuck = LectureDQN.load(tmp_path / "model")
        for env, steps in (
            (None, own),
            ("Taxi-v3", 1000),
            (gym.make("Taxi-v3"), 200),
            (gym.make("Taxi-v3", max_episode_steps=400), 400),
            (TabularVecEnv("Taxi-v3", max_episode_steps=30), 30),
        ):
            assert test(stuck, env, max_episode_steps=None).mean_steps == steps, env
        assert test(stuck).mean_steps == own


@pytest.mark.parametrize("limit", [40, 120])
def test_a_stepped_environments_own_limit_can_be_asked_for(limit, monkeypatch):
    spec = EnvSpec("Endless-v0", lambda **_: OfLength(0), max_episode_steps=limit, disable_env_checker=True)
    monkeypatch.setitem(gym.registry, "Endless-v0", spec)
    model = PPO("MlpPolicy", make_vec_env("Endless-v0", 2), n_steps=8, batch_size=8)
    for env in (None, "Endless-v0", gym.make("Endless-v0"), DummyVecEnv([lambda: gym.make("Endless-v0")])):
        assert run_test(model, env, n_episodes=1, max_episode_steps=None).mean_steps == limit
    assert run_test(model, n_episodes=1, max_episode_steps=150).mean_steps == 150


def test_cartpoles_own_limit_is_known(tmp_path):
    tuned = LectureDQN.tuned("CartPole-v1", device="cpu")
    tuned.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model", device="cpu")
    assert tuned.max_episode_steps == loaded.max_episode_steps == 500
    assert step_limit_of(DQN("MlpPolicy", "CartPole-v1").get_env()) == 500


def test_penalties_are_the_steps_with_the_penalty_reward():
    """A table that always picks up: an illegal pick-up at every step, but where the passenger waits."""
    picks_up = LectureDQN("TablePolicy", "Taxi-v3")
    picks_up.q_net.layers[0].weight.data[:, 4] = 1.0
    result = run_test(picks_up, n_episodes=20, max_episode_steps=10, seed=0)
    assert 9 <= result.mean_penalties <= 10
    assert result.mean_reward == -10 * result.mean_penalties - (10 - result.mean_penalties)
    assert run_test(picks_up, n_episodes=5, max_episode_steps=10, penalty_reward=3).mean_penalties == 0


class Outcome(gym.Env):
    """One step, which ends the episode in a way of its own and says in `info` what it was."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def __init__(self, terminated, info):
        self.outcome = terminated, not terminated, info

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 0, 1.0, *self.outcome


@pytest.mark.parametrize(
    ("terminated", "info", "success"),
    [
        (True, {}, 1),
        (False, {}, 0),
        (True, {"is_success": False}, 0),
        (True, {"is_success": True}, 1),
        (False, {"is_success": True}, 1),
        (False, {"is_success": np.bool_(False)}, 0),
    ],
)
def test_success_is_what_the_environment_says_else_an_end_that_is_no_cut(terminated, info, success):
    env = Outcome(terminated, info)
    assert run_test(LectureDQN(env), env, n_episodes=3).success_rate == success


@pytest.mark.parametrize(
    ("info", "told"), [({}, "terminated"), ({"is_success": None}, "terminated"), ({"is_success": True}, "solved")]
)
def test_what_is_not_known_to_be_a_success_is_not_called_one(info, told):
    env = Outcome(True, info)
    result = run_test(LectureDQN(env), env, n_episodes=3)
    assert result.success_rate == 1
    assert str(result).endswith(f"100.0% {told}")


def goes_down_the_lake():
    model = LectureDQN("TablePolicy", "FrozenLake-v1")
    model.q_net.layers[0].weight.data[:, 1] = 1.0
    return model


@pytest.mark.parametrize(
    "env",
    [None, "FrozenLake-v1", TabularVecEnv("FrozenLake-v1"), gym.make("FrozenLake-v1"),
     VecNormalize(make_vec_env("FrozenLake-v1", 2), norm_obs=False)],
    ids=["own", "id", "arrays", "stepped", "normalised"],
)  # fmt: skip
def test_a_hole_in_the_ice_is_no_success(env):
    result = run_test(goes_down_the_lake(), env, n_episodes=60, seed=0)
    assert result.success_rate == pytest.approx(result.mean_reward)
    assert result.success_rate < 0.5
    assert str(result).endswith("solved")


def test_under_wrappers_that_may_change_rewards_it_is_not_known_what_a_success_is():
    env = gym.wrappers.TransformReward(gym.make("FrozenLake-v1"), lambda reward: reward - 1)
    result = run_test(goes_down_the_lake(), env, n_episodes=20, seed=0)
    assert str(result).endswith("100.0% terminated")


def test_the_test_is_greedy_and_changes_nothing_in_the_model(model):
    model.exploration_rate = 1.0
    rng, weights = repr(model.exploration_rng.bit_generator.state), model.q_net.layers[5].weight.clone()
    steps, last_obs = model.num_timesteps, model._last_obs.copy()
    first = run_test(model, n_episodes=12, max_episode_steps=20, seed=4)
    assert run_test(model, n_episodes=12, max_episode_steps=20, seed=4) == first
    assert repr(model.exploration_rng.bit_generator.state) == rng
    assert model.num_timesteps == steps
    assert np.array_equal(model._last_obs, last_obs)
    assert (model.q_net.layers[5].weight == weights).all()


def test_another_seed_gives_other_starts():
    picks_up = LectureDQN("TablePolicy", "Taxi-v3")
    picks_up.q_net.layers[0].weight.data[:, 4] = 1.0
    assert len({run_test(picks_up, n_episodes=30, max_episode_steps=3, seed=seed).mean_reward for seed in range(8)}) > 1


def test_the_result_reads_as_a_sentence():
    text = str(TestResult(23.184, 0.25, -2.385, 0.99, 100))
    assert text == "100 test episodes: 23.18 steps, 0.25 penalties, -2.38 reward, 99.0% solved"


@pytest.mark.parametrize(
    "make",
    [
        lambda: LectureDQN("MlpPolicy", "CartPole-v1", seed=0),
        lambda: DQN("MlpPolicy", "CartPole-v1", seed=0),
        lambda: QRDQN("MlpPolicy", "CartPole-v1", seed=0),
        lambda: PPO("MlpPolicy", "CartPole-v1", seed=0),
        lambda: LectureDQN("MlpPolicy", gym.make("CartPole-v1"), seed=0),
        lambda: LectureDQN("MlpPolicy", make_vec_env("CartPole-v1", 3), seed=0),
    ],
)
def test_any_algorithm_of_sb3_is_tested_on_an_environment_like_its_own(make):
    """On CartPole reward and steps are the same number, and falling over is an end that is no cut."""
    result = run_test(make(), n_episodes=13, max_episode_steps=60, seed=0)
    assert result.n_episodes == 13
    assert 5 < result.mean_steps == result.mean_reward <= 60


def test_images_and_dicts_are_tested_on_environments_wrapped_as_the_models_own():
    image = LectureDQN("CnnPolicy", FakeImageEnv(6, 36, 36), seed=0)
    assert run_test(image, FakeImageEnv(6, 36, 36), n_episodes=2) == TestResult(10, 0, 0, 0, 2)
    several = LectureDQN("MultiInputPolicy", SimpleMultiObsEnv(), seed=0)
    assert run_test(several, SimpleMultiObsEnv(), n_episodes=2, max_episode_steps=5).n_episodes == 2


def test_stacked_frames_are_tested_as_stacked_frames():
    model = LectureDQN("MlpPolicy", VecFrameStack(make_vec_env("CartPole-v1"), n_stack=3), seed=0)
    assert model.observation_space.shape == (12,)
    assert run_test(model, n_episodes=2, max_episode_steps=20).n_episodes == 2


def test_images_with_normalised_rewards_are_tested():
    env = VecNormalize(DummyVecEnv([lambda: FakeImageEnv(6, 36, 36)]), norm_obs=False)
    model = LectureDQN("CnnPolicy", env, seed=0)
    assert run_test(model, FakeImageEnv(6, 36, 36), n_episodes=2) == TestResult(10, 0, 0, 0, 2)


def test_an_environment_that_cannot_be_made_anew_must_be_given():
    with pytest.raises(ValueError, match=r"env=None.*give a test environment"):
        run_test(LectureDQN(Dice()))


def test_observations_are_normalised_as_in_training_and_rewards_are_not():
    train = VecNormalize(make_vec_env("CartPole-v1", seed=0))
    model = LectureDQN("MlpPolicy", train, seed=0).learn(150)
    count = train.obs_rms.count
    result = run_test(model, n_episodes=10, max_episode_steps=60, seed=0)
    assert result.mean_reward == result.mean_steps
    assert train.obs_rms.count == count, "the test has moved the training's statistics"

    class Normalised(gym.ObservationWrapper):
        """What the network was trained on."""

        observation_space = spaces.Box(-10, 10, (4,))

        def observation(self, obs):
            return train.normalize_obs(obs)

    bare = LectureDQN("MlpPolicy", "CartPole-v1")
    bare.set_parameters(model.get_parameters())
    env = DummyVecEnv([lambda: Normalised(gym.make("CartPole-v1"))] * 10)
    assert run_test(bare, env, n_episodes=10, max_episode_steps=60, seed=0) == result


def test_a_new_environment_is_normalised_as_the_models_own():
    train = VecNormalize(make_vec_env("CartPole-v1"), clip_obs=2.0, epsilon=0.5)
    made = make_test_env(LectureDQN("MlpPolicy", train), None, None, 1)
    obs = np.linspace(-3, 3, 4)
    np.testing.assert_array_equal(made.normalize_obs(obs), train.normalize_obs(obs))
    assert not made.training
    assert not made.norm_reward


def test_a_vecnormalize_of_the_users_own_is_synchronised_and_restores_the_rewards():
    train = VecNormalize(make_vec_env("CartPole-v1", seed=0))
    model = LectureDQN("MlpPolicy", train, seed=0).learn(150)
    own = VecNormalize(make_vec_env("CartPole-v1", 10), training=False)
    result = run_test(model, own, n_episodes=10, max_episode_steps=60, seed=0)
    assert np.array_equal(own.obs_rms.mean, train.obs_rms.mean)
    assert result.mean_reward == result.mean_steps


def test_an_environment_that_was_given_stays_open(model):
    class Closable(gym.Wrapper):
        closed = False

        def close(self):
            self.closed = True
            super().close()

    env = Closable(gym.make("Taxi-v3"))
    run_test(model, env, n_episodes=1, max_episode_steps=3)
    assert not env.closed


class Recital(gym.Env):
    """The same observations in every episode; the action is the reward."""

    observation_space = spaces.Box(-9, 9, (3,))
    action_space = spaces.Discrete(7)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.to_come = list(np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32))
        return self.to_come.pop(), {}

    def step(self, action):
        return self.to_come.pop(), float(action), not self.to_come, False, {}


def test_a_recurrent_policy_remembers_the_episode_and_nothing_before_it():
    settings = {"n_steps": 8, "batch_size": 8, "seed": 0, "policy_kwargs": {"lstm_hidden_size": 16}}
    model = RecurrentPPO("MlpLstmPolicy", Recital(), **settings)
    expected = evaluate_policy(model, Recital(), 1, warn=False)[0]
    for env in (Recital(), DummyVecEnv([Recital, Recital])):
        assert run_test(model, env, n_episodes=3) == TestResult(20, 0, expected, 1, 3)
    driver = RecurrentPPO("MlpLstmPolicy", "Taxi-v3", **settings)
    assert run_test(driver, n_episodes=2, max_episode_steps=5, seed=0).optimality is None, "not as a table of actions"
    with pytest.raises(ValueError, match="RecurrentPPO depend on earlier steps"):
        exact_test(driver)


def test_maskable_ppo_is_tested_with_the_masks_there_are():
    model = MaskablePPO("MlpPolicy", "Taxi-v3", n_steps=8, batch_size=8, seed=0)
    model.policy.action_net.bias.data[5] = 100.0  # drop-off, which is valid in a few states only
    masker = ActionMasker(gym.make("Taxi-v3"), lambda env: env.unwrapped.action_mask(env.unwrapped.s))
    assert exact_test(model, max_episode_steps=20).mean_penalties == 0
    for env in (None, "Taxi-v3", masker, gym.make("Taxi-v3"), make_vec_env("Taxi-v3", 2)):
        assert run_test(model, env, n_episodes=3, max_episode_steps=20, seed=0).mean_penalties == 0
    without = MaskablePPO("MlpPolicy", OfLength(3), n_steps=8, batch_size=8)
    assert run_test(without, OfLength(3), n_episodes=1).mean_steps == 3


def test_episodes_that_are_stepped_have_a_bar_if_asked_for(capsys):
    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0)
    silent = run_test(model, n_episodes=3, max_episode_steps=5, seed=0)
    assert capsys.readouterr().err == ""
    assert run_test(model, n_episodes=3, max_episode_steps=5, seed=0, progress=True) == silent
    assert "0/3 [" in capsys.readouterr().err
