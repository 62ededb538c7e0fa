"""Event files of a run are read in the order of training, and those of others are left alone; with the real readers."""

import contextlib
import copy
import itertools
import json
import pathlib
import shutil
import time
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from torch.utils.tensorboard import SummaryWriter

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureTensorBoardCallback, LectureTestCallback
from sb3_lecture_dqn.saving.checkpoint_file import STATE
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.saving.event_files import EventFile, _new_file, event_files, new_mark
from sb3_lecture_dqn.show.plot import read_run
from tests.saving.hostile_parts import checkpoint_of, members_of

YEAR = 365 * 24 * 3600


class StopAt(BaseCallback):
    """Ends a process, as far as the training is concerned."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = steps

    def _on_step(self):
        if self.num_timesteps in self.steps:
            raise KeyboardInterrupt
        return True


def make(**kwargs):
    return LectureDQN("FrozenLake-v1", max_episode_steps=20, seed=0, **kwargs)


def callbacks(*more, **checkpoints):
    return [
        LectureTestCallback(n_test_episodes=2, test_freq=(5, "episode"), verbose=0),
        LectureTensorBoardCallback((5, "episode"), (10**6, "episode"), batch_size=2),
        LectureCheckpointCallback(40, verbose=0, **checkpoints),
        *more,
    ]


def go_on(model, *steps, **checkpoints):
    """Train to the end of the budget, or to a step at which it is stopped."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the callbacks .*StopAt.* are not given now")
        with contextlib.suppress(KeyboardInterrupt):
            model.learn(200, callback=callbacks(StopAt(*steps), **checkpoints), log_interval=1)
    model.logger.close()
    return pathlib.Path(model.logger.dir)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return go_on(make(tensorboard_log=str(tmp_path_factory.mktemp("alone"))))


@pytest.fixture
def clock(monkeypatch):
    """A clock that can be set; it starts at the real time, and stands still or runs on from where it is set."""

    class Clock:
        ahead = 0.0
        stands_at = None

        def __call__(self):
            return real() + self.ahead if self.stands_at is None else self.stands_at

    real, clock = time.time, Clock()
    monkeypatch.setattr("time.time", clock)
    monkeypatch.setattr("time.time_ns", lambda: int(clock() * 1e9))
    return clock


def curves(run):
    """What TensorBoard's reader of one run and its reader of many, and `plot`, make of a run, but for the times."""
    one = EventAccumulator(str(run), size_guidance={"scalars": 0, "histograms": 0}).Reload()
    many = EventMultiplexer({"run": str(run)}, tensor_size_guidance={"scalars": 10**6, "histograms": 10**6}).Reload()
    tags = sorted(tag for tag in one.Tags()["scalars"] if not tag.startswith("time/"))
    return {
        "scalars": {tag: [(event.step, event.value) for event in one.Scalars(tag)] for tag in tags},
        "histograms": {
            tag: [(event.step, event.histogram_value.sum) for event in one.Histograms(tag)]
            for tag in one.Tags()["histograms"]
        },
        "tensors": {tag: [event.step for event in many.Tensors("run", tag)] for tag in tags},
        "plot": {tag: list(points.items()) for tag, points in read_run(run).items()},
    }


def written(run):
    """What the event files have, also for readers that do not know of restarts: tag and step of every summary."""
    events = (event for file in event_files(run) for event in EventFileLoader(str(file)).Load())
    return sorted((value.tag, event.step) for event in events for value in event.summary.value)


CLOCKS = {
    "five minutes back": [-300],
    "two hours back": [-7200],
    "a year back": [-YEAR],
    "to its epoch": [-time.time() + 5],
    "a year forward and back": [YEAR, 0],
    "back and back and back": [-10, -20, -30],
    "in the right direction": [10],
}


