"""SB3's and sb3-contrib's own defaults by name: ours then does what theirs do."""

import copy
import inspect

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import SimpleMultiObsEnv

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, SuccessFailReplayBuffer

PAIRS = [(LectureDQN, DQN), (LectureQRDQN, QRDQN)]
SMALL = {"buffer_size": 500, "learning_starts": 40, "target_update_interval": 30, "policy_kwargs": {"net_arch": [8]}}

# With fewer quantiles than the default
SMALL_PAIRS = [
    (LectureDQN, DQN, SMALL),
    (LectureQRDQN, QRDQN, {**SMALL, "policy_kwargs": {"net_arch": [8], "n_quantiles": 20}}),
]
NO_TIMEOUTS = {"replay_buffer_kwargs": {"handle_timeout_termination": False}}


def keywords_of(algorithm):
    names = list(inspect.signature(algorithm.__init__).parameters)[3:]
    return [{"stats_window_size": "_stats_window_size"}.get(name, name) for name in names if name[0] != "_"]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("policy_and_env", [("MlpPolicy", "CartPole-v1"), ("MultiInputPolicy", SimpleMultiObsEnv)])
def test_every_keyword_of_theirs_has_their_default(ours, theirs, policy_and_env):
    policy, env = policy_and_env
    made = [env if isinstance(env, str) else env() for _ in range(2)]
    model = ours.with_sb3_defaults(policy, made[0], buffer_size=100)
    stock = theirs(policy, made[1], buffer_size=100)
    assert len(keywords_of(theirs)) > 20
    for name in keywords_of(theirs):
        assert getattr(model, name) == getattr(stock, name), name
    assert type(model.replay_buffer) is type(stock.replay_buffer)
    assert str(model.policy) == str(stock.policy)
    assert model.policy.optimizer.state_dict()["param_groups"] == stock.policy.optimizer.state_dict()["param_groups"]


def test_what_they_do_without_a_keyword_is_done_too():
    model = LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1")
    assert (model.exploration_decay, model.loss, model.double_q, model.buffer_size) == (None, "huber", False, 1_000_000)
    for env_id, limit in (("CartPole-v1", 500), ("Taxi-v3", 200), ("MountainCar-v0", 200)):
        trained_on = LectureDQN.with_sb3_defaults("MlpPolicy", env_id, buffer_size=10).get_env()
        limits = trained_on.get_attr("spec") if env_id != "Taxi-v3" else [trained_on.unwrapped]
        assert limits[0].max_episode_steps == limit


