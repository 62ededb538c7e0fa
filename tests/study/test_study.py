"""Studies: plans, trials that can be stopped anywhere, and rows that are the same on every machine."""

import errno
import io
import json
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import replace

import pytest
import yaml

from sb3_lecture_dqn import LectureDQN, TabularVecEnv
from sb3_lecture_dqn.cli import main
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.study import Plan, lecture_plan, read_rows, run_plan, run_plan_on_ray, run_trial
from sb3_lecture_dqn.study import runner as runner_module
from sb3_lecture_dqn.study import table as table_module
from sb3_lecture_dqn.study import trial as trial_module
from sb3_lecture_dqn.study.runner import trials_folder
from sb3_lecture_dqn.study.table import ResultTable, _table_of
from sb3_lecture_dqn.study.trial import TEST_FIELDS, check_trials

LAKE = "FrozenLake-v1"
#: Diverges in its first updates
BAD = {"learning_rate": 1e30}
#: Long enough to be killed: it takes a second or two, with 40 checkpoints
TABLE = _table_of(1)
LONG = Plan([LAKE], {"lecture": {}}, seeds=1, timesteps=20_000, test_freq=1000)
FREQ = 500


@pytest.fixture(autouse=True)
def _workers_are_forked_from_one_that_has_imported_everything(monkeypatch):
    """Each would import for seconds; the tests of the notebooks and the slow ones spawn them."""
    monkeypatch.setattr(runner_module, "START_METHOD", "forkserver")


def same(row, result):
    """Whether a row of a table holds a trial's result, to the last bit."""
    return row["state"] == "done" and {name: row[name] for name in result} == result


@pytest.fixture(scope="module")
def long_result(tmp_path_factory):
    """The result of the long trial without interruptions and checkpoints."""
    (trial,) = LONG.trials()
    return run_trial(trial, tmp_path_factory.mktemp("alone"), checkpoint_freq=10**9)


# Plans


def test_a_plan_is_every_setting_on_every_task_by_every_seed(tmp_path):
    (tmp_path / "plan.yaml").write_text(
        """
        tasks: [FrozenLake-v1, Taxi-v3]
        settings:
          lecture:
          stock: {algorithm: dqn, train_freq: [1, episode], policy_kwargs: {net_arch: [8]}}
        seeds: 2
        timesteps: 100
        test_freq: [2, episode]
        """
    )
    plan = Plan.from_yaml(tmp_path / "plan.yaml")
    stock = {"algorithm": "dqn", "train_freq": (1, "episode"), "policy_kwargs": {"net_arch": [8]}}
    settings = {"lecture": {}, "stock": stock}
    assert plan == Plan([LAKE, "Taxi-v3"], settings, [0, 1], timesteps=100, test_freq=(2, "episode"))
    trials = plan.trials()
    settings_by_task = [(task, name) for task in (LAKE, "Taxi-v3") for name in settings]
    assert [trial.key for trial in trials] == [(*pair, seed) for seed in (0, 1) for pair in settings_by_task]
    assert (trials[1].algorithm, trials[1].timesteps, trials[1].episodes) == ("dqn", 100, None)
    assert len({trial.folder_name for trial in trials}) == len(trials)
    assert trial_module.make_model(trials[1]).train_freq.frequency == 1
    check_trials(plan)
    changed = plan.changed(seeds=3)
    assert (changed.seeds, changed.timesteps) == ((0, 1, 2), 100)


def test_every_task_of_a_plan_has_its_own_step_limit(tmp_path):
    plan = Plan(["Taxi-v3", "FrozenLake-v1", "CartPole-v1"], {"mine": {}}, 1, episodes=5)
    assert [trial.max_episode_steps for trial in plan.trials()] == [1000, 100, 500]
    given = Plan(["Taxi-v3", "FrozenLake-v1"], {"mine": {}}, 1, episodes=5, max_episode_steps=30)
    assert [trial.max_episode_steps for trial in given.trials()] == [30, 30]
    file = tmp_path / "limits.yaml"
    text = "{{tasks: [{}], settings: {{mine: }}, seeds: 1, episodes: 5, max_episode_steps: null}}"
    file.write_text(text.format("FrozenLake-v1"))
    assert Plan.from_yaml(file).trials()[0].max_episode_steps == 100
    file.write_text(text.format("Taxi-v3"))
    with pytest.raises(ValueError, match=r"null meant Taxi-v3's registered limit of 200 .* and means 1000 now"):
        Plan.from_yaml(file)


