"""The command `test`."""

import argparse
import contextlib

from sb3_lecture_dqn.commands.parser import check_at_least, model_file

SUMMARY = "test a saved agent"
EXAMPLES = [
    ("test runs/RUN", "the model of a run, as in the lecture"),
    ("test taxi.zip --episodes 1000 --seed 0", "a model's file, more episodes"),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", metavar="MODEL", help="the model's zip file, or the folder of its run")
    parser.add_argument("--env", metavar="ID", help="environment id, if not the model's own")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="number of episodes")
    parser.add_argument(
        "--max-episode-steps", type=int, metavar="N", help="step limit, if not the model's own or that of --env"
    )
    parser.add_argument("--seed", type=int, help="makes the test repeatable")


def run(args: argparse.Namespace) -> int:
    """Test the model, and print the result. On tabular environments, print the exact figures too."""
    check_at_least(args, 1, "episodes", "max_episode_steps")
    file = model_file(args.model)
    from sb3_lecture_dqn.algorithms import load_model
    from sb3_lecture_dqn.envs.tabular import NotTabularError
    from sb3_lecture_dqn.evaluation.run import exact_test, run_test

    model = load_model(file)
    if args.env is None and model.env_id is None:
        raise ValueError("the model's file names no environment: give --env")
    print(run_test(model, args.env, args.episodes, args.max_episode_steps, seed=args.seed, progress=True))
    with contextlib.suppress(NotTabularError):
        exact = exact_test(model, args.env, args.max_episode_steps)
        print(f"Exactly, over all {exact.n_episodes} starts: {exact.figures}")
    return 0
