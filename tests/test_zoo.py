"""The real RL Zoo with the algorithms of this package: every command as a user types it, in a process of its own."""

import csv
import os
import pathlib
import re
import shlex
import subprocess
import sys
import types

import gymnasium as gym
import numpy as np
import optuna
import pytest
import torch as th
import yaml
from stable_baselines3.common import callbacks
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import LinearSchedule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, make_env, zoo
from sb3_lecture_dqn.common.hyperparams import read_hyperparams, tuned_settings

optuna.logging.set_verbosity(optuna.logging.WARNING)


def run(folder, *words, code=0):
    """One command in a folder; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "sb3_lecture_dqn.zoo", *map(str, words)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def train(folder, algo, env_id, n_timesteps, *words):
    return run(folder, "train", "--algo", algo, "--env", env_id, "-n", n_timesteps, "--seed", 0, *words)


def test_train_and_enjoy(tmp_path):
    train(tmp_path, "lecture_dqn", "Taxi-v3", 1600, "--eval-freq", 800, "--save-freq", 800, "-tb", "tb")
    logs = tmp_path / "logs" / "lecture_dqn" / "Taxi-v3_1"

    config = dict(yaml.unsafe_load((logs / "Taxi-v3" / "config.yml").read_text()))
    assert config == read_hyperparams("lecture_dqn")["Taxi-v3"]

    evaluations = np.load(logs / "evaluations.npz")
    assert evaluations["timesteps"].tolist() == [800, 1600]
    assert len(list(logs.glob("*.monitor.csv"))) == config["n_envs"]
    for name in ("rl_model_800_steps", "rl_model_1600_steps", "best_model", "Taxi-v3"):
        model = LectureDQN.load(logs / f"{name}.zip")  # without unpickling, and without the zoo's custom objects
        assert model.num_timesteps in (800, 1600)
        assert model.learning_rate(0.5) == 0.002
        assert (model.gamma, model.explore_least_tried) == (0.9, True)
        assert isinstance(model.policy.optimizer, th.optim.Adam)
        assert (model.replay_buffer_kwargs, model.n_envs) == ({"success_fraction": 0.1}, 8)

    (events,) = (tmp_path / "tb").rglob("events.out.tfevents.*")
    scalars = EventAccumulator(str(events)).Reload()
    assert [event.step for event in scalars.Scalars("eval/mean_reward")] == [800, 1600]

    enjoyed = run(
        tmp_path, "enjoy", "--algo", "lecture_dqn", "--env", "Taxi-v3", "-f", "logs", "--no-render", "-n", 1000
    )
    assert "Mean episode length" in enjoyed


@pytest.mark.slow
def test_the_tuned_settings_solve_taxi_through_the_zoo(tmp_path):
    run(tmp_path, "train", "--algo", "lecture_dqn", "--env", "Taxi-v3", "--seed", 0, "--eval-freq", 40_000, "-P")
    logs = tmp_path / "logs" / "lecture_dqn" / "Taxi-v3_1"
    assert np.load(logs / "evaluations.npz")["results"].min() > 0
    train(tmp_path, "lecture_dqn", "Taxi-v3", 800, "-i", logs / "Taxi-v3.zip", "--eval-freq", -1)
    assert LectureDQN.load(tmp_path / "logs" / "lecture_dqn" / "Taxi-v3_2" / "Taxi-v3.zip").num_timesteps == 800


@pytest.mark.slow
def test_a_memory_is_saved_and_goes_on(tmp_path):
    words = ("--eval-freq", -1, "--save-replay-buffer")
    train(tmp_path, "lecture_dqn", "Taxi-v3", 400, *words)
    logs = tmp_path / "logs" / "lecture_dqn"
    said = train(tmp_path, "lecture_dqn", "Taxi-v3", 400, "-i", logs / "Taxi-v3_1" / "Taxi-v3.zip", *words, "--seed", 1)
    assert "Loading replay buffer" in said
    sizes = []
    for i in (1, 2):
        model = LectureDQN("Taxi-v3", buffer_size=10_000)
        model.load_replay_buffer(logs / f"Taxi-v3_{i}" / "replay_buffer.pkl")
        sizes.append(model.replay_buffer.size())
    assert 0 < sizes[0] < sizes[1]


@pytest.mark.slow
def test_settings_from_the_command_line_by_episode_and_with_masks(tmp_path):
    """The zoo counts timesteps, the lecture episodes: both hold."""
    words = ["--eval-freq", -1, "-params", "use_masking:True", "target_update_interval:(3, 'episode')", "n_envs:2"]
    train(tmp_path, "lecture_dqn", "Taxi-v3", 3000, "--conf-file", "lecture", *words)
    model = LectureDQN.load(tmp_path / "logs" / "lecture_dqn" / "Taxi-v3_1" / "Taxi-v3.zip")
    assert model.num_timesteps == 3000
    assert (model.use_masking, model.n_envs, model.batch_size) == (True, 2, 1)
    assert tuple(model.target_update_interval) == (3, "episode")
    assert model._episode_num >= 2
    assert model.exploration_rate == 0.99 ** (model._episode_num + 1)
    assert LectureDQN("Taxi-v3").policy.hidden_dim == model.policy.hidden_dim

    train(tmp_path, "lecture_dqn", "Taxi-v3", 320, "--eval-freq", 160, "--conf", "lecture_dqn_masked")
    logs = tmp_path / "logs" / "lecture_dqn" / "Taxi-v3_2"
    assert LectureDQN.load(logs / "Taxi-v3.zip").use_masking
    assert np.load(logs / "evaluations.npz")["results"].min() >= -200  # 200 steps, and no penalty
    words = ["-f", "logs", "--no-render", "-n", 300, "--env-kwargs", "max_episode_steps:100"]
    said = run(tmp_path, "enjoy", "--algo", "lecture_dqn", "--env", "Taxi-v3", *words)
    rewards = [float(reward) for reward in re.findall(r"Episode Reward: (\S+)", said)]
    assert len(rewards) >= 3
    assert min(rewards) >= -100


@pytest.mark.slow
def test_an_environment_with_a_wrapper_and_qrdqn(tmp_path):
    train(tmp_path, "lecture_dqn", "Blackjack-v1", 320, "--eval-freq", 160)
    said = run(
        tmp_path, "enjoy", "--algo", "lecture_dqn", "--env", "Blackjack-v1", "-f", "logs", "--no-render", "-n", 50
    )
    assert "Mean reward" in said
    train(tmp_path, "lecture_qrdqn", "Taxi-v3", 320, "--eval-freq", 160, "--eval-episodes", 1)
    run(tmp_path, "enjoy", "--algo", "lecture_qrdqn", "--env", "Taxi-v3", "-f", "logs", "--no-render", "-n", 50)
    model = LectureQRDQN.load(tmp_path / "logs" / "lecture_qrdqn" / "Taxi-v3_1" / "Taxi-v3.zip")
    assert model.policy.n_quantiles == 10


@pytest.mark.slow
def test_optimize_ten_trials_and_train_with_one_of_them(tmp_path):
    env_id, storage = "FrozenLakeNotSlippery-v1", ["--storage", "sqlite:///study.db", "--study-name", "study"]
    words = ["--n-trials", 10, "--n-startup-trials", 5, "--n-evaluations", 2, "--eval-episodes", 2, *storage]
    train(tmp_path, "lecture_dqn", env_id, 800, "--optimize", *words)
    (report,) = (tmp_path / "logs" / "lecture_dqn").glob("report_*.csv")
    with report.open() as lines:
        assert len(list(csv.DictReader(lines))) == 10

    study = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path}/study.db")
    states = {trial.state for trial in study.trials}
    assert states <= {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED}
    assert optuna.trial.TrialState.COMPLETE in states
    assert "use_masking" not in study.trials[0].params  # which FrozenLake has none of

    chosen = study.trials[3].params
    train(tmp_path, "lecture_dqn", env_id, 400, "--eval-freq", -1, "--trial-id", 3, *storage)
    (path,) = (tmp_path / "logs" / "lecture_dqn").glob(f"{env_id}_*/{env_id}.zip")
    model = LectureDQN.load(path)
    assert model.policy.hidden_dim == 2 ** chosen["hidden_dim_pow"]
    assert model.gamma == 1 - chosen["one_minus_gamma"]
    assert model.replay_buffer_kwargs == {
        "success_criterion": "positive_reward",
        "success_fraction": chosen["success_fraction"],
    }


@pytest.mark.slow
def test_optimize_qrdqn_on_an_environment_with_masks(tmp_path):
    words = [
        "--n-trials",
        2,
        "--eval-episodes",
        1,
        "--storage",
        "study.log",
        "--study-name",
        "study",
        "--no-optim-plots",
    ]
    train(tmp_path, "lecture_qrdqn", "Taxi-v3", 160, "-optimize", "--n-evaluations", 1, *words)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    assert [{"use_masking", "n_quantiles"} <= set(trial.params) for trial in study.trials] == [True, True]


@pytest.mark.slow
def test_the_commands_of_the_readme(tmp_path):
    """In their order, with small sizes."""
    small = {
        "train": ["-n", 160, "--eval-freq", 80, "--save-freq", 80, "--eval-episodes", 1, "--n-trials", 8, "--seed", 0],
        "enjoy": ["-n", 20, "--no-render"],
        "plot_train": [],
    }
    readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python -m sb3_lecture_dqn.zoo ([^#\n]*)", readme, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        command, *words = shlex.split(line)
        run(tmp_path, command, *words, *small[command])


@pytest.mark.slow
def test_plots(tmp_path):
    for _ in range(2):  # the zoo's table needs two runs
        train(tmp_path, "lecture_dqn", "FrozenLakeNotSlippery-v1", 400, "--eval-freq", 200, "--eval-episodes", 2)
    here = ["-f", "logs", "-e", "FrozenLakeNotSlippery-v1"]
    run(tmp_path, "plot_train", "-a", "lecture_dqn", "-w", 2, *here)
    table = run(tmp_path, "all_plots", "-a", "lecture_dqn", "-o", "results", "--no-million", *here)
    assert "LECTURE_DQN" in table
    run(tmp_path, "plot_from_file", "-i", "results.pkl", "-o", "figure.png", "--format", "png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


class OnlyValidActions(gym.Wrapper):
    """Taxi, in which an action that is not valid is an error."""

    def reset(self, **kwargs):
        obs, self.info = self.env.reset(**kwargs)
        return obs, self.info

    def step(self, action):
        assert self.info["action_mask"][action], "an action that is not valid"
        obs, reward, terminated, truncated, self.info = self.env.step(action)
        return obs, reward, terminated, truncated, self.info


def only_valid():
    return Monitor(OnlyValidActions(make_env("Taxi-v3", 30)))


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
def test_evaluation_is_with_masks_where_training_was(algorithm, monkeypatch):
    """SB3's own callback, whose argmax over all actions is soon one that is not valid; without masks it stays so."""
    masked = algorithm(only_valid(), use_masking=True, seed=0)
    with pytest.warns(UserWarning, match="MaskableEvalCallback"), pytest.raises(AssertionError, match="not valid"):
        masked.learn(20, EvalCallback(only_valid(), n_eval_episodes=5, eval_freq=10, verbose=0))
    monkeypatch.setattr(callbacks, "evaluate_policy", zoo._evaluate_policy)
    evaluation = EvalCallback(only_valid(), n_eval_episodes=5, eval_freq=10, verbose=0)
    masked.learn(20, evaluation)
    assert -30 <= evaluation.last_mean_reward < 20
    with pytest.raises(AssertionError, match="not valid"):
        algorithm(make_env("Taxi-v3", 30), seed=0).learn(20, EvalCallback(only_valid(), eval_freq=10, verbose=0))


