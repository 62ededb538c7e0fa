"""The command line, ``sb3-lecture-dqn``."""

import argparse
import difflib
import inspect
import pathlib
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.logger import configure

import sb3_lecture_dqn
from sb3_lecture_dqn import study
from sb3_lecture_dqn.algorithms import ALGORITHMS, load_model
from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.common.checks import check_number, shown
from sb3_lecture_dqn.common.user_yaml import read_yaml
from sb3_lecture_dqn.config_file import read_config, write_config
from sb3_lecture_dqn.engine.divergence import DivergedError, has_finite_weights
from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.evaluation.run import run_test
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.show.plot import CONFIG, plot_runs
from sb3_lecture_dqn.show.tensorboard import LectureTensorBoardCallback
from sb3_lecture_dqn.show.watch import record, show
from sb3_lecture_dqn.training.algorithm import LectureAlgorithm
from sb3_lecture_dqn.training.callbacks import (
    EpisodeProgressBarCallback,
    LectureCheckpointCallback,
    LectureTestCallback,
)
from sb3_lecture_dqn.training.tuned import about_default, has_settings

#: Options of `train` that ``config.yaml`` does not keep: they say where the run goes and what is printed
_NOT_IN_CONFIG = ("out", "config", "resume", "inexact", "quiet", "verbose")
#: Keywords of an algorithm that `--set` does not take: they are not settings, or not plain data
_NOT_BY_SET = {"self", "_init_setup_model", "replay_buffer_class"}
#: The observations for SB3's own policies, whose errors do not name them
_OBSERVATIONS = {"CnnPolicy": "images", "MultiInputPolicy": "dictionaries"}
#: Errors that are printed in one line
_NAMED_ERRORS = (ValueError, OSError, ImportError, MemoryError, gym.error.Error)
#: Exit codes of a training that ends before its budget
FAILED, DIVERGED = 1, 3
_HOW_IT_ENDED = {0: "Done", FAILED: "Failed", DIVERGED: "Diverged"}

