"""Runs that are stopped and gone on with end as those that were not: bit by bit, whatever they are made of."""

import contextlib
import fcntl
import io
import itertools
import json
import os
import pathlib
import shutil
import signal
import threading
import time
import warnings
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecMonitor, VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lecture_dqn import (
    LectureCheckpointCallback,
    LectureDQN,
    LectureQRDQN,
    LectureTensorBoardCallback,
    LectureTestCallback,
    ResumableEnv,
    UnsafeFileError,
    make_env,
)
from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.saving import checkpoint_folder
from sb3_lecture_dqn.saving.checkpoint_file import ARRAYS, MEMORY, STATE
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.saving.env_state import env_state
from sb3_lecture_dqn.saving.stop_signals import StopSignals
from sb3_lecture_dqn.training import goal
from tests.forked import Forked
from tests.saving.hostile_parts import checkpoint_of, members_of


class Crash(Exception):
    """What nobody catches."""


class CrashAt(BaseCallback):
    """Raises at a step, in the middle of it."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def _on_step(self):
        if self.num_timesteps >= self.step:
            raise Crash
        return True


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, th.Tensor):
        return th.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return one == other


def memory_of(model):
    memory = model.replay_buffer
    if hasattr(memory, "get_state"):
        return memory.get_state()
    filled = memory.buffer_size if memory.full else memory.pos
    return {name: getattr(memory, name)[:filled] for name in ("observations", "actions", "rewards", "dones")}


def everything(model):
    """All that decides how training would go on, and what came of it."""
    return {
        "parameters": model.get_parameters(),
        "memory": memory_of(model),
        "exploration": model.exploration_rng.bit_generator.state,
        "counts": [model.num_timesteps, model._episode_num, model._n_updates, model._n_calls],
        "progress": [model._current_progress_remaining, model.exploration_rate],
        "episodes": [{key: info[key] for key in ("r", "l")} for info in model.ep_info_buffer],
        "last_obs": model._last_obs,
        "env": env_state(model.env),
        "tries": getattr(model, "action_counts", None),
        "next_draws": [np.random.rand(), float(th.rand(1))],  # noqa: NPY002
    }


def scalars(run):
    """Every scalar of a run as TensorBoard reads it, but for those that are measured by the clock."""
    curves = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in curves.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(event.step, event.value) for event in curves.Scalars(tag)] for tag in tags}


def quick_tests(**kwargs):
    return LectureTestCallback(
        **{"n_test_episodes": 4, "test_freq": (2, "episode"), "max_episode_steps": 30, "verbose": 0, **kwargs}
    )


def short_taxi(**kwargs):
    return LectureDQN("Taxi-v3", **{"max_episode_steps": 30, "seed": 0, "gradient_steps": 2, **kwargs})


def frozen_lakes(wrap=lambda env: env, **kwargs):
    """Slippery, so that the environments draw, and by stepping them one by one."""
    venv = make_vec_env(lambda: gym.wrappers.TimeLimit(gym.make("FrozenLake-v1").unwrapped, 9), n_envs=3, seed=1)
    return LectureDQN(wrap(venv), **{"seed": 0, "gradient_steps": 1, **kwargs})


def cartpole(**kwargs):
    settings = {"learning_starts": 20, "batch_size": 8, "gradient_steps": 1, "target_update_interval": 30, "seed": 0}
    return LectureDQN("MlpPolicy", "CartPole-v1", **{"max_episode_steps": None, **settings, **kwargs})


def seeded_cartpole():
    env = DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"))])
    env.seed(5)
    return env


def with_callbacks(*makers):
    return lambda: [make() for make in makers]


RUNS = {
    "the lecture's": (short_taxi, {"total_episodes": 11}, with_callbacks(quick_tests)),
    "the lecture's by PyTorch": (lambda **kw: short_taxi(engine="torch", **kw), {"total_episodes": 11}, list),
    "without a memory": (lambda **kw: short_taxi(store_and_replay=False, **kw), {"total_timesteps": 200}, list),
    "four environments": (
        lambda **kw: LectureDQN.tuned(
            "Taxi-v3", use_masking=True, **{"seed": 0, "learning_starts": 10, "max_episode_steps": 30, **kw}
        ),
        {"total_timesteps": 800},
        with_callbacks(lambda: quick_tests(exact=True)),
    ),
    "by episodes of the environment": (
        lambda **kw: short_taxi(train_freq=(2, "episode"), gradient_steps=-1, **kw),
        {"total_episodes": 11},
        list,
    ),
    "QR-DQN": (
        lambda **kw: LectureQRDQN(
            "Taxi-v3", max_episode_steps=30, seed=0, policy_kwargs={"n_quantiles": 3}, gradient_steps=1, **kw
        ),
        {"total_timesteps": 150},
        with_callbacks(lambda: quick_tests(exact=True)),
    ),
    "CartPole": (cartpole, {"total_timesteps": 300}, with_callbacks(quick_tests)),
    "CartPole, Adam, a falling rate and ε": (
        lambda **kw: cartpole(
            policy_kwargs={"optimizer_class": th.optim.Adam}, exploration_decay=None, exploration_fraction=0.5, **kw
        ),
        {"total_timesteps": 300},
        list,
    ),
    "SB3's n-step memory": (lambda **kw: cartpole(n_steps=3, **kw), {"total_timesteps": 300}, list),
    "SB3's callbacks": (
        cartpole,
        {"total_timesteps": 300},
        with_callbacks(lambda: EvalCallback(seeded_cartpole(), eval_freq=70, n_eval_episodes=1, verbose=0)),
    ),
    "three lakes in one process": (frozen_lakes, {"total_timesteps": 300}, with_callbacks(quick_tests)),
    "in VecNormalize": (
        lambda **kw: LectureDQN(
            "MlpPolicy",
            VecNormalize(VecMonitor(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2))),
            **{"seed": 0, "gradient_steps": 1, "batch_size": 4, **kw},
        ),
        {"total_timesteps": 200},
        list,
    ),
    "in VecFrameStack": (
        lambda **kw: LectureDQN(
            "MlpPolicy",
            VecFrameStack(make_vec_env("CartPole-v1", n_envs=2, seed=3), 3),
            **{"seed": 0, "gradient_steps": 1, "batch_size": 4, **kw},
        ),
        {"total_timesteps": 200},
        list,
    ),
    "with pictures": (
        lambda **kw: LectureDQN("FrozenLake-v1", max_episode_steps=10, seed=0, **kw),
        {"total_episodes": 25},
        with_callbacks(lambda: LectureTensorBoardCallback((4, "episode"), (12, "episode"))),
    ),
}


def in_its_file(model, path):
    """What is in the file of a model, but for times and the names of folders and logs."""
    model.save(path)
    described = {}
    for name, content in members_of(path.read_bytes()).items():
        described[name] = content
        if name in ("data", "sb3_lecture_dqn.json"):
            described[name] = json.loads(content)
        elif name.endswith(".pth"):  # whose pickle also depends on which of its texts are one object
            described[name] = th.load(io.BytesIO(content), weights_only=True)
    del described["system_info.txt"], described["sb3_lecture_dqn.json"]["members"]
    settings = described["sb3_lecture_dqn.json"]["settings"]
    for part in (described["data"], settings):
        for name in ("start_time", "_run_folder", "tensorboard_log", "_log_file"):
            part.pop(name, None)
    # Of every episode SB3 keeps the time it took, in a pickle.
    del described["data"]["ep_info_buffer"], described["data"]["ep_success_buffer"]
    for episode in settings["ep_info_buffer"]["items"]:
        del episode["t"]
    return described


def run_whole(name, folder):
    make, budget, callbacks = RUNS[name]
    model = make(tensorboard_log=str(folder / "whole"))
    given = [*callbacks(), LectureCheckpointCallback(7, keep=None)]
    model.learn(**budget, callback=given)
    return model, given


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_stopped_three_times_ends_like_one_that_is_not(name, tmp_path):
    """Stopped in the middle of steps, at different distances from the last checkpoint."""
    make, budget, callbacks = RUNS[name]
    whole, whole_callbacks = run_whole(name, tmp_path)
    expected = everything(whole)

    model = make(tensorboard_log=str(tmp_path / "stopped"))
    for part in (0.15, 0.4, 0.8):
        given = [*callbacks(), LectureCheckpointCallback(7, keep=None), CrashAt(int(part * whole.num_timesteps))]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the callbacks .*CrashAt.* are not given now")
            with pytest.raises(Crash):
                model.learn(**budget, callback=given)
        run = model.logger.dir
        model.logger.close()
        model = type(whole).resume(run, env=None if model.env_id else make().env)
    given = [*callbacks(), LectureCheckpointCallback(7, keep=None)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the callbacks .*CrashAt.* are not given now")
        model.learn(callback=given)  # up to the budget that it had been given

    found = everything(model)
    assert [key for key in expected if not equal(found[key], expected[key])] == []
    assert model.logger.dir == run
    files = [in_its_file(each, tmp_path / "model.zip") for each in (model, whole)]
    assert [name for name in files[1] if not equal(files[0].get(name), files[1][name])] == []
    assert files[1]["sb3_lecture_dqn.json"]["settings"]["_total_timesteps"] < 2**63
    whole_run = whole.logger.dir
    for each in (model, whole):
        each.logger.close()
    assert scalars(run) == scalars(whole_run) != {}
    for one, other in zip(given, whole_callbacks, strict=True):
        assert one.n_calls == other.n_calls
        for figures in ("results", "evaluations_results", "best_mean_reward"):
            assert equal(getattr(one, figures, None), getattr(other, figures, None))


class EveryCallback(BaseCallback):
    """Counts what happens every few steps, from where it begins, as some of SB3's do."""

    def __init__(self, every, factor=1):
        super().__init__()
        self.every, self.factor = every, factor
        self.last = self.total = 0

    def _on_training_start(self):
        self.last = self.num_timesteps

    def _on_step(self):
        if self.num_timesteps - self.last >= self.every:
            self.last = self.num_timesteps
            self.total += self.factor
        return True


