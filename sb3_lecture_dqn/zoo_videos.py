"""The zoo's ``record_training`` without its calls of a shell: a video of every model of a run, one after the other."""

import argparse
import pathlib
import re

from sb3_lecture_dqn.common.checks import shown


def record_training() -> None:
    """
    Record the checkpoints, the last and the best model of a run, and join their videos to ``training.mp4``.

    Options are those of the zoo's ``record_training``, from ``sys.argv``.

    :raises ImportError: If moviepy is not installed
    :raises ValueError: If there is no such run, or it has no model
    """
    from huggingface_sb3 import EnvironmentName
    from rl_zoo3.utils import ALGOS, get_latest_run_id

    from sb3_lecture_dqn.zoo import main

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
    print(parser.parse_args(), main, get_latest_run_id, re, shown)