EXAMPLES = """\
examples:
  sb3-lecture-dqn train                                  the lecture's run: Taxi, 5000 episodes
  sb3-lecture-dqn train --episodes 500 --seed 1          a shorter run that can be repeated
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
  sb3-lecture-dqn ablate --out study                     the lecture's two switches, on and off, 20 seeds each
  sb3-lecture-dqn ablate plan.yaml --seeds 5 --out mine  a comparison of your own
  sb3-lecture-dqn ablate --report study                  its table and figure

exit codes:
  0 done    1 the training, or a trial of a study, failed    2 a mistake in the arguments    3 the training diverged
  130 interrupted by Ctrl-C    143 by SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: The arguments; ``None`` for those of the process
    :return: The exit code: 0 done, 1 a training or a trial of a study failed after it had begun, 2 a mistake in the
        arguments, 3 the training diverged, 130 interrupted by Ctrl-C, 143 interrupted by SIGTERM
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


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default of an option to its help, if it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, []) else super()._get_help_string(action)


def _parser(train_defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sb3-lecture-dqn",
        description="The deep Q-network of the lecture, on Stable-Baselines3.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {sb3_lecture_dqn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, summary: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=summary, formatter_class=_HelpFormatter)
        subparser.set_defaults(command=command)
        return subparser

    train = add("train", _train, "train an agent, test it as the lecture does, and save it")
    _add_train_options(train)
    train.set_defaults(**train_defaults or {})

    test = add("test", _test, "test a saved agent")
    test.add_argument("model", metavar="MODEL", help="the model's zip file")
    test.add_argument("--env", metavar="ID", help="environment id, if not the model's own")
    test.add_argument("--episodes", type=int, default=100, metavar="N", help="number of episodes")
    test.add_argument(
        "--max-episode-steps", type=int, metavar="N", help="step limit, if not the model's own or that of --env"
    )
    test.add_argument("--seed", type=int, help="makes the test repeatable")

    watch = add("watch", _watch, "look at greedy episodes of a saved agent, with its action values")
    watch.add_argument("model", metavar="MODEL", help="the model's zip file")
    watch.add_argument("--env", metavar="ID", help="environment id, if not the model's own")
    watch.add_argument("--episodes", type=int, default=3, metavar="N", help="number of episodes")
    watch.add_argument("--max-episode-steps", type=int, default=50, metavar="N", help="step limit of an episode")
    watch.add_argument("--fps", type=int, default=4, metavar="N", help="pictures per second")
    watch.add_argument("--seed", type=int, help="makes the episodes repeatable")
    output = watch.add_mutually_exclusive_group()
    output.add_argument("--out", metavar="FILE", help="the video, .gif or .mp4; watch.gif beside the model by default")
    output.add_argument("--ansi", action="store_true", help="print the episodes as text instead")

    plot = add("plot", _plot, "draw the learning curves of one or many runs")
    plot.add_argument("runs", nargs="+", metavar="RUNS", help="folders of runs, or folders that contain them")
    plot.add_argument("--out", default="curves.png", metavar="FILE", help="the picture, .png, .svg or .pdf")
    plot.add_argument("--env", metavar="ID", help="environment whose optimum is drawn, if not that of the models")

    ablate = add("ablate", _ablate, "compare settings over many seeds, and report the results with intervals")
    ablate.add_argument(
        "plan",
        nargs="?",
        metavar="PLAN",
        help="YAML file; without it, the lecture's two switches, on and off: four settings",
    )
    ablate.add_argument("--seeds", type=int, metavar="N", help="number of seeds, instead of the plan's (20)")
    ablate.add_argument("--episodes", type=int, metavar="N", help="episodes of a run, instead of the plan's (5000)")
    ablate.add_argument("--processes", type=int, metavar="N", help="number of processes; all cores by default")
    ablate.add_argument(
        "--out", metavar="DIR", help="the study's folder, `study` by default; a study that was stopped continues"
    )
    ablate.add_argument("--ray", action="store_true", help="run on Ray, on this machine (extra ray)")
    ablate.add_argument("--ray-address", metavar="ADDRESS", help="run on the Ray cluster of that address, or auto")
    ablate.add_argument("--report", metavar="DIR", help="run nothing: report the results in a study's folder")
    ablate.add_argument("--quiet", action="store_true", help="no progress, only the report")
    return parser


def _add_train_options(train: argparse.ArgumentParser) -> None:
    """
    Add the options of `train`.

    An option whose name is a keyword of the algorithms needs no other place: the constructor gets it, `--set` refuses
    it, and ``config.yaml`` keeps it.
    """
    policies = sorted(set().union(*(algorithm.cls.policy_aliases for algorithm in ALGORITHMS.values())))
    switch = argparse.BooleanOptionalAction
    train.add_argument("--env", default="Taxi-v3", metavar="ID", help="environment id")
    train.add_argument("--algo", default="lecture_dqn", choices=sorted(ALGORITHMS), help="the algorithm")
    train.add_argument("--policy", choices=policies, help="network; LecturePolicy, or that of --tuned, by default")
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--episodes", type=int, metavar="N", help="budget in episodes; 5000 if no budget is given")
    budget.add_argument("--timesteps", type=int, metavar="N", help="budget in environment steps")
    train.add_argument("--seed", type=int, help="makes the run repeatable")
    train.add_argument("--store-and-replay", action=switch, default=True, help="learn from a replay memory")
    train.add_argument("--double-dqn", action=switch, default=True, help="learn with a separate target network")
    train.add_argument("--use-masking", action=switch, default=False, help="choose valid actions only")
    train.add_argument("--tuned", action=switch, default=False, help="take the recommended settings and budget")
    train.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting of the algorithm, as YAML"
    )
    train.add_argument("--engine", default="auto", choices=["auto", "torch", "numba"], help="engine of the updates")
    train.add_argument("--test-episodes", type=int, default=100, metavar="N", help="episodes of each test")
    train.add_argument(
        "--checkpoint-freq", type=int, default=50, metavar="N", help="save a checkpoint every N episodes, 0 for none"
    )
    train.add_argument(
        "--pictures", action=switch, default=False, help="use all tabs of TensorBoard (needs the extra viz)"
    )
    train.add_argument("--out", default="runs", metavar="DIR", help="folder in which each run gets its own folder")
    train.add_argument("--config", metavar="FILE", help="YAML file of options, such as a run's; other options win")
    train.add_argument("--resume", metavar="RUN", help="continue a stopped run, as if it had not been stopped")
    train.add_argument(
        "--inexact", action="store_true", help="with --resume: also if it goes on with other rounding, as after 1.0"
    )
    printing = train.add_mutually_exclusive_group()
    printing.add_argument("--quiet", action="store_true", help="no progress bar, and only the last test")
    printing.add_argument("--verbose", action="store_true", help="also print what is logged, and every checkpoint")


def _config_options() -> dict[str, argparse.Action]:
    """Return the options of `train` that ``config.yaml`` keeps, by name."""
    parser = argparse.ArgumentParser(add_help=False)
    _add_train_options(parser)
    return {action.dest: action for action in parser._actions if action.dest not in _NOT_IN_CONFIG}


def _with_config(args: argparse.Namespace, argv: list[str]) -> argparse.Namespace:
    """Parse the arguments of `train` again with the options of a file as defaults, if there is a file."""
    file = args.config
    if args.resume is not None:
        others = [
            word for word in argv[1:] if word not in ("--resume", args.resume, "--inexact", "--quiet", "--verbose")
        ]
        if others and others != [f"--resume={args.resume}"]:
            raise ValueError(f"--resume takes all options from the run: leave out {' '.join(others)}")
        file = pathlib.Path(args.resume) / CONFIG
    if file is None:
        return args
    defaults = read_config(file, _config_options())
    if args.episodes is not None or args.timesteps is not None:  # instead of either budget of the file
        defaults |= {"episodes": None, "timesteps": None}
    return _parser(defaults).parse_args(argv)


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
        write_config(run / CONFIG, {name: getattr(args, name) for name in _config_options()})
    else:
        run = pathlib.Path(args.resume)
        with warnings.catch_warnings(record=True) as skipped_checkpoints:
            warnings.simplefilter("always")
            model = ALGORITHMS[args.algo].cls.resume(run, env=None, exact=not args.inexact)
        for warning in skipped_checkpoints:
            print(f"sb3-lecture-dqn: {shown(str(warning.message), 2000)}", file=sys.stderr)
        # A checkpoint of version 1.0 does not say that its tests had the step limit of the training
        test.max_episode_steps = model.max_episode_steps
    outputs = ["stdout", "tensorboard"] if args.verbose else ["tensorboard"]
    model.set_logger(configure(str(run), outputs))
    if not args.quiet:
        start = "Training" if args.resume is None else f"Continuing after {model._episode_num} episodes:"
        policy = next(name for name, cls in model.policy_aliases.items() if cls is model.policy_class)
        print(f"{start} {policy} on {shown(args.env)} ({model.engine_in_use} engine). Logs and model: {run}")
    exit_code, failure = _learn(model, args, callbacks)
    _close_bars(model)
    model.logger.close()
    if failure is not None:
        _print_failure(failure)
    return _finish(model, args, run, test, exit_code)


def _new_model(args: argparse.Namespace) -> LectureAlgorithm:
    algorithm = ALGORITHMS[args.algo]
    cls: Any = algorithm.cls
    keywords = set(inspect.signature(cls.__init__).parameters) - _NOT_BY_SET
    options = {name: getattr(args, name) for name in _config_options() if name in keywords}
    settings: dict[str, Any] = {}
    for entry in args.set:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"--set {entry}: write NAME=VALUE, such as gamma=0.9")
        if name in (*options, "tensorboard_log"):
            option = "out" if name == "tensorboard_log" else name.replace("_", "-")
            raise ValueError(f"--set {name}: use the option --{option}")
        if name not in keywords:
            near = difflib.get_close_matches(name, keywords, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(keywords - options.keys()))}"
            raise ValueError(f"--set: {name!r} is not a setting of {args.algo}; {hint}")
        settings[name] = read_yaml(f"--set {entry}", value)
        if name.endswith("_kwargs") and not isinstance(settings[name], dict | None):
            raise ValueError(f"--set {entry}: the value must be a table, such as {name}={{a: 1}}")
    settings |= {name: value for name, value in options.items() if value is not None}
    settings["tensorboard_log"] = args.out
    if args.policy is not None and args.policy not in cls.policy_aliases:
        raise ValueError(f"--policy {args.policy}: --algo {args.algo} has {', '.join(sorted(cls.policy_aliases))}")
    try:
        model: LectureAlgorithm = cls.tuned(**settings) if args.tuned else cls(**settings)
    except (TypeError, RuntimeError) as error:  # PyTorch raises a RuntimeError for a device
        if not args.set:
            raise
        raise ValueError(f"--set {' --set '.join(args.set)}: {error}") from error
    except (AssertionError, AttributeError) as error:
        if isinstance(error, ValueError) or args.policy not in _OBSERVATIONS:  # ours are ValueErrors too
            raise
        observations = _OBSERVATIONS[args.policy]
        raise ValueError(f"--policy {args.policy} is for {observations}, which {args.env} does not observe") from error
    if args.tuned and not args.quiet:
        file = f"{algorithm.settings_file}_masked" if args.use_masking else algorithm.settings_file
        if not has_settings(file, args.env):
            print(about_default(model, repr(args.env)))
    return model


def _learn(
    model: LectureAlgorithm, args: argparse.Namespace, callbacks: list[BaseCallback]
) -> tuple[int, Exception | None]:
    """Train. Return the exit code, and the error that ended the training."""
    steps_before = model.num_timesteps
    try:
        model.learn(args.timesteps, callbacks, total_episodes=args.episodes, progress_bar=not args.quiet)
    except KeyboardInterrupt:
        return 130, None
    except SystemExit as stop:  # SIGTERM
        return int(str(stop.code)), None
    except DivergedError as error:
        return DIVERGED, error
    except Exception as error:
        if model.num_timesteps == steps_before:  # a mistake in the arguments, before the first step
            raise
        return FAILED, error
    return 0, None


def _close_bars(model: LectureAlgorithm) -> None:
    """Close the progress bar of a training that was stopped; else it would be drawn again below all later lines."""
    for callback in callback_tree(model._callback) if model._callback is not None else []:
        if isinstance(callback, EpisodeProgressBarCallback | ProgressBarCallback):
            callback.on_training_end()


def _print_failure(failure: Exception) -> None:
    """Print why a training ended, with the traceback of an unexpected error."""
    if isinstance(failure, DivergedError):
        print(f"sb3-lecture-dqn: {failure}", file=sys.stderr)
    elif isinstance(failure, _NAMED_ERRORS):
        print(f"sb3-lecture-dqn: the training failed: {type(failure).__name__}: {failure}", file=sys.stderr)
    else:
        traceback.print_exception(failure)


def _finish(
    model: LectureAlgorithm, args: argparse.Namespace, run: pathlib.Path, test: LectureTestCallback, exit_code: int
) -> int:
    """Save the model, and print how the training ended and how to continue. Return the exit code."""
    ended = _HOW_IT_ENDED.get(exit_code, "Interrupted")
    print(f"{ended} after {model._episode_num} episodes, {model.num_timesteps} steps.")
    try:
        is_saved = _save_finite_model(model, run)
    except OSError as error:  # such as a full disk
        _print_failure(error)
        return exit_code or FAILED
    if test.results and (exit_code or test.results[-1][0] == model._episode_num):
        print(f"Last test: {test.results[-1][1]}")
    elif not exit_code:  # the agent has learned since the last test
        last = run_test(model, None, args.test_episodes, None, seed=args.seed, progress=not args.quiet)
        print(f"Last test: {last}")
    if is_saved:
        print(f"Model: {run / 'model.zip'}   (sb3-lecture-dqn test {run / 'model.zip'})")
    else:
        print("Model: none, as its weights are not finite and there is no earlier checkpoint (see --checkpoint-freq)")
    print(f"Curves: tensorboard --logdir {run.parent}")
    if exit_code == DIVERGED:  # it would diverge again
        print(f"To try again: sb3-lecture-dqn train --config {run / CONFIG} {_against_divergence(args, model)}")
    elif exit_code and args.checkpoint_freq > 0 and checkpoints_in(run / "checkpoints"):
        print(f"To go on: sb3-lecture-dqn train --resume {run}")
    return exit_code


def _save_finite_model(model: LectureAlgorithm, run: pathlib.Path) -> bool:
    """Save the model, or the last checkpoint's if its weights are not finite. Return False if there is neither."""
    if not has_finite_weights(model):
        if not checkpoints_in(run / "checkpoints"):
            return False
        model = type(model).resume(run, exact=False)
    model.save(run / "model")
    return True