@pytest.mark.filterwarnings("ignore:.*the run has gone on from an older checkpoint")
def test_every_checkpoint_of_a_run_ends_alike_also_one_at_which_callbacks_have_something_to_do(tmp_path):
    def callbacks():
        pictures = LectureTensorBoardCallback((2, "episode"), (6, "episode"))
        return [pictures, quick_tests(), EveryCallback(50), LectureCheckpointCallback((2, "episode"), keep=None)]

    model = LectureDQN("FrozenLake-v1", max_episode_steps=10, seed=0, tensorboard_log=str(tmp_path))
    given = callbacks()
    model.learn(total_episodes=13, callback=given)
    model.logger.close()
    run, expected = pathlib.Path(model.logger.dir), everything(model)
    checkpoints = checkpoints_in(run / "checkpoints")
    assert len(checkpoints) == 8
    for i, path in enumerate(checkpoints[1::2]):  # of episodes 12 (with pictures), 8, 4, and the start
        again = shutil.copytree(run, tmp_path / str(i) / run.name)
        resumed = LectureDQN.resume(again / "checkpoints" / path.name)
        given_again = callbacks()
        resumed.learn(callback=given_again)
        resumed.logger.close()
        found = everything(resumed)
        assert [key for key in expected if not equal(found[key], expected[key])] == []
        assert scalars(again) == scalars(run)
        assert given_again[1].results == given[1].results
        assert vars(given_again[2])["total"] == given[2].total > 0


def test_arguments_of_callbacks_that_are_changed_on_resuming_stay_changed(tmp_path):
    model = short_taxi(tensorboard_log=str(tmp_path))
    with pytest.raises(Crash):
        model.learn(200, callback=[EveryCallback(10), LectureCheckpointCallback(20), CrashAt(100)])
    model.logger.close()
    callback = EveryCallback(20, factor=100)
    LectureDQN.resume(model.logger.dir).learn(callback=[callback, LectureCheckpointCallback(20)])
    assert (callback.every, callback.factor, callback.total) == (20, 100, 8 + 6 * 100)


