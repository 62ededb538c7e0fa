"""Runs that are stopped and gone on with end as those that were not: bit by bit, whatever they are made of."""

import pathlib
import shutil
import signal
import threading
import warnings

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
from sb3_lecture_dqn.common.callback_state import callback_tree
from sb3_lecture_dqn.common.checkpoint import checkpoints_in
from sb3_lecture_dqn.common.env_state import env_state


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
        {"total_timesteps": 1600},
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
    for i, path in enumerate(checkpoints[1:]):
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


# Environments


def test_an_environment_given_as_an_object_is_to_be_given_again(tmp_path):
    run = stopped(tmp_path, make=lambda **kw: LectureDQN(make_env("Taxi-v3", 30), seed=0, **kw))
    with pytest.raises(ValueError, match=r"env=None.*give one like it"):
        LectureDQN.resume(run)
    assert LectureDQN.resume(run, env=make_env("Taxi-v3", 30)).learn().num_timesteps == 200
    with pytest.raises(ValueError, match="2 environments, and the run had 1"):
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
    with pytest.warns(UserWarning, match="environment is not where it was, so new episodes begin: environment 0"):
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
    with pytest.warns(UserWarning, match="SubprocVecEnv: where these are in an episode cannot be saved.*ResumableEnv"):
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
    with pytest.warns(UserWarning, match="new episodes begin: the checkpoint was left by an error"):
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


def test_in_another_thread_signals_are_left_alone(tmp_path):
    model = short_taxi()
    thread = threading.Thread(
        target=lambda: model.learn(total_timesteps=30, callback=LectureCheckpointCallback(20, tmp_path))
    )
    thread.start()
    thread.join()
    assert steps_of(tmp_path) == [30, 20, 0]
