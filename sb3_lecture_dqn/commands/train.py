"""The command `train`: its options, on the command line and in ``config.yaml``. See ``train_run`` for the training."""

import argparse
import pathlib

from sb3_lecture_dqn.commands.parser import PROGRAM, HelpFormatter, Parser, check_at_least, existing
from sb3_lecture_dqn.common.run_files import CONFIG

SUMMARY = "train an agent, test it as the lecture does, and save it"
EXAMPLES = [
    ("train", "the lecture's run: Taxi, 5000 episodes"),
    ("train --episodes 500 --seed 1", "a shorter run, which can be repeated"),
    ("train --no-double-dqn", "without a separate target network"),
    ("train --env CartPole-v1 --policy MlpPolicy --timesteps 20000", "another environment, with SB3's network"),
    ("train --tuned --use-masking", "recommended settings, only valid actions"),
    ("train --set gamma=0.9 --set batch_size=32", "other settings of the algorithm"),
    ("train --config runs/RUN/config.yaml --seed 2", "the options of a run, with another seed"),
    ("train --resume runs/RUN", "go on with a run that was stopped"),
    ("train --pictures", "graph, histograms, embeddings and pictures in TensorBoard"),
    ("train --page", "a page that shows how the agent learned"),
]
#: The words of all algorithms and policies, which are imported only for a training
ALGORITHM_WORDS = ["lecture_dqn", "lecture_qrdqn"]
POLICY_WORDS = ["ActionInPolicy", "CnnPolicy", "LecturePolicy", "MlpPolicy", "MultiInputPolicy", "TablePolicy"]
#: Options that :data:`CONFIG` does not keep: they say where the run goes and what is printed
_NOT_IN_CONFIG = ("out", "config", "resume", "inexact", "quiet", "compact", "verbose")


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of the command.

    An option whose name is a keyword of the algorithms needs no other place: the constructor gets it, `--set` refuses
    it, and ``config.yaml`` keeps it.
    """
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--env", default="Taxi-v3", metavar="ID", help="environment id")
    parser.add_argument("--algo", default="lecture_dqn", choices=ALGORITHM_WORDS, help="the algorithm")
    parser.add_argument(
        "--policy",
        choices=POLICY_WORDS,
        metavar="NAME",
        help=f"network: {', '.join(POLICY_WORDS)}; LecturePolicy, or that of --tuned, by default",
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--episodes", type=int, metavar="N", help="budget in episodes; by default 5000, but not with --tuned"
    )
    budget.add_argument("--timesteps", type=int, metavar="N", help="budget in environment steps")
    parser.add_argument("--seed", type=int, help="makes the run repeatable; drawn and kept in config.yaml by default")
    parser.add_argument("--store-and-replay", action=switch, default=True, help="learn from a replay memory")
    parser.add_argument("--double-dqn", action=switch, default=True, help="learn with a separate target network")
    parser.add_argument("--use-masking", action=switch, default=False, help="choose valid actions only")
    parser.add_argument(
        "--tuned", action=switch, default=False, help="recommended settings; without a budget until a test is solved"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting of the algorithm, as YAML"
    )
    parser.add_argument("--engine", default="auto", choices=["auto", "torch", "numba"], help="engine of the updates")
    parser.add_argument("--test-episodes", type=int, default=100, metavar="N", help="episodes of each test")
    parser.add_argument(
        "--checkpoint-freq", type=int, default=50, metavar="N", help="save a checkpoint every N episodes, 0 for none"
    )
    parser.add_argument(
        "--pictures", action=switch, default=False, help="use all tabs of TensorBoard (needs the extra viz)"
    )
    parser.add_argument(
        "--image-freq",
        type=int,
        metavar="N",
        help="with --pictures: pictures every N episodes, about ten times in the run by default",
    )
    parser.add_argument(
        "--page", action=switch, default=False, help="record the training, and write a page of it in the run's folder"
    )
    parser.add_argument("--out", default="runs", metavar="DIR", help="folder in which each run gets its own folder")
    parser.add_argument("--config", metavar="FILE", help="YAML file of options, such as a run's; other options win")
    parser.add_argument("--resume", metavar="RUN", help="continue a stopped run, as if it had not been stopped")
    parser.add_argument(
        "--inexact", action="store_true", help="with --resume: also if it goes on with other rounding, as after 1.0"
    )
    printing = parser.add_mutually_exclusive_group()
    printing.add_argument("--quiet", action="store_true", help="no progress bar, and only the last test")
    printing.add_argument("--compact", action="store_true", help="one line of at most 80 columns for each test")
    printing.add_argument("--verbose", action="store_true", help="also print what is logged, and every checkpoint")


def config_options() -> dict[str, argparse.Action]:
    """Return the options that :data:`CONFIG` keeps, by name."""
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    return {action.dest: action for action in parser._actions if action.dest not in _NOT_IN_CONFIG}


def run(args: argparse.Namespace) -> int:
    """Train. Return the exit code."""
    _check(args)
    if args.resume is not None:
        args = _with_options_of_file(args, existing(args.resume) / CONFIG)
    elif args.config is not None:
        args = _with_options_of_file(args, existing(args.config))
    from sb3_lecture_dqn.commands.train_run import train

    return train(args, config_options())


def _check(args: argparse.Namespace) -> None:
    check_at_least(args, 1, "episodes", "timesteps", "test_episodes", "image_freq")
    check_at_least(args, 0, "checkpoint_freq")
    if args.image_freq is not None and not args.pictures:
        raise ValueError(f"--image-freq {args.image_freq} is for --pictures: give both, or none")
    for entry in args.set:
        if "=" not in entry:
            raise ValueError(f"--set {entry}: write NAME=VALUE, such as gamma=0.9")
    if args.inexact and args.resume is None:
        raise ValueError("--inexact is for --resume: give both, or none")
    if args.resume is not None:
        printing = ("--quiet", "--compact", "--verbose")
        of_resume = ("--resume", args.resume, f"--resume={args.resume}", "--inexact", *printing)
        others = [word for word in args.words if word not in of_resume]
        if others:
            raise ValueError(f"--resume takes all options from the run: leave out {' '.join(others)}")


def _with_options_of_file(args: argparse.Namespace, file: pathlib.Path) -> argparse.Namespace:
    """Parse the arguments again with the options of a file as defaults."""
    from sb3_lecture_dqn.commands.config_file import read_config

    defaults = read_config(file, config_options())
    if args.episodes is not None or args.timesteps is not None:  # instead of either budget of the file
        defaults |= {"episodes": None, "timesteps": None}
    parser = Parser(prog=f"{PROGRAM} train", formatter_class=HelpFormatter)
    add_options(parser)
    parser.set_defaults(**defaults)
    args = parser.parse_args(args.words, argparse.Namespace(words=args.words))
    _check(args)
    return args