@pytest.mark.parametrize(
    "shifts",
    [
        pytest.param(shifts, id=name, marks=[] if i % 3 == 0 else pytest.mark.slow)
        for i, (name, shifts) in enumerate(CLOCKS.items())
    ],
)
def test_curves_are_those_of_a_run_alone_whatever_the_clock_does(shifts, alone, clock, tmp_path):
    model = make(tensorboard_log=str(tmp_path))
    stops = iter((90, 130, 170))
    run = go_on(model, next(stops))
    for i, shift in enumerate(shifts):
        clock.ahead = shift
        model = LectureDQN.resume(run)
        go_on(model, *([next(stops)] if i < len(shifts) - 1 else []))
    assert len(event_files(run)) == 1 + len(shifts)
    assert curves(run) == curves(alone)
    assert written(run) == written(alone)


def test_within_one_second_too(alone, clock, tmp_path):
    clock.stands_at = time.time()
    run = go_on(make(tensorboard_log=str(tmp_path)), 50)
    for stop in (90, 130, 170):
        go_on(LectureDQN.resume(run), stop)
    go_on(LectureDQN.resume(run))
    assert len(event_files(run)) == 5
    assert curves(run) == curves(alone)


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_on_another_machine_in_a_copied_folder_too(name, alone, clock, tmp_path, monkeypatch):
    run = go_on(make(tensorboard_log=str(tmp_path)), 90)
    before = {file.name: file.read_bytes() for file in event_files(run)}
    copy = shutil.copytree(run, tmp_path / "copies" / "moved")
    monkeypatch.setattr("socket.gethostname", lambda: name)
    clock.ahead = -1000
    go_on(LectureDQN.resume(copy))
    assert curves(copy) == curves(alone)
    assert {file.name: file.read_bytes() for file in event_files(run)} == before


def test_a_training_that_is_continued_without_a_checkpoint_is_in_order_too(clock, tmp_path):
    model = make()
    for shift in (0, -500, YEAR, -500):
        clock.ahead = shift
        model.set_logger(configure(str(tmp_path), ["tensorboard"]))
        model.learn(50, callback=LectureTensorBoardCallback(10, 10**6, 2), reset_num_timesteps=False)
        model.logger.close()
    steps = [event.step for event in EventAccumulator(str(tmp_path)).Reload().Scalars("memory/fill")]
    assert steps == sorted(steps)
    assert steps[-1] == 200


def test_a_clock_that_goes_back_while_training_stops_nothing(clock, tmp_path):
    class Back(BaseCallback):
        def _on_step(self):
            clock.ahead -= 60
            return True

    model = make(tensorboard_log=str(tmp_path))
    model.learn(100, callback=[Back()], log_interval=1)
    model.logger.close()
    fps = [event.value for event in EventAccumulator(model.logger.dir).Reload().Scalars("time/fps")]
    assert len(fps) > 3
    assert max(fps) < 10**6


def test_a_tensorboard_that_was_watching_sees_the_same(alone, clock, tmp_path):
    run = go_on(make(tensorboard_log=str(tmp_path)), 90)
    watching = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    clock.ahead = -300
    go_on(LectureDQN.resume(run))
    watching.Reload()
    for tag, points in curves(alone)["scalars"].items():
        if tag.islower() and not tag.startswith("time/"):  # by timestep
            assert [(event.step, event.value) for event in watching.Scalars(tag)] == points, tag


# Files of others


