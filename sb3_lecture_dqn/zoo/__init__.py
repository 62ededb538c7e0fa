"""
The RL Zoo with the algorithms of this package::

    python -m sb3_lecture_dqn.zoo train --algo lecture_dqn --env Taxi-v3

Commands and options are the zoo's own; ``--conf-file`` also takes the name of a file of this package, see
:func:`hyperparams_files`. Of a run's folder, all is read as data; ``--trust`` has the zoo read it in its own way,
which runs what the folder says. Needs the extra ``zoo``.
"""

import argparse
import contextlib
import difflib
import functools
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import torch as th
from stable_baselines3.common import callbacks
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.envs.masks import MaskReader
from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.lecture_qrdqn.lecture_qrdqn import LectureQRDQN
from sb3_lecture_dqn.saving.saveable import Saveable
from sb3_lecture_dqn.training.tuned import FOLDER
from sb3_lecture_dqn.zoo.files import HOW_TO_TRUST, load_results, read_as_data, replaced

if TYPE_CHECKING:
    import optuna

ALGOS: dict[str, type[BaseAlgorithm]] = {"lecture_dqn": LectureDQN, "lecture_qrdqn": LectureQRDQN}
COMMANDS = {
    "train": "rl_zoo3.train",
    "enjoy": "rl_zoo3.enjoy",
    "record_video": "rl_zoo3.record_video",
    "record_training": "sb3_lecture_dqn.zoo.videos",
    "benchmark": "rl_zoo3.benchmark",
    "push_to_hub": "rl_zoo3.push_to_hub",
    "load_from_hub": "rl_zoo3.load_from_hub",
    "plot_train": "rl_zoo3.plots.plot_train",
    "all_plots": "rl_zoo3.plots.all_plots",
    "plot_from_file": "rl_zoo3.plots.plot_from_file",
}
# The zoo has no function for these, only a script
_SCRIPTS = ("record_video", "benchmark", "push_to_hub", "load_from_hub")
# Whose errors say that the Hugging Face Hub was not reached
_NETWORK = ("huggingface_hub", "requests", "httpx", "httpx2", "httpcore", "urllib3")
NET_ARCH = {"small": [64, 64], "medium": [256, 256], "big": [400, 300]}  # the zoo's


def register(env_id: str | None = None) -> None:
    """
    Add ``lecture_dqn`` and ``lecture_qrdqn``, and what is searched for them, to the tables of the zoo.

    For a script of your own, before ``rl_zoo3.train.train()`` or any other function of the zoo. For models with
    ``use_masking=True``, call those within :func:`masked_evaluation`.

    :param env_id: What is trained on. If it offers action masks, a search tries training with them and without; of an
        unknown one it leaves ``use_masking`` as it is
    """
    from rl_zoo3 import ALGOS as ZOO_ALGOS
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    samplers: dict[str, Any] = HYPERPARAMS_SAMPLER
    converters: dict[str, Any] = HYPERPARAMS_CONVERTER
    for name, algorithm in ALGOS.items():
        ZOO_ALGOS[name] = algorithm
        samplers[name] = functools.partial(_sample, name, env_id)
        converters[name] = convert_params


@contextlib.contextmanager
def masked_evaluation() -> Iterator[None]:
    """
    Within this context, SB3's ``EvalCallback``, by which the zoo evaluates, gives masks to models with
    ``use_masking=True``.

    :return: A context, after which SB3 is as it was
    """
    with replaced(callbacks, "evaluate_policy", _evaluate_policy):  # where EvalCallback looks it up
        yield


