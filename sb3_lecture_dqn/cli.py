"""The command line, ``sb3-lecture-dqn``."""

import argparse
import difflib
import inspect
import pathlib
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.logger import configure

import sb3_lecture_dqn
from sb3_lecture_dqn import study
from sb3_lecture_dqn.algorithms import load_model
from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.common.checks import check_choice, check_number, shown
from sb3_lecture_dqn.common.user_yaml import read_yaml, read_yaml_file
from sb3_lecture_dqn.engine.divergence import DivergedError, has_finite_weights
from sb3_lecture_dqn.envs.make import LECTURE_MAX_EPISODE_STEPS, id_step_limit, make_env
from sb3_lecture_dqn.evaluation.run import run_test
from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.lecture_qrdqn.lecture_qrdqn import LectureQRDQN
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.show.plot import CONFIG, plot_runs
from sb3_lecture_dqn.show.tensorboard import LectureTensorBoardCallback
from sb3_lecture_dqn.show.watch import record, show
from sb3_lecture_dqn.training.algorithm import EpisodicMixin
from sb3_lecture_dqn.training.callbacks import (
    EpisodeProgressBarCallback,
    LectureCheckpointCallback,
    LectureTestCallback,
)
from sb3_lecture_dqn.training.tuned import about_default, has_settings

ALGORITHMS: dict[str, type[EpisodicMixin]] = {"lecture_dqn": LectureDQN, "lecture_qrdqn": LectureQRDQN}
# Settings that are options: by `--set` they would be there twice
_OPTIONS = ("env", "policy", "store_and_replay", "double_dqn", "use_masking", "engine", "seed", "tensorboard_log")
# No settings, or no data
_NOT_BY_SET = {"self", "_init_setup_model", "replay_buffer_class"}
# What SB3's own policies are for, which fail on other observations without saying so
_OBSERVATIONS = {"CnnPolicy": "images", "MultiInputPolicy": "dictionaries"}

EXAMPLES = """\
examples:
  sb3-lecture-dqn train                                  the lecture's run: Taxi, 5000 episodes
  sb3-lecture-dqn train --episodes 500 --seed 1          a shorter one that can be repeated
  sb3-lecture-dqn train --no-double-dqn                  without a separate target network
  sb3-lecture-dqn train --env CartPole-v1 --policy MlpPolicy --timesteps 20000
  sb3-lecture-dqn train --tuned --use-masking            solves every start, in half a minute
  sb3-lecture-dqn train --set gamma=0.9 --set batch_size=32
  sb3-lecture-dqn train --config runs/SR_True_DD_True_2026-01-31_12-00-00/config.yaml --seed 2
  sb3-lecture-dqn train --resume runs/SR_True_DD_True_2026-01-31_12-00-00
  sb3-lecture-dqn train --pictures                       with graph, histograms, embeddings, pictures in TensorBoard
  sb3-lecture-dqn test runs/SR_True_DD_True_2026-01-31_12-00-00/model.zip
  sb3-lecture-dqn watch runs/SR_True_DD_True_2026-01-31_12-00-00/model.zip --out taxi.gif
  sb3-lecture-dqn plot runs --out curves.png             the mean of all seeds, and the optimum
  sb3-lecture-dqn ablate --out study                     the lecture's two switches, 20 seeds each
  sb3-lecture-dqn ablate plan.yaml --seeds 5 --out mine  a comparison of your own
  sb3-lecture-dqn ablate --report study                  its table and figure

exit codes:
  0 done    1 the training, or a trial of a study, failed    2 a mistake in the arguments    3 the training diverged
  130 interrupted by Ctrl-C    143 by SIGTERM
"""
#: Exit codes of a training that ends before its budget
FAILED, DIVERGED = 1, 3
_HOW_IT_ENDED = {0: "Done", FAILED: "Failed", DIVERGED: "Diverged"}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: The arguments, those of the process by default
    :return: The exit code: 0 done, 1 a training failed after it had begun (as where the environment raises an error),
        or trials of a study did, 2 a mistake in the arguments, 3 the training diverged, 130 interrupted by Ctrl-C, 143
        by SIGTERM
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(argv)
    try:
        if args.command is _train:
            args = _with_config(args, argv)
        return int(args.command(args))
    except _NAMED_ERRORS as error:
        print(f"sb3-lecture-dqn: error: {shown(str(error).replace(chr(10), ' '), 2000)}", file=sys.stderr)
        return 2