def _against_divergence(args: argparse.Namespace, model: LectureAlgorithm) -> str:
    if not args.double_dqn:
        return "--double-dqn"
    if not args.tuned:
        return "--tuned"
    return f"--set learning_rate={model.policy.optimizer.param_groups[0]['lr'] / 10:g}"


def _test(args: argparse.Namespace) -> int:
    model = load_model(args.model)
    if args.env is None and model.env_id is None:
        raise ValueError("the model's file names no environment: give --env")
    print(run_test(model, args.env, args.episodes, args.max_episode_steps, seed=args.seed, progress=True))
    return 0


def _watch(args: argparse.Namespace) -> int:
    for name in ("episodes", "max_episode_steps", "fps"):
        check_number(f"--{name.replace('_', '-')}", getattr(args, name), 1, integer=True)
    model = load_model(args.model)
    env_id = args.env or model.env_id
    if env_id is None:
        raise ValueError("the model's file names no environment: give --env")
    mode = "ansi" if args.ansi else "rgb_array"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not in the possible render_modes")  # an error is raised below
        env = make_env(env_id, args.max_episode_steps, model.env_wrapper, render_mode=mode)
    try:
        if mode not in (modes := env.metadata.get("render_modes", [])):
            output, known = "--ansi" if args.ansi else "a video", ", ".join(map(repr, modes)) or "nothing"
            raise ValueError(f"{output} needs an environment that renders as {mode!r}; {env_id} renders as {known}")
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
            raise ValueError("--report runs nothing: leave out the plan, --out, and the options of a run")
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
        except SystemExit:  # SIGTERM, for which Ray's handler exits with 15
            return _ablation_stopped(folder, 143)
    print("\n".join(study.write_report(folder)))
    return int(any(row["state"] == "failed" for row in study.read_rows(folder)))


def _ablation_stopped(folder: str, exit_code: int) -> int:
    try:
        rows = study.read_rows(folder)
    except FileNotFoundError:  # stopped before it began
        rows = []
    print(f"Interrupted: {sum(row['state'] == 'done' for row in rows)} of {len(rows)} trials are done in {folder}.")
    print("To go on: the same command again")
    return exit_code
