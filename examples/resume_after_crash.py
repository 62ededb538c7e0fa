"""
A training script that can be started again after any interruption, and ends as if there had been none.

From the root of the repository::

    python examples/resume_after_crash.py            # stop it by Ctrl-C, kill -9 or pulling the plug ...
    python examples/resume_after_crash.py            # ... and start it again: it goes on

It says whether it begins or goes on. At the end it prints a checksum of the weights, which is the same however often it
was stopped. ``--folder`` is the run's folder, ``--episodes`` its budget.
"""

import argparse
import hashlib
from pathlib import Path

from stable_baselines3.common.logger import configure

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureTestCallback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/resumable"), help="where the run is")
    parser.add_argument("--episodes", type=int, default=1000, help="its budget")
    args = parser.parse_args()
    try:
        model = LectureDQN.resume(args.folder)
        print(f"Going on after {model._episode_num} episodes")
    except FileNotFoundError:  # there is no checkpoint yet
        model = LectureDQN("Taxi-v3", seed=0)
        print("Beginning")
    model.set_logger(configure(str(args.folder), ["tensorboard"]))
    callbacks = [LectureTestCallback(), LectureCheckpointCallback((50, "episode"))]
    model.learn(total_episodes=args.episodes, callback=callbacks, progress_bar=True)
    weights = b"".join(weight.numpy().tobytes() for weight in model.policy.state_dict().values())
    print(f"Done after {model._episode_num} episodes; SHA-256 of the weights: {hashlib.sha256(weights).hexdigest()}")


if __name__ == "__main__":
    main()
