"""The zoo's ``record_training``, without a shell: the videos of all models of a run, joined to one."""

import argparse
import contextlib
import pathlib
import re


def record_training() -> None:
    """
    Record the checkpoints, the last and the best model of a run, and join their videos to ``training.mp4``.

    The options are in ``sys.argv``, and are those of the zoo's ``record_training``.

    :raises ValueError: If the run's folder does not exist, or has no model
    """
    from huggingface_sb3 import EnvironmentName
    from rl_zoo3.utils import ALGOS, get_latest_run_id

    from sb3_lecture_dqn.zoo.scripts import main

    parser = argparse.ArgumentParser()
    parser.add_argument("--env", type=EnvironmentName, default="CartPole-v1", help="environment ID")
    parser.add_argument("-f", "--folder", default="rl-trained-agents", help="Log folder")
    parser.add_argument("-o", "--output-folder", type=pathlib.Path, help="Output folder")
    parser.add_argument("--algo", default="ppo", choices=list(ALGOS), help="RL Algorithm")
    parser.add_argument("-n", "--n-timesteps", type=int, default=1000, help="number of timesteps")
    parser.add_argument("--n-envs", type=int, default=1, help="number of environments")
    parser.add_argument("--deterministic", action="store_true", help="Use deterministic actions")
    parser.add_argument("-g", "--gif", action="store_true", help="Convert final video to gif")
    parser.add_argument("--seed", type=int, default=0, help="Random generator seed")
    parser.add_argument("--exp-id", type=int, default=0, help="Experiment ID (default: 0: latest, -1: no exp folder)")
    parser.add_argument("--trust", action="store_true", help="Let the zoo run code in the folder's files")
    args = parser.parse_args()
    folder = pathlib.Path(args.folder)
    exp_id = args.exp_id or get_latest_run_id(str(folder / args.algo), args.env)
    run = folder / args.algo / (f"{args.env}_{exp_id}" if exp_id > 0 else "")
    if not run.is_dir():
        raise ValueError(f"the folder {run} does not exist")
    numbers = (re.fullmatch(r"rl_model_(\d+)_steps\.zip", path.name) for path in run.iterdir())
    checkpoints = sorted(int(number[1]) for number in numbers if number)
    models = [(f"checkpoint {n}", f"checkpoint-{n}", ["--load-checkpoint", str(n)]) for n in checkpoints]
    models += [("final model", "final-model", [])] if (run / f"{args.env}.zip").is_file() else []
    models += [("best model", "best-model", ["--load-best"])] if (run / "best_model.zip").is_file() else []
    if not models:
        raise ValueError(f"{run} has no model")

    out = args.output_folder or run / "videos"
    options = ["--env", args.env.gym_id, "--algo", args.algo, "-f", str(folder), "--exp-id", str(exp_id)]
    options += ["-o", str(out), "-n", str(args.n_timesteps), "--n-envs", str(args.n_envs), "--seed", str(args.seed)]
    options += ["--no-render", "--deterministic", *(["--trust"] * args.trust)]
    videos = []
    for title, prefix, which in models:
        if main(["record_video", *options, *which]) != 0:
            raise ValueError(f"the {title} was not recorded")
        name = f"{prefix}-{args.algo}-{args.env}-step-0-to-step-{args.n_timesteps}.mp4"
        videos.append((title, out / name))
    _join(videos, out / "training.mp4", out / "training.gif" if args.gif else None)


def _join(videos: list[tuple[str, pathlib.Path]], mp4: pathlib.Path, gif: pathlib.Path | None) -> None:
    from moviepy import CompositeVideoClip, TextClip, VideoFileClip, concatenate_videoclips

    with contextlib.ExitStack() as stack:
        clips = []
        for title, path in videos:
            clip = stack.enter_context(VideoFileClip(str(path), audio=False))
            text = TextClip(
                text=title, font_size=18, color="white", bg_color="black", margin=(4, 4), duration=clip.duration
            )
            clips.append(CompositeVideoClip([clip, text.with_position(("center", 12))]))
        joined = concatenate_videoclips(clips)
        joined.write_videofile(str(mp4), audio=False, logger=None)
        print(f"Saving video to {mp4}")
        if gif is not None:
            joined.write_gif(str(gif), fps=10, logger=None)
            print(f"Saving gif to {gif}")
