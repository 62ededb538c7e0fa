"""
Measure the cost of a callback in the lecture's run: its time relative to the rest, in wall time and CPU time.

From the root of the repository::

    python examples/benchmarks/callback_cost.py tensorboard    # LectureTensorBoardCallback, at its default frequencies
    python examples/benchmarks/callback_cost.py checkpoint     # LectureCheckpointCallback, every 50 episodes
"""

import argparse
import tempfile
import time
from pathlib import Path

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureTensorBoardCallback, LectureTestCallback
from sb3_lecture_dqn.saving.checkpointer import Checkpointer

#: For every callback, the methods that take time
CALLBACKS = {
    "tensorboard": (
        LectureTensorBoardCallback,
        [
            (LectureTensorBoardCallback, name)
            for name in ("_on_training_start", "_write_histograms", "_write_images", "_on_training_end")
        ],
    ),
    "checkpoint": (
        LectureCheckpointCallback,
        [(LectureCheckpointCallback, "_on_training_start"), (Checkpointer, "_save")],
    ),
}


def clocks():
    return time.perf_counter(), time.process_time()


class Timed:
    """Measures the time in methods of classes; nested calls count once."""

    def __init__(self, methods):
        self.wall = self.processor = 0.0
        self.running = False
        for owner, name in methods:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function):
        def timed(*args):
            if self.running:
                return function(*args)
            self.running, started = True, clocks()
            function(*args)
            wall, processor = clocks()
            self.wall += wall - started[0]
            self.processor += processor - started[1]
            self.running = False

        return timed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("callback", choices=CALLBACKS)
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--engine", default="auto", choices=["auto", "torch", "numba"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    kind, methods = CALLBACKS[args.callback]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # on a disk, because /tmp is often in memory
        model = LectureDQN("Taxi-v3", seed=args.seed, engine=args.engine, tensorboard_log=folder)
        LectureDQN("Taxi-v3", engine=args.engine).learn(1)  # compiles
        callback = kind()
        timed = Timed(methods)
        started = clocks()
        model.learn(callback=[LectureTestCallback(verbose=0), callback], total_episodes=args.episodes)
        wall, processor = (now - then for now, then in zip(clocks(), started, strict=True))
    print(f"{args.callback}: {args.episodes} episodes, {model.num_timesteps:,} steps, {model.engine_in_use} engine")
    for what, total, cost in (("clock", wall, timed.wall), ("processor", processor, timed.processor)):
        rest = total - cost
        print(f"by the {what}: {rest:.1f} s for training and tests, {cost:.2f} s for the callback: {cost / rest:.1%}")


if __name__ == "__main__":
    main()