def test_a_plans_numbers_may_have_an_exponent_alone(tmp_path):
    text = "{tasks: [Taxi-v3], settings: {a: {learning_rate: 1e-3}}, seeds: 1, episodes: 3}"
    (tmp_path / "plan.yaml").write_text(text)
    plan = Plan.from_yaml(tmp_path / "plan.yaml")
    assert plan.settings["a"]["learning_rate"] == 0.001
    check_trials(plan)


@pytest.mark.parametrize("tasks", ["[not_there:Env-v0]", "{'not_there:Env-v0': 1}", "not_there:Env-v0"])
def test_a_plan_has_no_module_imported(tasks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "not_there.py").write_text("open('canary', 'w').close()")
    (tmp_path / "plan.yaml").write_text(f"tasks: {tasks}\nsettings: {{a: }}\nseeds: 1\nepisodes: 1")
    assert main(["ablate", "plan.yaml"]) == 2
    assert re.search("plan.yaml: .*(import not_there yourself|must be a list)", capsys.readouterr().err)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1", "'seed' is not an entry of a plan; known are tasks, .* .did you mean 'seeds'"),
        ("tasks: &a [Taxi-v3]\nsettings: {a: {gamma: *a}}", "anchor or alias"),
        ("tasks: [[[" + "[" * 5000, "deep"),
        ("tasks: [Taxi-v3]\nsettings: {a: }\nseeds: 1000000000000\nepisodes: 1", "seeds=1000000000000 must be"),
        ("tasks: [Taxi-v3]\nsettings: {a: , b: }\nseeds: 99999\nepisodes: 1", "are 199998 trials"),
        ("tasks: [Taxi-v3]\nsettings: {a: }\nseeds: {1: 2}\nepisodes: 1", "must be a list"),
        ('tasks: [Taxi-v3]\nsettings: {"a\\e[2J": }\nseeds: 1\nepisodes: 1', "the name .* must be text"),
    ],
    ids=lambda value: value[:30],
)
def test_a_plan_of_somebody_else_takes_neither_memory_nor_a_traceback(text, message, tmp_path, capsys):
    (tmp_path / "plan.yaml").write_text(text)
    assert main(["ablate", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "study")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert line.isprintable()
    assert not (tmp_path / "study").exists()


def test_names_of_folders_are_short_enough_and_differ():
    names = ["replay, target network", "목" * 60, "목" * 59 + "표"]
    folders = [trial.folder_name for trial in Plan([LAKE], dict.fromkeys(names), 1, episodes=1).trials()]
    assert folders[0].startswith("FrozenLake-v1__replay%2C target network__0__")
    assert all(len(folder) <= 255 for folder in folders)
    assert len(set(folders)) == 3


def test_the_lectures_plan_is_its_two_switches():
    plan = lecture_plan()
    models = [trial_module.make_model(trial) for trial in plan.trials()[:4]]
    assert [(model.store_and_replay, model.double_dqn) for model in models] == [
        *((True, True), (True, False), (False, True), (False, False))
    ]
    assert (len(plan.trials()), plan.episodes) == (80, 5000)
    changed = plan.changed(seeds=1, episodes=7)
    assert ({trial.seed for trial in changed.trials()}, changed.episodes) == ({0}, 7)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": LAKE}, "tasks='FrozenLake-v1' must be a list"),
        ({"tasks": [LAKE, LAKE]}, "tasks: 'FrozenLake-v1' is in the list more than once"),
        ({"tasks": ["FrozenLak-v1"]}, "env='FrozenLak-v1' is not a registered environment id: .*'FrozenLake-v1'"),
        ({"settings": {}}, "settings={} must be a table"),
        ({"settings": {"a": 3}}, "settings: 'a': 3 must be a table"),
        ({"settings": {"a\nb": {}}}, "settings: the name 'a.nb' must be text"),
        ({"settings": {"a": {"algorithm": "ppo"}}}, "settings: 'a': algorithm='ppo' must be one of 'lecture_dqn'"),
        ({"settings": {"a": {"policy_kwargs": {"activation_fn": LectureDQN}}}}, "settings: 'a': a plan is plain data"),
        ({"settings": {"a": {"gamma": float("nan")}}}, "settings: 'a': a plan is plain data"),
        ({"settings": {"peer": {"algorithm": "qrdqn"}}}, "settings: 'peer': .*stock qrdqn.*give timesteps"),
        ({"seeds": 0}, "seeds=0 must be an integer at least 1"),
        ({"seeds": [-1]}, "seeds=-1 must be"),
        ({"seeds": [0, "one"]}, "seeds: 'one' must be an integer"),
        ({"episodes": None}, "episodes=None and timesteps=None: give one budget"),
        ({"timesteps": 5}, "episodes=5 and timesteps=5: give one budget"),
        ({"episodes": 0}, "episodes=0 must be"),
        ({"test_freq": "often"}, "test_freq='often'"),
        ({"n_test_episodes": 0}, "n_test_episodes=0 must be"),
        ({"max_episode_steps": 0}, "max_episode_steps=0 must be"),
    ],
)
def test_a_bad_entry_is_named(entries, message):
    with pytest.raises(ValueError, match=message):
        Plan(**{"tasks": [LAKE], "settings": {"a": {}}, "seeds": 1, "episodes": 5, **entries})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"gama": 0.5}, "'a' on FrozenLake-v1: 'gama' is not a keyword of lecture_dqn in a plan; known are .*gamma"),
        ({"seed": 3}, "'seed' is not a keyword"),
        ({"gamma": 2}, "'a' on FrozenLake-v1: gamma=2 must be"),
        ({"policy": "LinearPolicy"}, "'a' on FrozenLake-v1: policy='LinearPolicy'"),
        ({"algorithm": "dqn", "double_dqn": True}, "'double_dqn' is not a keyword of dqn"),
        ({"algorithm": "dqn", "policy": "LinearPolicy"}, "'a' on FrozenLake-v1: .*LinearPolicy"),
    ],
)
def test_a_setting_that_cannot_be_made_is_named_before_anything_runs(setting, message, tmp_path):
    plan = Plan([LAKE], {"fine": {}, "a": setting}, seeds=1, timesteps=5)
    with pytest.raises(ValueError, match=f"settings: .*{message}"):
        run_plan(plan, tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "plan.yaml must be a table"),
        ("tasks: [", "plan.yaml is not YAML"),
        ("tasks: [Taxi-v3]\nseeds: 1", "plan.yaml: settings is missing"),
        ("task: Taxi-v3", "plan.yaml: 'task' is not an entry of a plan; known are tasks, settings"),
        ("tasks: [Taxi-v3]\nseeds: 1\nsettings: {a: {}}", "plan.yaml: episodes=None and timesteps=None"),
    ],
)
def test_a_bad_file_is_a_mistake_on_the_command_line(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(text)
    assert main(["ablate", "plan.yaml"]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


# Trials


def test_a_stopped_trial_continues_and_ends_like_an_uninterrupted_trial(tmp_path, monkeypatch, long_result):
    (trial,) = LONG.trials()

    def stop_at(step):
        original = LectureDQN._on_step

        def stop(self):
            original(self)
            if self.num_timesteps == step:
                raise KeyboardInterrupt

        patch.setattr(LectureDQN, "_on_step", stop)

    with monkeypatch.context() as patch:
        stop_at(5_876)
        with pytest.raises(KeyboardInterrupt):
            run_trial(trial, tmp_path, FREQ)
    assert checkpoints_in(tmp_path / trial.folder_name / "checkpoints")[0].name == "checkpoint_5500_steps.zip"
    monkeypatch.delattr(trial_module, "make_model")  # it does not begin again
    assert run_trial(trial, tmp_path, FREQ) == long_result
    assert long_result["timesteps"] == 20_000
    assert long_result["curve"]["timesteps"] == list(range(1000, 20_001, 1000))
    assert not (tmp_path / trial.folder_name / "checkpoints").exists()
    loaded = LectureDQN.load(tmp_path / trial.folder_name / "model.zip")
    assert trial_module._checksum(loaded.policy) == long_result["weights_sha256"]
    assert run_trial(trial, tmp_path, FREQ) == long_result  # it does not run again


@pytest.fixture(scope="module")
def worker():
    """A worker of a study."""
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("forkserver"), initializer=runner_module._begin_worker
    ) as pool:
        yield pool


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_an_attempt_that_only_seemed_lost_leaves_the_trial_to_its_successor(tmp_path, long_result, worker):
    (trial,) = LONG.trials()
    own = tmp_path / trial.folder_name
    pid = worker.submit(os.getpid).result()
    first = worker.submit(trial_module.attempt, trial, tmp_path, FREQ)
    wait_for(own / "checkpoints")
    os.kill(pid, signal.SIGSTOP)  # like a node that is cut off for a while
    try:
        assert run_trial(trial, tmp_path, FREQ) == long_result
        files = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "TakenOverError" in first.result()["error"]
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == files
    assert {path.name for path in files} == {"attempt", "model.zip", trial_module.RESULT}


def test_workers_train_in_compiled_stretches(worker):
    # A thread of the worker watches the parent; code that is not known would make training go step by step.
    assert worker.submit(reasons_for_steps).result() == []


def reasons_for_steps():
    """What a worker's training prints of stretches that are not possible."""
    with redirect_stdout(io.StringIO()) as printed:
        LectureDQN(LAKE, seed=0, verbose=1).learn(total_timesteps=10)
    return [line for line in printed.getvalue().splitlines() if "step by step" in line]


def test_a_checkpoint_that_was_on_its_way_when_another_attempt_ended_is_removed(tmp_path, monkeypatch, long_result):
    (trial,) = LONG.trials()
    checked = trial_module._CheckpointsOfClaim._before_save

    def cut_off(self):
        checked(self)
        if self.num_timesteps == 1000:
            monkeypatch.setattr(trial_module._CheckpointsOfClaim, "_before_save", checked)
            assert run_trial(trial, tmp_path, FREQ) == long_result

    monkeypatch.setattr(trial_module._CheckpointsOfClaim, "_before_save", cut_off)
    with pytest.warns(UserWarning, match="does not exist"), pytest.raises(trial_module.TakenOverError):
        run_trial(trial, tmp_path, FREQ)
    assert {path.name for path in (tmp_path / trial.folder_name).iterdir()} == {
        "attempt",
        "model.zip",
        trial_module.RESULT,
    }


@pytest.mark.parametrize(
    ("where", "name"),
    [
        pytest.param(trial_module.CurveCallback, "_test", id="test", marks=pytest.mark.slow),
        pytest.param(trial_module, "written_whole", id="result"),
    ],
)
def test_after_a_full_disk_a_trial_goes_on(where, name, tmp_path, monkeypatch, long_result):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    (trial,) = LONG.trials()
    with monkeypatch.context() as patch:
        patch.setattr(where, name, full)
        assert "No space left" in trial_module.attempt(trial, tmp_path, FREQ)["error"]
    assert checkpoints_in(tmp_path / trial.folder_name / "checkpoints")
    monkeypatch.delattr(trial_module, "make_model")  # it does not begin again
    assert trial_module.attempt(trial, tmp_path, FREQ) == long_result


def test_after_an_error_of_its_own_or_of_its_environment_a_trial_begins_anew(tmp_path, monkeypatch):
    """Also after an ``OSError`` of the environment: the last checkpoint would continue with new episodes."""
    trial = Plan([LAKE], {"lecture": {}}, 1, timesteps=300).trials()[0]
    assert "DivergedError" in trial_module.attempt(replace(trial, keywords=BAD), tmp_path, 100)["error"]
    assert list(tmp_path.iterdir()) == []

    step = TabularVecEnv.step_wait

    def fails(self):
        if self.n == 150:
            raise OSError("its connection is lost")
        self.n += 1
        return step(self)

    monkeypatch.setattr(TabularVecEnv, "n", 0, raising=False)
    monkeypatch.setattr(TabularVecEnv, "step_wait", fails)
    assert "its connection is lost" in trial_module.attempt(trial, tmp_path, 100)["error"]
    assert not (tmp_path / trial.folder_name / "checkpoints").exists()


def test_a_task_that_is_not_tabular_is_tested_by_episodes(tmp_path):
    settings = {"lecture": {"policy": "MlpPolicy"}}
    plan = Plan(["CartPole-v1"], settings, 1, episodes=3, test_freq=(2, "episode"), n_test_episodes=4)
    (trial,) = plan.trials()
    row = run_trial(trial, tmp_path)
    assert (row["exact"], row["n_test_episodes"], row["episodes"], row["optimality"]) == (False, 4, 3, None)
    assert row["curve"]["episodes"] == [1, 2]
    assert run_trial(trial, tmp_path / "again") == row


# Studies


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The plan, folder, rows and output of a study: this package's DQN, a setting that fails, and the stock peers."""
    folder = tmp_path_factory.mktemp("study")
    settings = {"lecture": {}, "bad": BAD, "SB3": {"algorithm": "dqn"}}
    settings["contrib"] = {"algorithm": "qrdqn", "policy_kwargs": {"net_arch": [8], "n_quantiles": 5}}
    entries = {"tasks": [LAKE], "settings": settings, "seeds": [4], "timesteps": 300, "test_freq": 100}
    (folder / "plan.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
    argv = ["ablate", str(folder / "plan.yaml"), "--processes", "1", "--out", str(folder)]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        assert main(argv) == 1  # one has failed
    return Plan(**entries), folder, read_rows(folder), out.getvalue() + err.getvalue()


def test_every_row_equals_the_row_of_its_trial_alone_and_a_failed_trial_has_its_error(study, tmp_path):
    plan, folder, rows, _ = study
    assert [(row["task"], row["setting"], row["seed"]) for row in rows] == [trial.key for trial in plan.trials()]
    for trial, row in zip(plan.trials(), rows, strict=True):
        if trial.setting == "bad":
            assert row["state"] == "failed"
            assert (
                row["error"]
                .splitlines()[-1]
                .startswith("sb3_lecture_dqn.engine.divergence.DivergedError: the loss of update 2")
            )
        else:
            assert same(row, run_trial(trial, tmp_path))
            assert row["exact"]
            assert row["curve"]["timesteps"] == [100, 200, 300]
    assert len({row["weights_sha256"] for row in rows}) == 4
    assert read_rows(folder) == rows


def test_progress_is_shown(study):
    _, _, _, printed = study
    assert "FrozenLake-v1, lecture, seed 4: 0.0% solved, 0.00 reward after" in printed
    assert "FrozenLake-v1, bad, seed 4: failed: diverged: the loss of update 2" in printed
    assert "4/4" in printed


def test_finished_trials_do_not_run_again_and_failed_trials_do(study):
    plan, folder, rows, _ = study
    table = ResultTable(folder)
    assert [trial.setting for trial in table.unfinished(plan.trials())] == ["bad"]
    without = Plan([LAKE], {name: one for name, one in plan.settings.items() if name != "bad"}, [4], timesteps=300)
    with pytest.raises(ValueError, match="has results of another trial FrozenLake-v1, lecture, seed 4"):
        run_plan(without, folder)  # its tests are at other times
    assert table.rows() == rows


def test_a_study_runs_once_at_a_time(study):
    plan, folder, _, _ = study
    with ResultTable(folder).locked(), pytest.raises(ValueError, match="another process runs this study"):
        run_plan(plan, folder)


def test_a_lock_that_cannot_be_had_is_an_error_of_the_disk(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError, match=r"directory: .*lock"), ResultTable(tmp_path).locked():
        pass


def test_the_report_is_printed_and_written(study, capsys):
    _, folder, _, printed_before = study
    assert main(["ablate", "--report", str(folder)]) == 1  # one has failed
    printed = capsys.readouterr().out
    assert printed in printed_before
    assert re.search(r"^FrozenLake-v1: solved\n(  .*\n)*  SB3 .*% +1 run\n", printed, re.MULTILINE)
    assert "Failed, and left out: FrozenLake-v1, bad, seed 4: diverged: the loss" in printed
    assert max(len(line) for line in printed.splitlines() if not line.startswith("Figure: ")) <= 80
    written = (folder / "report.md").read_text()
    assert "| FrozenLake-v1 | SB3 | 1 | 0 | " in written
    assert "| FrozenLake-v1 | bad | 0 | 1 |  |" in written
    assert (folder / "report.csv").read_text().count("\n") == 5
    assert (folder / "report.png").stat().st_size > 10_000


# Ray's own handler of SIGTERM exits with the signal's number.
@pytest.mark.parametrize(
    ("stop", "exit_code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (SystemExit(15), 143)]
)
def test_a_study_that_is_stopped_says_how_to_go_on(stop, exit_code, study, monkeypatch, capsys):
    _, folder, _, _ = study

    def stopped(*args, **kwargs):
        raise stop

    monkeypatch.setattr("sb3_lecture_dqn.study.run_plan", stopped)
    assert main(["ablate", str(folder / "plan.yaml"), "--out", str(folder)]) == exit_code
    assert f"Interrupted: 3 of 4 runs are done in {folder}.\nTo go on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--report", "study", "--seeds", "3"], "--report runs nothing"),
        (["--report", "study", "--out", "other"], "--report runs nothing: leave out the plan, --out"),
        (["--seeds", "0"], "seeds=0 must be an integer at least 1"),
        (["--processes", "0"], "processes=0 must be"),
        (["--ray"], "a study on Ray needs Ray Tune: pip install 'sb3-lecture-dqn[ray]'"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert main(["ablate", *argv]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_is_damaged_is_a_mistake(tmp_path, capsys):
    (tmp_path / "results.sqlite").write_text("no table at all, " * 100)
    assert main(["ablate", "--report", str(tmp_path)]) == 2
    assert f"{tmp_path / 'results.sqlite'}: file is not a database" in capsys.readouterr().err


def done_row(**changed):
    """Return a row that a study would write, with changes."""
    (trial,) = Plan([LAKE], {"a": {}}, seeds=1, episodes=3).trials()
    tests = {name: [0.5] for name in TEST_FIELDS}
    row = {
        **{"task": LAKE, "setting": "a", "seed": 0, "definition": trial.definition, "state": "done", "error": None},
        **{"timesteps": 9, "episodes": 3, **dict.fromkeys(TEST_FIELDS, 0.5), "n_test_episodes": 1, "exact": 1},
        **{"weights_sha256": "0", "curve": json.dumps({"episodes": [1], "timesteps": [3], **tests})},
    }
    return {**row, **changed}


def write_table(folder, *rows, before="", after="", table=TABLE):
    """Write a file of results from somebody else."""
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / "results.sqlite")) as connection, connection:
        connection.executescript(f"{before}; {table}")
        for row in rows:
            connection.execute(f"INSERT INTO trials VALUES ({', '.join('?' * len(row))})", list(row.values()))
        connection.executescript(after)


NAMES = ", ".join(f"x AS {name}" for name in done_row())
ENDLESS = f"CREATE VIEW trials AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {NAMES} FROM c"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"table": ENDLESS}, "it has view 'trials'"),
        ({"table": f"CREATE TABLE trials ({', '.join(done_row())})"}, "it is not a table of a study"),
        (
            {"table": _table_of(1).replace("curve TEXT", "curve TEXT AS (zeroblob(900000000))")},
            "it is not a table of a study",
        ),
        ({"table": "CREATE TABLE others (a)"}, "it has table 'others'"),
        ({"table": ""}, "it has no table"),
        ({"table": "CREATE VIRTUAL TABLE trials USING fts4(task)"}, "it is not a table of a study"),
        (
            {"after": "CREATE VIEW others AS SELECT 1"},
            "it is not a table of a study: it has table 'trials', view 'others'",
        ),
        (
            {"after": "CREATE TRIGGER t AFTER UPDATE ON trials BEGIN DELETE FROM trials; END"},
            "it is not a table of a study: it has table 'trials', trigger 't'",
        ),
        (
            {"after": "CREATE INDEX i ON trials (abs(seed))"},
            "it is not a table of a study: it has table 'trials', index 'i'",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_file_that_is_no_table_of_a_study_is_refused(written, message, tmp_path, capsys):
    write_table(tmp_path / "study", **written)
    before = (tmp_path / "study" / "results.sqlite").read_bytes()
    assert main(["ablate", "--report", str(tmp_path / "study")]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["results.sqlite"]
    assert (tmp_path / "study" / "results.sqlite").read_bytes() == before
    if "after" in written:  # it is not changed either
        with pytest.raises(OSError, match="it is not a table of a study"):
            ResultTable(tmp_path / "study")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"task": 3.5}, None),  # SQLite converts it to text
        ({"task": b"Taxi"}, "task=b'Taxi' must be text"),
        ({"task": "a\x1b[2J"}, "task='a.*x1b.2J' must be text in one line"),
        ({"setting": "x" * 201}, "setting=.* at most 200 letters"),
        ({"setting": ""}, "setting=''"),
        ({"state": "gone"}, "state='gone' must be one of"),
        ({"state": "failed"}, "error=None must be text"),
        ({"state": "failed", "error": ""}, None),
        ({"state": "failed", "error": "\x1b[2J"}, None),
        ({"seed": "one"}, "seed='one' must be an integer"),
        ({"definition": "[" * 100_000}, "recursion|nest"),
        ({"definition": "[]"}, "definition must be a table"),
        ({"definition": "{}"}, "test_freq=0"),
        ({"definition": "{"}, "Expecting"),
        ({"mean_reward": "much"}, "mean_reward='much' must be a number"),
        ({"mean_reward": None}, "mean_reward=None must be a number"),
        ({"mean_reward": 1e300}, "mean_reward=1e.300 must be"),
        ({"success_rate": float("inf")}, "success_rate=inf must be"),
        ({"optimality": None}, None),
        ({"curve": None}, "curve must be a table"),
        ({"curve": "[[[["}, "Expecting"),
        ({"curve": "{}"}, "curve must be a table with"),
        ({"curve": json.dumps({**json.loads(done_row()["curve"]), "timesteps": [1, 2]})}, "'timesteps' must be a list"),
        ({"curve": json.dumps({**json.loads(done_row()["curve"]), "timesteps": ["a"]})}, "curve: timesteps='a'"),
        ({"curve": json.dumps({**json.loads(done_row()["curve"]), "episodes": 3})}, "must be a list"),
        # Python 3.10 cannot set SQLite's limit.
        ({"weights_sha256": "x" * 2**21}, "string or blob too big" if sys.version_info >= (3, 11) else None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_row_that_no_study_writes_is_named(changed, message, tmp_path, capsys):
    write_table(
        tmp_path / "study", done_row(), done_row(seed=1, **changed) if "seed" not in changed else done_row(**changed)
    )
    code = main(["ablate", "--report", str(tmp_path / "study")])
    out, err = capsys.readouterr()
    assert out.replace("\n", "").isprintable()
    if message is None:
        assert code == int(changed.get("state") == "failed")
    else:
        assert code == 2
        (line,) = err.splitlines()
        assert line.isprintable()
        assert re.search(f"results.sqlite: (no study writes row 2: )?.*({message})", line)


def test_names_in_a_report_are_text_and_no_formula_of_a_spreadsheet(tmp_path):
    write_table(tmp_path / "a", done_row(setting="<img src=x> | a"), done_row(setting="=HYPERLINK(1)"))
    assert main(["ablate", "--report", str(tmp_path / "a")]) == 0
    report = (tmp_path / "a" / "report.md").read_text()
    assert "&lt;img src=x> \\| a" in report
    assert "<img" not in report
    assert "'=HYPERLINK(1)" in (tmp_path / "a" / "report.csv").read_text()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_report_waits_for_no_pipe_and_follows_no_link_to_write(tmp_path, capsys):
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "results.sqlite")
    assert main(["ablate", "--report", str(tmp_path / "pipe")]) == 2
    assert "is not the folder of a study" in capsys.readouterr().err
    for name in ("report.md", "report.csv", "report.png"):
        write_table(tmp_path / name, done_row())
        (tmp_path / "mine").write_text("mine")
        (tmp_path / name / name).symlink_to(tmp_path / "mine")
        assert main(["ablate", "--report", str(tmp_path / name)]) == 2
        assert f"{name} is a symbolic link" in capsys.readouterr().err
        assert (tmp_path / "mine").read_text() == "mine"


