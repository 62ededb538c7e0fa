"""Training that goes wrong stops at once, says when, and leaves a checkpoint from which it can go on."""

import gc
import os
import signal
import traceback

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureTestCallback, ResumableEnv, make_env
from sb3_lecture_dqn.common.checks import check_finite, check_rewards
from sb3_lecture_dqn.envs.env_processes import EnvironmentProcessError
from tests.pairs import every


@pytest.fixture(autouse=True)
def _it_is_collected_here():
    """Else another test would show what Python complains of, or crashes at, when it collects the remains of a fault."""
    yield
    gc.collect()


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


@pytest.mark.parametrize(("value", "engine"), every(2, [np.nan, np.inf], ["torch", "numba"]))
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


class KillProcess(BaseCallback):
    """Kills the process of an environment at a step."""

    def __init__(self, at, which, number=signal.SIGKILL):
        super().__init__()
        self.at, self.which, self.number = at, which, number

    def _on_step(self):
        if self.num_timesteps == self.at:
            process = self.model.env.unwrapped.processes[self.which]
            os.kill(process.pid, self.number)
            process.join(10)
        return True


class Exiting(gym.Wrapper):
    """Ends its process at a step, as a simulator in C does."""

    def step(self, action):
        self.left = getattr(self, "left", 30) - 1
        if self.left == 0:
            os._exit(3)
        return self.env.step(action)


def in_processes(*wrappers):
    made = [lambda wrap=wrap: ResumableEnv(wrap(make_env("FrozenLake-v1", 30))) for wrap in wrappers]
    return VecMonitor(SubprocVecEnv(made))


def same(env):
    return env


def test_the_environment_whose_process_died_is_named_and_training_goes_on_from_the_last_checkpoint(tmp_path):
    model = LectureDQN(in_processes(same, same, same), seed=0)
    saving = LectureCheckpointCallback(60, tmp_path, verbose=0)
    message = (
        r"environment 1 of 3 is gone: its process \d+ was killed by SIGKILL; this was at environment step 90\. To "
        rf"resume from the last checkpoint: LectureDQN\.resume\('{tmp_path}/checkpoint_\d+_steps\.zip', env=\.\.\.\)"
    )
    with pytest.raises(EOFError, match=message):
        model.learn(200, callback=[KillProcess(90, 1), saving])
    # The same environment is no use any more, and it says so again.
    with pytest.raises(EOFError, match="environment 1 of 3 is gone") as caught:
        model.learn(200)
    ended = [frame for frame, _ in traceback.walk_tb(caught.value.__cause__.__traceback__)][2:]
    assert ended
    assert not any(frame.f_locals for frame in ended), "Python 3.12 may crash at the remains"
    with pytest.warns(UserWarning, match="new episodes begin: the checkpoint was saved in the middle of a rollout"):
        resumed = LectureDQN.resume(saving.last_path, env=in_processes(same, same, same))
    resumed.learn(callback=[KillProcess(-1, 0), LectureCheckpointCallback(60, tmp_path)])
    assert resumed.num_timesteps >= 200
    resumed.env.close()


@pytest.mark.parametrize("callback", [[], [LectureCheckpointCallback]])
def test_an_environment_that_ends_its_own_process_is_named_too(callback, tmp_path):
    model = LectureDQN(in_processes(same, Exiting), seed=0)
    way_on = "To resume from the last checkpoint" if callback else "no checkpoint: give learn.. a LectureCheck"
    with pytest.raises(
        EnvironmentProcessError, match=rf"environment 1 of 2 .*ended with exit code 3.*step 58.*{way_on}"
    ):
        model.learn(200, callback=[make(20, tmp_path, verbose=0) for make in callback])


def test_so_is_one_of_the_test(tmp_path):
    test = LectureTestCallback(in_processes(Exiting), 5, (1, "episode"), verbose=0)
    with pytest.raises(
        EnvironmentProcessError, match=r"environment 0 of 1 .*exit code 3.*it belongs to the test environm"
    ):
        LectureDQN("FrozenLake-v1", seed=0).learn(200, callback=test)


def test_errors_of_others_stay_what_they_are():
    class Broken(BaseCallback):
        def _on_step(self):
            raise EOFError("of the user")

    env = in_processes(same)
    with pytest.raises(EOFError, match="of the user") as raised:
        LectureDQN(env, seed=0).learn(20, callback=Broken())
    assert type(raised.value) is EOFError
    env.close()


def test_an_environment_that_raises_leaves_a_checkpoint(tmp_path, capsys):
    model = LectureDQN("LecturePolicy", Faulty(make_env("Taxi-v3"), 73, "raise"), seed=0)
    with pytest.raises(OSError, match="the simulator crashed"):
        model.learn(total_timesteps=200, callback=LectureCheckpointCallback(20, tmp_path))
    assert (
        f"Stopped after 0 episodes, 72 steps. To go on: LectureDQN.resume({str(tmp_path)!r})" in capsys.readouterr().out
    )
    with pytest.warns(UserWarning, match="new episodes begin: the checkpoint was saved in the middle of a rollout"):
        resumed = good_model_of(tmp_path, 72, Faulty(make_env("Taxi-v3"), 0, "raise"))
    assert str(resumed.get_parameters()) == str(model.get_parameters())
    assert str(resumed.replay_buffer.get_state()) == str(model.replay_buffer.get_state())
    resumed.learn(callback=LectureCheckpointCallback(20, tmp_path))
    assert resumed.num_timesteps == 200
