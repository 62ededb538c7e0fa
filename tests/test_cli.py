"""The command line: its files, its output and its exit codes."""

import argparse
import os
import re
import runpy
import signal
import sys
import time

import gymnasium as gym
import pytest
import torch as th
import yaml
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata

import sb3_lecture_dqn
from sb3_lecture_dqn import LectureDQN, LectureQRDQN, LectureTestCallback, cli, exact_test
from sb3_lecture_dqn.algorithms import load_model
from sb3_lecture_dqn.cli import main
from sb3_lecture_dqn.commands import COMMANDS, train_run
from sb3_lecture_dqn.commands import train as train_command
from sb3_lecture_dqn.common.checks import check_finite
from sb3_lecture_dqn.study import lecture_plan
from sb3_lecture_dqn.training import schedule
from tests.forked import Forked

RUN_NAME = r"SR_{}_DD_{}_\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?"
AVERAGES = r"[\d.]+ steps, [\d.]+ penalties, -?[\d.]+ reward, [\d.]+% solved(, optimality [\d.]+)?"
FIGURES = rf"\d+ test episodes: {AVERAGES}"
#: The lecture's lines after a training, and the share of solved episodes
RESULTS = (
    r"Results after 5 episodes:\nAverage timesteps per episode: \d+\.\d+\nAverage penalty per episode: \d+\.\d+\n"
    r"Average reward per episode: -\d+\.\d+\nSolved episodes: [\d.]+%"
)


def train(folder, *options, episodes=3):
    """Train for a few episodes with runs in a folder. Return the exit code."""
    budget = [] if episodes is None else ["--episodes", str(episodes)]
    return main(["train", *budget, "--test-episodes", "5", "--out", str(folder), "--seed", "1", *options])


def run_folder(folder):
    (run,) = folder.iterdir()
    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The path of a model's file."""
    folder = tmp_path_factory.mktemp("runs")
    assert train(folder, "--quiet") == 0
    return run_folder(folder) / "model.zip"


def test_a_run_leaves_the_model_and_the_lectures_curves(tmp_path, capsys):
    assert train(tmp_path / "runs") == 0
    run = run_folder(tmp_path / "runs")
    assert re.fullmatch(RUN_NAME.format(True, True), run.name)
    (events,) = run.glob("events.out.tfevents.*")
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml", events.name, "model.zip"]
    curves = EventAccumulator(str(events)).Reload()
    for name in ("Steps", "Penalty", "Reward"):
        assert [event.step for event in curves.Scalars(name)] == [1, 3]  # the last test is at the end
    loaded = LectureDQN.load(run / "model.zip")
    assert loaded._episode_num == 3
    assert loaded.seed == 1
    out = capsys.readouterr().out
    assert f"Training LecturePolicy on Taxi-v3, seed 1 ({loaded.engine_in_use} engine)\nLogs and model: {run}\n" in out
    assert re.search(rf"Episode 1, step \d+: {FIGURES}", out)
    assert f"Done after 3 episodes, {loaded.num_timesteps} steps." in out
    assert "Action Space Discrete(6)\nState Space Discrete(500)\nStore & replay: True\nDouble DQN: True\n" in out
    assert "Training finished.\n" in out
    assert re.search(RESULTS, out)
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
    assert "Training TablePolicy on FrozenLake-v1, seed 1 (torch engine)" in capsys.readouterr().out


def test_without_a_budget_it_is_the_lectures(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "DEFAULT_TOTAL_EPISODES", 2)
    assert train(tmp_path, "--quiet", episodes=None) == 0
    assert LectureDQN.load(run_folder(tmp_path) / "model.zip")._episode_num == 2


def test_every_run_has_its_settings_in_hparams_and_a_note_on_the_axes(tmp_path):
    assert train(tmp_path, "--quiet") == 0
    events = EventAccumulator(str(run_folder(tmp_path))).Reload()
    assert len(events.PluginTagToContent(hparams_metadata.PLUGIN_NAME)) == 3
    assert events.Tags()["tensors"] == ["x axes of the curves/text_summary"]
    assert "final/optimality" in events.Tags()["scalars"]


def test_pictures_come_as_often_as_asked(tmp_path):
    options = ["--env", "FrozenLake-v1", "--pictures", "--quiet"]
    for folder, more, n in (("a", [], 11), ("b", ["--image-freq", "5"], 5)):
        assert train(tmp_path / folder, *options, *more, episodes=20) == 0
        run = run_folder(tmp_path / folder)
        assert run.name.startswith("frozenlake-v1_seed1_")
        assert len(EventAccumulator(str(run), {"images": 0}).Reload().Images("values/learned")) == n
    again = ["train", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "c"), "--quiet"]
    assert main(again) == 0
    events = EventAccumulator(str(run_folder(tmp_path / "c")), {"images": 0}).Reload()
    assert len(events.Images("values/learned")) == 5


