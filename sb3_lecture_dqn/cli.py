"""The command line, ``sb3-lecture-dqn``."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

import sb3_lecture_dqn
from sb3_lecture_dqn.common.callbacks import LectureTestCallback
from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.common.envs import make_env
from sb3_lecture_dqn.common.evaluation import run_test
from sb3_lecture_dqn.common.tensorboard import LectureTensorBoardCallback
from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.plot import plot_runs
from sb3_lecture_dqn.watch import record, show

EXAMPLES = """\
examples:
  sb3-lecture-dqn train                                  the lecture's run: Taxi, 5000 episodes
  sb3-lecture-dqn train --episodes 500 --seed 1          a shorter one that can be repeated
  sb3-lecture-dqn train --no-double-dqn                  without a separate target network
  sb3-lecture-dqn train --env CartPole-v1 --policy MlpPolicy --timesteps 20000
  sb3-lecture-dqn train --pictures                       with graph, histograms, embeddings, pictures in TensorBoard
  sb3-lecture-dqn test runs/SR_True_DD_True_2026-01-31_12-00-00/model.zip
  sb3-lecture-dqn watch runs/SR_True_DD_True_2026-01-31_12-00-00/model.zip --out taxi.gif
  sb3-lecture-dqn plot runs --out curves.png             the mean of all seeds, and the optimum
"""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: The arguments, those of the process by default
    :return: The exit code: 0 done, 1 interrupted, 2 a mistake in the arguments
    """
    args = _parser().parse_args(argv)
    try:
        return int(args.command(args))
    except (ValueError, OSError, ImportError) as error:
        print(f"sb3-lecture-dqn: error: {error}", file=sys.stderr)
        return 2


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
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.set_defaults(command=_train)
    train.add_argument("--env", default="Taxi-v3", metavar="ID", help="environment id")
    train.add_argument("--policy", default="LecturePolicy", choices=sorted(LectureDQN.policy_aliases), help="network")
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--episodes", type=int, metavar="N", help="budget in episodes; 5000 if no budget is given")
    budget.add_argument("--timesteps", type=int, metavar="N", help="budget in environment steps")
    train.add_argument("--seed", type=int, help="makes the run repeatable")
    switch = argparse.BooleanOptionalAction
    train.add_argument("--store-and-replay", action=switch, default=True, help="learn from a replay memory")
    train.add_argument("--double-dqn", action=switch, default=True, help="learn with a separate target network")
    train.add_argument("--engine", default="auto", choices=["auto", "torch", "numba"], help="what computes the updates")
    train.add_argument("--test-episodes", type=int, default=100, metavar="N", help="episodes of each test")
    train.add_argument("--pictures", action="store_true", help="show all that TensorBoard can (needs the extra viz)")
    train.add_argument("--out", default="runs", metavar="DIR", help="folder of the runs, each in a folder of its own")
    train.add_argument("--quiet", action="store_true", help="no progress bar, and of the tests only the last")

    test = commands.add_parser(
        "test",
        help="test a saved agent",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    test.set_defaults(command=_test)
    test.add_argument("model", metavar="MODEL", help="the model's zip file")
    test.add_argument("--env", metavar="ID", help="environment id, if not the one it was trained on")
    test.add_argument("--episodes", type=int, default=100, metavar="N", help="number of episodes")
    test.add_argument("--max-episode-steps", type=int, default=1000, metavar="N", help="step limit of an episode")
    test.add_argument("--seed", type=int, help="makes the test repeatable")

    watch = commands.add_parser(
        "watch",
        help="look at greedy episodes of a saved agent, with its action values",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
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
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    plot.set_defaults(command=_plot)
    plot.add_argument("runs", nargs="+", metavar="RUNS", help="folders of runs, or folders that hold such")
    plot.add_argument("--out", default="curves.png", metavar="FILE", help="the picture, .png, .svg or .pdf")
    plot.add_argument("--env", metavar="ID", help="environment whose optimum is drawn, if not that of the models")
    return parser


def _train(args: argparse.Namespace) -> int:
    for name in ("episodes", "timesteps", "test_episodes"):
        if getattr(args, name) is not None:
            check_number(f"--{name.replace('_', '-')}", getattr(args, name), 1, integer=True)
    model = LectureDQN(
        args.policy,
        args.env,
        store_and_replay=args.store_and_replay,
        double_dqn=args.double_dqn,
        engine=args.engine,
        seed=args.seed,
        tensorboard_log=args.out,
    )
    run = model.make_run_folder()
    model.set_logger(configure(str(run), ["tensorboard"]))
    test = LectureTestCallback(n_test_episodes=args.test_episodes, verbose=0 if args.quiet else 1)
    callbacks: list[BaseCallback] = [test]
    if args.pictures:
        callbacks.append(LectureTensorBoardCallback())
    if not args.quiet:
        print(f"Training {args.policy} on {args.env} ({model.engine_in_use} engine). Logs and model: {run}")
    interrupted = False
    try:
        model.learn(args.timesteps, callbacks, total_episodes=args.episodes, progress_bar=not args.quiet)
    except KeyboardInterrupt:
        interrupted = True
    model.logger.close()
    model.save(run / "model")
    if test.results and test.results[-1][0] == model._episode_num:
        result = test.results[-1][1]
    else:  # training has gone on since
        result = run_test(model, n_episodes=args.test_episodes, seed=args.seed)
    print(
        f"{'Interrupted' if interrupted else 'Done'} after {model._episode_num} episodes, {model.num_timesteps} steps."
    )
    print(f"Last test: {result}")
    print(f"Model: {run / 'model.zip'}   (sb3-lecture-dqn test {run / 'model.zip'})")
    print(f"Curves: tensorboard --logdir {pathlib.Path(args.out)}")
    return 1 if interrupted else 0


def _test(args: argparse.Namespace) -> int:
    model = LectureDQN.load(args.model)
    print(run_test(model, args.env, args.episodes, args.max_episode_steps, seed=args.seed))
    return 0


def _watch(args: argparse.Namespace) -> int:
    for name in ("episodes", "max_episode_steps", "fps"):
        check_number(f"--{name.replace('_', '-')}", getattr(args, name), 1, integer=True)
    model = LectureDQN.load(args.model)
    env_id = args.env or model.env_id
    if env_id is None:
        raise ValueError("the model was not trained on an environment with an id: give --env")
    env = make_env(env_id, args.max_episode_steps, render_mode="ansi" if args.ansi else "rgb_array")
    try:
        if args.ansi:
            show(model, env, args.episodes, args.fps, args.seed)
        else:
            out = pathlib.Path(args.out) if args.out else pathlib.Path(args.model).with_name("watch.gif")
            n_pictures = record(model, env, out, args.episodes, args.fps, args.seed)
            print(f"Video: {out} ({n_pictures} pictures of {args.episodes} episodes)")
    finally:
        env.close()
    return 0


def _plot(args: argparse.Namespace) -> int:
    for line in plot_runs(args.runs, args.out, args.env):
        print(line)
    print(f"Picture: {args.out}")
    return 0