#: Errors whose message is all that a user needs
_NAMED_ERRORS = (ValueError, OSError, ImportError, MemoryError, gym.error.Error)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Says defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, []) else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sb3-lecture-dqn",
        description="The deep Q-network of the lecture, on Stable-Baselines3.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {sb3_lecture_dqn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train an agent, test it as the lecture does, and save it",
        formatter_class=_HelpFormatter,
    )
    train.set_defaults(command=_train)
    train.add_argument("--env", default="Taxi-v3", metavar="ID", help="environment id")
    train.add_argument("--algo", default="lecture_dqn", choices=sorted(ALGORITHMS), help="DQN, or QR-DQN")
    policies = sorted({*LectureDQN.policy_aliases, *LectureQRDQN.policy_aliases})
    train.add_argument("--policy", choices=policies, help="network; LecturePolicy unless --tuned says another")
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--episodes", type=int, metavar="N", help="budget in episodes; 5000 if no budget is given")
    budget.add_argument("--timesteps", type=int, metavar="N", help="budget in environment steps")
    train.add_argument("--seed", type=int, help="makes the run repeatable")
    switch = argparse.BooleanOptionalAction
    train.add_argument("--store-and-replay", action=switch, default=True, help="learn from a replay memory")
    train.add_argument("--double-dqn", action=switch, default=True, help="learn with a separate target network")
    train.add_argument("--use-masking", action=switch, default=False, help="choose valid actions only")
    train.add_argument("--tuned", action=switch, default=False, help="take the recommended settings and budget")
    train.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting of the algorithm, as YAML"
    )
    train.add_argument("--engine", default="auto", choices=["auto", "torch", "numba"], help="what computes the updates")
    train.add_argument("--test-episodes", type=int, default=100, metavar="N", help="episodes of each test")
    train.add_argument(
        "--checkpoint-freq", type=int, default=50, metavar="N", help="save a checkpoint every N episodes, 0 for none"
    )
    train.add_argument(
        "--pictures", action=switch, default=False, help="show all that TensorBoard can (needs the extra viz)"
    )
    train.add_argument("--out", default="runs", metavar="DIR", help="folder of the runs, each in a folder of its own")
    train.add_argument("--config", metavar="FILE", help="YAML file of options, as each run has one; others count more")
    train.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped, as if it had not been")
    how_much = train.add_mutually_exclusive_group()
    how_much.add_argument("--quiet", action="store_true", help="no progress bar, and of the tests only the last")
    how_much.add_argument("--verbose", action="store_true", help="also print what is logged, and every checkpoint")

    test = commands.add_parser(
        "test",
        help="test a saved agent",
        formatter_class=_HelpFormatter,
    )
    test.set_defaults(command=_test)
    test.add_argument("model", metavar="MODEL", help="the model's zip file")
    test.add_argument("--env", metavar="ID", help="environment id, if not the one it was trained on")
    test.add_argument("--episodes", type=int, default=100, metavar="N", help="number of episodes")
    test.add_argument(
        "--max-episode-steps", type=int, metavar="N", help="step limit; the model's own, or that of --env, if not given"
    )
    test.add_argument("--seed", type=int, help="makes the test repeatable")

    watch = commands.add_parser(
        "watch",
        help="look at greedy episodes of a saved agent, with its action values",
        formatter_class=_HelpFormatter,
    )
    watch.set_defaults(command=_watch)
    watch.add_argument("model", metavar="MODEL", help="the model's zip file")
    watch.add_argument("--env", metavar="ID", help="environment id, if not the one it was trained on")
    watch.add_argument("--episodes", type=int, default=3, metavar="N", help="number of episodes")
    watch.add_argument("--max-episode-steps", type=int, default=50, metavar="N", help="step limit of an episode")
    watch.add_argument("--fps", type=int, default=4, metavar="N", help="pictures per second")
    watch.add_argument("--seed", type=int, help="makes the episodes repeatable")
    where = watch.add_mutually_exclusive_group()
    where.add_argument("--out", metavar="FILE", help="the video, .gif or .mp4; watch.gif beside the model by default")
    where.add_argument("--ansi", action="store_true", help="print the episodes as text instead")

    plot = commands.add_parser(
        "plot",
        help="draw the learning curves of one or many runs",
        formatter_class=_HelpFormatter,
    )
    plot.set_defaults(command=_plot)
    plot.add_argument("runs", nargs="+", metavar="RUNS", help="folders of runs, or folders that hold such")
    plot.add_argument("--out", default="curves.png", metavar="FILE", help="the picture, .png, .svg or .pdf")
    plot.add_argument("--env", metavar="ID", help="environment whose optimum is drawn, if not that of the models")

    ablate = commands.add_parser(
        "ablate",
        help="compare settings over many seeds, and report it with intervals",
        formatter_class=_HelpFormatter,
    )
    ablate.set_defaults(command=_ablate)
    ablate.add_argument("plan", nargs="?", metavar="PLAN", help="YAML file; the lecture's four switches if not given")
    ablate.add_argument("--seeds", type=int, metavar="N", help="number of seeds, in place of the plan's (20)")
    ablate.add_argument("--episodes", type=int, metavar="N", help="episodes of a run, in place of the plan's (5000)")
    ablate.add_argument("--processes", type=int, metavar="N", help="number of processes; all cores if not given")
    ablate.add_argument(
        "--out", metavar="DIR", help="the study's folder, `study` if not given; one that was stopped goes on"
    )
    ablate.add_argument("--ray", action="store_true", help="run on Ray, on this machine (extra ray)")
    ablate.add_argument("--ray-address", metavar="ADDRESS", help="run on the Ray cluster of that address, or auto")
    ablate.add_argument("--report", metavar="DIR", help="run nothing: report what is in a study's folder")
    ablate.add_argument("--quiet", action="store_true", help="no progress, only the report")
    return parser