def test_quiet_leaves_the_last_test_and_no_bar(tmp_path, capfd):
    assert train(tmp_path, "--quiet") == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("Done after 3 episodes")
    assert re.fullmatch(RESULTS, "\n".join(lines[1:6]))
    assert len(lines) == 8


def test_compact_tests_are_a_table(tmp_path, capsys):
    assert train(tmp_path, "--compact", episodes=51) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("  episode        step      steps  penalties     reward   solved")
    assert [line.split()[0] for line in lines[at + 1 : at + 3]] == ["1", "50"]
    assert max(map(len, lines[at : at + 3])) <= 80
    assert "compact" not in (run_folder(tmp_path) / "config.yaml").read_text()
    assert main(["train", "--resume", str(run_folder(tmp_path)), "--compact"]) == 0


def test_compact_and_quiet_contradict_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tmp_path, "--compact", "--quiet")
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_bar_shows_the_episodes(tmp_path, capfd):
    assert train(tmp_path) == 0
    assert "3/3" in capfd.readouterr().err


def test_a_run_can_be_repeated_by_its_seed(tmp_path, capsys):
    def last_test(seed, folder):
        assert train(tmp_path / folder, "--quiet", "--seed", seed) == 0
        return capsys.readouterr().out.splitlines()[:2]

    assert last_test("7", "a") == last_test("7", "b") != last_test("8", "c")


def test_a_run_without_a_seed_draws_one_and_can_be_repeated_by_its_file(tmp_path, capsys):
    options = ["train", "--episodes", "2", "--test-episodes", "5", "--out"]
    assert main([*options, str(tmp_path / "a")]) == 0
    run = run_folder(tmp_path / "a")
    seed = yaml.safe_load((run / "config.yaml").read_text())["seed"]
    first, *_, last = (line for line in capsys.readouterr().out.splitlines() if re.search("seed |Average r", line))
    assert f", seed {seed} (" in first
    assert main(["train", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "b")]) == 0
    assert last in capsys.readouterr().out
    one, other = (LectureDQN.load(run_folder(tmp_path / folder) / "model.zip") for folder in "ab")
    assert one.seed == other.seed == seed
    for a, b in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        assert a.equal(b)
    assert main([*options, str(tmp_path / "c")]) == 0
    assert LectureDQN.load(run_folder(tmp_path / "c") / "model.zip").seed != seed


# Options in files, and runs that continue


def stop_after(monkeypatch, episodes):
    """Raise KeyboardInterrupt after some episodes."""
    original = LectureTestCallback._on_rollout_start

    def stop(self):
        original(self)
        if self.model._episode_num == episodes:
            raise KeyboardInterrupt

    monkeypatch.setattr(LectureTestCallback, "_on_rollout_start", stop)


def test_a_stopped_run_continues_and_ends_like_an_uninterrupted_run(tmp_path, monkeypatch, capsys):
    options = ["--checkpoint-freq", "2"]
    assert train(tmp_path / "whole", *options, episodes=7) == 0
    whole = LectureDQN.load(run_folder(tmp_path / "whole") / "model.zip")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert train(tmp_path / "stopped", *options, episodes=7) == 130
    run = run_folder(tmp_path / "stopped")
    printed = capsys.readouterr().out
    assert "Interrupted after 5 episodes" in printed
    assert f"To go on: sb3-lecture-dqn train --resume {run}\n" in printed
    assert main(["train", "--resume", str(run)]) == 0
    printed = capsys.readouterr().out
    assert f"Continuing after 4 episodes: LecturePolicy on Taxi-v3, seed 1 ({whole.engine_in_use} engine)\n" in printed
    assert "Done after 7 episodes" in printed
    model = LectureDQN.load(run / "model.zip")
    assert model.num_timesteps == whole.num_timesteps
    for one, other in zip(model.policy.parameters(), whole.policy.parameters(), strict=True):
        assert one.equal(other)