class _MaskFollower(VecEnvWrapper):
    """
    Environments, and the masks of the states in which they are.

    :param venv: The environments
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self._reader: MaskReader | None = None

    def masked(self, model: Any) -> Any:
        """
        From the next reset on, have a model choose among the actions that are valid here.

        :param model: The model
        :return: What predicts in its place; the model itself if it was not trained with masks
        """
        if not getattr(model, "use_masking", False):
            return model
        self._reader = MaskReader(self.venv)
        return _Masked(model, self)

    def reset(self) -> VecEnvObs:
        obs = self.venv.reset()
        if self._reader is not None:
            self.masks = self._reader.at_start()
        return obs

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        if self._reader is not None:
            self.masks, _ = self._reader.after_step(dones, infos)
        return obs, rewards, dones, infos


class _Masked:
    """A model that chooses among the actions that are valid in some environments; else it is as the model."""

    def __init__(self, model: Any, follower: _MaskFollower) -> None:
        self._model, self._follower = model, follower

    def predict(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        return self._model.predict(obs, *args, action_masks=self._follower.masks, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _evaluate_policy(model: Any, env: VecEnv, *args: Any, **kwargs: Any) -> Any:
    """SB3's ``evaluate_policy``, with masks for a model that needs them: the values of other actions mean nothing."""
    follower = _MaskFollower(env)
    return evaluate_policy(follower.masked(model), follower, *args, **kwargs)


@contextlib.contextmanager
def _masked_episodes() -> Iterator[None]:
    """The same where the zoo makes environments, loads a model, and then steps, as `enjoy` and `record_video` do."""
    import rl_zoo3

    made: list[_MaskFollower] = []
    create = rl_zoo3.create_test_env

    def create_test_env(*args: Any, **kwargs: Any) -> VecEnv:
        made.append(_MaskFollower(create(*args, **kwargs)))
        return made[-1]

    def load(algorithm: type[BaseAlgorithm], *args: Any, **kwargs: Any) -> Any:
        return made[-1].masked(algorithm.load(*args, **kwargs))

    with contextlib.ExitStack() as stack:
        for name in ("rl_zoo3", "rl_zoo3.utils", "rl_zoo3.enjoy"):
            stack.enter_context(replaced(import_module(name), "create_test_env", create_test_env))
        for name, algorithm in ALGOS.items():  # `main` puts the table back
            entry: Any = SimpleNamespace(load=functools.partial(load, algorithm), __name__=algorithm.__name__)
            rl_zoo3.ALGOS[name] = entry
        yield


def hyperparams_files() -> dict[str, str]:
    """
    The files of settings in this package, for the zoo's ``--conf-file``.

    :return: Their paths by name: ``lecture_dqn``, ``lecture_dqn_masked`` and ``lecture_qrdqn`` have the settings of
        ``tuned``, ``lecture`` has the lecture's, for every environment
    """
    return {file.name.removesuffix(".yml"): str(file) for file in FOLDER.iterdir() if file.name.endswith(".yml")}


def sample_params(
    trial: "optuna.Trial", settings: dict[str, Any], *, masks: bool = False, quantiles: bool = False
) -> dict[str, Any]:
    """
    Draw the parameters of a trial.

    Which of them apply depends on the settings that they take the place of, so all that :func:`convert_params` needs is
    drawn; what the trial does not choose, such as ``deduplicate``, is a choice of one.

    :param trial: The trial
    :param settings: Those that the search starts from, with ``policy`` by its name
    :param masks: Whether the environment offers action masks
    :param quantiles: Whether the algorithm is QR-DQN
    :return: What was drawn, by the names in the trial
    """
    params: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 2e-2, log=True),
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 1e-3, 0.3, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", 3, 8),
        "gradient_steps": trial.suggest_int("gradient_steps", 1, 16, log=True),
        # Both schedules are drawn and one is used: a search space that is the same in all trials suits the TPE sampler.
        "exploration_by": trial.suggest_categorical("exploration_by", ["episode", "timestep"]),
        "one_minus_exploration_decay": trial.suggest_float("one_minus_exploration_decay", 1e-3, 0.1, log=True),
        "exploration_fraction": trial.suggest_float("exploration_fraction", 0.05, 0.8),
        "exploration_final_eps": trial.suggest_float("exploration_final_eps", 0.01, 0.2),
        "target_update_by": trial.suggest_categorical("target_update_by", ["episode", "step"]),
        "target_update_episodes": trial.suggest_int("target_update_episodes", 1, 50, log=True),
        "target_update_steps": trial.suggest_int("target_update_steps", 1, 1000, log=True),
        "double_q": trial.suggest_categorical("double_q", [False, True]),
    }
    if settings["policy"] in ("LecturePolicy", "ActionInPolicy"):
        params["hidden_dim_pow"] = trial.suggest_int("hidden_dim_pow", 3, 7)
    elif settings["policy"] != "TablePolicy":
        params["net_arch"] = trial.suggest_categorical("net_arch", list(NET_ARCH))
    if quantiles:
        params["n_quantiles"] = trial.suggest_int("n_quantiles", 5, 100, log=True)
    if masks:
        params["use_masking"] = trial.suggest_categorical("use_masking", [False, True])
    if "explore_least_tried" in settings:  # only for some observations
        params["explore_least_tried"] = trial.suggest_categorical("explore_least_tried", [False, True])
    if "replay_buffer_class" not in settings:
        choices: list[float | None] = [None, 0.05, 0.1, 0.2, 0.3, 0.5]
        params["success_fraction"] = trial.suggest_categorical("success_fraction", choices)
        for key, value in settings.get("replay_buffer_kwargs", {}).items():
            if key != "success_fraction":
                params[f"memory_{key}"] = trial.suggest_categorical(f"memory_{key}", [value])
    return params


