"""What LectureTensorBoardCallback costs at its default frequencies: its share of the processor time of a training."""

import argparse
import tempfile
import time

from sb3_lecture_dqn import LectureDQN, LectureTensorBoardCallback, LectureTestCallback


class Timed(LectureTensorBoardCallback):
    """The callback with a clock around everything that SB3 calls of it."""

    seconds = 0.0

    def _timed(self, function):
        started = time.process_time()
        try:
            return function()
        finally:
            self.seconds += time.process_time() - started

    def on_training_start(self, locals_, globals_):
        self._timed(lambda: super(Timed, self).on_training_start(locals_, globals_))

    def on_rollout_start(self):
        self._timed(super().on_rollout_start)

    def on_step(self):
        return self._timed(super().on_step)

    def on_training_end(self):
        self._timed(super().on_training_end)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--episodes", type=int, default=5000)
parser.add_argument("--engine", default="auto", choices=["auto", "torch", "numba"])
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    model = LectureDQN("Taxi-v3", seed=args.seed, engine=args.engine, tensorboard_log=folder)
    LectureDQN("Taxi-v3", engine=args.engine).learn(1)  # compiles
    callback = Timed()
    started = time.process_time()
    model.learn(callback=[LectureTestCallback(verbose=0), callback], total_episodes=args.episodes)
    total = time.process_time() - started
rest = total - callback.seconds
print(
    f"{args.episodes} episodes, {model.num_timesteps:,} steps, {model.engine_in_use} engine: {rest:.1f} s of the "
    f"processor for training and tests, {callback.seconds:.2f} s for the callback: {callback.seconds / rest:.1%}"
)