def content_of(folder, ours):
    """All that is in a folder but for the event files of a run, its checkpoints and what the projector shows."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file() and path not in ours}
    return {
        str(path): path.read_bytes()
        for name, path in files.items()
        if not name.parts[0].startswith(("checkpoints", "projector"))
    }


def test_a_run_leaves_all_that_is_not_its_own_in_a_shared_folder(clock, tmp_path):
    """Another run, writers of the user's from before and after the checkpoint, logs of SB3, files of TensorBoard."""
    folder = tmp_path / "shared"

    def model_in(name, stop):
        model = make()
        model.set_logger(configure(str(folder), ["tensorboard"]))
        before = set(event_files(folder))
        go_on(model, stop, save_path=folder / f"checkpoints_{name}")
        return set(event_files(folder)) - before

    writer = SummaryWriter(str(folder))
    writer.add_scalar("mine", 1.0, 1)
    writer.flush()
    before_a = set(event_files(folder))
    own = model_in("a", 90)
    assert len(own) == 1
    model_in("b", 150)
    writer.add_scalar("mine", 2.0, 2)
    writer.add_hparams({"rate": 1}, {"metric": 1.0}, run_name="hparams")
    writer.close()
    late = SummaryWriter(str(folder))
    late.add_scalar("late", 1.0, 1)
    late.close()
    (folder / "events.out.tfevents.1.host.profile-empty").touch()
    (folder / "progress.csv").write_text("of others")
    (folder / "monitor.csv").write_text("of others")
    before = content_of(folder, own)
    assert len(before) == 3 + 1 + 3
    assert {str(file) for file in before_a} < before.keys()

    resumed = LectureDQN.resume(folder / "checkpoints_a")
    assert content_of(folder, own) == before
    clock.ahead = -100
    resumed.set_logger(configure(str(folder), ["tensorboard"]))
    there = set(event_files(folder))
    go_on(resumed, save_path=folder / "checkpoints_a")
    new = set(event_files(folder)) - there
    assert len(new) == 1
    assert content_of(folder, own | new) == before
    # What is the run's own was cut, and is that of a run alone.
    for file in own | new:
        (tmp_path / "own").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "own")
    alone = make()
    alone.set_logger(configure(str(tmp_path / "alone"), ["tensorboard"]))
    go_on(alone, save_path=tmp_path / "elsewhere")
    assert curves(tmp_path / "own") == curves(tmp_path / "alone")


def test_a_run_that_goes_on_twice_from_one_checkpoint_gives_up_what_it_had_logged_since_then(alone, tmp_path):
    run = go_on(make(tensorboard_log=str(tmp_path)), 90)
    go_on(LectureDQN.resume(run), 110)  # before its next checkpoint
    assert len(event_files(run)) == 2
    go_on(LectureDQN.resume(run))
    assert len(event_files(run)) == 2
    assert curves(run) == curves(alone)


def test_a_folder_that_a_checkpoint_names_is_logged_to_only_if_it_has_the_runs_own_logs(tmp_path):
    checkpoints = LectureCheckpointCallback((1, "episode"), save_path=tmp_path / "checkpoints")
    model = LectureDQN("FrozenLake-v1", seed=0, tensorboard_log=str(tmp_path / "runs"))
    model.learn(total_episodes=3, callback=checkpoints)
    run = pathlib.Path(model._run_folder)
    assert LectureDQN.resume(tmp_path / "checkpoints").tensorboard_log == str(tmp_path / "runs")
    for file in event_files(run):
        file.unlink()
    with SummaryWriter(str(run)) as others:
        others.add_scalar("Steps", 1.0, 1)
    with pytest.warns(UserWarning, match="neither with the checkpoint nor in"):
        resumed = LectureDQN.resume(tmp_path / "checkpoints")
    assert resumed.tensorboard_log is None
    before = {file: file.read_bytes() for file in run.iterdir()}
    resumed.learn(total_episodes=5)
    assert {file: file.read_bytes() for file in run.iterdir()} == before


def test_to_resume_and_not_to_train_changes_nothing(tmp_path):
    run = go_on(make(tensorboard_log=str(tmp_path)), 90)
    before = content_of(run, [])
    model = LectureDQN.resume(run)
    model.predict(0)
    assert content_of(run, []) == before
    # Nor do logs that are to be elsewhere.
    go_on(LectureDQN.resume(run, custom_objects={"tensorboard_log": str(tmp_path / "new")}))
    assert content_of(run, []) == before


@pytest.mark.filterwarnings("ignore:the callbacks .* are not given now")
def test_logs_of_a_logger_that_is_not_given_again_are_said_to_stop(tmp_path):
    model = make()
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    go_on(model, 90, save_path=tmp_path / "checkpoints")
    before = content_of(tmp_path, [])
    resumed = LectureDQN.resume(tmp_path)
    with pytest.warns(
        UserWarning,
        match=r"the run logged to .* custom logger, which is not restored: set it again, as in model.set_logger",
    ):
        resumed.learn(100, callback=LectureCheckpointCallback(40, tmp_path / "checkpoints"))
    assert content_of(tmp_path, []) == before


