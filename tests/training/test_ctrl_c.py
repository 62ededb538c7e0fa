"""Ctrl-C in the middle of training leaves a model that goes on as if training had been cut there."""

import os
import pickle
import random
import signal
import time
import traceback

import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, TabularVecEnv
from tests.pairs import every
from tests.training.two_loops import bits, differences, state_of

SETTINGS = {
    "by steps": {"n_envs": 2, "train_freq": 3, "gradient_steps": 2},
    "by episodes": {"n_envs": 1, "train_freq": (1, "episode"), "gradient_steps": -1},
    "starting": {"n_envs": 1, "learning_starts": 10**7},  # no updates
}


def make_model(n_envs, **settings):
    env = TabularVecEnv("Taxi-v3", n_envs, 100, seed=0)
    return LectureDQN(env, seed=0, policy_kwargs={"hidden_dim": 8}, use_masking=True, batch_size=4, **settings)


def callbacks_of(folder):
    return [] if folder is None else [LectureCheckpointCallback(10**9, folder, verbose=0)]


def train_in_pieces(settings, folder, lengths):
    """Train, each time for so many steps; returns all that came of it."""
    model, callbacks = make_model(**settings), callbacks_of(folder)
    for n_steps in lengths:
        model.learn(n_steps, callbacks, reset_num_timesteps=False)
    return bits(state_of(model))


def what_is_saved(model):
    parts = (
        "weights",
        "target",
        "optimizer",
        "memory",
        "exploration",
        "counts",
        "progress",
        "obs",
        "masks",
        "episodes",
    )
    state = state_of(model)
    return bits([{name: state[name] for name in parts}, model.env.get_state()])


def train_with_ctrl_c(settings, folder, n_calls, started):
    """
    Train in so many calls of ``learn`` that each end by Ctrl-C, and in one that does not.

    :param started: A file that is told of every call
    :return: All that came of it, and the number of steps of each call
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    model, callbacks, lengths = make_model(**settings), callbacks_of(folder), [10]
    model.learn(10, callbacks)
    for _ in range(n_calls):
        before = model.num_timesteps
        os.write(started, b"x")
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            model.learn(10**9, callbacks, reset_num_timesteps=False)
        except KeyboardInterrupt:
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        lengths.append(model.num_timesteps - before)
        if folder is not None and lengths[-1] > 0:  # not before there was a first checkpoint
            saved = what_is_saved(LectureDQN.resume(folder, env=make_model(**settings).env))
            assert differences(saved, what_is_saved(model)) == []
    model.learn(100, callbacks, reset_num_timesteps=False)
    return bits(state_of(model)), [*lengths, 100]


def interrupted(settings, folder, n_calls, seed, longest=0.03):
    """Train in a process of its own, which gets Ctrl-C at random moments; see :func:`train_with_ctrl_c`."""
    rng = random.Random(seed)
    (calls, started), (result, written) = os.pipe(), os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(calls)
            os.close(result)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            outcome = pickle.dumps(train_with_ctrl_c(settings, folder, n_calls, started))
            os.close(started)
            with os.fdopen(written, "wb") as file:
                file.write(outcome)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(started)
    os.close(written)
    while os.read(calls, 1):
        time.sleep(rng.uniform(0, longest))
        os.kill(process, signal.SIGINT)
    with os.fdopen(result, "rb") as file:
        content = file.read()
    os.close(calls)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    return pickle.loads(content)


def check(kind, tmp_path, has_checkpoints, n_calls, seed, longest=0.03):
    folders = [tmp_path / name if has_checkpoints else None for name in ("interrupted", "in pieces")]
    result, lengths = interrupted(SETTINGS[kind], folders[0], n_calls, seed, longest)
    assert len(lengths) == n_calls + 2
    assert differences(result, train_in_pieces(SETTINGS[kind], folders[1], lengths)) == []
    return sum(lengths)


@pytest.mark.parametrize(("kind", "has_checkpoints"), every(2, SETTINGS, [False, True]))
def test_training_goes_on_after_ctrl_c(kind, has_checkpoints, tmp_path):
    # On a busy machine, a process that waits for its turn gets every Ctrl-C before its first step.
    longest = (0.03, 0.3, 3.0)
    assert any(check(kind, tmp_path / str(most), has_checkpoints, 8, 0, most) > 110 for most in longest)


class InNoGrad(BaseCallback):
    """Ctrl-C in the exit of ``torch.no_grad``, before it has put back what was."""

    def _on_step(self):
        th.set_grad_enabled(False)
        raise KeyboardInterrupt


@pytest.mark.parametrize("before", [True, False])
def test_gradients_are_as_before_after_ctrl_c_where_there_are_none(before):
    model = make_model(1)
    with th.set_grad_enabled(before):
        with pytest.raises(KeyboardInterrupt):
            model.learn(10, InNoGrad())
        assert th.is_grad_enabled() == before
    model.learn(20, reset_num_timesteps=False)


@pytest.mark.slow
@pytest.mark.parametrize("has_checkpoints", [False, True], ids=["alone", "with checkpoints"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_training_goes_on_after_ctrl_c_often(kind, has_checkpoints, tmp_path):
    for seed in range(1, 5):
        assert check(kind, tmp_path / str(seed), has_checkpoints, 50, seed) > 110
