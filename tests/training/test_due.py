"""When callbacks say that they are due, which are called at every step, and what they see."""

import math
from types import MethodType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    ConvertCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.logger import configure

from sb3_lecture_dqn import (
    EpisodeProgressBarCallback,
    LectureCheckpointCallback,
    LectureDQN,
    LectureTestCallback,
    TabularVecEnv,
)
from sb3_lecture_dqn.show.hparams import HParamsCallback
from sb3_lecture_dqn.training.callbacks import StepProgressBarCallback
from sb3_lecture_dqn.training.due import Due, next_due, silent_callback
from sb3_lecture_dqn.training.stretches import Stretches


def lake(n_envs=1, limit=9, **kwargs):
    env = TabularVecEnv("FrozenLake-v1", n_envs, limit, seed=0)
    model = LectureDQN(env, **{"seed": 0, "policy_kwargs": {"hidden_dim": 4}, **kwargs})
    model.set_logger(configure(None, []))
    return model


def lake_env():
    return TabularVecEnv("FrozenLake-v1", 1, 9, seed=0)


class Speaks(BaseCallback):
    """Called at every tenth call."""

    def __init__(self):
        super().__init__()
        self.called = []

    def next_due(self):
        return Due(calls=10 - self.n_calls % 10)

    def _on_step(self):
        self.called.append(self.n_calls)
        return True


class Silent(BaseCallback):
    def __init__(self):
        super().__init__()
        self.called = []

    def _on_step(self):
        self.called.append(self.n_calls)
        return True


class LaterStep(Speaks):
    def _on_step(self):
        return super()._on_step()


class LaterStepAndDue(LaterStep):
    def next_due(self):
        return super().next_due()


class StepInMixin:
    def _on_step(self):
        self.mixed = True
        return super()._on_step()


class Mixed(StepInMixin, Speaks):
    pass


class OnlyAttributes(Speaks):
    colour = "red"

    def _on_training_start(self):
        self.started = True


class AtRolloutStart(Speaks):
    def _on_rollout_start(self):
        self.rollouts = getattr(self, "rollouts", 0) + 1


class AtRolloutEnd(Speaks):
    def on_rollout_end(self):
        self.rollouts = getattr(self, "rollouts", 0) + 1


class OwnEval(EvalCallback):
    def _on_step(self):
        return super()._on_step()


class OwnList(CallbackList):
    def _on_step(self):
        return super()._on_step()


class OwnTest(LectureTestCallback):
    def _on_step(self):
        return super()._on_step()


class OwnBar(EpisodeProgressBarCallback):
    def count_episodes(self, n):
        super().count_episodes(n)


class OwnEveryNTimesteps(EveryNTimesteps):
    pass


def patched(callback, name="_on_step"):
    """The callback with a method in the place of one of its class."""
    method = getattr(type(callback), name)
    setattr(callback, name, MethodType(lambda self, *args: method(self, *args), callback))
    return callback


