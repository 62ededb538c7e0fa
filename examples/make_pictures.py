"""
Make the pictures of the README, in ``images/``: learning curves, the value map, the driving taxi.

    python examples/make_pictures.py                 # some minutes: the lecture's run, 3 seeds
    SCREENSHOTS=examples/images python -m pytest -m slow tests/show/test_tensorboard_server.py   # TensorBoard's

It runs the commands of the README. ``lecture_ladder.py`` makes ``ladder.png`` and its table.
"""

import argparse
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lecture_dqn import LectureDQN, LectureTensorBoardCallback, exact_test
from sb3_lecture_dqn.cli import main as command

IMAGES = Path(__file__).resolve().parent / "images"


def sb3_lecture_dqn(*words: object) -> None:
    """Run a command."""
    if (code := command([str(word) for word in words])) != 0:
        raise SystemExit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=5000, help="of the learning curves (default: 5000)")
    parser.add_argument("--seeds", type=int, default=3, help="of the learning curves (default: 3)")
    parser.add_argument("--out", type=Path, default=IMAGES)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        runs, file = Path(folder) / "runs", Path(folder) / "model.zip"

        model = LectureDQN.tuned("Taxi-v3", use_masking=True, seed=0, tensorboard_log=folder)
        model.learn(callback=LectureTensorBoardCallback())
        print(exact_test(model))
        model.save(file)
        sb3_lecture_dqn("watch", file, "--seed", 3, "--fps", 2, "--out", args.out / "taxi.gif")
        values = EventAccumulator(model.logger.dir, size_guidance={"images": 0}).Reload().Images("values/learned")
        (args.out / "values.png").write_bytes(values[-1].encoded_image_string)

        for seed in range(args.seeds):
            sb3_lecture_dqn("train", "--episodes", args.episodes, "--seed", seed, "--quiet", "--out", runs)
        sb3_lecture_dqn("plot", runs, "--out", args.out / "curves.png")


if __name__ == "__main__":
    main()