@pytest.mark.parametrize("budget", [{"total_episodes": 12}, {"total_timesteps": 150}, {}])
def test_a_later_call_that_is_stopped_counts_as_one_that_is_not(budget, tmp_path, monkeypatch):
    """Steps and time since the call began, which SB3 counts from where `learn` was called last."""
    monkeypatch.setattr(goal, "MAX_BUDGETS", 2)
    models = []
    for stop in (10**9, 110):
        model = short_taxi(tensorboard_log=str(tmp_path / str(stop)), gradient_steps=0)
        model.learn(70)
        if not budget:
            model._default_timesteps = 150  # as of a tuned one
        given = [LectureCheckpointCallback(20, verbose=0), CrashAt(stop)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the callbacks .*CrashAt.* are not given now")
            with contextlib.suppress(Crash):
                model.learn(**budget, callback=given, reset_num_timesteps=False)
            model.logger.close()
            if stop < 10**9:
                model = LectureDQN.resume(model.logger.dir)
                model.learn(**budget, callback=given[:1])
        models.append(model)
    files = [in_its_file(model, tmp_path / "model.zip") for model in models]
    assert [name for name in files[0] if not equal(files[0][name], files[1][name])] == []
    assert models[1]._num_timesteps_at_start == 70
    assert models[1]._total_timesteps < 2**63


# What environments and callbacks say


class Saying(gym.Wrapper):
    """An environment that says something of the end of its episodes."""

    def __init__(self, env, said):
        super().__init__(env)
        self.said = said

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, {**info, **self.said}


class Having(BaseCallback):
    """A callback that has figures, in its attributes and in the log that is not written yet."""

    def __init__(self, figures):
        super().__init__()
        self.figure, self.best, self.table = figures[0], [-np.inf, *figures], {0: figures[0], "one": list(figures)}
        self.figures = list(figures) * 200
        self.seen = 0

    def _on_step(self):
        self.seen += 1
        for i, figure in enumerate(self.table["one"]):
            self.logger.record(f"pending/{i}", figure)
        self.logger.record("pending/text", "of the user")
        self.logger.record("pending/switch", np.bool_(True))
        self.logger.record("pending/array", np.arange(3.0))
        self.logger.record_mean("pending/mean", self.table["one"][0])
        self.last = self.table["one"][0]
        return True


SAID = {
    "nothing": {},
    "None": {"is_success": None},
    "NaN": {"is_success": np.nan},
    "a truth value of NumPy's": {"is_success": np.bool_(True)},
    "an array of one": {"is_success": np.array(False)},
    "a number of NumPy's": {"is_success": np.float32(0.5)},
    "an integer": {"is_success": 1},
    "a number without an end": {"is_success": -np.inf},
    "more": {"more": object(), "is_success": True},
}
FIGURES = {
    "numbers": (1.5, 2, np.float64(3.5)),
    "NaN": (np.nan, 1.0),
    "infinite": (np.inf, -np.inf),
    "of NumPy's": (np.float32(np.nan), np.int8(3), np.float16(np.inf)),
    "truth values": (True, np.bool_(False)),
}


def plain(value):
    """A value to be compared, in which NaN is equal to NaN."""
    return repr(value)


def said_and_figures():
    """Everything that environments say with all that callbacks have; by default each once."""
    for (i, said), (j, figures) in itertools.product(enumerate(SAID), enumerate(FIGURES)):
        marks = [] if i % len(FIGURES) == j else [pytest.mark.slow]
        yield pytest.param(SAID[said], FIGURES[figures], marks=marks, id=f"{said}-{figures}")


@pytest.mark.parametrize(("said", "figures"), [*said_and_figures()])
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_whatever_is_said_a_checkpoint_that_was_saved_is_gone_on_with(said, figures, tmp_path):
    def env():
        return Saying(gym.wrappers.TimeLimit(gym.make("FrozenLake-v1").unwrapped, 9), said)

    def lake():
        venv = DummyVecEnv([lambda: Monitor(env(), info_keywords=tuple(said))])
        venv.seed(3)
        return venv

    def callbacks():
        tests = quick_tests(test_env=env(), test_freq=(1, "episode"), max_episode_steps=9)
        evaluation = EvalCallback(lake(), eval_freq=20, n_eval_episodes=1, verbose=0, warn=False)
        return [tests, evaluation, Having(figures), LectureCheckpointCallback(7, tmp_path, keep=None, verbose=0)]

    whole = callbacks()
    model = LectureDQN(lake(), seed=0, gradient_steps=1)
    model.learn(60, callback=whole, log_interval=4)
    for path in checkpoints_in(tmp_path)[2:5]:
        resumed = LectureDQN.resume(path, env=lake())
        again = callbacks()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*the run has gone on from an older checkpoint")
            resumed.learn(callback=again, log_interval=4)
        assert equal(everything(resumed)["parameters"], everything(model)["parameters"])
        for one, other in zip(again[:3], whole[:3], strict=True):
            for name in ("results", "best_mean_reward", "evaluations_results", "seen", "figures", "best", "last"):
                assert plain(getattr(one, name, None)) == plain(getattr(other, name, None)), name
        for name in ("name_to_value", "name_to_count", "name_to_excluded"):
            pending, expected = getattr(resumed.logger, name), getattr(model.logger, name)
            assert {n: plain(v) for n, v in pending.items() if n.startswith("pending")} == {
                n: plain(v) for n, v in expected.items() if n.startswith("pending")
            }
        assert plain([*resumed.ep_success_buffer]) == plain([*model.ep_success_buffer])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"is_success": "yes"}, r"environment 0 said info\['is_success'\]='yes' at environment step \d+: it must be"),
        ({"is_success": [True, False]}, r"info\['is_success'\]=\[True, False\]"),
        ({"episode": {"r": "much", "l": 3}}, r"info\['episode'\]={'r': 'much'.*as Monitor gives them"),
        ({"episode": {"l": 3}}, r"info\['episode'\]={'l': 3}"),
    ],
)
@pytest.mark.filterwarnings("ignore:no checkpoint at step .* could not be read again. ep_info_buffer has")
def test_what_sb3_could_take_no_mean_of_is_said_at_its_step(said, message, tmp_path):
    env = DummyVecEnv([lambda: Saying(Monitor(gym.make("FrozenLake-v1")), said)])
    with pytest.raises(ValueError, match=message):
        LectureDQN(env, seed=0).learn(200, callback=LectureCheckpointCallback(2, tmp_path))
    resumed = LectureDQN.resume(tmp_path, env=DummyVecEnv([lambda: Monitor(gym.make("FrozenLake-v1"))]))
    assert resumed.learn().num_timesteps == 200