#: What `train` keeps in `config.yaml`, beside the run
_KEPT = (
    *("env", "algo", "policy", "episodes", "timesteps", "seed", "store_and_replay", "double_dqn", "use_masking"),
    *("tuned", "set", "engine", "test_episodes", "checkpoint_freq", "pictures"),
)
#: Of the package, in the same file; version 1.0 wrote none
_VERSION = "version"


def _as_in_1_0(config: dict[str, Any]) -> dict[str, Any]:
    """
    The options that a run of version 1.0 left, so that they mean what they did.

    That one wrote all options and no version, and had other step limits: 1000 for every id, and the registered one for
    ``null``.
    """
    if config.keys() != set(_KEPT) or not isinstance(config["env"], str):
        return config
    entries = list(config["set"] or [])
    said = [i for i, entry in enumerate(entries) if str(entry).partition("=")[0] == "max_episode_steps"]
    limit: int | None = None
    if not said and not config["tuned"] and id_step_limit(config["env"]) != LECTURE_MAX_EPISODE_STEPS:
        limit = LECTURE_MAX_EPISODE_STEPS
    elif said and read_yaml("config", str(entries[said[-1]]).partition("=")[2]) is None:
        limit = gym.spec(config["env"]).max_episode_steps
    return config if limit is None else {**config, "set": [*entries, f"max_episode_steps={limit}"]}


def _with_config(args: argparse.Namespace, argv: list[str]) -> argparse.Namespace:
    """The arguments of `train`, with those of a file before them where there is one."""
    file = args.config
    if args.resume is not None:
        others = [word for word in argv[1:] if word not in ("--resume", args.resume, "--quiet", "--verbose")]
        if others and others != [f"--resume={args.resume}"]:
            raise ValueError(f"--resume goes on with the run's own options: leave out {' '.join(others)}")
        file = pathlib.Path(args.resume) / CONFIG
    if file is None:
        return args
    values = _config_values(file)
    if args.episodes is not None or args.timesteps is not None:  # also in place of a budget of the other kind
        values |= {"episodes": None, "timesteps": None}
    parser = _parser()
    # As defaults, not as words before the others, of which a value could be one
    _options_of_train(parser).set_defaults(**values)
    return parser.parse_args(argv)