class Pace(BaseCallback):
    """What is decided step by step, other than by chance."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        model = self.model
        self.seen.append((model.num_timesteps, round(model.exploration_rate, 12), model._n_updates, model._n_calls))
        return True


@pytest.mark.parametrize(("ours", "theirs", "small"), SMALL_PAIRS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_pace_of_training_is_theirs(ours, theirs, small, n_envs):
    seen = []
    for make in (ours.with_sb3_defaults, theirs):
        model = make("MlpPolicy", make_vec_env("CartPole-v1", n_envs, seed=0), seed=0, **small)
        model.learn(200, callback=(pace := Pace()))
        seen.append((pace.seen, model.num_timesteps, model._n_updates))
    assert seen[0] == seen[1]
    assert seen[0][2] > 30 / n_envs


@pytest.mark.parametrize(("ours", "theirs", "small"), SMALL_PAIRS)
def test_updates_from_the_same_memory_are_theirs_bit_by_bit(ours, theirs, small):
    stock = theirs("MlpPolicy", "CartPole-v1", seed=3, **small).learn(100)
    model = ours.with_sb3_defaults("MlpPolicy", "CartPole-v1", seed=3, engine="torch", **small).learn(0)
    model.set_parameters(copy.deepcopy(stock.get_parameters()))  # Adam would share its moments
    model.replay_buffer = stock.replay_buffer
    for one in (stock, model):
        np.random.seed(5)  # noqa: NPY002
        one._current_progress_remaining = 0.5
        one.train(gradient_steps=30, batch_size=one.batch_size)
    for name, weights in stock.policy.state_dict().items():
        th.testing.assert_close(model.policy.state_dict()[name], weights, rtol=0, atol=0)


@pytest.mark.parametrize("ours", [LectureDQN, LectureQRDQN])
def test_it_learns_is_saved_and_loaded_as_it_was_made(ours, tmp_path):
    model = ours.with_sb3_defaults("MlpPolicy", "CartPole-v1", seed=0, **SMALL).learn(100)
    assert type(model) is ours
    model.save(tmp_path / "model")
    loaded = ours.load(tmp_path / "model")
    stock = [*keywords_of(DQN), "exploration_decay", "max_episode_steps"]
    assert {name: getattr(loaded, name) for name in stock} == {name: getattr(model, name) for name in stock}
    assert loaded.learn(100).num_timesteps == 100
    assert type(loaded.replay_buffer) is ReplayBuffer


@pytest.mark.parametrize(
    ("policy", "env", "overrides", "memory"),
    [
        ("MlpPolicy", "CartPole-v1", {"n_steps": 3, "buffer_size": 100}, NStepReplayBuffer),
        ("MlpPolicy", "CartPole-v1", {"optimize_memory_usage": True, **NO_TIMEOUTS, **SMALL}, ReplayBuffer),
        ("MultiInputPolicy", "Blackjack-v1", {"buffer_size": 100}, DictReplayBuffer),
        ("LecturePolicy", "Taxi-v3", {"use_masking": True}, SuccessFailReplayBuffer),
        ("LecturePolicy", "Taxi-v3", {"replay_buffer_class": SuccessFailReplayBuffer}, SuccessFailReplayBuffer),
    ],
)
def test_settings_of_theirs_and_of_ours_take_the_place_of_a_default(policy, env, overrides, memory):
    model = LectureDQN.with_sb3_defaults(policy, env, double_q=True, gamma=0.5, **overrides)
    assert type(model.replay_buffer) is memory
    assert (model.double_q, model.gamma, model.batch_size) == (True, 0.5, 32)
    model.learn(120)


def test_an_argument_that_neither_knows_is_named_with_the_nearest():
    with pytest.raises(TypeError, match=r"with_sb3_defaults: LectureDQN takes no 'gama' .*the nearest is 'gamma'"):
        LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1", gama=0.9)
    with pytest.raises(ValueError, match="env=None"):
        LectureDQN.with_sb3_defaults("MlpPolicy", None)
    with pytest.raises(ValueError, match="'CartPol-v1' is not a registered"):
        LectureDQN.with_sb3_defaults("MlpPolicy", "CartPol-v1")


class Called(BaseCallback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def _on_training_start(self):
        self.calls.append(("start", self.locals["total_timesteps"], self.model.logger is not None))

    def _on_rollout_start(self):
        self.calls.append("rollout")

    def _on_step(self):
        self.calls.append("step")
        return True

    def _on_training_end(self):
        self.calls.append("end")


@pytest.mark.parametrize("progress_bar", [False, True])
def test_a_budget_of_no_steps_sets_up_and_trains_nothing(progress_bar, tmp_path):
    called = []
    for algorithm in (DQN, LectureDQN):
        model = algorithm(
            "MlpPolicy", "CartPole-v1", buffer_size=100, tensorboard_log=str(tmp_path / algorithm.__name__)
        )
        callback = Called()
        assert model.learn(0, callback=callback, progress_bar=progress_bar) is model
        assert (model.num_timesteps, model.replay_buffer.size(), model._total_timesteps) == (0, 0, 0)
        assert list((tmp_path / algorithm.__name__).glob("*/events*"))
        called.append(callback.calls)
    assert called[0] == called[1] == [("start", 0, True), "end"]
    assert model.learn(0, reset_num_timesteps=False).learn(20).num_timesteps == 20


def test_a_budget_of_no_episodes_is_no_training_either_and_can_be_saved(tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0).learn(total_episodes=0)
    assert (model.num_timesteps, model._episode_num) == (0, 0)
    model.save(tmp_path / "model")
    assert LectureDQN.load(tmp_path / "model").learn(total_episodes=3)._episode_num == 3


@pytest.mark.parametrize("make", [LectureDQN, LectureDQN.tuned])
def test_an_environment_by_id_is_announced_in_sb3s_words(make, capsys):
    make("FrozenLake-v1", verbose=1)
    assert capsys.readouterr().out.count("Creating environment from the given name 'FrozenLake-v1'") == 1
    make("FrozenLake-v1")
    LectureDQN(gym.make("FrozenLake-v1"), verbose=1)
    assert "Creating" not in capsys.readouterr().out
