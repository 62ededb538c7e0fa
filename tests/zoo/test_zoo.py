"""The real RL Zoo with the algorithms of this package: every command as a user types it, in its own process."""

import csv
import json
import os
import pathlib
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import types

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import optuna
import pytest
import torch as th
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common import callbacks
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import LinearSchedule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, make_env, zoo
from sb3_lecture_dqn.training.tuned import read_hyperparams, tuned_settings
from sb3_lecture_dqn.zoo.search import sample_for_zoo
from tests.forked import Forked

optuna.logging.set_verbosity(optuna.logging.WARNING)


def run(folder, *words, code=0):
    """Run a command in a folder. Return its output."""
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


#: Runs commands in one process, and then checks that no attribute of another package has changed
COMMANDS = """
import json, sys, types
import gymnasium, optuna, rl_zoo3.enjoy, rl_zoo3.train, stable_baselines3, yaml
from rl_zoo3.plots import plot_from_file
from sb3_lecture_dqn import zoo

def things():
    found = {("argv",): tuple(sys.argv), ("algos",): tuple(rl_zoo3.ALGOS.items())}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("gymnasium", "stable_baselines3", "sb3_contrib", "rl_zoo3", "yaml", "subprocess"):
            for key, value in list(vars(module).items()):
                if isinstance(value, types.FunctionType | type):
                    found[name, key] = value
                if isinstance(value, type) and value.__module__ == name:
                    found |= {(name, key, inner): part for inner, part in vars(value).items() if callable(part)
                              or isinstance(part, staticmethod | classmethod)}
    return found

before = things()
for words in json.loads(sys.argv[1]):
    try:
        code = zoo.main(words)
    except SystemExit as stop:
        code = stop.code
    print("exit code", code, flush=True)
    print("exit code", code, file=sys.stderr, flush=True)
after = things()
print("changed", [name for name in before if after.get(name) is not before[name] and after.get(name) != before[name]])
"""