def test_names_of_settings_are_no_formulas_and_a_large_report_is_refused(tmp_path, capsys):
    write_table(tmp_path / "a", done_row(setting="$\\frac{$"), done_row(setting="$x$"))
    assert main(["ablate", "--report", str(tmp_path / "a")]) == 0
    assert "| $x$ |" in (tmp_path / "a/report.md").read_text()
    assert "\n  $x$ " in capsys.readouterr().out
    write_table(tmp_path / "b", *(done_row(setting=str(n)) for n in range(501)))
    assert main(["ablate", "--report", str(tmp_path / "b")]) == 2
    assert "the study has 501 pairs of task and setting" in capsys.readouterr().err
    write_table(tmp_path / "c", *(done_row(task=str(n)) for n in range(41)))
    assert main(["ablate", "--report", str(tmp_path / "c")]) == 0
    assert "No figure is drawn: the study has 41 tasks" in capsys.readouterr().out


def test_words_of_a_result_are_no_sql(tmp_path):
    (trial,) = Plan([LAKE], {"a": {}}, seeds=1, episodes=3).trials()
    table = ResultTable(tmp_path)
    table.add([trial])
    with pytest.raises(ValueError, match=r"its result has 'setting = .*which is not a column"):
        table.record(trial, {"setting = (SELECT 1), episodes": 3})
    assert [row["state"] for row in table.rows()] == ["waiting"]