def test_a_run_that_is_done_is_left_as_it_is(tmp_path, capsys):
    assert train(tmp_path, "--quiet") == 0
    run = run_folder(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 0
    steps = LectureDQN.load(run / "model.zip").num_timesteps
    assert capsys.readouterr().out == f"Already done after 3 episodes, {steps} steps: {run / 'model.zip'}\n"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    (run / "model.zip").unlink()  # the process was killed before it saved the model
    assert main(["train", "--resume", str(run)]) == 0
    assert "Done after 3 episodes" in capsys.readouterr().out
    assert LectureDQN.load(run / "model.zip").num_timesteps == steps


def test_a_run_can_be_had_again_by_its_config_with_other_options_before(tmp_path):
    assert train(tmp_path / "a", "--no-double-dqn", "--set", "gamma=0.5", "--quiet", episodes=2) == 0
    config = run_folder(tmp_path / "a") / "config.yaml"
    again = ["train", "--config", str(config), "--out", str(tmp_path / "b"), "--timesteps", "30", "--quiet"]
    assert main(again) == 0
    one, other = (LectureDQN.load(run_folder(tmp_path / folder) / "model.zip") for folder in "ab")
    assert (other.gamma, other.double_dqn, other.seed) == (one.gamma, one.double_dqn, one.seed) == (0.5, False, 1)
    assert (one._episode_num, other.num_timesteps) == (2, 30)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out: elsewhere", "'out' is not an option of `train` in a file; known are env, algo"),
        ("use-masking: true", "'use-masking' is not an option .*did you mean 'use_masking'"),
        ("resume: elsewhere", "'resume' is not an option"),
        ("quiet: true", "'quiet' is not an option"),
        ("pictures: --out=elsewhere", "pictures='--out=elsewhere' must be true or false"),
        ("tuned: 3", "tuned=3 must be true or false"),
        ("use_masking: 'true'", "use_masking='true' must be true or false"),
        ("double_dqn: [true]", "double_dqn=.True. must be true or false"),
        ("env: --out=elsewhere", "env='--out=elsewhere' is not a registered"),
        ("env: [Taxi-v3]", "env=.'Taxi-v3'. must be text"),
        ("env: not_there:Env-v0", "env='not_there:Env-v0': an id imports no module .*'Env-v0'"),
        ("algo: ppo", "algo='ppo' must be one of 'lecture_dqn', 'lecture_qrdqn'"),
        ("policy: 3", "policy=3 must be text"),
        ("policy: LinearPolicy", "policy='LinearPolicy' must be one of"),
        ("engine: true", "engine=True must be text"),
        ("seed: [1, 2]", r"seed=\[1, 2\] must be an integer"),
        ("seed: true", "seed=True must be an integer"),
        ("seed: '7'", "seed='7' must be an integer"),
        ("episodes: 1.5", "episodes=1.5 must be an integer"),
        ("episodes: -1", "--episodes=-1 must be"),
        ("checkpoint_freq: {a: 1}", "checkpoint_freq={'a': 1} must be an integer"),
        ("episodes: 3\ntimesteps: 3", "episodes=3 and timesteps=3: give one budget"),
        ("set: 5", "set=5 must be a list of NAME=VALUE"),
        ("set: gamma=0.9", "set='gamma=0.9' must be a list of NAME=VALUE"),
        ("set: [5]", "set=.5. must be a list of NAME=VALUE"),
        ("set: [--out=elsewhere]", "'--out' is not a setting of lecture_dqn"),
        ("set: [tensorboard_log=elsewhere]", "use the option --out"),
        ("set: ['gamma=[*a]']", "anchor or alias, 'a'"),
        ("set: [_init_setup_model=false]", "'_init_setup_model' is not a setting"),
        ("set: [replay_buffer_kwargs=3]", "the value must be a table"),
        ("set: [device=the moon]", "--set device=the moon"),
        ("seed: 1\nseed: 2", "it has 'seed' twice"),
        ("a: &a 1", "it has an anchor or alias, 'a'"),
        ("[" * 5000, "deep"),
        ("- seed", "must be a table of options"),
        ("3: 4", "3 is not an option"),
        ('env: "\\e[2J"', r"env='\\x1b\[2J'"),
    ],
    ids=lambda value: value[:40],
)
def test_an_option_in_a_file_is_a_value_of_its_type_and_nothing_else(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    line = mistake(["train", "--quiet", "--config", "config.yaml"], capsys)
    assert re.match(f"sb3-lecture-dqn: error: .*({message})", line)
    assert line.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_file_has_the_options_of_the_command_line(tmp_path, monkeypatch):
    """All options that a run writes to its file; options of the command line win."""

    def options_of(args):
        return {name: value for name, value in vars(args).items() if name not in ("run", "words")}

    given = []
    monkeypatch.setattr(train_run, "train", lambda args, kept: given.append(options_of(args)) or 0)
    words = ["--env", "FrozenLake-v1", "--algo", "lecture_qrdqn", "--policy", "LecturePolicy", "--timesteps", "7"]
    words += ["--seed", "3", "--no-store-and-replay", "--no-double-dqn", "--use-masking", "--tuned", "--pictures"]
    words += ["--image-freq", "9"]
    words += [
        "--set",
        "gamma=0.5",
        "--set",
        "a=b",
        "--engine",
        "torch",
        "--test-episodes",
        "2",
        "--checkpoint-freq",
        "0",
    ]
    assert main(["train", *words]) == 0
    config = {name: given[0][name] for name in train_command.config_options()}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    file = ["--config", str(tmp_path / "config.yaml")]
    assert main(["train", *file]) == 0
    assert given[1] == {**given[0], "config": file[1]}
    assert main(["train", *file, "--episodes", "4", "--double-dqn", "--set", "c=d", "--env", "my:Lake-v0"]) == 0
    assert given[2] == {
        **given[1],
        **{"episodes": 4, "timesteps": None, "double_dqn": True, "set": ["gamma=0.5", "a=b", "c=d"]},
        "env": "my:Lake-v0",
    }


def test_a_new_option_of_train_needs_one_place(tmp_path, monkeypatch, capsys):
    """The constructor gets a keyword of the algorithm, and ``config.yaml`` keeps it."""
    add_options = train_command.add_options

    def add_one_more(train_parser):
        add_options(train_parser)
        train_parser.add_argument("--loss", default="mse")

    monkeypatch.setattr(train_command, "add_options", add_one_more)
    assert train(tmp_path / "a", "--loss", "huber", "--quiet", episodes=1) == 0
    run = run_folder(tmp_path / "a")
    assert LectureDQN.load(run / "model.zip").loss == "huber"
    again = ["--config", str(run / "config.yaml"), "--out", str(tmp_path / "b"), "--quiet"]
    assert main(["train", *again]) == 0
    assert LectureDQN.load(run_folder(tmp_path / "b") / "model.zip").loss == "huber"
    capsys.readouterr()
    assert mistake(["train", "--set", "loss=mse"], capsys).endswith("--set loss: use the option --loss")


def test_recommended_settings_masks_and_the_other_algorithm_are_options(tmp_path):
    options = ["--tuned", "--use-masking", "--timesteps", "320", "--set", "learning_starts=100"]
    assert train(tmp_path / "a", *options, "--quiet", episodes=None) == 0
    model = LectureDQN.load(run_folder(tmp_path / "a") / "model.zip")
    assert (model.use_masking, model.n_envs, model.learning_starts) == (True, 8, 100)
    options = ["--algo", "lecture_qrdqn", "--set", "policy_kwargs={n_quantiles: 3}", "--set", "learning_rate=2e-3"]
    assert train(tmp_path / "b", *options, "--env", "FrozenLake-v1", "--quiet", episodes=2) == 0
    model = LectureQRDQN.load(run_folder(tmp_path / "b") / "model.zip")
    assert (model.n_quantiles, model.learning_rate) == (3, 0.002)


def test_recommended_settings_of_an_environment_without_any_are_said_to_be_a_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(gym.registry, "Crash-v0", gym.envs.registration.EnvSpec("Crash-v0", entry_point=Crash))
    assert train(tmp_path, "--tuned", "--env", "Crash-v0", "--timesteps", "20", episodes=None) == 0
    assert "There are no settings for 'Crash-v0', so it gets the default for Discrete(3)" in capsys.readouterr().out
    assert train(tmp_path, "--tuned", "--env", "FrozenLakeNotSlippery-v1", "--timesteps", "20", episodes=None) == 0
    assert "no settings" not in capsys.readouterr().out


def test_recommended_settings_without_a_budget_train_until_a_test_is_solved(tmp_path, capsys):
    assert train(tmp_path, "--tuned", "--env", "FrozenLakeNotSlippery-v1", "--seed", "1", episodes=None) == 0
    printed = capsys.readouterr().out
    solved = r"^Solved: the test at step [\d,]+ of [\d,]+ had the only start, exactly: 6\.00 steps"
    assert re.search(solved, printed, re.M)
    assert exact_test(LectureDQN.load(run_folder(tmp_path) / "model.zip")).optimality == 1


# Trainings that end before their budget


class Crash(gym.Env):
    """An environment whose 40th step raises an error."""

    observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}  # else gymnasium warns
    error: Exception = OSError("the simulator is gone")
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        self.steps += 1
        if self.steps == 40:
            raise self.error
        return 1, 1.0, self.steps % 10 == 0, False, {}