def run_all(folder, *commands):
    """Commands one after the other: of each its exit code, what it printed, and its errors."""
    done = Forked(
        COMMANDS,
        json.dumps([[*map(str, words)] for words in commands]),
        folder=folder,
        environment={"MPLBACKEND": "Agg"},
    )
    assert done.wait(300) == 0, done.printed
    assert done.printed[0].splitlines()[-1] == "changed []"
    out, err = (re.split(r"^exit code (\d+)\n", text, flags=re.MULTILINE) for text in done.printed)
    return [*zip(map(int, out[1::2]), out[::2], err[::2], strict=False)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder of runs of the zoo (with masks and checkpoints, normalised, plain), and the results of all commands."""
    folder = tmp_path_factory.mktemp("zoo")
    small = ["--seed", 0, "--eval-episodes", 1, "--device", "cpu"]
    taxi = ["--algo", "lecture_dqn", "--env", "Taxi-v3"]
    cart = ["--algo", "lecture_dqn", "--env", "CartPole-v1"]
    masked = ["--conf-file", "lecture_dqn_masked", "--eval-freq", 160, "--save-freq", 160]
    normalized = ["-params", "normalize:'dict(norm_obs=True, norm_reward=False)'", "policy:'MlpPolicy'"]
    normalized += ["policy_kwargs:dict(optimizer_class=th.optim.Adam)"]
    here = ["-f", "logs", "--no-render"]
    results = run_all(
        folder,
        ["train", *taxi, "-n", 320, *masked, *small],
        ["train", *cart, "-n", 200, "--eval-freq", 100, "--conf-file", "lecture", *normalized, *small],
        ["record_video", *taxi, *here, "-n", 30],
        ["record_video", *taxi, *here, "-n", 20, "--load-best", "-o", "best videos"],
        ["record_training", *taxi, "-f", "logs", "-n", 10, "-o", "all; touch canary", "--gif"],
        ["enjoy", *taxi, *here, "-n", 210, "--env-kwargs", "max_episode_steps:100"],
        ["enjoy", *cart, *here, "-n", 100, "--device", "cpu"],
        ["benchmark", "--no-hub", "--log-dir", "logs", "--benchmark-dir", "bench", "-n", 1100, "--seed", 1],
        ["train", *taxi, "-n", 320, "-f", "plain", "-tb", "tb", "--eval-freq", 160, "--save-freq", 160, *small],
        ["enjoy", *taxi, "-f", "plain", "--no-render", "-n", 1000],
    )
    return folder, results


def test_all_commands_run_with_masks_and_leave_the_process_as_it_was(recorded):
    folder, results = recorded
    assert [code for code, _, _ in results] == [0] * 10, results
    videos = folder / "logs" / "lecture_dqn" / "Taxi-v3_1" / "videos"
    frames = {}
    for path in (
        videos / "final-model-lecture_dqn-Taxi-v3-step-0-to-step-30.mp4",
        folder / "best videos" / "best-model-lecture_dqn-Taxi-v3-step-0-to-step-20.mp4",
        folder / "all; touch canary" / "training.mp4",
    ):
        with imageio.get_reader(path) as video:
            frames[path.name.split("-")[0]] = video.count_frames()
    assert frames["final"] >= 30
    assert frames["best"] >= 20
    assert frames["training.mp4"] >= 4 * 10  # two checkpoints, the last model and the best
    assert (folder / "all; touch canary" / "training.gif").read_bytes().startswith(b"GIF")
    assert not (folder / "canary").exists()
    rewards = [float(reward) for reward in re.findall(r"Episode Reward: (\S+)", results[5][1])]
    assert len(rewards) == 2
    assert min(rewards) >= -100  # a step costs 1, an invalid action 10
    assert "Loading running average" in results[6][1]
    assert "Mean reward" in results[6][1]
    table = (folder / "bench" / "benchmark.md").read_text()
    assert re.search(r"lecture_dqn\|Taxi-v3 *\|", table)
    assert re.search(r"lecture_dqn\|CartPole-v1 *\|", table)


def test_train_and_enjoy(recorded):
    folder, results = recorded
    assert "Mean episode length" in results[-1][1]
    logs = folder / "plain" / "lecture_dqn" / "Taxi-v3_1"

    config = dict(yaml.unsafe_load((logs / "Taxi-v3" / "config.yml").read_text()))
    assert config == read_hyperparams("lecture_dqn")["Taxi-v3"]

    evaluations = np.load(logs / "evaluations.npz")
    assert evaluations["timesteps"].tolist() == [160, 320]
    assert len(list(logs.glob("*.monitor.csv"))) == config["n_envs"]
    for name in ("rl_model_160_steps", "rl_model_320_steps", "best_model", "Taxi-v3"):
        model = LectureDQN.load(logs / f"{name}.zip")  # without unpickling, and without the zoo's custom objects
        assert model.num_timesteps in (160, 320)
        assert model.learning_rate(0.5) == 0.002
        assert (model.gamma, model.explore_least_tried) == (0.9, "anywhere")
        assert isinstance(model.policy.optimizer, th.optim.Adam)
        assert (model.replay_buffer_kwargs, model.n_envs) == ({"success_fraction": 0.1}, 8)

    (events,) = (folder / "tb").rglob("events.out.tfevents.*")
    scalars = EventAccumulator(str(events)).Reload()
    assert [event.step for event in scalars.Scalars("eval/mean_reward")] == [160, 320]


def test_a_folder_of_somebody_else_runs_nothing(recorded, tmp_path):
    """Every command that would run code in a file refuses that file, and runs the code with `--trust`."""
    folder, _ = recorded
    shutil.copytree(folder / "logs", tmp_path / "logs")
    taxi, cart = (tmp_path / "logs" / "lecture_dqn" / name for name in ("Taxi-v3_1", "CartPole-v1_1"))
    stock = tmp_path / "logs" / "dqn" / "CartPole-v1_1" / "CartPole-v1"
    stock.mkdir(parents=True)
    shutil.copy(cart / "CartPole-v1" / "args.yml", stock)
    (stock / "config.yml").write_text("n_timesteps: 5\n")
    DQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu").save(stock.parent / "CartPole-v1")
    call = f"!!python/object/apply:os.mkdir ['{tmp_path / 'canary'}']\n"
    (taxi / "Taxi-v3" / "config.yml").write_text(call)
    (cart / "CartPole-v1" / "vecnormalize.pkl").write_bytes(pickle.dumps(Calls(os.mkdir, str(tmp_path / "canary"))))
    (tmp_path / "results.pkl").write_bytes(pickle.dumps(Calls(os.mkdir, str(tmp_path / "canary"))))
    of = {name: ["--algo", "lecture_dqn", "--env", name, "-f", "logs"] for name in ("Taxi-v3", "CartPole-v1")}
    commands = [
        (["enjoy", *of["Taxi-v3"], "-n", 5, "--no-render"], "config.yml: .*os.mkdir is code"),
        (["record_video", *of["Taxi-v3"], "-n", 5], "config.yml: .*os.mkdir is code"),
        (["record_training", *of["Taxi-v3"], "-n", 5], "config.yml: .*os.mkdir is code"),
        (
            ["benchmark", "--no-hub", "--log-dir", "logs", "--benchmark-dir", "b", "-n", 5, "--test-mode"],
            "os.mkdir|os.mk",
        ),
        (["enjoy", *of["CartPole-v1"], "-n", 5, "--no-render"], "vecnormalize.pkl: it holds .*, not VecNormalize"),
        (
            ["train", *of["CartPole-v1"][:4], "-i", cart / "CartPole-v1.zip", "-n", 5],
            "vecnormalize.pkl: it holds .*, not VecNorm",
        ),
        (["plot_from_file", "-i", "results.pkl"], "results.pkl: .*mkdir is code"),
        (
            ["enjoy", "--algo", "dqn", *of["CartPole-v1"][2:], "-n", 5, "--no-render"],
            "Stable-Baselines3, which would unpickle",
        ),
        (["enjoy", *of["Taxi-v3"], "-n", 5, "--no-render", "--exp-id", 7], "Taxi-v3_7 folder was not found"),
    ]
    *refused, trusted = run_all(tmp_path, *(w for w, _ in commands), [*commands[7][0], "--device", "cpu", "--trust"])
    for (code, _, err), (words, message) in zip(refused, commands, strict=True):
        assert re.search(message, err), (words, err)
        if words[0] != "benchmark":  # it skips a model that it cannot evaluate
            assert code == 2, words
            assert re.fullmatch(r"sb3_lecture_dqn\.zoo: error: .*\n", err.splitlines(keepends=True)[-1])
        assert "Traceback" not in err
        assert not (tmp_path / "canary").exists(), words
    assert trusted[0] == 0


@pytest.mark.slow
def test_the_tuned_settings_solve_taxi_through_the_zoo(tmp_path):
    run(tmp_path, "train", "--algo", "lecture_dqn", "--env", "Taxi-v3", "--seed", 0, "--eval-freq", 20_000, "-P")
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
    """The zoo counts timesteps, the lecture counts episodes, and both work."""
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
    assert "use_masking" not in study.trials[0].params  # FrozenLake has no masks

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
def test_the_commands_of_the_guide(tmp_path):
    """In their order, with small sizes."""
    small = {
        "train": ["-n", 160, "--eval-freq", 80, "--save-freq", 80, "--eval-episodes", 1, "--n-trials", 8, "--seed", 0],
        "enjoy": ["-n", 20, "--no-render"],
        "plot_train": [],
        "record_video": ["-n", 10],
    }
    guide = pathlib.Path(__file__).parent.parent.parent / "examples" / "guide" / "rl_zoo.md"
    lines = re.findall(r"^python -m sb3_lecture_dqn.zoo ([^#\n]*)", guide.read_text(encoding="utf-8"), re.MULTILINE)
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


class Calls:
    """Its pickle calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class OnlyValidActions(gym.Wrapper):
    """Taxi that raises an error for an invalid action."""

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
def test_evaluation_is_with_masks_where_training_was(algorithm):
    """SB3's callback soon chooses an invalid action; in the context, only a model without masks does."""
    masked = algorithm(only_valid(), use_masking=True, seed=0)
    with pytest.warns(UserWarning, match="MaskableEvalCallback"), pytest.raises(AssertionError, match="not valid"):
        masked.learn(20, EvalCallback(only_valid(), n_eval_episodes=5, eval_freq=10, verbose=0))
    evaluation = EvalCallback(only_valid(), n_eval_episodes=5, eval_freq=10, verbose=0)
    with zoo.masked_evaluation():
        masked.learn(20, evaluation)
    assert -30 <= evaluation.last_mean_reward < 20
    with pytest.raises(AssertionError, match="not valid"):
        algorithm(make_env("Taxi-v3", 30), seed=0).learn(20, EvalCallback(only_valid(), eval_freq=10, verbose=0))


@pytest.fixture
def zoo_that_says_what_it_was_given(monkeypatch):
    """A fake zoo with the real tables, because importing the real zoo changes gymnasium."""
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
def test_the_settings_come_from_the_given_file(words, file, zoo_that_says_what_it_was_given):
    assert zoo.main(["train", "--algo", "lecture_dqn", "-params", "gamma:0.9", *words]) == 0
    (given,) = zoo_that_says_what_it_was_given
    assert given[-2:] == ["--conf-file", zoo.hyperparams_files().get(file, file)]


def test_your_own_algorithm_is_registered_with_the_packages(zoo_that_says_what_it_was_given, monkeypatch):
    monkeypatch.setitem(zoo.ALGOS, "my_dqn", LectureDQN)
    before = callbacks.evaluate_policy
    zoo.register()
    tables = sys.modules["rl_zoo3.hyperparams_opt"]
    for table in (sys.modules["rl_zoo3"].ALGOS, tables.HYPERPARAMS_SAMPLER, tables.HYPERPARAMS_CONVERTER):
        assert list(table) == ["lecture_dqn", "lecture_qrdqn", "my_dqn"]
    assert callbacks.evaluate_policy is before


def test_mistakes_in_the_arguments(tmp_path, capsys):
    assert zoo.main(["tarin", "--algo", "lecture_dqn"]) == 2
    said = capsys.readouterr().err
    assert (
        "'tarin' is not a command; known are train, enjoy, record_video, record_training, benchmark, push_to_hub"
        in said
    )
    assert "(did you mean 'train'?)" in said
    assert zoo.main(["\x1b[2J"]) == 2
    assert "\x1b" not in capsys.readouterr().err
    assert zoo.main(["--help"]) == zoo.main([]) == 0


def test_without_the_zoo_the_message_names_the_extra(monkeypatch, capsys):
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
    """Call the sampler as the zoo does: the study has the settings as text, but the memory's as they are."""
    tuned = tuned_settings(algo, env_id)
    env = make_env(env_id, 50)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for key, value in tuned.keywords.items():
        study.set_user_attr(key, str(value))
    memory_kwargs = tuned.keywords["replay_buffer_kwargs"]
    values = {}
    for _ in range(6):
        trial = study.ask()
        drawn = sample_for_zoo(algo == "lecture_qrdqn", env_id, trial, 0, 1, {"her_kwargs": memory_kwargs})
        settings = {**tuned.keywords, **drawn, "learning_starts": 0, "train_freq": 1, "engine": "torch"}
        model = zoo.ALGOS[algo](env=env, seed=0, **settings).learn(8)
        assert model._n_updates > 0
        assert ("use_masking" in drawn) == masks
        assert {**drawn["replay_buffer_kwargs"], "success_fraction": 0} == {**memory_kwargs, "success_fraction": 0}
        for key, value in drawn.items():
            values.setdefault(key, set()).add(str(value))
        # For `--trial-id`, the stored parameters give the same settings.
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
