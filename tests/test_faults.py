"""Training that goes wrong stops at once, says when, and leaves a checkpoint from which it can go on."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, make_env
from sb3_lecture_dqn.common.checks import check_rewards
from sb3_lecture_dqn.common.save_util import check_finite


class Poison(BaseCallback):
    """Puts a number into the weights at one step."""

    def __init__(self, at, value, rows=slice(None)):
        super().__init__()
        self.at, self.value, self.rows = at, value, rows

    def _on_step(self):
        if self.num_timesteps == self.at:
            with th.no_grad():
                next(iter(self.model.q_net.parameters()))[self.rows] = self.value
        return True


class Faulty(gym.Wrapper):
    """An environment of which one step goes wrong."""

    def __init__(self, env, at, fault):
        super().__init__(env)
        self.left, self.fault = at, fault

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.left -= 1
        if self.left == 0:
            if self.fault == "raise":
                raise OSError("the simulator crashed")
            if self.fault == "obs":
                obs = np.full_like(obs, np.nan)
            if self.fault in ("nan", "inf"):
                reward = float(self.fault)
        return obs, reward, terminated, truncated, info


def good_model_of(folder, n_steps, env=None):
    """What is left resumes, and goes on to the end of the budget."""
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert f"checkpoint_{n_steps}_steps.zip" == files[-1].name
    model = LectureDQN.resume(folder, env=env)
    assert model.num_timesteps == n_steps
    check_finite(model.get_parameters())
    return model


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value, engine, tmp_path):
    model = LectureDQN("Taxi-v3", seed=0, engine=engine)
    callbacks = [Poison(73, value), LectureCheckpointCallback(20, tmp_path)]
    with pytest.raises(ValueError, match=r"the loss of update \d+ \(environment step 73\) is (nan|inf)"):
        model.learn(total_timesteps=200, callback=callbacks)
    resumed = good_model_of(tmp_path, 60)
    resumed.learn(callback=[Poison(-1, value), LectureCheckpointCallback(20, tmp_path)])
    assert resumed.num_timesteps == 200
    check_finite(resumed.get_parameters())


def test_weights_that_no_loss_has_seen_stop_at_the_next_checkpoint(tmp_path):
    """Weights of states that are not visited."""
    model = LectureDQN("Taxi-v3", seed=0)
    with pytest.raises(ValueError, match=r"environment step 80.*weights that are NaN or infinite"):
        model.learn(200, callback=[Poison(73, np.nan, rows=[0]), LectureCheckpointCallback(20, tmp_path)])
    good_model_of(tmp_path, 60)


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_a_loss_that_is_not_finite(engine, tmp_path):
    model = LectureDQN("Taxi-v3", seed=0, engine=engine, learning_rate=lambda left: 1e-3 if left > 0.6 else 1e30)
    model.learning_rate = 1e-3
    callbacks = [LectureCheckpointCallback(20, tmp_path)]
    with pytest.raises(ValueError, match=r"the loss of update \d+ \(environment step \d+\) is (nan|inf)"):
        model.learn(total_timesteps=200, callback=callbacks)
    assert model.num_timesteps == 80
    good_model_of(tmp_path, 60)


@pytest.mark.parametrize(
    ("env_id", "fault", "message"),
    [
        ("Taxi-v3", "nan", "environment 0 returned the reward nan at environment step 73"),
        ("Taxi-v3", "inf", "environment 0 returned the reward inf at environment step 73"),
        ("CartPole-v1", "obs", "of environment 0 is nan at environment step 73"),
    ],
)
def test_a_step_that_is_not_finite(env_id, fault, message, tmp_path):
    policy = "LecturePolicy" if env_id == "Taxi-v3" else "MlpPolicy"
    model = LectureDQN(policy, Faulty(make_env(env_id), 73, fault), seed=0)
    with pytest.raises(ValueError, match=message):
        model.learn(total_timesteps=200, callback=LectureCheckpointCallback(20, tmp_path))
    resumed = good_model_of(tmp_path, 60, Faulty(make_env(env_id), 0, fault))
    resumed.learn(callback=LectureCheckpointCallback(20, tmp_path))
    assert resumed.num_timesteps == 200


def test_rewards_whose_sum_is_too_large_are_finite():
    check_rewards(np.array([3e38, 3e38], np.float32), step=1)
    with pytest.raises(ValueError, match="environment 1 returned the reward -inf at environment step 5"):
        check_rewards(np.array([np.inf, -np.inf, 0], np.float32)[::-1], step=5)


def test_an_environment_that_raises_leaves_a_checkpoint(tmp_path, capsys):
    model = LectureDQN("LecturePolicy", Faulty(make_env("Taxi-v3"), 73, "raise"), seed=0)
    with pytest.raises(OSError, match="the simulator crashed"):
        model.learn(total_timesteps=200, callback=LectureCheckpointCallback(20, tmp_path))
    assert (
        f"Stopped after 0 episodes, 72 steps. To go on: LectureDQN.resume({str(tmp_path)!r})" in capsys.readouterr().out
    )
    with pytest.warns(UserWarning, match="new episodes begin: the checkpoint was left in the middle of a step"):
        resumed = good_model_of(tmp_path, 72, Faulty(make_env("Taxi-v3"), 0, "raise"))
    assert str(resumed.get_parameters()) == str(model.get_parameters())
    assert str(resumed.replay_buffer.get_state()) == str(model.replay_buffer.get_state())
    resumed.learn(callback=LectureCheckpointCallback(20, tmp_path))
    assert resumed.num_timesteps == 200