DIVERGING = ["--set", "learning_rate=0.01", "--no-double-dqn"]


@pytest.mark.parametrize("options", [[], ["--engine", "torch", "--timesteps", "500"], ["--algo", "lecture_qrdqn"]])
def test_a_training_that_diverges_is_no_mistake_and_leaves_the_last_whole_model(options, tmp_path, capsys):
    rate = ["--set", "learning_rate=1e20"] if "lecture_qrdqn" in options else []
    code = train(tmp_path, *DIVERGING, *rate, *options, episodes=None if "--timesteps" in options else 20)
    assert code == train_run.DIVERGED == 3
    out, err = capsys.readouterr()
    told = err[err.index("sb3-lecture-dqn: the loss") :]
    assert max(map(len, told.splitlines())) <= 80
    told = " ".join(told.split())
    assert re.match(
        r"sb3-lecture-dqn: the loss of update \d+ \(environment step \d+\) is (nan|inf): training has diverged after "
        r"\d+ whole episodes, in episode \d+\. The largest action value is .* Before, the largest action value was "
        r"[\d.]+ at the start(, [^ ]+ at step \d+)*\. What helps: a separate target network",
        told,
    )
    assert "error" not in told
    run = run_folder(tmp_path)
    loaded = load_model(run / "model.zip")
    assert f"Diverged after {loaded._episode_num} episodes, {loaded.num_timesteps} steps.\n" in out
    check_finite(loaded.get_parameters())
    assert f"Model from before that update: {run / 'model.zip'} " in out
    assert re.search(RESULTS, out), "the kept model is tested"
    assert "To go on" not in out  # it would diverge again
    assert f"To try again: sb3-lecture-dqn train --config {run / 'config.yaml'} --double-dqn\n" in out
    assert main(["test", str(run / "model.zip"), "--episodes", "2"]) == 0
    assert main(["watch", str(run / "model.zip"), "--episodes", "1", "--max-episode-steps", "2"]) == 0