def test_where_no_study_is_there_is_no_report(tmp_path, capsys):
    assert main(["ablate", "--report", str(tmp_path)]) == 2
    assert "is not the folder of a study" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def wait_for(checkpoints, n_steps=1500):
    """Wait until a training has come so far."""
    deadline = time.monotonic() + 120
    while not any(int(path.stem.split("_")[1]) >= n_steps for path in checkpoints_in(checkpoints)):
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_worker_that_is_killed_and_ctrl_c_cost_nothing_but_time(tmp_path, long_result):
    (trial,) = LONG.trials()
    checkpoints = trials_folder(tmp_path) / trial.folder_name / "checkpoints"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
    others = set(multiprocessing.active_children())
    done = []

    def kill_and_interrupt():
        wait_for(checkpoints)
        (worker,) = set(multiprocessing.active_children()) - others
        os.kill(worker.pid, signal.SIGKILL)
        done.append("killed")
        wait_for(checkpoints, int(checkpoints_in(checkpoints)[0].stem.split("_")[1]) + 1)  # another worker continues
        os.kill(os.getpid(), signal.SIGINT)
        done.append("interrupted")

    user = threading.Thread(target=kill_and_interrupt)
    user.start()
    try:
        with (
            pytest.warns(UserWarning, match="seed 0: its process was lost, and it continues from its last checkpoint"),
            pytest.raises(KeyboardInterrupt),
        ):
            run_plan(LONG, tmp_path, processes=1, checkpoint_freq=FREQ, progress=False)
    finally:
        user.join()
        signal.signal(signal.SIGINT, before)
    assert done == ["killed", "interrupted"]
    assert set(multiprocessing.active_children()) <= others
    assert [row["state"] for row in read_rows(tmp_path)] == ["waiting"]
    stopped_at = int(checkpoints_in(checkpoints)[0].stem.split("_")[1])
    assert 1500 < stopped_at < 20_000
    # As the next call would; in this process, for a new worker would mostly import.
    assert trial_module.attempt(trial, trials_folder(tmp_path), FREQ) == long_result


