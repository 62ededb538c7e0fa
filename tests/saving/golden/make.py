"""
Write the files of this version that later versions have to load: ``python tests/saving/golden/make.py``.

Of a checkpoint, which is one of the middle of a run, ``<name>-<version>.after.npz`` says how that run ended.
"""

import itertools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback

from sb3_lecture_dqn import (
    LectureCheckpointCallback,
    LectureDQN,
    LectureQRDQN,
    LectureTensorBoardCallback,
    LectureTestCallback,
    __version__,
    make_env,
)
from sb3_lecture_dqn.study import Plan, run_plan

FOLDER = Path(__file__).parent


class Collecting(BaseCallback):
    """A user's callback without ``get_state``, with every kind of attribute that a checkpoint keeps."""

    __module__ = "golden"

    def __init__(self):
        super().__init__()
        self.steps, self.rewards = [], []
        self.visits, self.sums = {}, th.zeros(2)
        self.rng = np.random.default_rng(1)
        self.drawn = np.zeros(3)

    def _on_step(self):
        reward = self.locals["rewards"][0]
        self.steps.extend([self.num_timesteps] * 3)
        self.rewards.extend([reward] * 3)
        self.visits[self.num_timesteps % 7, 0.5] = self.num_timesteps
        self.sums[0] += self.num_timesteps
        self.drawn = self.rng.random(3)
        return True


def callbacks():
    """:return: Callbacks of a run with all kinds of them."""
    test = LectureTestCallback(n_test_episodes=3, test_freq=25, max_episode_steps=30, verbose=0)
    evaluation = EvalCallback(make_env("FrozenLake-v1", 30), n_eval_episodes=2, eval_freq=20, verbose=0, warn=False)
    return [test, LectureTensorBoardCallback(), evaluation, Collecting()]


def outcome(model, test, _, evaluation, collecting):
    """:return: What a run with these callbacks ends with, as arrays."""
    return {
        "observations": model.replay_buffer.observations,
        "drawn": model.exploration_rng.random(3),
        "tests": [(episode, result.mean_reward, result.mean_steps) for episode, result in test.results],
        "evaluations": [evaluation.best_mean_reward, evaluation.last_mean_reward, evaluation.n_calls],
        "steps": collecting.steps,
        "rewards": collecting.rewards,
        "visits": [(*key, value) for key, value in collecting.visits.items()],
        "collected": [*collecting.sums.tolist(), *collecting.drawn],
    }


ALGORITHMS = {"dqn": LectureDQN, "qrdqn": LectureQRDQN}


def write_models():
    for name, engine in itertools.product(ALGORITHMS, ("numba", "torch")):
        algorithm, of_engine = ALGORITHMS[name], "" if engine == "numba" else "-torch"
        more = {} if name == "dqn" else {"n_quantiles": 5}
        settings = {"seed": 0, "device": "cpu", "engine": engine, "policy_kwargs": {"hidden_dim": 4, **more}}
        model = algorithm("FrozenLake-v1", **settings)
        model.learn(total_timesteps=60)
        start = FOLDER / f"{name}{of_engine}-{__version__}"
        model.save(f"{start}.zip")
        model.save_replay_buffer(f"{start}.npz")
        np.savez(
            f"{start}.expected.npz",
            actions=model.predict(np.arange(16), deterministic=True)[0],
            observations=model.replay_buffer.observations,
            counts=[model.num_timesteps, model.replay_buffer.size()],
        )
        model = algorithm("FrozenLake-v1", **settings)
        with tempfile.TemporaryDirectory() as folder:
            model.learn(total_timesteps=150, callback=LectureCheckpointCallback(60, folder, keep=None))
            shutil.copy(Path(folder) / "checkpoint_60_steps.zip", f"{start}.checkpoint.zip")
        np.savez(
            f"{start}.after.npz",
            observations=model.replay_buffer.observations,
            drawn=model.exploration_rng.random(3),
            counts=[model.num_timesteps, model._episode_num],
        )


def write_run_with_callbacks():
    start = FOLDER / f"callbacks-{__version__}"
    with tempfile.TemporaryDirectory() as folder:
        model = LectureDQN(
            "FrozenLake-v1", seed=0, device="cpu", policy_kwargs={"hidden_dim": 4}, tensorboard_log=f"{folder}/logs"
        )
        parts = callbacks()
        model.learn(150, callback=[*parts, LectureCheckpointCallback(60, f"{folder}/checkpoints", keep=None)])
        model.logger.close()
        shutil.copy(Path(folder) / "checkpoints" / "checkpoint_60_steps.zip", f"{start}.checkpoint.zip")
    np.savez(f"{start}.after.npz", **outcome(model, *parts))


def write_study():
    plan = Plan(["FrozenLake-v1"], {"lecture": {}, "fast": {"learning_rate": 0.1}}, seeds=2, timesteps=60, test_freq=30)
    with tempfile.TemporaryDirectory() as folder:
        run_plan(plan, folder, processes=1, progress=False)
        shutil.copy(Path(folder) / "results.sqlite", FOLDER / f"study-{__version__}.sqlite")


if __name__ == "__main__":
    write_models()
    write_run_with_callbacks()
    write_study()
