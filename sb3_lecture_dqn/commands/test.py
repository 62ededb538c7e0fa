"""The command `test`."""

import argparse
import contextlib

from sb3_lecture_dqn.commands.parser import check_at_least, model_file

SUMMARY = "test a saved agent"
EXAMPLES = [
    ("test runs/RUN", "the model of a run, as in the lecture"),
    ("test taxi.zip --episodes 1000 --seed 0", "a model's file, more episodes"),
    ("test taxi.zip --course", "the result of Hugging Face's Deep RL course"),
]


N_EPISODES = 100


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", metavar="MODEL", help="the model's zip file, or the folder of its run")
    parser.add_argument("--env", metavar="ID", help="environment id, if not the model's own")
    parser.add_argument("--episodes", type=int, metavar="N", help=f"number of episodes (default: {N_EPISODES})")
    parser.add_argument(
        "--max-episode-steps", type=int, metavar="N", help="step limit, if not the model's own or that of --env"
    )
    parser.add_argument("--seed", type=int, help="makes the test repeatable")
    parser.add_argument(
        "--course",
        action="store_true",
        help="Taxi only: test as Hugging Face's Deep RL course does in unit 2, on its 100 seeds, and print its result",
    )


def run(args: argparse.Namespace) -> int:
    """Test the model, and print the result: the course's, or the lecture's with the exact figures if there are any."""
    check_at_least(args, 1, "episodes", "max_episode_steps")
    if args.course:
        given = [name for name in ("episodes", "max_episode_steps", "seed") if getattr(args, name) is not None]
        if given:
            options = ", ".join(f"--{name.replace('_', '-')} {getattr(args, name)}" for name in given)
            raise ValueError(f"--course has its own episodes, seeds and step limit: leave out {options}")
    file = model_file(args.model)
    from sb3_lecture_dqn.algorithms import load_model
    from sb3_lecture_dqn.envs.tabular import NotTabularError
    from sb3_lecture_dqn.evaluation.course import course_test
    from sb3_lecture_dqn.evaluation.run import exact_test, run_test

    model = load_model(file)
    if args.env is None and model.env_id is None:
        raise ValueError("the model's file names no environment: give --env")
    if args.course:
        print(f"Deep RL course, unit 2: {course_test(model, args.env)}")
        return 0
    n_episodes = N_EPISODES if args.episodes is None else args.episodes
    print(run_test(model, args.env, n_episodes, args.max_episode_steps, seed=args.seed, progress=True))
    with contextlib.suppress(NotTabularError):
        exact = exact_test(model, args.env, args.max_episode_steps)
        print(f"Exactly, over all {exact.n_episodes} starts: {exact.figures}")
    return 0
