"""The command `watch`."""

import argparse
import pathlib
import warnings

from sb3_lecture_dqn.commands.parser import check_at_least, model_file

SUMMARY = "look at greedy episodes of a saved agent, with its action values"
EXAMPLES = [
    ("watch runs/RUN --out taxi.gif", "a video of three episodes"),
    ("watch runs/RUN --ansi", "as text in the terminal"),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", metavar="MODEL", help="the model's zip file, or the folder of its run")
    parser.add_argument("--env", metavar="ID", help="environment id, if not the model's own")
    parser.add_argument("--episodes", type=int, default=3, metavar="N", help="number of episodes")
    parser.add_argument("--max-episode-steps", type=int, default=50, metavar="N", help="step limit of an episode")
    parser.add_argument("--fps", type=int, default=4, metavar="N", help="pictures per second")
    parser.add_argument("--seed", type=int, help="makes the episodes repeatable")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--out", metavar="FILE", help="the video, .gif or .mp4; watch.gif beside the model by default")
    output.add_argument("--ansi", action="store_true", help="print the episodes as text instead")


def run(args: argparse.Namespace) -> int:
    """Write the video, or print the episodes."""
    check_at_least(args, 1, "episodes", "max_episode_steps", "fps")
    file = model_file(args.model)
    from sb3_lecture_dqn.algorithms import load_model
    from sb3_lecture_dqn.envs.make import make_env
    from sb3_lecture_dqn.show.watch import record, show

    model = load_model(file)
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
            out = pathlib.Path(args.out) if args.out else file.with_name("watch.gif")
            n_pictures = record(model, env, out, args.episodes, args.fps, args.seed, progress=True)
            episodes = f"{args.episodes} episode{'s' * (args.episodes > 1)}"
            print(f"Video: {out} ({n_pictures} pictures of {episodes})")
    finally:
        env.close()
    return 0