SCRIPT = """
import sys
from sb3_lecture_dqn.study import run_plan
from tests.study.test_study import FREQ, LONG
if __name__ == "__main__":
    run_plan(LONG, sys.argv[1], processes=1, checkpoint_freq=FREQ)
"""


@pytest.mark.slow
def test_a_study_whose_first_process_is_killed_goes_on(tmp_path, long_result):
    (trial,) = LONG.trials()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    running = subprocess.Popen([sys.executable, script, tmp_path / "study"], env=environment, stderr=subprocess.PIPE)
    wait_for(trials_folder(tmp_path / "study") / trial.folder_name / "checkpoints")
    running.kill()
    running.communicate(timeout=120)  # until its worker has ended, which has the same pipe
    assert [row["state"] for row in read_rows(tmp_path / "study")] == ["waiting"]
    (row,) = run_plan(LONG, tmp_path / "study", processes=1, checkpoint_freq=FREQ, progress=False)
    assert same(row, long_result)


@pytest.mark.slow
def test_two_nodes_of_a_ray_cluster_one_of_which_is_lost(tmp_path, monkeypatch):
    """The trial of the lost node continues on the other node, and all rows are equal to those of single trials."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # keeps Ray on 127.0.0.1; read on import
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default it is 15, which starves beside other tests
    import ray
    from ray.cluster_utils import Cluster

    plan = Plan([LAKE], {"lecture": {}, "bad": BAD}, seeds=3, timesteps=60_000, test_freq=5000)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": "127.0.0.1"})
    second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    removed = []

    def remove():
        for trial in [trial for trial in plan.trials() if trial.setting == "lecture"][:2]:
            wait_for(trials_folder(tmp_path) / trial.folder_name / "checkpoints")
        cluster.remove_node(second, allow_graceful=False)
        removed.append(second)

    try:
        ray.init(cluster.address, log_to_driver=False)
        remover = threading.Thread(target=remove)
        remover.start()
        rows = run_plan_on_ray(plan, tmp_path, checkpoint_freq=FREQ, progress=False)
        remover.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len(removed) == 1
    assert list((tmp_path / "ray").rglob("error.txt"))  # Ray writes it for a lost trial
    assert [row["state"] for row in rows] == ["done", "failed"] * 3
    for trial, row in zip(plan.trials()[::2], rows[::2], strict=True):
        assert same(row, run_trial(trial, tmp_path / "alone", checkpoint_freq=10**9))


# The schema of results.sqlite has a version


def test_the_table_of_version_1_stays():
    """Files with any other definition are refused, so a new field must not change it."""
    written = """
    CREATE TABLE trials (
        task TEXT NOT NULL, setting TEXT NOT NULL, seed INTEGER NOT NULL,
        definition TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', error TEXT,
        timesteps INTEGER, episodes INTEGER, mean_reward REAL, mean_steps REAL, mean_penalties REAL, success_rate REAL,
        optimality REAL, n_test_episodes INTEGER, exact INTEGER, weights_sha256 TEXT, curve TEXT,
        PRIMARY KEY (task, setting, seed)
    )
    """
    assert _table_of(1).split() == written.split()


def test_the_results_of_version_1_0_are_read_and_numbered(tmp_path):
    plan = Plan([LAKE], {"mine": {}}, episodes=1, seeds=1)
    table = ResultTable(tmp_path)
    table.add(plan.trials())
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as connection, connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        connection.execute("PRAGMA user_version = 0")  # as version 1.0 wrote it
    assert len(read_rows(tmp_path)) == 1
    assert len(ResultTable(tmp_path).rows()) == 1
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as connection, connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_table_of_a_later_version_is_refused_by_its_number(tmp_path):
    ResultTable(tmp_path)
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as connection, connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(OSError, match="its table has version 2, and this package reads versions up to 1"):
        read_rows(tmp_path)
    with pytest.raises(OSError, match="its table has version 2"):
        ResultTable(tmp_path)


def test_a_new_column_finds_its_way_into_an_old_table(tmp_path, monkeypatch):
    plan = Plan([LAKE], {"mine": {}}, episodes=1, seeds=2)
    ResultTable(tmp_path).add(plan.trials())
    before = read_rows(tmp_path)
    monkeypatch.setattr(table_module, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(table_module._RESULTS, "mean_return", "REAL")
    monkeypatch.setitem(table_module._ADDED_IN, "mean_return", 2)
    assert read_rows(tmp_path) == [{**row, "mean_return": None} for row in before]
    table = ResultTable(tmp_path)
    table.record(plan.trials()[1], {"mean_return": 0.5, "error": "stopped"})
    assert [row["mean_return"] for row in table.rows()] == [None, 0.5]
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as connection, connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