SPEAKING = {
    "EvalCallback": lambda: EvalCallback(lake_env()),
    "MaskableEvalCallback": lambda: MaskableEvalCallback(lake_env(), use_masking=False),
    "CheckpointCallback": lambda: CheckpointCallback(10, "nowhere"),
    "EveryNTimesteps": lambda: EveryNTimesteps(10, Silent()),
    "LogEveryNTimesteps": lambda: LogEveryNTimesteps(10),
    "ProgressBarCallback": ProgressBarCallback,
    "StopTrainingOnMaxEpisodes": lambda: StopTrainingOnMaxEpisodes(3),
    "no callback": lambda: ConvertCallback(None),
    "LectureTestCallback": lambda: LectureTestCallback(verbose=0),
    "LectureCheckpointCallback": lambda: LectureCheckpointCallback(10, "nowhere"),
    "EpisodeProgressBarCallback": EpisodeProgressBarCallback,
    "StepProgressBarCallback": StepProgressBarCallback,
    "a class that says it": Speaks,
    "a subclass that says it again": LaterStepAndDue,
    "a subclass of it that only adds": OnlyAttributes,
    "a list": lambda: CallbackList([Speaks(), CallbackList([ProgressBarCallback()])]),
    "an empty list": lambda: CallbackList([]),
}
SILENT = {
    "a class that says nothing": Silent,
    "a function": lambda: ConvertCallback(lambda local, outer: True),
    "a subclass with another _on_step": LaterStep,
    "a mixin with another _on_step": Mixed,
    "_on_rollout_start": AtRolloutStart,
    "on_rollout_end": AtRolloutEnd,
    "a subclass of EvalCallback": lambda: OwnEval(lake_env()),
    "a subclass of EveryNTimesteps": lambda: OwnEveryNTimesteps(10, Speaks()),
    "a subclass of CallbackList": lambda: OwnList([Speaks()]),
    "a subclass of LectureTestCallback": lambda: OwnTest(verbose=0),
    "a subclass that counts episodes": OwnBar,
    "StopTrainingOnRewardThreshold by itself": lambda: StopTrainingOnRewardThreshold(1.0),
    "StopTrainingOnNoModelImprovement by itself": lambda: StopTrainingOnNoModelImprovement(1),
    "a patched object": lambda: patched(Speaks()),
    "a patched object of SB3": lambda: patched(ProgressBarCallback()),
    "a patched list": lambda: patched(CallbackList([Speaks()])),
    "a patched test": lambda: patched(LectureTestCallback(verbose=0), "_on_rollout_start"),
    "inside lists": lambda: CallbackList([Speaks(), CallbackList([ProgressBarCallback(), Silent()])]),
}


def begun(callback, model=None):
    """A callback when training has begun."""
    callback.init_callback(model or lake())
    callback.num_timesteps = callback.model.num_timesteps
    return callback


@pytest.mark.parametrize("kind", SPEAKING)
def test_it_says_when_it_is_due(kind):
    callback = begun(SPEAKING[kind]())
    assert isinstance(next_due(callback), Due)
    assert silent_callback(callback) is None


@pytest.mark.parametrize("kind", SILENT)
def test_it_is_called_at_every_step(kind):
    callback = begun(SILENT[kind]())
    assert next_due(callback) == Due(calls=1)
    silent = silent_callback(callback)
    assert silent is (callback.callbacks[1].callbacks[1] if kind == "inside lists" else callback)


def test_the_classes_of_the_table_are_those_that_are_tested():
    from sb3_lecture_dqn.training import due

    kinds = {type(make()) for make in SPEAKING.values()}
    assert set(due._STOCK) < kinds
    with_next_due = {cls for cls in due.BaseCallback.__subclasses__() if "next_due" in vars(cls)}
    ours = {cls for cls in with_next_due if cls.__module__.startswith("sb3_lecture_dqn")}
    assert {cls.__name__ for cls in ours - kinds} <= {"HParamsCallback", "LecturePageCallback"}


# What they see in training


def stepwise(monkeypatch):
    monkeypatch.setattr(Stretches, "advance", lambda self: None)


