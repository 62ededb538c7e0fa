"""The training of the command `train`."""

import argparse
import inspect
import pathlib
import secrets
import sys
import traceback
import warnings
from collections.abc import Collection
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from sb3_lecture_dqn.algorithms import ALGORITHMS
from sb3_lecture_dqn.commands import lecture_words
from sb3_lecture_dqn.commands.config_file import write_config
from sb3_lecture_dqn.commands.parser import named_errors, nearest
from sb3_lecture_dqn.common.run_files import CONFIG, MODEL, PAGE
from sb3_lecture_dqn.common.text import shown
from sb3_lecture_dqn.common.user_yaml import read_yaml
from sb3_lecture_dqn.engine.divergence import DivergedError, has_finite_weights
from sb3_lecture_dqn.evaluation.run import run_test
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.show.hparams import HParamsCallback
from sb3_lecture_dqn.show.page.callback import LecturePageCallback, check_can_be_shown
from sb3_lecture_dqn.show.page.page import write_page
from sb3_lecture_dqn.show.tensorboard import LectureTensorBoardCallback
from sb3_lecture_dqn.training.algorithm import LectureAlgorithm
from sb3_lecture_dqn.training.callbacks import LectureCheckpointCallback, LectureTestCallback
from sb3_lecture_dqn.training.tuned import about_default, has_settings

#: Keywords of an algorithm that `--set` does not take: they are not settings, or not plain data
_NOT_BY_SET = {"self", "_init_setup_model", "replay_buffer_class"}
#: The observations for SB3's own policies, whose errors do not name them
_OBSERVATIONS = {"CnnPolicy": "images", "MultiInputPolicy": "dictionaries"}
#: Exit codes of a training that ends before its budget
FAILED, DIVERGED = 1, 3
_HOW_IT_ENDED = {0: "Done", FAILED: "Failed", DIVERGED: "Diverged"}


def train(args: argparse.Namespace, kept: Collection[str]) -> int:
    """
    Train, test and save a model.

    :param args: The options of `train`
    :param kept: Names of the options that :data:`CONFIG` keeps
    :return: The exit code
    """
    verbose = 0 if args.quiet else 1
    test = LectureTestCallback(
        n_test_episodes=args.test_episodes, verbose=verbose, compact=args.compact, test_at_end=True
    )
    callbacks: list[BaseCallback] = [test]
    image_freq = None if args.image_freq is None else (args.image_freq, "episode")
    callbacks.append(LectureTensorBoardCallback(image_freq=image_freq) if args.pictures else HParamsCallback())
    if args.page:
        callbacks.append(LecturePageCallback())
    if args.checkpoint_freq > 0:
        verbose = 2 if args.verbose else 0
        callbacks.append(LectureCheckpointCallback((args.checkpoint_freq, "episode"), verbose=verbose))
    if args.resume is None:
        if args.seed is None:
            args.seed = secrets.randbelow(2**31)
        model = _new_model(args, kept)
        if args.page:
            check_can_be_shown(model)
        run = model.make_run_folder()
        write_config(run / CONFIG, {name: getattr(args, name) for name in kept})
    else:
        run = pathlib.Path(args.resume)
        with warnings.catch_warnings(record=True) as skipped_checkpoints:
            warnings.simplefilter("always")
            model = ALGORITHMS[args.algo].cls.resume(run, env=None, exact=not args.inexact)
        for warning in skipped_checkpoints:
            print(f"sb3-lecture-dqn: {shown(str(warning.message), 2000)}", file=sys.stderr)
        # A checkpoint of version 1.0 does not say that its tests had the step limit of the training
        test.max_episode_steps = model.max_episode_steps
        if model._goal.is_over(model, model._budget) and (run / MODEL).exists():
            print(f"Already done after {model._episode_num} episodes, {model.num_timesteps} steps: {run / MODEL}")
            return 0
    outputs = ["stdout", "tensorboard"] if args.verbose else ["tensorboard"]
    model.set_logger(configure(str(run), outputs))
    if not args.quiet:
        start = "Training" if args.resume is None else f"Continuing after {model._episode_num} episodes:"
        policy = next(name for name, cls in model.policy_aliases.items() if cls is model.policy_class)
        seed = f", seed {args.seed}" if args.seed is not None else ""  # version 1.0 could begin a run without one
        print(f"{start} {policy} on {shown(args.env)}{seed} ({model.engine_in_use} engine)")
        print(f"Logs and model: {run}")
        print(lecture_words.introduction(model))
    exit_code, failure = _learn(model, args, callbacks)
    model.logger.close()
    if failure is not None:
        _print_failure(failure)
    return _finish(model, args, run, test, exit_code)