@pytest.fixture
def zoo_that_says_what_it_was_given(monkeypatch):
    """A zoo with the tables of the real one, which changes gymnasium on import."""
    given = []
    modules = {
        "rl_zoo3": {"ALGOS": {}},
        "rl_zoo3.hyperparams_opt": {"HYPERPARAMS_SAMPLER": {}, "HYPERPARAMS_CONVERTER": {}},
        "rl_zoo3.train": {"train": lambda: given.append(sys.argv[1:])},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "argv", ["zoo"])
    monkeypatch.setattr(callbacks, "evaluate_policy", callbacks.evaluate_policy)
    return given


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ([], "lecture_dqn"),
        (["--conf-file", "lecture"], "lecture"),
        (["-conf", "mine.yml"], "mine.yml"),
        (["--conf", "mine.yml"], "mine.yml"),
        (["--conf=lecture_dqn_masked"], "lecture_dqn_masked"),
    ],
)
def test_the_settings_are_those_of_the_file_that_is_given(words, file, zoo_that_says_what_it_was_given):
    assert zoo.main(["train", "--algo", "lecture_dqn", "-params", "gamma:0.9", *words]) == 0
    (given,) = zoo_that_says_what_it_was_given
    assert given[-2:] == ["--conf-file", zoo.hyperparams_files().get(file, file)]