def test_in_the_middle_of_an_episode_nothing_of_it_is_asked(tmp_path):
    class Undecided(gym.Wrapper):
        def step(self, action):
            obs, reward, terminated, truncated, info = self.env.step(action)
            success = reward > 0 if terminated or truncated else "not yet"
            return obs, reward, terminated, truncated, {**info, "is_success": success}

    LectureDQN(Undecided(gym.make("FrozenLake-v1")), seed=0).learn(100)


def stopped(tmp_path, step=100, make=short_taxi, **checkpoints):
    """A run that crashed at a step, and its folder."""
    model = make(tensorboard_log=str(tmp_path))
    callback = [LectureCheckpointCallback(20, **checkpoints), CrashAt(step)]
    with pytest.raises(Crash):
        model.learn(total_timesteps=200, callback=callback)
    model.logger.close()
    return model.logger.dir


def test_a_model_can_be_checkpointed_without_a_callback(tmp_path):
    whole = short_taxi().learn(total_timesteps=50)
    whole.save_checkpoint(tmp_path / "here")
    whole.learn(total_timesteps=50, reset_num_timesteps=False)
    model = LectureDQN.resume(tmp_path / "here")
    model.learn(total_timesteps=100)
    assert equal(everything(model)["memory"], everything(whole)["memory"])
    assert equal(model.get_parameters(), whole.get_parameters())


def test_a_budget_counts_from_where_the_stopped_call_began(tmp_path):
    run = stopped(tmp_path)
    model = LectureDQN.resume(run)
    assert model.num_timesteps == 80
    assert model.learn(total_timesteps=150).num_timesteps == 150
    assert LectureDQN.resume(run).learn(total_episodes=6)._episode_num == 6
    assert LectureDQN.resume(run).learn().num_timesteps == 200
    # The next call is a new one.
    assert model.learn(total_timesteps=30).num_timesteps == 30


def test_in_mid_rollout_there_is_no_checkpoint_but_an_error(tmp_path):
    class Saving(BaseCallback):
        def _on_step(self):
            self.model.save_checkpoint(tmp_path / "here")
            return True

    with pytest.raises(ValueError, match=r"between two rollouts.*LectureCheckpointCallback"):
        short_taxi().learn(total_timesteps=2, callback=Saving())
    assert list(tmp_path.iterdir()) == []


def test_callbacks_that_know_each_other_are_gone_through_once(tmp_path):
    one, other = CrashAt(10**9), CrashAt(10**9)
    one.friend, other.friend = other, one
    checkpoints = LectureCheckpointCallback(save_path=tmp_path)
    assert list(callback_tree(CallbackList([one, checkpoints])))[1:] == [one, other, checkpoints]
    short_taxi().learn(total_timesteps=2, callback=[one, checkpoints])
    assert steps_of(tmp_path) == [2, 0]


# The folder of checkpoints


def steps_of(run):
    return [int(path.name.split("_")[1]) for path in checkpoints_in(run)]


def test_the_newest_are_kept(tmp_path):
    model = short_taxi(tensorboard_log=str(tmp_path))
    model.learn(total_timesteps=101, callback=LectureCheckpointCallback(20, keep=2))
    folder = tmp_path / model.logger.dir / "checkpoints"
    assert steps_of(folder) == [101, 100]
    model = short_taxi(tensorboard_log=str(tmp_path))
    model.learn(total_timesteps=101, callback=LectureCheckpointCallback(20, tmp_path / "all", keep=None))
    assert steps_of(tmp_path / "all") == [101, 100, 80, 60, 40, 20, 0]


def test_by_episodes(tmp_path):
    model = short_taxi()
    model.learn(total_episodes=7, callback=LectureCheckpointCallback((3, "episode"), tmp_path, keep=None))
    episodes = [LectureDQN.resume(path)._episode_num for path in checkpoints_in(tmp_path)]
    assert episodes == [7, 6, 3, 0]


def test_a_damaged_one_is_passed_over_with_the_reason(tmp_path):
    run = stopped(tmp_path, keep=None)
    newest, *_ = checkpoints_in(tmp_path / run / "checkpoints")
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=f"newer checkpoint is passed over: .*{newest.name}"):
        model = LectureDQN.resume(run)
    assert model.num_timesteps == 60
    with pytest.raises(UnsafeFileError, match=newest.name):
        LectureDQN.resume(newest)
    for path in checkpoints_in(tmp_path / run / "checkpoints"):
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnsafeFileError, match="no checkpoint is whole"):
        LectureDQN.resume(run)


@pytest.mark.parametrize("part", [STATE, ARRAYS, MEMORY])
def test_a_part_of_another_checkpoint_is_noticed(part, tmp_path):
    """The archive is whole, and so is the part."""
    newest, older, *_ = checkpoints_in(tmp_path / stopped(tmp_path, keep=None) / "checkpoints")
    members = {**members_of(newest.read_bytes()), part: members_of(older.read_bytes())[part]}
    with zipfile.ZipFile(newest, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UnsafeFileError, match=f"{part} has changed since it was saved"):
        LectureDQN.resume(newest)


def replace_state(path, change):
    """Write another state into a checkpoint, with right checksums."""
    members = members_of(path.read_bytes())
    described = json.loads(members[STATE])
    change(described)
    path.write_bytes(checkpoint_of({**members, STATE: json.dumps(described).encode()}))


@pytest.mark.parametrize("value", [[0] * 2**20, {"$": "code", "what": "a set"}], ids=["too large", "code"])
def test_one_that_cannot_be_read_is_passed_over_too(value, tmp_path):
    run = stopped(tmp_path, keep=None)
    newest, *_ = checkpoints_in(tmp_path / run / "checkpoints")
    replace_state(newest, lambda described: described["state"].update(more=value))
    with pytest.warns(UserWarning, match=f"newer checkpoint is passed over: .*{newest.name}"):
        model = LectureDQN.resume(run)
    assert model.num_timesteps == 60


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_what_only_has_the_name_of_a_checkpoint_is_none(tmp_path):
    run = stopped(tmp_path, keep=None)
    checkpoints_in(tmp_path / run / "checkpoints")[0].parent.joinpath("checkpoint_900_steps.zip").mkdir()
    os.mkfifo(tmp_path / run / "checkpoints" / "checkpoint_901_steps.zip")
    assert LectureDQN.resume(run).num_timesteps == 80
    with pytest.raises(UnsafeFileError, match="is not a regular file"):
        LectureDQN.load(tmp_path / run / "checkpoints" / "checkpoint_901_steps.zip")
    with pytest.raises(UnsafeFileError, match=r"checkpoint_901_steps\.zip' is not a regular file"):
        LectureDQN.load(tmp_path / run / "checkpoints" / "checkpoint_901_steps")