def _new_model(args: argparse.Namespace, kept: Collection[str]) -> LectureAlgorithm:
    algorithm = ALGORITHMS[args.algo]
    cls: Any = algorithm.cls
    keywords = set(inspect.signature(cls.__init__).parameters) - _NOT_BY_SET
    options = {name: getattr(args, name) for name in kept if name in keywords}
    settings: dict[str, Any] = {}
    for entry in args.set:
        name, _, value = entry.partition("=")
        if name in (*options, "tensorboard_log"):
            option = "out" if name == "tensorboard_log" else name.replace("_", "-")
            raise ValueError(f"--set {name}: use the option --{option}")
        if name not in keywords:
            hint = nearest(name, keywords) or f"known are {', '.join(sorted(keywords - options.keys()))}"
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


def _print_failure(failure: Exception) -> None:
    """Print why a training ended, with the traceback of an unexpected error."""
    if isinstance(failure, DivergedError):
        print(lecture_words.divergence(failure), file=sys.stderr)
    elif isinstance(failure, named_errors()):
        print(f"sb3-lecture-dqn: the training failed: {type(failure).__name__}: {failure}", file=sys.stderr)
    else:
        traceback.print_exception(failure)


def _finish(
    model: LectureAlgorithm, args: argparse.Namespace, run: pathlib.Path, test: LectureTestCallback, exit_code: int
) -> int:
    """Save the model, and print how the training ended and how to continue. Return the exit code."""
    ended = _HOW_IT_ENDED.get(exit_code, "Interrupted")
    if not exit_code and not args.quiet:
        print("Training finished.")
    print(f"{ended} after {model._episode_num} episodes, {model.num_timesteps} steps.")
    if model.goal_summary:
        print(model.goal_summary)
    try:
        kept = _save_finite_model(model, run)
    except OSError as error:  # such as a full disk
        _print_failure(error)
        return exit_code or FAILED
    if exit_code not in (0, DIVERGED):
        if test.results:
            print(f"Last test: {test.results[-1][1]}")
    elif not exit_code and not model.goal_summary and test.results and test.results[-1][0] == model._episode_num:
        print(lecture_words.results(test.results[-1][1]))
    elif kept is not None:  # the agent has learned since the last test
        last = run_test(kept, None, args.test_episodes, None, seed=args.seed, progress=not args.quiet)
        print(lecture_words.results(last))
    if kept is not None:
        which = " from before that update" if exit_code == DIVERGED else ""
        if kept is not model:
            which = f" of the last checkpoint, after {kept._episode_num} episodes"
        print(f"Model{which}: {run / MODEL}   (sb3-lecture-dqn test {run / MODEL})")
    else:
        print("Model: none, as its weights are not finite and there is no earlier checkpoint (see --checkpoint-freq)")
    print(f"Curves: tensorboard --logdir {run.parent}")
    if args.page:
        try:
            print(f"Page: {write_page(run, run / PAGE)}   (open it in a browser)")
        except (ValueError, OSError) as error:  # such as a full disk, or a training without a valid moment
            print(f"sb3-lecture-dqn: no page: {error}", file=sys.stderr)
            exit_code = exit_code or FAILED
    if exit_code == DIVERGED:  # it would diverge again
        print(f"To try again: sb3-lecture-dqn train --config {run / CONFIG} {_against_divergence(args, model)}")
    elif exit_code and args.checkpoint_freq > 0 and checkpoints_in(run / "checkpoints"):
        print(f"To go on: sb3-lecture-dqn train --resume {run}")
    return exit_code


def _save_finite_model(model: LectureAlgorithm, run: pathlib.Path) -> LectureAlgorithm | None:
    """Save the model, or the last checkpoint's if its weights are not finite. Return it, None if there is neither."""
    if not has_finite_weights(model):
        if not checkpoints_in(run / "checkpoints"):
            return None
        model = type(model).resume(run, exact=False)
    model.save(run / MODEL)
    return model


def _against_divergence(args: argparse.Namespace, model: LectureAlgorithm) -> str:
    if not args.double_dqn:
        return "--double-dqn"
    if args.tuned or any(setting.startswith("learning_rate=") for setting in args.set):  # which would stay
        return f"--set learning_rate={model.policy.optimizer.param_groups[0]['lr'] / 10:g}"
    return "--tuned"