def test_an_algorithm_of_your_own_is_registered_with_those_of_the_package(zoo_that_says_what_it_was_given, monkeypatch):
    monkeypatch.setitem(zoo.ALGOS, "my_dqn", LectureDQN)
    zoo.register()
    tables = sys.modules["rl_zoo3.hyperparams_opt"]
    for table in (sys.modules["rl_zoo3"].ALGOS, tables.HYPERPARAMS_SAMPLER, tables.HYPERPARAMS_CONVERTER):
        assert list(table) == ["lecture_dqn", "lecture_qrdqn", "my_dqn"]
    assert callbacks.evaluate_policy is zoo._evaluate_policy


def test_mistakes_in_the_arguments(tmp_path, capsys):
    assert zoo.main(["tarin", "--algo", "lecture_dqn"]) == 2
    assert "{train,enjoy,plot_train,all_plots,plot_from_file}" in capsys.readouterr().out
    assert zoo.main(["--help"]) == zoo.main([]) == 0


def test_without_the_zoo_the_message_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    assert zoo.main(["train"]) == 2
    assert "sb3-lecture-dqn[zoo]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("algo", "env_id", "masks"),
    [
        ("lecture_dqn", "Taxi-v3", True),
        ("lecture_dqn", "FrozenLake-v1", False),
        ("lecture_dqn", "CartPole-v1", False),
        ("lecture_qrdqn", "Taxi-v3", True),
    ],
)
def test_every_trial_is_a_model_that_learns(algo, env_id, masks):
    """What the zoo calls, with what the zoo knows: the settings as words in the study, the memory's as they are."""
    tuned = tuned_settings(algo, env_id)
    env = make_env(env_id, 50)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for key, value in tuned.keywords.items():
        study.set_user_attr(key, str(value))
    memory_kwargs = tuned.keywords["replay_buffer_kwargs"]
    values = {}
    for _ in range(6):
        trial = study.ask()
        drawn = zoo._sample(algo, env_id, trial, 0, 1, {"her_kwargs": memory_kwargs})
        settings = {**tuned.keywords, **drawn, "learning_starts": 0, "train_freq": 1, "engine": "torch"}
        model = zoo.ALGOS[algo](env=env, seed=0, **settings).learn(8)
        assert model._n_updates > 0
        assert ("use_masking" in drawn) == masks
        assert {**drawn["replay_buffer_kwargs"], "success_fraction": 0} == {**memory_kwargs, "success_fraction": 0}
        for key, value in drawn.items():
            values.setdefault(key, set()).add(str(value))
        # The same settings come out of what a study stores, for `--trial-id`.
        converted = zoo.convert_params(trial.params)
        assert isinstance(drawn["learning_rate"], LinearSchedule)
        assert converted.pop("learning_rate") == f"lin_{drawn.pop('learning_rate').start}"
        assert converted == drawn
    searched = {
        "exploration_decay",
        "target_update_interval",
        "batch_size",
        "gradient_steps",
        "policy_kwargs",
        "double_q",
    }
    assert {key for key in searched if len(values[key]) < 2} == set()
    assert "None" in values["exploration_decay"]
    assert any("episode" in value for value in values["target_update_interval"])