def test_one_that_is_removed_while_they_are_listed_is_passed_over(tmp_path, monkeypatch):
    run = stopped(tmp_path, keep=None)
    listed = checkpoints_in(tmp_path / run / "checkpoints")
    listed[0].unlink()
    monkeypatch.setattr("sb3_lecture_dqn.saving.checkpoint_folder.checkpoints_in", lambda folder: listed)
    with pytest.warns(UserWarning, match=f"newer checkpoint is passed over: .*No such file.*{listed[0].name}"):
        model = LectureDQN.resume(run)
    assert model.num_timesteps == 60


def test_a_run_that_goes_on_from_an_older_one_gives_up_the_later_ones(tmp_path):
    run = stopped(tmp_path, keep=None)
    folder = tmp_path / run / "checkpoints"
    assert steps_of(folder) == [80, 60, 40, 20, 0]
    resumed = LectureDQN.resume(folder / "checkpoint_20_steps.zip")
    before = steps_of(folder)

    class Early(BaseCallback):
        def _on_step(self):
            steps.append(steps_of(folder))
            return self.num_timesteps < 50

    steps = []
    callbacks = [Early(), LectureCheckpointCallback(20, keep=2), CrashAt(10**9)]
    with pytest.warns(UserWarning, match=r"gone on from an older checkpoint, so checkpoint_60_.*checkpoint_80_.* are"):
        resumed.learn(callback=callbacks)
    assert steps[:20] == [before] * 20  # until there is one of the new way
    assert steps[20:] == [[40, 20]] * 10
    assert steps_of(folder) == [50, 40]
    with pytest.warns(UserWarning, match="new episodes begin"):
        assert LectureDQN.resume(run).num_timesteps == 50


def test_a_checkpoint_saved_by_hand_takes_the_place_of_none(tmp_path):
    later = tmp_path / "checkpoint_40_steps.zip"
    model = short_taxi().learn(total_timesteps=30)
    for name in (later.name, "checkpoint_20_steps.zip", "checkpoint_30_steps.zip", "checkpoint.zip"):
        model.save_checkpoint(tmp_path / name)
    assert later.exists()


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path):
    left = tmp_path / ".checkpoint_40_steps.zip.0123456789abcdef.tmp"
    other = tmp_path / ".other.tmp"
    for path in (left, other):
        path.touch()
    short_taxi().learn(total_timesteps=2, callback=LectureCheckpointCallback(save_path=tmp_path))
    assert not left.exists()
    assert other.exists()


def test_a_folder_of_another_run_is_refused_before_it_is_written_to(tmp_path):
    stopped(tmp_path, save_path=tmp_path / "here")
    before = checkpoints_in(tmp_path / "here")
    with pytest.raises(ValueError, match=r"has checkpoints of another run.*LectureDQN\.resume\('.*here'\)"):
        short_taxi().learn(total_timesteps=2, callback=LectureCheckpointCallback(save_path=tmp_path / "here"))
    assert checkpoints_in(tmp_path / "here") == before


def test_logs_are_on_the_disk_before_a_checkpoint_says_how_long_they_are(tmp_path, monkeypatch):
    flushed = {}
    fsync = os.fsync

    def noted(descriptor):
        fsync(descriptor)
        found = os.fstat(descriptor)
        flushed[found.st_ino] = found.st_size

    monkeypatch.setattr("os.fsync", noted)
    model = short_taxi(tensorboard_log=str(tmp_path))
    model.learn(total_timesteps=60, log_interval=1, callback=LectureCheckpointCallback(60))
    (log,) = pathlib.Path(model.logger.dir).glob("events.*")
    model.logger.close()
    newest, *_ = checkpoints_in(log.parent / "checkpoints")
    (size,) = json.loads(members_of(newest.read_bytes())[STATE])["state"]["logs"]["sizes"].values()
    assert flushed[log.stat().st_ino] == size > 0


def test_the_checkpoints_of_a_run_are_safe_from_a_loaded_model(tmp_path):
    short_taxi().learn(60, callback=LectureCheckpointCallback(20, tmp_path))
    before = steps_of(tmp_path)
    short_taxi().learn(30).save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model")
    with pytest.raises(ValueError, match="has checkpoints of another run"):
        loaded.learn(30, callback=LectureCheckpointCallback(20, tmp_path), reset_num_timesteps=False)
    loaded.save_checkpoint(tmp_path / "checkpoint_30_steps.zip")
    assert steps_of(tmp_path) == sorted([30, *before], reverse=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"save_freq": 0}, "save_freq=0"), ({"keep": 0}, "keep=0"), ({"save_freq": (3, "day")}, "save_freq")],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        LectureCheckpointCallback(**arguments)


def test_without_a_folder_it_says_so():
    with pytest.raises(ValueError, match="save_path=None"):
        short_taxi().learn(total_timesteps=2, callback=LectureCheckpointCallback())


def test_what_cannot_be_checkpointed_is_named_before_training(tmp_path):
    from stable_baselines3 import DQN
    from stable_baselines3.common.envs import BitFlippingEnv

    with pytest.raises(ValueError, match="is for LectureDQN and LectureQRDQN, not DQN"):
        DQN("MlpPolicy", "CartPole-v1").learn(2, callback=LectureCheckpointCallback(save_path=tmp_path))
    model = LectureDQN(
        "MultiInputPolicy",
        BitFlippingEnv(),
        replay_buffer_class=HerReplayBuffer,
        learning_starts=20,
    )
    with pytest.raises(ValueError, match="replay_buffer_class=HerReplayBuffer"):
        model.learn(2, callback=LectureCheckpointCallback(save_path=tmp_path))