def _options_of_train(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    train = commands.choices["train"]
    assert isinstance(train, argparse.ArgumentParser)
    return train


def _config_values(file: str | pathlib.Path) -> dict[str, Any]:
    """
    Read options of `train` from a file.

    :raises ValueError: If one is not what the command line takes; the message names it
    """
    config = read_yaml_file(file)
    if not isinstance(config, dict):
        raise ValueError(f"{file}: it is no table of options; there are {', '.join(_KEPT)}")
    for name in config:
        if name not in (*_KEPT, _VERSION):
            near = difflib.get_close_matches(str(name).replace("-", "_"), _KEPT, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{file}: {name!r} is no option of `train` in a file; there are {', '.join(_KEPT)}{hint}")
    is_of_1_0 = _VERSION not in config
    config.pop(_VERSION, None)
    actions = {action.dest: action for action in _options_of_train(_parser())._actions}
    for name, value in config.items():
        try:
            _check_option(actions[name], value)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    if config.get("episodes") is not None and config.get("timesteps") is not None:
        raise ValueError(f"{file}: episodes={config['episodes']} and timesteps={config['timesteps']}: give one budget")
    if is_of_1_0:
        config = _as_in_1_0(config)
    return {name: value for name, value in config.items() if value is not None or actions[name].default is None}


def _check_option(action: argparse.Action, value: Any) -> None:
    """
    Check the value that a file has for an option.

    :raises ValueError: If it is of another type, or not one of the option's choices
    """
    name = action.dest
    if value is None:  # as if it were not there
        return
    if isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r} must be true or false")
    elif action.type is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name}={value!r} must be an integer")
    elif name == "set":
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise ValueError(f"{name}={value!r} must be a list of NAME=VALUE, such as ['gamma=0.9']")
    elif not isinstance(value, str):
        raise ValueError(f"{name}={value!r} must be text")
    elif action.choices is not None:
        check_choice(name, value, tuple(action.choices))


def _train(args: argparse.Namespace) -> int:
    for name in ("episodes", "timesteps", "test_episodes"):
        if getattr(args, name) is not None:
            check_number(f"--{name.replace('_', '-')}", getattr(args, name), 1, integer=True)
    check_number("--checkpoint-freq", args.checkpoint_freq, 0, integer=True)
    test = LectureTestCallback(n_test_episodes=args.test_episodes, verbose=0 if args.quiet else 1)
    callbacks: list[BaseCallback] = [test]
    if args.pictures:
        callbacks.append(LectureTensorBoardCallback())
    if args.checkpoint_freq > 0:
        verbose = 2 if args.verbose else 0
        callbacks.append(LectureCheckpointCallback((args.checkpoint_freq, "episode"), verbose=verbose))
    if args.resume is None:
        model = _new_model(args)
        run = model.make_run_folder()
        kept = {_VERSION: sb3_lecture_dqn.__version__} | {name: getattr(args, name) for name in _KEPT}
        config = yaml.safe_dump(kept, sort_keys=False)
        (run / CONFIG).write_text(config, encoding="utf-8")
    else:
        run = pathlib.Path(args.resume)
        with warnings.catch_warnings(record=True) as passed_over:
            warnings.simplefilter("always")
            model = ALGORITHMS[args.algo].resume(run, env=None)
        for warning in passed_over:
            print(f"sb3-lecture-dqn: {shown(str(warning.message), 2000)}", file=sys.stderr)
        # Said outright, as in a checkpoint of version 1.0 nothing says that these tests had the limit of the training.
        test.max_episode_steps = model.max_episode_steps
    outputs = ["stdout", "tensorboard"] if args.verbose else ["tensorboard"]
    model.set_logger(configure(str(run), outputs))
    if not args.quiet:
        doing = "Training" if args.resume is None else f"Going on after {model._episode_num} episodes:"
        policy = next(name for name, kind in model.policy_aliases.items() if kind is model.policy_class)
        print(f"{doing} {policy} on {shown(args.env)} ({model.engine_in_use} engine). Logs and model: {run}")
    exit_code, failure = _learn(model, args, callbacks)
    _close_bars(model)
    model.logger.close()
    if failure is not None:
        _tell(failure)
    return _finish(model, args, run, test, exit_code)