def test_the_last_checkpoint_replaces_weights_that_are_not_finite(tmp_path, capsys):
    """A large update makes the weights infinite, and the next loss shows it."""
    options = ["--set", "learning_rate=1e38", "--quiet", "--seed", "5"]  # whose first reward is -10
    assert train(tmp_path / "a", *options) == 3
    run = run_folder(tmp_path / "a")
    loaded = LectureDQN.load(run / "model.zip")
    check_finite(loaded.get_parameters())
    assert loaded.num_timesteps == 0
    out, err = capsys.readouterr()
    assert "The weights are not finite either" in " ".join(err.split())
    assert "Model of the last checkpoint, after 0 episodes: " in out
    assert re.search(RESULTS, out), "the kept model is tested"
    assert train(tmp_path / "b", *options, "--checkpoint-freq", "0") == 3
    assert "Model: none, as its weights are not finite" in capsys.readouterr().out
    assert not (run_folder(tmp_path / "b") / "model.zip").exists()


def test_the_advice_after_divergence_is_new_to_the_run(tmp_path, capsys):
    assert train(tmp_path / "a", "--set", "learning_rate=0.01", "--quiet") == 3
    assert "config.yaml --set learning_rate=0.001\n" in capsys.readouterr().out
    other = argparse.Namespace(double_dqn=True, tuned=False, set=["learning_starts=0"])
    assert train_run._against_divergence(other, None) == "--tuned"
    options = ["--tuned", "--set", "learning_rate=1e30", "--set", "learning_starts=0", "--set", "max_grad_norm=null"]
    assert train(tmp_path / "b", *options, "--quiet") == 3
    printed = capsys.readouterr().out
    assert re.search(r"config\.yaml --set learning_rate=1e\+29\n", printed)


