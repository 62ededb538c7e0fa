"""
A training run killed with ``kill -9`` at random moments, also while it saves, and gone on with each time.

``python tests/saving/kill_and_resume.py --kills 50`` does that to every configuration in turn, and says whether what
came of each is, bit by bit, what comes of a run that is left alone.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

import sb3_lecture_dqn.show.pictures  # noqa: F401  # now, and not in every process
from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureTensorBoardCallback, LectureTestCallback
from sb3_lecture_dqn.envs.make import make_training_env
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.training.due import Due
from tests.saving.test_checkpoint import equal, everything, scalars


class Configuration(NamedTuple):
    """
    A run.

    :param save_freq: Environment steps between two checkpoints
    :param has_tests: Whether there are callbacks besides the one that saves checkpoints
    """

    env_id: str
    engine: str
    n_envs: int
    n_steps: int
    save_freq: int
    has_tests: bool = True


CONFIGURATIONS = {
    "Taxi, numba, 1 environment": Configuration("Taxi-v3", "numba", 1, 60_000, 40),
    "Taxi, numba, 4 environments": Configuration("Taxi-v3", "numba", 4, 120_000, 160),
    # The compiled loop does many steps in one call
    "Taxi, numba, stretches": Configuration("Taxi-v3", "numba", 1, 1_000_000, 20_000, False),
    "FrozenLake, numba, stretches": Configuration("FrozenLake-v1", "numba", 3, 1_000_000, 20_000, False),
    "Taxi, torch, 1 environment": Configuration("Taxi-v3", "torch", 1, 2_400, 40),
    "Taxi, torch, 4 environments": Configuration("Taxi-v3", "torch", 4, 4_800, 160),
    "CartPole, torch, 1 environment": Configuration("CartPole-v1", "torch", 1, 2_400, 40),
    "CartPole, torch, 4 environments": Configuration("CartPole-v1", "torch", 4, 4_800, 160),
}


class WaitToBeKilled(BaseCallback):
    """Keeps a training from ending before it is killed, however slow the process is that kills it."""

    def _on_training_end(self):
        while True:
            signal.pause()

    def next_due(self):
        return Due()

    def _on_step(self):
        return True


def train(run, env_id, engine, n_envs, n_steps, save_freq, has_tests, to_be_killed=False):
    """Begin a run, or go on with it where there is a checkpoint; leaves ``result.pt`` in its folder at the end."""
    th.set_num_threads(1)
    callbacks = [LectureCheckpointCallback(save_freq, run / "checkpoints", verbose=0)]
    tests = LectureTestCallback(None, 5, (10, "episode"), 100, verbose=0)
    if has_tests:
        callbacks = [tests, *callbacks]
        if env_id == "Taxi-v3":
            callbacks.append(LectureTensorBoardCallback((40, "episode"), (10_000, "episode"), batch_size=8))
    if to_be_killed:
        callbacks.insert(0, WaitToBeKilled())
    if checkpoints_in(run / "checkpoints"):
        model = LectureDQN.resume(run, env=make_training_env(env_id, 100, n_envs))
    else:
        model = LectureDQN(
            "MlpPolicy" if env_id == "CartPole-v1" else "LecturePolicy",
            make_training_env(env_id, 100, n_envs),
            engine=engine,
            gradient_steps=1,
            batch_size=4,
            seed=0,
        )
        model.env_id = env_id  # so that tests know how to make such an environment
    model.set_logger(configure(str(run), ["tensorboard"]))
    model.learn(n_steps, callbacks, log_interval=4 if has_tests else 1000)
    model.logger.close()
    th.save({"model": everything(model), "tests": tests.results, "scalars": scalars(run)}, run / "result.pt")


def in_a_process(*args):
    """Train in a process of its own; returns its number. Forked, as importing takes longer than most of them live."""
    process = os.fork()
    if process == 0:
        try:
            train(*args)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return process


def finish(process):
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "training failed"


def newest_step(run):
    paths = checkpoints_in(run / "checkpoints")
    return int(paths[0].name.split("_")[1]) if paths else -1


def kill_and_resume(folder, name, n_kills, seed=0):
    """
    One run that is left alone, and one that is killed.

    :return: The results of both, how often a process was killed, and how often while it wrote a checkpoint
    """
    configuration = CONFIGURATIONS[name]
    alone, killed = folder / "alone", folder / "killed"
    alone.mkdir()
    killed.mkdir()
    finish(in_a_process(alone, *configuration))
    # A process is killed when it has come so far, or a moment later.
    rng = random.Random(seed)
    kills = in_saving = 0
    for step in sorted(rng.uniform(0, 0.95 * configuration.n_steps) for _ in range(n_kills)):
        process = in_a_process(killed, *configuration, True)
        while newest_step(killed) < step and os.waitpid(process, os.WNOHANG)[0] == 0:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02 if configuration.has_tests else 0.2))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        kills += os.WIFSIGNALED(status)
        in_saving += any((killed / "checkpoints").glob(".*.tmp"))
    finish(in_a_process(killed, *configuration))
    results = [th.load(run / "result.pt", weights_only=False) for run in (alone, killed)]
    return *results, kills, in_saving


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of each configuration")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    failed = False
    for name in CONFIGURATIONS:
        with tempfile.TemporaryDirectory() as folder:
            alone, killed, kills, in_saving = kill_and_resume(Path(folder), name, args.kills, args.seed)
        wrong = [part for part in alone["model"] if not equal(alone["model"][part], killed["model"][part])]
        wrong += [part for part in ("tests", "scalars") if alone[part] != killed[part]]
        failed |= bool(wrong)
        print(f"{name}: {kills} kills, {in_saving} of them in saving: {wrong or 'all equal'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