def _finish(
    model: EpisodicMixin, args: argparse.Namespace, run: pathlib.Path, test: LectureTestCallback, exit_code: int
) -> int:
    """Save the model, and say how the training ended and what is left of it; the exit code."""
    how = _HOW_IT_ENDED.get(exit_code, "Interrupted")
    print(f"{how} after {model._episode_num} episodes, {model.num_timesteps} steps.")
    try:
        is_saved = _save_whole(model, run)
    except OSError as error:  # such as a full disk
        _tell(error)
        return exit_code or FAILED
    if test.results and (exit_code or test.results[-1][0] == model._episode_num):
        print(f"Last test: {test.results[-1][1]}")
    elif not exit_code:  # training has gone on since
        last = run_test(model, None, args.test_episodes, None, seed=args.seed, progress=not args.quiet)
        print(f"Last test: {last}")
    if is_saved:
        print(f"Model: {run / 'model.zip'}   (sb3-lecture-dqn test {run / 'model.zip'})")
    else:
        print("Model: none, as its weights are not finite and no checkpoint is from before (see --checkpoint-freq)")
    print(f"Curves: tensorboard --logdir {run.parent}")
    if exit_code == DIVERGED:  # to go on would end the same
        print(f"To try again: sb3-lecture-dqn train --config {run / CONFIG} {_against_divergence(args, model)}")
    elif exit_code and args.checkpoint_freq > 0 and checkpoints_in(run / "checkpoints"):
        print(f"To go on: sb3-lecture-dqn train --resume {run}")
    return exit_code


def _learn(
    model: EpisodicMixin, args: argparse.Namespace, callbacks: list[BaseCallback]
) -> tuple[int, Exception | None]:
    """Train; the exit code, and what made it fail."""
    begun_at = model.num_timesteps
    try:
        model.learn(args.timesteps, callbacks, total_episodes=args.episodes, progress_bar=not args.quiet)
    except KeyboardInterrupt:
        return 130, None
    except SystemExit as stop:  # SIGTERM
        return int(str(stop.code)), None
    except DivergedError as error:
        return DIVERGED, error
    except Exception as error:
        if model.num_timesteps == begun_at:  # nothing is lost, and it is the arguments that do not fit together
            raise
        return FAILED, error
    return 0, None


def _against_divergence(args: argparse.Namespace, model: EpisodicMixin) -> str:
    if not args.double_dqn:
        return "--double-dqn"
    if not args.tuned:
        return "--tuned"
    return f"--set learning_rate={model.policy.optimizer.param_groups[0]['lr'] / 10:g}"


def _tell(failure: Exception) -> None:
    """Say why a training ended; of an error that is none of this package's or SB3's, also where it came from."""
    if isinstance(failure, DivergedError):
        print(f"sb3-lecture-dqn: {failure}", file=sys.stderr)
    elif isinstance(failure, _NAMED_ERRORS):
        print(f"sb3-lecture-dqn: the training failed: {type(failure).__name__}: {failure}", file=sys.stderr)
    else:
        traceback.print_exception(failure)


def _close_bars(model: EpisodicMixin) -> None:
    """Take away the bar of a training that was stopped, which would be drawn once more below all that is printed."""
    for callback in callback_tree(model._callback) if model._callback is not None else []:
        if isinstance(callback, EpisodeProgressBarCallback | ProgressBarCallback):
            callback.on_training_end()


def _save_whole(model: EpisodicMixin, run: pathlib.Path) -> bool:
    """Save the model, or where its weights are not finite, that of the last checkpoint; False if there is neither."""
    if not has_finite_weights(model):
        if not checkpoints_in(run / "checkpoints"):
            return False
        model = type(model).resume(run)
    model.save(run / "model")
    return True