def convert_params(params: dict[str, Any]) -> dict[str, Any]:
    """
    The settings that a trial's parameters stand for.

    :param params: As :func:`sample_params` draws them
    :return: Settings as the zoo's files have them
    """
    policy_kwargs: dict[str, Any] = {"optimizer_class": th.optim.Adam}
    if "hidden_dim_pow" in params:
        policy_kwargs["hidden_dim"] = 2 ** params["hidden_dim_pow"]
    if "net_arch" in params:
        policy_kwargs["net_arch"] = NET_ARCH[params["net_arch"]]
    if "n_quantiles" in params:
        policy_kwargs["n_quantiles"] = params["n_quantiles"]
    by_episode = params["exploration_by"] == "episode"
    settings = {
        "learning_rate": f"lin_{params['learning_rate']}",
        "gamma": 1 - params["one_minus_gamma"],
        "batch_size": 2 ** params["batch_size_pow"],
        "gradient_steps": params["gradient_steps"],
        "exploration_decay": 1 - params["one_minus_exploration_decay"] if by_episode else None,
        "exploration_fraction": params["exploration_fraction"],
        "exploration_final_eps": params["exploration_final_eps"],
        "target_update_interval": (
            [params["target_update_episodes"], "episode"]
            if params["target_update_by"] == "episode"
            else params["target_update_steps"]
        ),
        "policy_kwargs": policy_kwargs,
    }
    for name in ("double_q", "use_masking", "explore_least_tried"):
        if name in params:
            settings[name] = params[name]
    if "success_fraction" in params:
        others = {key.removeprefix("memory_"): value for key, value in params.items() if key.startswith("memory_")}
        settings["replay_buffer_kwargs"] = {**others, "success_fraction": params["success_fraction"]}
    return settings


def _sample(
    algo: str,
    env_id: str | None,
    trial: "optuna.Trial",
    n_actions: int,
    n_envs: int,
    additional_args: dict[str, Any],
) -> dict[str, Any]:
    """A sampler as the zoo calls it: the settings to start from are in the study, as words, and the last argument."""
    settings = {**trial.study.user_attrs, "replay_buffer_kwargs": additional_args["her_kwargs"]}
    masks = env_id is not None and _offers_masks(env_id)
    drawn = convert_params(sample_params(trial, settings, masks=masks, quantiles=algo == "lecture_qrdqn"))
    rate = float(drawn["learning_rate"].removeprefix("lin_"))
    return {**drawn, "learning_rate": LinearSchedule(rate, 0.0, 1.0)}


