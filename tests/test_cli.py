"""The command line: what it leaves behind, what it prints, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import sb3_lecture_dqn
from sb3_lecture_dqn import LectureDQN, cli
from sb3_lecture_dqn.cli import main
from sb3_lecture_dqn.common import episodic

RUN_NAME = r"SR_{}_DD_{}_\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?"
FIGURES = r"\d+ test episodes: [\d.]+ steps, [\d.]+ penalties, -?[\d.]+ reward, [\d.]+% solved, optimality -?[\d.]+"


def train(folder, *options, episodes=3):
    """Exit code of a short training whose run goes to a folder."""
    budget = [] if episodes is None else ["--episodes", str(episodes)]
    return main(["train", *budget, "--test-episodes", "5", "--out", str(folder), "--seed", "1", *options])


def run_folder(folder):
    (run,) = folder.iterdir()
    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a model."""
    folder = tmp_path_factory.mktemp("runs")
    assert train(folder, "--quiet") == 0
    return run_folder(folder) / "model.zip"


def test_a_run_leaves_the_model_and_the_lectures_curves(tmp_path, capsys):
    assert train(tmp_path / "runs") == 0
    run = run_folder(tmp_path / "runs")
    assert re.fullmatch(RUN_NAME.format(True, True), run.name)
    (events,) = run.glob("events.out.tfevents.*")
    assert sorted(run.iterdir()) == sorted([events, run / "model.zip"])
    curves = EventAccumulator(str(events)).Reload()
    for name in ("Steps", "Penalty", "Reward"):
        assert [event.step for event in curves.Scalars(name)] == [1]
    loaded = LectureDQN.load(run / "model.zip")
    assert loaded._episode_num == 3
    assert loaded.seed == 1
    out = capsys.readouterr().out
    assert f"Training LecturePolicy on Taxi-v3 ({loaded.engine_in_use} engine). Logs and model: {run}\n" in out
    assert re.search(rf"Episode 1, step \d+: {FIGURES}", out)
    assert f"Done after 3 episodes, {loaded.num_timesteps} steps." in out
    assert re.search(f"Last test: {FIGURES}", out)
    assert f"sb3-lecture-dqn test {run / 'model.zip'}" in out
    assert f"tensorboard --logdir {tmp_path / 'runs'}" in out


@pytest.mark.parametrize(
    ("options", "store_and_replay", "double_dqn"),
    [
        (["--no-store-and-replay"], False, True),
        (["--no-double-dqn"], True, False),
        (["--no-store-and-replay", "--no-double-dqn"], False, False),
        (["--store-and-replay", "--double-dqn"], True, True),
    ],
)
def test_the_lectures_switches_are_in_the_name_and_in_the_model(options, store_and_replay, double_dqn, tmp_path):
    assert train(tmp_path, "--quiet", *options, episodes=1) == 0
    run = run_folder(tmp_path)
    assert re.fullmatch(RUN_NAME.format(store_and_replay, double_dqn), run.name)
    loaded = LectureDQN.load(run / "model.zip")
    assert (loaded.store_and_replay, loaded.double_dqn) == (store_and_replay, double_dqn)


def test_environment_policy_engine_and_budget_in_steps_are_options(tmp_path, capsys):
    options = ["--env", "FrozenLake-v1", "--policy", "TablePolicy", "--engine", "torch", "--timesteps", "40"]
    assert train(tmp_path, *options, episodes=None) == 0
    loaded = LectureDQN.load(run_folder(tmp_path) / "model.zip")
    assert (loaded.env_id, loaded.num_timesteps, loaded.engine) == ("FrozenLake-v1", 40, "torch")
    assert type(loaded.policy).__name__ == "TablePolicy"
    assert "Training TablePolicy on FrozenLake-v1 (torch engine)" in capsys.readouterr().out


def test_without_a_budget_it_is_the_lectures(tmp_path, monkeypatch):
    monkeypatch.setattr(episodic, "DEFAULT_TOTAL_EPISODES", 2)
    assert train(tmp_path, "--quiet", episodes=None) == 0
    assert LectureDQN.load(run_folder(tmp_path) / "model.zip")._episode_num == 2


def test_quiet_leaves_the_last_test_and_no_bar(tmp_path, capfd):
    assert train(tmp_path, "--quiet") == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("Done after 3 episodes")
    assert re.fullmatch(f"Last test: {FIGURES}", lines[1])
    assert len(lines) == 4


def test_a_bar_shows_the_episodes(tmp_path, capfd):
    assert train(tmp_path) == 0
    assert "3/3" in capfd.readouterr().err


def test_a_run_can_be_repeated_by_its_seed(tmp_path, capsys):
    def last_test(seed, folder):
        assert train(tmp_path / folder, "--quiet", "--seed", seed) == 0
        return capsys.readouterr().out.splitlines()[:2]

    assert last_test("7", "a") == last_test("7", "b") != last_test("8", "c")


# Testing a saved model


def test_a_test_prints_the_figures_and_can_be_repeated(tmp_path, capsys):
    """On slippery ice, where episodes of one agent differ: one that always goes right gets off the lake at times."""
    model = LectureDQN("TablePolicy", "FrozenLake-v1")
    model.q_net.layers[0].weight.data[:, 2] = 1.0
    model.save(tmp_path / "model")

    def test(*options):
        assert main(["test", str(tmp_path / "model.zip"), "--episodes", "20", *options]) == 0
        return capsys.readouterr().out

    one = test("--seed", "3")
    assert re.fullmatch(FIGURES + "\n", one)
    assert one.startswith("20 test episodes")
    assert test("--seed", "3") == one
    assert len({test("--seed", str(seed)) for seed in range(4, 10)} | {one}) > 1