def _new_model(args: argparse.Namespace) -> EpisodicMixin:
    kind: Any = ALGORITHMS[args.algo]
    known = set(inspect.signature(kind.__init__).parameters) - _NOT_BY_SET
    settings: dict[str, Any] = {}
    for entry in args.set:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"--set {entry}: say NAME=VALUE, such as gamma=0.9")
        if name in _OPTIONS:
            option = "out" if name == "tensorboard_log" else name.replace("_", "-")
            raise ValueError(f"--set {name}: use the option --{option}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known - set(_OPTIONS)))}"
            raise ValueError(f"--set: {name!r} is no setting of {args.algo}; {hint}")
        settings[name] = read_yaml(f"--set {entry}", value)
        if name.endswith("_kwargs") and not isinstance(settings[name], dict | None):
            raise ValueError(f"--set {entry}: it must be a table, such as {name}={{a: 1}}")
    settings |= {name: getattr(args, name) for name in ("store_and_replay", "double_dqn", "engine", "seed")}
    settings["tensorboard_log"] = args.out
    if args.policy is not None and args.policy not in kind.policy_aliases:
        raise ValueError(f"--policy {args.policy}: --algo {args.algo} has {', '.join(sorted(kind.policy_aliases))}")
    try:
        if args.tuned:
            policy = {} if args.policy is None else {"policy": args.policy}
            model: EpisodicMixin = kind.tuned(args.env, args.use_masking, **policy, **settings)
            file = f"{kind.hyperparams}_masked" if args.use_masking else kind.hyperparams
            if not args.quiet and not has_settings(file, args.env):
                print(about_default(model, repr(args.env)))
            return model
        return kind(args.policy or "LecturePolicy", args.env, use_masking=args.use_masking, **settings)  # type: ignore[no-any-return]
    except (TypeError, RuntimeError) as error:  # the second is PyTorch's, of a device
        if not args.set:
            raise
        raise ValueError(f"--set {' --set '.join(args.set)}: {error}") from error
    except (AssertionError, AttributeError) as error:
        if isinstance(error, ValueError) or args.policy not in _OBSERVATIONS:  # the first is one of this package's
            raise
        kind_of = _OBSERVATIONS[args.policy]
        raise ValueError(f"--policy {args.policy} is for {kind_of}, which {args.env} does not observe") from error


def _test(args: argparse.Namespace) -> int:
    model = load_model(args.model)
    if args.env is None and model.env_id is None:
        raise ValueError("the model was not trained on an environment with an id: give --env")
    print(run_test(model, args.env, args.episodes, args.max_episode_steps, seed=args.seed, progress=True))
    return 0


def _watch(args: argparse.Namespace) -> int:
    for name in ("episodes", "max_episode_steps", "fps"):
        check_number(f"--{name.replace('_', '-')}", getattr(args, name), 1, integer=True)
    model = load_model(args.model)
    env_id = args.env or model.env_id
    if env_id is None:
        raise ValueError("the model was not trained on an environment with an id: give --env")
    mode = "ansi" if args.ansi else "rgb_array"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not in the possible render_modes")  # that is an error here
        env = make_env(env_id, args.max_episode_steps, model.env_wrapper, render_mode=mode)
    try:
        if mode not in (modes := env.metadata.get("render_modes", [])):
            what, known = "--ansi" if args.ansi else "a video", ", ".join(map(repr, modes)) or "nothing"
            raise ValueError(f"{what} needs an environment that renders as {mode!r}; {env_id} renders as {known}")
        if args.ansi:
            show(model, env, args.episodes, args.fps, args.seed)
        else:
            out = pathlib.Path(args.out) if args.out else pathlib.Path(args.model).with_name("watch.gif")
            n_pictures = record(model, env, out, args.episodes, args.fps, args.seed, progress=True)
            print(f"Video: {out} ({n_pictures} pictures of {args.episodes} episodes)")
    finally:
        env.close()
    return 0


def _plot(args: argparse.Namespace) -> int:
    for line in plot_runs(args.runs, args.out, args.env, progress=True):
        print(line)
    print(f"Picture: {args.out}")
    return 0


def _ablate(args: argparse.Namespace) -> int:
    folder = args.report or args.out or "study"
    if args.report is not None:
        if args.ray or {args.plan, args.seeds, args.episodes, args.processes, args.out, args.ray_address} != {None}:
            raise ValueError("--report runs nothing: leave out --out, the plan and how to run it")
    else:
        plan = study.lecture_plan() if args.plan is None else study.Plan.from_yaml(args.plan)
        plan = plan.changed(args.seeds, args.episodes)
        try:
            if args.ray or args.ray_address is not None:
                study.run_plan_on_ray(plan, folder, args.ray_address, args.processes, progress=not args.quiet)
            else:
                study.run_plan(plan, folder, args.processes, progress=not args.quiet)
        except KeyboardInterrupt:
            return _ablation_stopped(folder, 130)
        except SystemExit:  # SIGTERM; Ray's own handler exits by its bare number
            return _ablation_stopped(folder, 143)
    print("\n".join(study.write_report(folder)))
    return int(any(row["state"] == "failed" for row in study.read_rows(folder)))


def _ablation_stopped(folder: str, exit_code: int) -> int:
    try:
        rows = study.read_rows(folder)
    except FileNotFoundError:  # it had not begun
        rows = []
    print(f"Interrupted: {sum(row['state'] == 'done' for row in rows)} of {len(rows)} trials are done in {folder}.")
    print("To go on: the same command again")
    return exit_code