@pytest.mark.parametrize("path", ["nowhere", "nowhere.zip", "."])
def test_where_there_is_none_it_says_so(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such checkpoint|no checkpoint in this folder"):
        LectureDQN.resume(tmp_path / path)


def test_a_checkpoint_of_another_algorithm_or_of_no_algorithm_is_refused(tmp_path):
    run = stopped(tmp_path)
    with pytest.raises(UnsafeFileError, match="of a DQN, not of a QRDQN"):
        LectureQRDQN.resume(run)
    short_taxi().save(tmp_path / "model")
    with pytest.raises(UnsafeFileError, match=r"no 'manifest\.json'"):
        LectureDQN.resume(tmp_path / "model")


def test_functions_of_ones_own_are_asked_for(tmp_path):
    def rate(progress):
        return 1e-3 * progress

    run = stopped(tmp_path, make=lambda **kw: short_taxi(learning_rate=rate, **kw))
    with pytest.raises(UnsafeFileError, match=r"learning_rate.*this is code.*custom_objects"):
        LectureDQN.resume(run)
    model = LectureDQN.resume(run, custom_objects={"learning_rate": rate})
    assert model.learn(total_timesteps=100).lr_schedule(0.3) == rate(0.3)


# Callbacks of users


class Collecting(BaseCallback):
    """Has what users' callbacks have."""

    best = -1.0  # of the class, until there is one

    def __init__(self):
        super().__init__()
        self.rewards, self.scalars = [], []
        self.visits, self.mean = {}, th.zeros(3)
        self.rng, self.late = np.random.default_rng(1), None
        self.file = "closed"

    def _on_training_start(self):
        self.file, self.weights = object(), next(iter(self.model.q_net.state_dict().values()))

    def _on_step(self):
        reward = self.locals["rewards"][0]
        self.rewards.append(float(reward))
        self.scalars.append(reward)
        self.visits[(1, self.num_timesteps % 7)] = self.visits.get((1, self.num_timesteps % 7), 0) + 1
        self.mean[1] += reward
        self.best = max(self.best, float(reward))
        self.since = self.num_timesteps  # which __init__ does not know
        if self.late is None:
            self.late = np.random.default_rng(2)
        self.drawn = self.rng.random() + self.late.random()
        return True

    def _on_training_end(self):
        self.file = None


def test_what_users_callbacks_collect_goes_on(tmp_path):
    whole = Collecting()
    cartpole().learn(300, callback=[whole, LectureCheckpointCallback(50, tmp_path / "whole")])
    with pytest.raises(Crash):
        cartpole().learn(
            300, callback=[Collecting(), LectureCheckpointCallback(50, tmp_path / "stopped"), CrashAt(225)]
        )
    resumed = LectureDQN.resume(tmp_path / "stopped")
    assert resumed.num_timesteps == 200
    again = Collecting()
    resumed.learn(callback=[again, LectureCheckpointCallback(50, tmp_path / "stopped"), CrashAt(10**9)])
    for name in ("rewards", "scalars", "visits", "mean", "best", "since", "drawn", "file"):
        assert equal(getattr(again, name), getattr(whole, name)), name
    assert len(again.rewards) == 300
    assert {type(again.rewards), type(again.rewards[0]), type(again.scalars[0])} == {list, float, np.float32}
    assert again.rng.random() + again.late.random() == whole.rng.random() + whole.late.random()
    weights = next(iter(resumed.q_net.state_dict().values()))
    assert again.weights.data_ptr() == weights.data_ptr()  # those of the model, not others like them
    # At its end its file was closed. That of the next call is open.
    last = LectureDQN.resume(tmp_path / "stopped")
    last.learn(
        310, callback=[again := Collecting(), LectureCheckpointCallback(50, tmp_path / "stopped"), CrashAt(10**9)]
    )
    assert len(again.rewards) == 310


def test_a_callback_that_collects_a_number_at_every_step_of_a_long_run_can_be_resumed(tmp_path):
    class Long(BaseCallback):
        def __init__(self):
            super().__init__()
            self.rewards = []

        def _on_step(self):
            self.rewards.extend(i / 7 for i in range(600_000))
            return True

    short_taxi().learn(2, callback=[one := Long(), LectureCheckpointCallback(10, tmp_path)])
    resumed = LectureDQN.resume(tmp_path)
    resumed.learn(3, callback=[other := Long(), LectureCheckpointCallback(10, tmp_path)])
    assert other.rewards[:1_200_000] == one.rewards


class Pairs(BaseCallback):
    """Collects what is no list of numbers."""

    def __init__(self):
        super().__init__()
        self.pairs = []

    def _on_step(self):
        self.pairs.extend((self.num_timesteps, 0.5) for _ in range(100))
        return True


def test_a_checkpoint_that_could_not_be_read_again_is_warned_of_and_the_last_one_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("sb3_lecture_dqn.saving.files.MAX_ENTRIES", 20_000)
    model = short_taxi()
    message = r"no checkpoint at step (40|50): .*20000 entries.*'pairs' of .*Pairs; the last one is .*_20_steps"
    with pytest.warns(UserWarning, match=message):
        model.learn(50, callback=[Pairs(), LectureCheckpointCallback(20, tmp_path, keep=1)])
    assert model.num_timesteps == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoint_20_steps.zip"]
    with pytest.raises(ValueError, match="could not be read again"):
        model.save_checkpoint(tmp_path / "here")
    assert LectureDQN.resume(tmp_path).learn(30, callback=Pairs()).num_timesteps == 30


def test_a_state_that_is_code_is_named_before_training(tmp_path):
    class OfSets(BaseCallback):
        def get_state(self):
            return {"seen": {1}}

        def set_state(self, state):
            pass

        def _on_step(self):
            return True

    with pytest.raises(ValueError, match=r"could not be read again: .*seen \(a builtins.set\)"):
        short_taxi().learn(2, callback=[OfSets(), LectureCheckpointCallback(20, tmp_path)])


@pytest.mark.parametrize("name", ["on_step", "logger", "__class__", "__dict__", "model", "parent", "file"])
def test_only_numbers_of_callbacks_are_set(name, tmp_path):
    short_taxi().learn(2, callback=[Collecting(), LectureCheckpointCallback(10, tmp_path)])
    newest, *_ = checkpoints_in(tmp_path)
    replace_state(newest, lambda described: described["callbacks"][1]["state"].update({name: 1}))
    model = LectureDQN.resume(newest)
    callback = Collecting()
    with pytest.raises(UnsafeFileError, match=f"'{name}' is no state of .*Collecting"):
        model.learn(3, callback=[callback, LectureCheckpointCallback(10, tmp_path)])


# Environments


def test_an_environment_given_as_an_object_is_to_be_given_again(tmp_path):
    run = stopped(tmp_path, make=lambda **kw: LectureDQN(make_env("Taxi-v3", 30), seed=0, **kw))
    with pytest.raises(ValueError, match=r"env=None.*pass a similar one"):
        LectureDQN.resume(run)
    assert LectureDQN.resume(run, env=make_env("Taxi-v3", 30)).learn().num_timesteps == 200
    with pytest.raises(ValueError, match="2 environments, but the run had 1"):
        LectureDQN.resume(run, env=make_vec_env(lambda: make_env("Taxi-v3", 30), n_envs=2))


class Drifting(gym.Wrapper):
    """Starts elsewhere in every new process, whatever it is seeded with."""

    start = 0

    def reset(self, **kwargs):
        super().reset(**kwargs)
        Drifting.start += 1
        self.unwrapped.s = 100 + Drifting.start
        return self.unwrapped.s, {}


def test_an_environment_that_does_not_come_back_is_begun_anew_and_it_says_so(tmp_path):
    def make(**kwargs):
        return LectureDQN(Drifting(make_env("Taxi-v3", 30)), seed=0, **kwargs)

    run = stopped(tmp_path, make=make)
    with pytest.warns(UserWarning, match="running episodes cannot be restored, so new episodes begin: environment 0"):
        model = LectureDQN.resume(run, env=Drifting(make_env("Taxi-v3", 30)))
    assert model._last_obs is None
    assert model.learn().num_timesteps == 200


def test_nor_does_one_in_a_process_of_its_own(tmp_path):
    def make(**kwargs):
        venv = SubprocVecEnv([lambda: ResumableEnv(Drifting(make_env("Taxi-v3", 30)))])
        return LectureDQN(venv, seed=0, gradient_steps=1, **kwargs)

    run = stopped(tmp_path, make=make)
    Drifting.start = 7
    with pytest.warns(UserWarning, match="new episodes begin: environment 0: after the same"):
        model = LectureDQN.resume(run, env=make().env)
    Drifting.start = 0
    assert model.learn().num_timesteps == 200


def in_processes(wrapper, **kwargs):
    venv = make_vec_env("CartPole-v1", 2, seed=3, vec_env_cls=SubprocVecEnv, wrapper_class=wrapper)
    return LectureDQN("MlpPolicy", venv, **{"seed": 0, "gradient_steps": 1, **kwargs})


def test_environments_in_processes_come_back_when_they_are_resumable(tmp_path):
    whole = in_processes(ResumableEnv).learn(total_timesteps=200)
    run = stopped(tmp_path, make=lambda **kw: in_processes(ResumableEnv, **kw))
    model = LectureDQN.resume(run, env=in_processes(ResumableEnv).env).learn()
    assert equal(model.get_parameters(), whole.get_parameters())


def test_and_begin_anew_when_not(tmp_path):
    with pytest.warns(UserWarning, match="SubprocVecEnv: their position in an episode cannot be saved.*ResumableEnv"):
        run = stopped(tmp_path, make=lambda **kw: in_processes(None, **kw))
    with pytest.warns(UserWarning, match="new episodes begin: a SubprocVecEnv cannot say where it stands"):
        model = LectureDQN.resume(run, env=in_processes(None).env)
    assert model.learn().num_timesteps == 200


class Failing(gym.Wrapper):
    def __init__(self, env, at):
        super().__init__(env)
        self.left = at

    def step(self, action):
        self.left -= 1
        if self.left == 0:
            raise ConnectionError("the simulator is gone")
        return self.env.step(action)


def test_an_environment_that_raises_leaves_a_checkpoint(tmp_path):
    model = LectureDQN(Failing(make_env("Taxi-v3", 30), at=34), seed=0)
    with pytest.raises(ConnectionError, match="the simulator is gone"):
        model.learn(total_timesteps=60, callback=LectureCheckpointCallback(20, tmp_path))
    assert steps_of(tmp_path) == [33, 20, 0]
    with pytest.warns(UserWarning, match="new episodes begin: the checkpoint was saved in the middle of a rollout"):
        resumed = LectureDQN.resume(tmp_path, env=make_env("Taxi-v3", 30))
    assert equal(memory_of(resumed), memory_of(model))
    assert resumed.learn().num_timesteps == 60


# Signals


class Send(BaseCallback):
    """A signal to this process in the middle of a step."""

    def __init__(self, number, step, times=1):
        super().__init__()
        self.number, self.at, self.times = number, step, times

    def _on_step(self):
        if self.num_timesteps == self.at:
            for _ in range(self.times):
                signal.raise_signal(self.number)
        return True


@pytest.mark.parametrize(
    ("number", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_waits_for_the_end_of_the_step(number, stop, tmp_path, capsys):
    before = signal.getsignal(number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = short_taxi(tensorboard_log=str(tmp_path))
    with pytest.raises(stop) as stopped:
        model.learn(total_timesteps=60, callback=[LectureCheckpointCallback(20), Send(number, 33)])
    if stop is SystemExit:
        assert stopped.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) in (before, signal.SIG_DFL)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    folder = f"{model.logger.dir}/checkpoints"
    assert f"Stopped after 1 episodes, 33 steps. To go on: LectureDQN.resume({folder!r})" in capsys.readouterr().out
    resumed = LectureDQN.resume(folder).learn()
    assert equal(everything(resumed)["memory"], everything(short_taxi().learn(total_timesteps=60))["memory"])


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = short_taxi()
    with pytest.raises(KeyboardInterrupt):
        model.learn(
            total_timesteps=60, callback=[LectureCheckpointCallback(20, tmp_path), Send(signal.SIGINT, 33, times=2)]
        )
    assert steps_of(tmp_path) == [20, 0]


def test_without_checkpoints_ctrl_c_is_as_always(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = short_taxi()
    with pytest.raises(KeyboardInterrupt):
        model.learn(total_timesteps=60, callback=Send(signal.SIGINT, 33))


def test_a_handler_that_is_not_pythons_stays(monkeypatch):
    getsignal, before = signal.getsignal, signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("signal.getsignal", lambda number: None)  # as where Python is part of a program in C
    with StopSignals():
        assert getsignal(signal.SIGTERM) == before
    assert getsignal(signal.SIGTERM) == before


def test_in_another_thread_signals_are_left_alone(tmp_path):
    model = short_taxi()
    thread = threading.Thread(
        target=lambda: model.learn(total_timesteps=30, callback=LectureCheckpointCallback(20, tmp_path))
    )
    thread.start()
    thread.join()
    assert steps_of(tmp_path) == [30, 20, 0]


# A rollout that was left in its middle


class EndAt(BaseCallback):
    """Ends training at a step, with a signal if one is given."""

    def __init__(self, step, number=None):
        super().__init__()
        self.at, self.number = step, number

    def _on_step(self):
        if self.num_timesteps == self.at and self.number is not None:
            signal.raise_signal(self.number)
        return self.num_timesteps < self.at


def test_statistics_of_vecnormalize_survive_a_callback_that_ends_training(tmp_path):
    def normalized():
        return VecNormalize(seeded_cartpole())

    model = LectureDQN("MlpPolicy", normalized(), seed=0)
    model.learn(total_timesteps=90, callback=[LectureCheckpointCallback(20, tmp_path), EndAt(50)])
    assert steps_of(tmp_path)[0] == 50
    with pytest.warns(UserWarning, match="new episodes begin: the checkpoint was saved in the middle of a rollout"):
        resumed = LectureDQN.resume(tmp_path, env=normalized())
    for moments, expected in (
        (resumed.env.obs_rms, model.env.obs_rms),
        (resumed.env.ret_rms, model.env.ret_rms),
    ):
        assert np.array_equal(moments.mean, expected.mean)
        assert np.array_equal(moments.var, expected.var)
    assert resumed.learn().num_timesteps == 90


def test_a_signal_in_the_step_at_which_a_callback_ends_training_still_stops(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        short_taxi().learn(60, callback=[LectureCheckpointCallback(20, tmp_path), EndAt(33, signal.SIGINT)])
    assert steps_of(tmp_path) == [33, 20, 0]


def test_a_loaded_model_without_an_environment_can_be_checkpointed(tmp_path):
    short_taxi().learn(total_timesteps=30).save(tmp_path / "model")
    LectureDQN.load(tmp_path / "model").save_checkpoint(tmp_path / "here")
    with pytest.warns(UserWarning, match="new episodes begin: the checkpoint was saved without an envir"):
        resumed = LectureDQN.resume(tmp_path / "here")
    assert resumed.learn(total_timesteps=40).num_timesteps == 40


@pytest.mark.parametrize("policy", ["LecturePolicy", "ActionInPolicy"])
def test_compiled_training_with_momentum_goes_on(policy, tmp_path):
    def make(**kwargs):
        settings = {"max_episode_steps": 30, "seed": 0, "engine": "numba", "learning_rate": 1e-5}
        return LectureDQN(
            policy, "Taxi-v3", **settings, policy_kwargs={"optimizer_kwargs": {"momentum": 0.9}}, **kwargs
        )

    resumed = LectureDQN.resume(stopped(tmp_path, make=make)).learn()
    assert resumed.engine_in_use == "numba"
    assert equal(resumed.get_parameters(), make().learn(total_timesteps=200).get_parameters())


TRAINING = """
import pathlib, sys, time
from stable_baselines3.common.callbacks import BaseCallback
from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN

class Wait(BaseCallback):
    def _on_step(self):
        if self.num_timesteps == 60:
            pathlib.Path("waits").touch()
            time.sleep(600)
        return True

model = LectureDQN("Taxi-v3", max_episode_steps=30, seed=0, tensorboard_log=sys.argv[1])
model.learn(100, callback=[LectureCheckpointCallback(20), Wait()])
"""


@pytest.fixture
def training_run(tmp_path):
    """A process that trains and then waits, and the folder of its run."""
    training, deadline = Forked(TRAINING, tmp_path / "runs", folder=tmp_path), time.monotonic() + 120
    while not (tmp_path / "waits").exists():
        assert training.process.is_alive(), training.printed
        assert time.monotonic() < deadline, training.printed
        time.sleep(0.05)
    (run,) = (tmp_path / "runs").iterdir()
    yield training.process, run
    training.process.kill()
    training.process.join()


def test_a_run_that_still_trains_is_not_resumed(training_run, tmp_path, monkeypatch):
    """Its log would be cut, and its checkpoints removed. It can be resumed as soon as its process is killed."""
    monkeypatch.setattr(checkpoint_folder, "PATIENCE", 0)
    process, run = training_run
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    resumed = LectureDQN.resume(run)
    with pytest.raises(ValueError, match="checkpoints: another process trains and saves its checkpoints there: wait"):
        resumed.learn(callback=LectureCheckpointCallback(20))
    elsewhere = LectureDQN.resume(run, custom_objects={"tensorboard_log": str(tmp_path / "others")})
    elsewhere.learn(callback=LectureCheckpointCallback(20))  # a run of its own, which begins where that one was
    assert pathlib.Path(elsewhere.logger.dir).parent == tmp_path / "others"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    threading.Timer(0.3, process.kill).start()  # while the next line waits
    assert resumed.learn(callback=LectureCheckpointCallback(20)).num_timesteps == 100


def test_a_run_does_not_begin_in_the_folder_of_one_that_trains(training_run, monkeypatch):
    """Also if that one has no checkpoint yet."""
    monkeypatch.setattr(checkpoint_folder, "PATIENCE", 0)
    folder = training_run[1] / "checkpoints"
    for checkpoint in checkpoints_in(folder):
        checkpoint.unlink()
    with pytest.raises(ValueError, match="another process trains"):
        short_taxi().learn(40, callback=LectureCheckpointCallback(20, folder))


class Fails(BaseCallback):
    """Raises when training starts or ends."""

    def __init__(self, when):
        super().__init__()
        self.when = when

    def _on_training_start(self):
        if self.when == "start":
            raise Crash

    def _on_step(self):
        return True

    def _on_training_end(self):
        raise Crash


@pytest.mark.parametrize(
    ("ending", "raised"),
    [(EndAt(100), None), (EndAt(33), None), (CrashAt(33), Crash), (Fails("start"), Crash), (Fails("end"), Crash)],
)
def test_a_folder_is_free_when_training_has_ended(ending, raised, tmp_path):
    callback = CallbackList([LectureCheckpointCallback(20, tmp_path), ending])
    with contextlib.nullcontext() if raised is None else pytest.raises(raised):
        short_taxi().learn(60, callback=callback)
    with (tmp_path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
