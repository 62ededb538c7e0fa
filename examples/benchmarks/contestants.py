"""Ours and its peers, set up for the same work."""

import contextlib
import importlib.util
import io
import os
import re
import runpy
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from examples import lecture_loop
from sb3_lecture_dqn import LectureDQN, LecturePolicy, TabularModel, make_env

MAX_EPISODE_STEPS = 1000
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.001,
    "buffer_size": 1000,
    "learning_starts": 0,
    "batch_size": 1,
    "gamma": 0.75,
    "train_freq": 1,
    "gradient_steps": 5,
    "device": "cpu",
}
ONE_HOT_TAXI = "OneHotTaxi-v0"


def has(module: str) -> bool:
    """Look whether a module is installed."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def lecture_dqn(epsilon: float, seed: int, **settings: Any) -> LectureDQN:
    """Ours at the lecture's schedule, with a constant ε."""
    schedule = {"exploration_initial_eps": epsilon, "exploration_final_eps": epsilon, "exploration_decay": 1.0}
    return LectureDQN("Taxi-v3", device="cpu", seed=seed, **schedule, **settings)


class SaysNothing(BaseCallback):
    """The smallest callback of a user, which does not say when it must be called."""

    def _on_step(self) -> bool:
        return True


def fill_memory(model: DQN) -> int:
    """Store the lecture's memory at the end of its run, 1000 failures and the four successes; return their number."""
    table = TabularModel.from_env("Taxi-v3")
    ends = table.terminated[:, :, 0]
    pairs = np.concatenate([np.argwhere(~ends)[:1000], np.argwhere(ends)[:4]])
    for state, action in pairs:
        outcome = (table.next_states, table.rewards, table.terminated)
        next_state, reward, done = (array[state, action] for array in outcome)
        model.replay_buffer.add(np.array([state]), next_state, np.array([[action]]), reward, done, [{}])
    assert model.replay_buffer.size() == len(pairs)
    return len(pairs)


def oracle_loop(epsilon: float, seed: int, steps: int) -> None:
    """Run the plain PyTorch loop for exactly this many steps, over several episodes if necessary."""
    th.manual_seed(seed)
    env, net = lecture_loop.make_taxi(), lecture_loop.QNet(500, 6)
    rngs = np.random.default_rng(seed).spawn(2)
    config = lecture_loop.Config(num_episodes=1, min_epsilon=epsilon, epsilon_decay=0.0)
    while steps > 0:
        config.max_time_steps = min(steps, MAX_EPISODE_STEPS)
        (episode,), _ = lecture_loop.train(lecture_loop.Agent(config, net, *rngs), env, seed=seed)
        steps -= len(episode.actions)


def _sb3_settings(epsilon: float, seed: int) -> dict[str, Any]:
    # SB3 counts steps to the next copy of the target: 20 episodes of 1000 steps.
    schedule = {"exploration_initial_eps": epsilon, "exploration_final_eps": epsilon, "target_update_interval": 20_000}
    return {**SETTINGS, **schedule, "seed": seed}


def sb3_dqn(epsilon: float, seed: int) -> DQN:
    """Stock SB3 at the lecture's schedule, with the lecture's network."""
    return DQN(LecturePolicy, make_env("Taxi-v3", MAX_EPISODE_STEPS), **_sb3_settings(epsilon, seed))


def sb3_one_hot_dqn(epsilon: float, seed: int) -> DQN:
    """Stock SB3 without any part of ours: a one-hot state, and layers of the same sizes."""
    network = {"net_arch": [64, 64, 32], "activation_fn": th.nn.PReLU, "optimizer_class": th.optim.SGD}
    env = make_env("Taxi-v3", MAX_EPISODE_STEPS)
    return DQN("MlpPolicy", env, policy_kwargs=network, **_sb3_settings(epsilon, seed))


class OneHot(gym.ObservationWrapper):
    """One-hot vectors for peers that treat discrete observations as magnitudes."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.rows = np.eye(env.observation_space.n, dtype=np.float32)  # type: ignore[attr-defined]
        self.observation_space = gym.spaces.Box(0, 1, self.rows[0].shape)

    def observation(self, observation: int) -> np.ndarray:
        return self.rows[observation].copy()


def sbx_dqn(epsilon: float, seed: int, **settings: Any) -> BaseAlgorithm:
    """SBX at the lecture's schedule: Adam, two layers of 64 on a one-hot state (it has one width for all)."""
    import sbx

    env = OneHot(make_env("Taxi-v3", MAX_EPISODE_STEPS))
    arguments = {**_sb3_settings(epsilon, seed), "policy_kwargs": {"net_arch": [64, 64]}, **settings}
    return sbx.DQN("MlpPolicy", env, **arguments)


def cleanrl_steps_per_second(epsilon: float, seed: int, steps: int) -> float:
    """
    Return the speed that CleanRL's ``dqn.py`` reports. It can only make one update a step.

    :param epsilon: Its ε
    :param seed: Its seed
    :param steps: Environment steps, more than 100
    :return: Environment steps per second
    """
    if ONE_HOT_TAXI not in gym.registry:
        gym.register(ONE_HOT_TAXI, lambda **_: OneHot(make_env("Taxi-v3")), max_episode_steps=MAX_EPISODE_STEPS)
    options = {
        "env-id": ONE_HOT_TAXI,
        "seed": seed,
        "total-timesteps": steps,
        "learning-rate": SETTINGS["learning_rate"],
        "buffer-size": SETTINGS["buffer_size"],
        "gamma": SETTINGS["gamma"],
        "batch-size": 1,
        "learning-starts": 0,
        "train-frequency": 1,
        "start-e": epsilon,
        "end-e": epsilon,
    }
    argv = ["dqn.py", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
    said = io.StringIO()
    with (
        warnings.catch_warnings(),
        _scratch_folder(),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(said),
    ):
        warnings.simplefilter("ignore")  # its warnings do not concern us
        runpy.run_module("cleanrl.dqn", run_name="__main__", alter_sys=True)
    return float(re.findall(r"SPS: (\d+)", said.getvalue())[-1])


@contextlib.contextmanager
def _scratch_folder() -> Iterator[None]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def silence(model: BaseAlgorithm) -> BaseAlgorithm:
    """Prepare a model for training without ``learn``, which would make SB3's logger."""
    model.set_logger(Logger(None, []))
    return model


#: One Adam update on 64 transitions after every step
ADAM_PER_STEP: dict[str, Any] = {
    "learning_rate": 1e-3,
    "buffer_size": 10_000,
    "batch_size": 64,
    "gamma": 0.9,
    "train_freq": 1,
    "gradient_steps": 1,
    "target_update_interval": 1000,
    "loss": "huber",
    "policy_kwargs": {"optimizer_class": th.optim.Adam},
}

#: Settings with which SB3's ``DQN`` solves Taxi in some ten thousand steps, without its schedule of ε
SOLVING: dict[str, Any] = {
    "learning_rate": 3e-3,
    "gamma": 0.9,
    "batch_size": 256,
    "train_freq": 4,
    "gradient_steps": 1,
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "target_update_interval": 100,
    "exploration_final_eps": 0.05,
    "device": "cpu",
}


def solver(seed: int) -> LectureDQN:
    """Ours with the settings of a stock DQN that solves Taxi."""
    adam = {"optimizer_class": th.optim.Adam}
    as_sb3 = {"exploration_decay": None, "loss": "huber", "policy_kwargs": adam}
    return LectureDQN("Taxi-v3", exploration_fraction=0.2, seed=seed, **as_sb3, **SOLVING)