def test_what_was_logged_before_training_stays(tmp_path):
    model = make()
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.logger.output_formats[0].writer.add_text("note", "of the user")
    model.learn(30)
    model.learn(30)  # another run with the same logger
    model.logger.close()
    assert len(event_files(tmp_path)) == 3
    assert "note/text_summary" in EventAccumulator(str(tmp_path)).Reload().Tags()["tensors"]


def test_copies_of_a_model_are_other_runs(tmp_path):
    model = make(tensorboard_log=str(tmp_path)).learn(30)
    model.logger.close()
    other = copy.deepcopy(model)
    for each in (model, other):
        each.learn(30, reset_num_timesteps=False)
        each.logger.close()
    marks = {file.suffix for file in event_files(pathlib.Path(model.logger.dir))}
    assert len(marks) == 2  # that of the model before it was copied is the first's


# Checkpoints of versions before 2.0 do not say whose the files are


def of_version_1(run):
    """Take away what version 1.0.0 did not have: the mark of the files in their names and in checkpoints."""
    for file in event_files(run):
        file.rename(file.with_suffix(""))
    for path in checkpoints_in(run / "checkpoints"):
        members = members_of(path.read_bytes())
        described = json.loads(members[STATE])
        logs = described["state"]["logs"]
        del logs["mark"], described["state"]["elapsed_ns"]
        logs["sizes"] = {name.rpartition(".")[0]: size for name, size in logs["sizes"].items()}
        path.write_bytes(checkpoint_of({**members, STATE: json.dumps(described).encode()}))


def test_a_run_of_version_1_goes_on_in_its_folder(alone, tmp_path):
    run = go_on(make(tensorboard_log=str(tmp_path)), 90)
    of_version_1(run)
    go_on(LectureDQN.resume(run))
    assert curves(run) == curves(alone)


@pytest.mark.filterwarnings("ignore:the callbacks .* are not given now")
def test_and_leaves_what_may_be_of_others(tmp_path):
    run = go_on(make(tensorboard_log=str(tmp_path)), 90)
    of_version_1(run)
    (run / "events.out.tfevents.2000000000.host.1.0").write_bytes(b"later")
    resumed = LectureDQN.resume(run)
    with pytest.warns(UserWarning, match=r"does not say whether events.out.tfevents.2000000000.host.1.0 belong"):
        resumed.learn(100)
    resumed.logger.close()
    assert (run / "events.out.tfevents.2000000000.host.1.0").read_bytes() == b"later"


# The writer


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 10**10 - 100), max_size=5),
    st.integers(0, 2 * 10**9),
    st.sampled_from(["a", "z", "host.name", "~"]),
)
def test_a_new_file_is_read_last(tmp_path_factory, seconds, now, host):
    folder = tmp_path_factory.mktemp("files")
    for i, second in enumerate(seconds):
        (folder / f"events.out.tfevents.{second:010d}.{host}.99999.{i}").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: float(now))
        made = [_new_file(folder, new_mark()) for _ in range(12)]
    for file in made:
        file.close()
    assert event_files(folder)[-12:] == [file.path for file in made]
    assert len(event_files(folder)) == len(seconds) + 12


def test_an_event_file_is_as_tensorboards_own(tmp_path):
    ours, theirs = SummaryWriter(str(tmp_path / "ours")), SummaryWriter(str(tmp_path / "theirs"))
    ours.file_writer.event_writer.close()
    (made,) = (tmp_path / "ours").iterdir()
    made.unlink()
    ours.file_writer.event_writer = EventFile(tmp_path / "ours" / "events.out.tfevents.1")
    for writer in (ours, theirs):
        writer.add_scalar("one", 1.5, 3, walltime=1.0)
        writer.add_text("text", "words", 4, walltime=2.0)
        writer.flush()
        writer.close()
    events = [
        [event.SerializeToString() for event in itertools.islice(EventFileLoader(str(file)).Load(), 1, None)]
        for folder in ("ours", "theirs")
        for file in (tmp_path / folder).iterdir()
    ]
    assert events[0] == events[1]
    with pytest.raises(FileExistsError):
        EventFile(tmp_path / "ours" / "events.out.tfevents.1")