@pytest.mark.parametrize("error", [OSError("the simulator is gone"), ValueError("a wrong state"), KeyError("door")])
def test_an_environment_that_fails_is_no_mistake_and_leaves_the_model(error, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(gym.registry, "Crash-v0", gym.envs.registration.EnvSpec("Crash-v0", entry_point=Crash))
    monkeypatch.setattr(Crash, "error", error)
    assert train(tmp_path, "--env", "Crash-v0", "--quiet", episodes=20) == train_run.FAILED == 1
    out, err = capsys.readouterr()
    assert "Failed after 3 episodes, 39 steps.\n" in out
    named = f"sb3-lecture-dqn: the training failed: {type(error).__name__}: {error}\n"
    assert err == named if not isinstance(error, KeyError) else err.startswith("Traceback")
    assert LectureDQN.load(run_folder(tmp_path) / "model.zip").num_timesteps == 39
    assert "To go on: sb3-lecture-dqn train --resume" in out


def test_an_error_before_the_first_step_is_a_mistake(tmp_path, capsys):
    assert train(tmp_path, "--env", "FrozenLake-v1", "--use-masking", "--quiet") == 2
    assert "sb3-lecture-dqn: error: use_masking=True" in capsys.readouterr().err


def test_no_bar_is_drawn_below_the_last_lines(tmp_path):
    running = process("train", *DIVERGING, "--out", tmp_path / "runs", folder=tmp_path)
    assert running.wait() == 3
    _, err = running.printed
    assert "%|" not in err[err.index("sb3-lecture-dqn: the loss of update") :]


# Testing a saved model


def test_a_test_prints_the_figures_and_can_be_repeated(tmp_path, capsys):
    """On slippery ice, the episodes of one agent differ: an agent that always goes right sometimes succeeds."""
    model = LectureDQN("TablePolicy", "FrozenLake-v1")
    model.q_net.layers[0].weight.data[:, 2] = 1.0
    model.save(tmp_path / "model")

    def test(*options):
        assert main(["test", str(tmp_path / "model.zip"), "--episodes", "20", *options]) == 0
        return capsys.readouterr().out

    one = test("--seed", "3")
    assert re.fullmatch(f"{FIGURES}\nExactly, over all 1 starts: {AVERAGES}\n", one)
    assert one.startswith("20 test episodes")
    assert test("--seed", "3") == one
    assert len({test("--seed", str(seed)) for seed in range(4, 10)} | {one}) > 1


def test_a_run_is_tested_and_watched_by_its_folder(model, tmp_path, capsys):
    """The agent's figures over all starts are beside those of the sample."""
    assert main(["test", str(model.parent), "--episodes", "3", "--seed", "0"]) == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(f"3 {FIGURES[4:]}\nExactly, over all 300 starts: {AVERAGES}\n", printed)
    assert printed.endswith(f": {exact_test(LectureDQN.load(model)).figures}\n")
    assert main(["test", str(model), "--episodes", "3", "--seed", "0"]) == 0
    assert capsys.readouterr().out == printed
    out = tmp_path / "film.gif"
    assert main(["watch", str(model.parent), "--episodes", "1", "--max-episode-steps", "2", "--out", str(out)]) == 0
    assert out.exists()
    assert main(["test", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith(f"'{tmp_path}' is not the folder of a run: it has no model.zip\n")


def test_only_tabular_environments_have_exact_figures(tmp_path, capsys):
    LectureDQN("MlpPolicy", "CartPole-v1").save(tmp_path / "model")
    assert main(["test", str(tmp_path / "model.zip"), "--episodes", "2"]) == 0
    assert re.fullmatch("2 test episodes: [^\n]*\n", capsys.readouterr().out)


def test_a_model_is_tested_on_another_environment_if_asked(model, capsys):
    assert main(["test", str(model.with_suffix("")), "--env", "Taxi-v3", "--episodes", "3", "--seed", "0"]) == 0
    assert capsys.readouterr().out.startswith("3 test episodes")


def test_the_step_limit_of_a_test_is_the_models_own_unless_given(tmp_path, capsys):
    """An agent with a table of zeros always goes left."""
    LectureDQN("TablePolicy", "FrozenLakeNotSlippery-v1", max_episode_steps=7).save(tmp_path / "model")
    for options, steps in (([], 7), (["--max-episode-steps", "3"], 3)):
        assert main(["test", str(tmp_path / "model"), "--episodes", "2", *options]) == 0
        assert capsys.readouterr().out.startswith(f"2 test episodes: {steps}.00 steps")


def test_a_test_on_another_environment_has_the_limit_of_that(tmp_path, capsys):
    LectureDQN("TablePolicy", "FrozenLakeNotSlippery-v1", max_episode_steps=7).save(tmp_path / "model")
    for env_id, steps in (("FrozenLakeNotSlippery-v1", 1000), ("FrozenLake-v1", 100)):
        assert main(["test", str(tmp_path / "model"), "--episodes", "200", "--env", env_id]) == 0
        longest = float(re.search(r"episodes: ([\d.]+) steps", capsys.readouterr().out).group(1))
        assert longest == steps or (env_id == "FrozenLake-v1" and longest < steps)


def test_a_model_whose_file_knows_no_environment_asks_for_one(tmp_path, capsys):
    model = LectureDQN("FrozenLake-v1")
    model.set_env(gym.make("FrozenLake-v1", is_slippery=False))
    model.save(tmp_path / "model")
    for command in ("test", "watch"):
        assert main([command, str(tmp_path / "model")]) == 2
        assert "give --env" in capsys.readouterr().err


def test_inexact_is_for_a_run_that_is_resumed(tmp_path, capsys):
    assert main(["train", "--inexact", "--out", str(tmp_path)]) == 2
    assert "--inexact is for --resume: give both, or none" in capsys.readouterr().err


def test_a_tuned_run_that_is_done_stays_as_it_is(tmp_path, capsys):
    options = ["--env", "FrozenLakeNotSlippery-v1", "--tuned", "--seed", "3", "--quiet"]
    assert main(["train", *options, "--out", str(tmp_path)]) == 0
    (run,) = tmp_path.iterdir()
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["train", "--resume", str(run)]) == 0
    assert "Already done after" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_where_success_is_not_known_no_share_of_it_is_logged(tmp_path):
    settings = ["--policy", "MlpPolicy", "--timesteps", "100", "--seed", "0", "--quiet"]
    assert main(["train", "--env", "CartPole-v1", *settings, "--out", str(tmp_path)]) == 0
    (run,) = tmp_path.iterdir()
    (events,) = run.glob("events.*")
    tags = EventAccumulator(str(events)).Reload().Tags()["scalars"]
    assert ("Reward" in tags, "Solved" in tags) == (True, False)
    assert main(["plot", str(run), "--out", str(tmp_path / "plot.png")]) == 0


@pytest.mark.parametrize(
    ("of_1_0", "more", "limit"),
    [
        (True, {}, 1000),
        (True, {"set": ["max_episode_steps=null"]}, 500),
        (True, {"set": ["max_episode_steps=30"]}, 30),
        (True, {"env": "Taxi-v3", "policy": "TablePolicy", "set": ["max_episode_steps=null"]}, 200),
        (False, {}, 500),
    ],
)
def test_options_of_version_1_0_keep_their_meaning(of_1_0, more, limit, tmp_path):
    options = {
        **{"env": "CartPole-v1", "algo": "lecture_dqn", "policy": "MlpPolicy", "episodes": 1, "timesteps": None},
        **{"seed": 0, "store_and_replay": True, "double_dqn": True, "use_masking": False, "tuned": False, "set": []},
        **{"engine": "torch", "test_episodes": 1, "checkpoint_freq": 0, "pictures": False, **more},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(options if of_1_0 else {"version": "2.0.0", **options}))
    assert main(["train", "--config", str(file), "--out", str(tmp_path / "runs"), "--quiet"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert LectureDQN.load(run / "model").max_episode_steps == limit
    assert main(["train", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    (again,) = (tmp_path / "again").iterdir()
    assert LectureDQN.load(again / "model").max_episode_steps == limit, "what was written says it too"


def test_models_of_both_algorithms_are_tested_and_watched(tmp_path, capsys):
    """The quantiles choose "down" in every state, which ends in the lower left corner if the ice is not slippery."""
    down = 1
    model = LectureQRDQN("FrozenLakeNotSlippery-v1", policy_kwargs={"n_quantiles": 5, "hidden_dim": 4})
    head = [layer for layer in model.quantile_net.modules() if isinstance(layer, th.nn.Linear)][-1]
    head.weight.data[:] = 0.0
    head.bias.data[:] = th.tensor([0.0, 1.0, 0.0, 0.0]).repeat(5)
    assert model.predict(0, deterministic=True)[0] == down
    model.save(tmp_path / "model")
    assert main(["test", str(tmp_path / "model"), "--episodes", "5"]) == 0
    assert capsys.readouterr().out.startswith("5 test episodes: 3.00 steps")
    assert main(["watch", str(tmp_path / "model"), "--ansi", "--episodes", "1"]) == 0
    assert re.findall(r"^> (\w+) +1\.000", capsys.readouterr().out, re.MULTILINE) == ["down"] * 3
    assert main(["watch", str(tmp_path / "model.zip"), "--episodes", "1"]) == 0
    assert "(4 pictures of 1 episode)" in capsys.readouterr().out


# Mistakes


def mistake(argv, capsys):
    """Run with wrong arguments. Return the last line of the error."""
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
        (
            ["train", "--env", "CartPole-v1", "--policy", "TablePolicy"],
            "TablePolicy needs a Discrete observation space",
        ),
        (["train", "--env", "Pendulum-v1", "--policy", "MlpPolicy"], "Box.*Discrete|Discrete.*Box"),
        (["train", "--set", "gamma"], "--set gamma: write NAME=VALUE"),
        (["train", "--set", "gama=0.5"], "--set: .*'gama'"),
        (["train", "--set", "gamma=["], r"--set gamma=\[ is not YAML: while parsing"),
        (["train", "--set", "seed=3"], "--set seed: use the option --seed"),
        (["train", "--set", "double_dqn=false"], "--set double_dqn: use the option --double-dqn"),
        (["train", "--set", "policy=MlpPolicy"], "--set policy: use the option --policy"),
        (["train", "--set", "env=CartPole-v1"], "--set env: use the option --env"),
        (["train", "--set", "tensorboard_log=here"], "--set tensorboard_log: use the option --out"),
        (["train", "--policy", "CnnPolicy"], "--policy CnnPolicy is for images, which Taxi-v3 does not observe"),
        (["train", "--policy", "MultiInputPolicy"], "--policy MultiInputPolicy is for dictionaries, which Taxi-v3"),
        (["train", "--set", "gamma=2"], "gamma=2 must be"),
        (["train", "--algo", "lecture_qrdqn", "--policy", "TablePolicy"], "--policy TablePolicy: --algo lecture_qrdqn"),
        (["train", "--tuned", "--env", "Taxy-v3"], "env='Taxy-v3' is not a registered environment id: .* 'Taxi-v3'"),
        (["train", "--pictures", "--image-freq", "0"], "--image-freq=0 must be an integer at least 1"),
        (["train", "--image-freq", "5"], "--image-freq 5 is for --pictures"),
        (["train", "--checkpoint-freq", "-1"], "--checkpoint-freq=-1 must be"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["train", "--config", __file__], "test_cli.py( must be a table| is not YAML)"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["train", "--resume", "nowhere", "--episodes", "3"], "--resume takes all .*leave out --episodes 3"),
        (["train", "--quiet", "--verbose"], "--verbose: not allowed with argument --quiet"),
        (["train", "--seed", "-1"], "seed=-1|[Ss]eed must be between 0"),
        (["test", "nowhere.zip"], "nowhere.zip"),
        (["test", "MODEL", "--episodes", "0"], "episodes=0 must be an integer at least 1"),
        (["test", "MODEL", "--max-episode-steps", "0"], "max.episode.steps=0 must be an integer at least 1"),
        (["test", "MODEL", "--env", "Taxy-v3"], "env='Taxy-v3' is not a registered environment id: .* 'Taxi-v3'"),
        (["test", "MODEL", "--env", "FrozenLake-v1"], r"Discrete\(16\).*the model needs Discrete\(500\)"),
        (["test", __file__], r"test_cli\.py.* holds no LectureDQN or LectureQRDQN model"),
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


def test_an_environment_that_gymnasium_cannot_make_is_a_mistake(tmp_path, monkeypatch, capsys):
    class Physics(gym.Env):
        metadata = {"render_modes": ["rgb_array"]}

        def __init__(self, render_mode=None):
            raise gym.error.DependencyNotInstalled("install its physics")

    monkeypatch.setitem(gym.registry, "Physics-v0", gym.envs.registration.EnvSpec("Physics-v0", entry_point=Physics))
    line = mistake(["train", "--env", "Physics-v0", "--out", str(tmp_path)], capsys)
    assert line == "sb3-lecture-dqn: error: install its physics"


def test_a_model_of_another_algorithm_is_a_mistake(tmp_path, capsys):
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "ppo")
    for command in ("test", "watch"):
        line = mistake([command, str(tmp_path / "ppo.zip")], capsys)
        assert re.search(r"ppo\.zip' holds no LectureDQN or LectureQRDQN model: .* stock Stable-Baselines3", line)


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


def test_the_help_of_ablate_describes_the_lectures_plan(capsys):
    with pytest.raises(SystemExit):
        main(["ablate", "--help"])
    assert "the lecture's two switches, on and off: four settings" in " ".join(capsys.readouterr().out.split())
    assert len(lecture_plan().settings) == 4


def helps():
    """The help of all commands, and of each."""
    return [["--help"], *([name, "--help"] for name in COMMANDS)]


@pytest.mark.parametrize("argv", helps(), ids=" ".join)
def test_the_help_fits_a_narrow_terminal_and_its_examples_are_commands(argv, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(argv)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    examples = lines[lines.index("examples:") :]
    commands = [line.split() for line in examples if line.startswith("  sb3-lecture-dqn")]
    assert len(commands) >= (len(COMMANDS) if argv == ["--help"] else 1)
    for command in commands:
        assert cli.parser().parse_args(command[1:]).run


# As a process


def process(*argv, folder):
    return Forked("import sys; from sb3_lecture_dqn.cli import main; sys.exit(main())", *argv, folder=folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another signal there")
@pytest.mark.parametrize(
    ("number", "exit_code"),
    # Ctrl-C is pressed in a terminal in test_bars.py
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
)
def test_ctrl_c_and_sigterm_save_the_run_and_say_how_to_go_on(number, exit_code, tmp_path):
    argv = ["train", "--env", "FrozenLake-v1", "--test-episodes", "5", "--out", str(tmp_path / "runs")]
    running = process(*argv, "--engine", "torch", folder=tmp_path)
    # The test after the first episode shows that the training runs.
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.process.is_alive():
        # The bytes of a scalar of this name; reading curves takes as long as the training
        if any(b"\n\x06Reward\x15" in file.read_bytes() for file in (tmp_path / "runs").glob("*/events*")):
            break
        time.sleep(0.2)
    os.kill(running.process.pid, number)
    code = running.wait()
    printed, errors = running.printed
    assert code == exit_code, errors
    assert "Traceback" not in errors
    loaded = LectureDQN.load(run_folder(tmp_path / "runs") / "model.zip")
    assert 0 < loaded._episode_num < 5000
    assert f"Interrupted after {loaded._episode_num} episodes, {loaded.num_timesteps} steps." in printed
    assert re.search(f"Last test: {FIGURES}", printed)
    run = run_folder(tmp_path / "runs")
    assert f"To go on: sb3-lecture-dqn train --resume {run}\n" in printed
    assert LectureDQN.resume(run).num_timesteps == loaded.num_timesteps


def test_a_mistake_is_the_exit_code_of_the_process(tmp_path):
    running = process("train", "--env", "Taxy-v3", folder=tmp_path)
    assert running.wait() == 2
    out, err = running.printed
    assert out == ""
    assert err.startswith("sb3-lecture-dqn: error: env='Taxy-v3'")
    assert len(err.splitlines()) == 1


def test_it_is_also_a_module(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sb3-lecture-dqn", "test", "no_such_model.zip"])
    with pytest.raises(SystemExit) as exit_code:
        runpy.run_module("sb3_lecture_dqn", run_name="__main__")
    assert exit_code.value.code == 2
    assert capsys.readouterr().err.endswith("No such file or directory: 'no_such_model.zip'\n")