def test_a_model_is_tested_on_another_environment_if_asked(model, capsys):
    assert main(["test", str(model.with_suffix("")), "--env", "Taxi-v3", "--episodes", "3", "--seed", "0"]) == 0
    assert capsys.readouterr().out.startswith("3 test episodes")


# Mistakes


def mistake(argv, capsys):
    """What is printed for arguments that are wrong."""
    try:
        code = main(argv)
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "--episodes", "3", "--timesteps", "3"], "--timesteps: not allowed with argument --episodes"),
        (["train", "--episodes", "0"], "--episodes=0 must be an integer at least 1"),
        (["train", "--timesteps", "0"], "--timesteps=0 must be an integer at least 1"),
        (["train", "--test-episodes", "0"], "--test-episodes=0 must be an integer at least 1"),
        (["train", "--episodes", "many"], "--episodes: invalid int value: 'many'"),
        (["train", "--env", "Taxy-v3"], "env='Taxy-v3' is not a registered environment id: .* 'Taxi-v3'"),
        (["train", "--policy", "LinearPolicy"], "--policy: invalid choice: 'LinearPolicy'"),
        (["train", "--engine", "gpu"], "--engine: invalid choice: 'gpu'"),
        (["train", "--engine", "numba", "--policy", "MlpPolicy"], "engine='numba'.*'auto' or 'torch'"),
        (
            ["train", "--env", "CartPole-v1", "--policy", "TablePolicy"],
            "TablePolicy needs a Discrete observation space",
        ),
        (["train", "--env", "Pendulum-v1", "--policy", "MlpPolicy"], "Box.*Discrete|Discrete.*Box"),
        (["train", "--seed", "-1"], "seed=-1|[Ss]eed must be between 0"),
        (["test", "nowhere.zip"], "nowhere.zip"),
        (["test", "MODEL", "--episodes", "0"], "episodes=0 must be an integer at least 1"),
        (["test", "MODEL", "--max-episode-steps", "0"], "max.episode.steps=0 must be an integer at least 1"),
        (["test", "MODEL", "--env", "Taxy-v3"], "env='Taxy-v3' is not a registered environment id: .* 'Taxi-v3'"),
        (["test", "MODEL", "--env", "FrozenLake-v1"], r"Discrete\(16\).*the model needs Discrete\(500\)"),
        (["test", __file__], r"test_cli\.py.* holds no LectureDQN model"),
        ([], "required: COMMAND"),
        (["play"], "invalid choice: 'play'"),
    ],
    ids=lambda x: " ".join(x).replace(__file__, "test_cli.py") if isinstance(x, list) else "",
)
def test_a_mistake_is_answered_by_one_line_and_the_exit_code_2(argv, message, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = mistake([str(model) if word == "MODEL" else word for word in argv], capsys)
    assert re.match(rf"sb3-lecture-dqn( train| test)?: error: .*({message})", line)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_mistake(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "file" in mistake(["train", "--episodes", "1", "--out", str(tmp_path / "file")], capsys)


@pytest.mark.parametrize("argv", [["--version"], ["--help"], ["train", "--help"], ["test", "--help"]])
def test_help_and_version_are_printed(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out == f"sb3-lecture-dqn {sb3_lecture_dqn.__version__}\n" if argv == ["--version"] else "usage:" in out


def test_the_examples_of_the_help_are_commands():
    commands = [line.split("  ")[1] for line in cli.EXAMPLES.splitlines() if line.startswith("  sb3-lecture-dqn")]
    assert len(commands) == 8
    for command in commands:
        cli._parser().parse_args(command.split()[1:])


# As a process


def process(*argv, **kwargs):
    code = "import sys; from sb3_lecture_dqn.cli import main; sys.exit(main())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, "-c", code, *argv], env=environment, text=True, **kwargs)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another signal there")
def test_ctrl_c_saves_the_model_and_exits_with_1(tmp_path):
    argv = ["train", "--test-episodes", "5", "--out", str(tmp_path / "runs"), "--engine", "torch"]
    with open(tmp_path / "out", "w") as out, open(tmp_path / "err", "w") as err:
        # Jobs that a shell has put in the background ignore Ctrl-C, and so would this one if it were to inherit that.
        heed_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        running = process(*argv, stdout=out, stderr=err, preexec_fn=heed_ctrl_c)
        # The test after the first episode shows that it trains.
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and running.poll() is None:
            files = list((tmp_path / "runs").glob("*/events*"))
            if files and "Reward" in EventAccumulator(str(files[0])).Reload().Tags()["scalars"]:
                break
            time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        code = running.wait(timeout=120)
    printed, errors = (tmp_path / "out").read_text(), (tmp_path / "err").read_text()
    assert code == 1, errors
    assert "Traceback" not in errors
    loaded = LectureDQN.load(run_folder(tmp_path / "runs") / "model.zip")
    assert 0 < loaded._episode_num < 5000
    assert f"Interrupted after {loaded._episode_num} episodes, {loaded.num_timesteps} steps." in printed
    assert re.search(f"Last test: {FIGURES}", printed)


def test_a_mistake_is_the_exit_code_of_the_process(tmp_path):
    running = process("train", "--env", "Taxy-v3", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 2
    assert out == ""
    assert err.startswith("sb3-lecture-dqn: error: env='Taxy-v3'")
    assert len(err.splitlines()) == 1