@functools.cache
def _offers_masks(env_id: str) -> bool:
    env = DummyVecEnv([lambda: make_env(env_id)])
    env.reset()
    try:
        MaskReader(env).at_start()
    except ValueError:
        return False
    finally:
        env.close()
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command of the zoo.

    What it replaces in SB3 and in the zoo meanwhile is there again when it returns. (The zoo itself, once imported,
    leaves gymnasium with a ``TimeLimit`` of its own.)

    :param argv: Its name and its arguments, those of the process by default
    :return: The exit code: 0 done, 2 a mistake in the arguments, or a file that is not read without ``--trust``
    """
    command, *args = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        print(
            f"usage: python -m sb3_lecture_dqn.zoo {{{','.join(COMMANDS)}}} ... [--trust]\n\n{(__doc__ or '').strip()}"
        )
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return _mistake(f"{command!r} is no command; there are {', '.join(COMMANDS)}{hint}")
    trust = "--trust" in args
    args = [word for word in args if word != "--trust"]
    try:
        with _as_before(), read_as_data() if not trust else _trusted():
            return _run(command, args, trust)
    except ModuleNotFoundError as error:
        return _mistake(f"{error}: install the extra `zoo` (pip install 'sb3-lecture-dqn[zoo]')")
    except ImportError as error:  # of a package that the zoo does not fit
        return _mistake(f"`{command}` cannot run with what is installed here: {error}")
    except UnsafeFileError as error:
        return _mistake(str(error) if "--trust" in str(error) else f"{error}; {HOW_TO_TRUST}")
    except Exception as error:
        if type(error).__module__.split(".")[0] in _NETWORK:
            instead = " (--no-hub leaves it out)" if command == "benchmark" else ""
            return _mistake(f"`{command}` needs the Hugging Face Hub, which cannot be reached{instead}: {error}")
        # In the midst of a training, where an error comes from counts
        known = isinstance(error, ValueError | OSError | AssertionError | gym.error.Error) and str(error)
        if command == "train" or not known:
            raise
        return _mistake(str(error))


def _run(command: str, args: list[str], trust: bool) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--algo")
    parser.add_argument("--env")
    parser.add_argument("-conf", "--conf-file")
    given, _ = parser.parse_known_args(args)
    register(given.env)
    if command == "train" and given.algo in ALGOS:
        settings = given.conf_file or given.algo
        args = [*args, "--conf-file", hyperparams_files().get(settings, settings)]  # the last of several holds
    if command == "record_training" and trust:  # which it hands on
        args = [*args, "--trust"]
    sys.argv = [f"{sys.argv[0]} {command}", *args]

    def call(words: Sequence[str], *_: Any, **__: Any) -> int:
        """Run `enjoy` where the zoo's `benchmark` would, by the path of its own, in a process of its own."""
        try:
            return main(["enjoy", *words[2:], *(["--trust"] * trust)])
        except Exception:  # the zoo goes on with the next model
            traceback.print_exc()
            return 1

    with contextlib.ExitStack() as stack:
        stack.enter_context(masked_evaluation())
        if command in ("enjoy", "record_video", "push_to_hub"):
            stack.enter_context(_masked_episodes())
        if command == "benchmark":
            stack.enter_context(replaced(subprocess, "call", call))
        if command in _SCRIPTS:
            runpy.run_module(COMMANDS[command], run_name="__main__")
            return 0
        module = import_module(COMMANDS[command])
        if command == "plot_from_file" and not trust:
            stack.enter_context(replaced(module, "pickle", SimpleNamespace(load=load_results)))
        run: Callable[[], None] = getattr(module, command)
        run()
    return 0


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Put the arguments of the process and the tables of the zoo back afterwards."""
    words = sys.argv
    from rl_zoo3 import ALGOS as ZOO_ALGOS
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    tables: list[dict[str, Any]] = [ZOO_ALGOS, HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        sys.argv = words
        for table, content in zip(tables, before, strict=True):
            table.clear()
            table.update(content)


@contextlib.contextmanager
def _trusted() -> Iterator[None]:
    """Within this context, models of this package and their memories are loaded as SB3 does: it runs what they say."""
    load, load_memory = Saveable.load.__func__, Saveable.load_replay_buffer  # type: ignore[attr-defined]

    def trusting(cls: type, *args: Any, **kwargs: Any) -> Any:
        return load(cls, *args, **{**kwargs, "trust": True})

    def trusting_memory(model: Any, *args: Any, **kwargs: Any) -> None:
        load_memory(model, *args, **{**kwargs, "trust": True})

    with (
        replaced(Saveable, "load", classmethod(trusting)),
        replaced(Saveable, "load_replay_buffer", trusting_memory),
    ):
        yield


def _mistake(text: str) -> int:
    print(f"sb3_lecture_dqn.zoo: error: {shown(' '.join(text.split()), 2000)}", file=sys.stderr)
    return 2