class Watching(Silent):
    """What it sees in its calls."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        local = {name: self.locals[name].tolist() for name in ("dones", "new_obs", "rewards")}
        parent = None if self.parent is None else (self.parent.n_calls, self.parent.num_timesteps)
        self.seen.append([self.n_calls, self.num_timesteps, parent, local])
        return super()._on_step()


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda event: EveryNTimesteps(7, event),
        lambda event: EveryNTimesteps(0, event),
        lambda event: EvalCallback(lake_env(), callback_after_eval=event, eval_freq=7, verbose=0),
        lambda event: EvalCallback(lake_env(), callback_after_eval=event, eval_freq=2.5, verbose=0),
        lambda event: MaskableEvalCallback(
            lake_env(), callback_after_eval=event, eval_freq=7, use_masking=False, verbose=0
        ),
        lambda event: LectureTestCallback(
            lake_env(), 1, test_freq=7, callback_after_test=event, max_episode_steps=9, verbose=0
        ),
        lambda event: LectureTestCallback(
            lake_env(), 1, test_freq=(3, "episode"), callback_after_test=event, max_episode_steps=9, verbose=0
        ),
    ],
    ids=["every 7", "every 0", "eval", "eval every 2.5", "maskable eval", "test by steps", "test by episodes"],
)
def test_an_event_sees_what_it_sees_step_by_step(n_envs, make, monkeypatch):
    seen = []
    for by_steps in (False, True):
        if by_steps:
            stepwise(monkeypatch)
        event = Watching()
        lake(n_envs).learn(200, callback=make(event))
        seen.append(event.seen)
    assert seen[0] == seen[1]
    assert len(seen[0]) > 5


def test_of_what_is_not_due_only_the_calls_are_counted():
    callback = Speaks()
    model = lake(train_freq=3).learn(200, callback=callback)
    assert (callback.n_calls, callback.num_timesteps) == (201, 201) == (201, model.num_timesteps)
    assert {call for call in callback.called if call % 10 == 0} == set(range(10, 201, 10))
    # The first rollout has no update after it, and a rollout is not interrupted.
    assert callback.called == [
        call for call in range(1, 202) if call <= 3 or (call - 1) // 3 in {(due - 1) // 3 for due in range(10, 201, 10)}
    ]


@pytest.mark.parametrize("kind", [kind for kind in SILENT if hasattr(SILENT[kind](), "called")])
def test_what_is_silent_sees_every_step(kind):
    callback = SILENT[kind]()
    lake().learn(50, callback=callback)
    assert callback.called == list(range(1, 51))
    assert getattr(callback, "rollouts", 50) == 50


def test_a_function_and_the_children_of_a_patched_list_see_every_step():
    seen, child = [], Speaks()
    lake().learn(50, callback=lambda local, outer: seen.append(local["num_collected_steps"]) is None)
    assert seen == [1] * 50
    lake().learn(50, callback=patched(CallbackList([child])))
    assert child.called == list(range(1, 51))


class PatchesItself(Speaks):
    """From its tenth call on, another method is called at every step."""

    next_due = Speaks.next_due

    def _on_step(self):
        if self.n_calls == 10:
            self._on_step = super()._on_step
        return super()._on_step()


def test_a_callback_that_is_patched_in_training_sees_every_step_from_then_on():
    callback = PatchesItself()
    lake().learn(50, callback=callback)
    assert callback.called == [1, *range(10, 51)]


class CountsItsOwn(Speaks):
    """Its method has a name that callbacks of the package have, and does something else."""

    def count_episodes(self):
        raise AssertionError


def test_only_callbacks_of_the_package_are_told_of_episodes():
    callback = CountsItsOwn()
    lake().learn(100, callback=callback)
    assert callback.n_calls == 100


# Ends


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("train_freq", [1, 5, (2, "episode")])
def test_training_stops_at_the_episode_at_which_it_stops_step_by_step(n_envs, train_freq, monkeypatch, capsys):
    if n_envs > 1 and train_freq == (2, "episode"):
        train_freq = 2
    ends = []
    for by_steps in (False, True):
        if by_steps:
            stepwise(monkeypatch)
        stop = StopTrainingOnMaxEpisodes(12, verbose=1)
        model = lake(n_envs, train_freq=train_freq).learn(10_000, callback=stop)
        model.learn(10_000, callback=stop, reset_num_timesteps=False)  # it has stopped, so the next step is the last
        ends.append((model.num_timesteps, model._episode_num, stop.n_episodes, stop.n_calls, capsys.readouterr().out))
    assert ends[0] == ends[1]
    assert 12 * n_envs <= ends[0][2] < 13 * n_envs + n_envs


def test_training_stops_in_the_step_in_which_episodes_of_several_environments_end():
    stop = StopTrainingOnMaxEpisodes(12)
    model = lake(4, limit=1).learn(10_000, callback=stop)  # so that all four end in every step
    assert (stop.n_episodes, model.num_timesteps) == (48, 48)


def test_a_progress_bar_counts_the_steps_of_all_environments():
    bar = ProgressBarCallback()
    model = lake(3).learn(90, callback=bar)
    assert bar.pbar.n == model.num_timesteps == 90


@pytest.mark.parametrize("save_freq", [0, -5])
def test_an_interval_that_is_none_is_what_it_is_step_by_step(save_freq, monkeypatch, tmp_path):
    saved = []
    for name in ("stretches", "steps"):
        if name == "steps":
            stepwise(monkeypatch)
        callback, error = CheckpointCallback(save_freq, str(tmp_path / name)), None
        try:
            lake().learn(12, callback=callback)
        except ZeroDivisionError as raised:
            error = str(raised)
        saved.append([callback.n_calls, error, sorted(path.name for path in (tmp_path / name).glob("*"))])
    assert saved[0] == saved[1]


# What is said


def goes_on(locals_, globals_):
    return True


class Judge:
    def judge(self, locals_, globals_):
        return True


@pytest.mark.parametrize(
    ("callback", "name"),
    [
        (Silent(), "Silent"),
        (CallbackList([Speaks(), CallbackList([LaterStep()]), Silent()]), "LaterStep"),
        (goes_on, "goes_on"),
        (Judge().judge, "judge"),
        (OwnEval(lake_env(), callback_after_eval=Speaks(), verbose=0), "OwnEval"),
        (OwnEval(lake_env(), verbose=0), "OwnEval"),
    ],
)
def test_a_line_names_the_silent_callback_once(callback, name, capsys):
    model = lake(verbose=1)
    for _ in range(2):
        model.learn(1, callback)
    out = capsys.readouterr().out
    assert out.count(f"{name} is called at every step") == out.count("is called at every step") == 1
    lake().learn(1, callback)
    assert capsys.readouterr().out == ""


def test_no_line_if_all_say_when_they_are_due(capsys):
    lake(verbose=1).learn(5, callback=[Speaks(), LectureTestCallback(verbose=0)])
    assert "at every step" not in capsys.readouterr().out


# Wrong answers


@pytest.mark.parametrize("answer", [None, 5, "soon", (1, 2)])
def test_an_answer_that_is_no_due_is_named(answer):
    Wrong = type("Wrong", (Speaks,), {"next_due": lambda self: answer})
    with pytest.raises(TypeError, match=r"Wrong\.next_due\(\) returned .*, it must return a Due"):
        lake().learn(5, callback=Wrong())


@pytest.mark.parametrize("calls", [math.nan, "3", None, True])
def test_a_number_of_calls_that_is_none_is_named(calls):
    Wrong = type("Wrong", (Speaks,), {"next_due": lambda self: Due(calls=calls)})
    with pytest.raises(ValueError, match=r"Wrong\.next_due\(\): calls="):
        lake().learn(5, callback=Wrong())


@pytest.mark.parametrize("calls", [1, 0, -3, 0.5, 1.9, -math.inf, np.int64(1)])
def test_less_than_two_calls_are_the_next_one(calls):
    Often = type("Often", (Speaks,), {"next_due": lambda self: Due(calls=calls)})
    callback = Often()
    lake().learn(20, callback=callback)
    assert callback.called == list(range(1, 21))


@given(st.lists(st.tuples(*[st.integers(1, 50) | st.just(math.inf)] * 3), min_size=1, max_size=5))
@settings(max_examples=50)
def test_the_first_of_several_is_due(numbers):
    due = Due()
    for triple in numbers:
        due = due.or_before(Due(*triple))
    assert (due.calls, due.steps, due.episodes) == tuple(min(column) for column in zip(*numbers, strict=True))


def test_the_callback_of_every_run_of_the_command_line_lets_steps_be_done_together():
    assert silent_callback(HParamsCallback()) is None
    assert next_due(HParamsCallback()) == Due()
