"""What LectureTensorBoardCallback costs at its default frequencies: its share of the processor time of a training."""

import argparse
import tempfile
import time

from sb3_lecture_dqn import LectureDQN, LectureTensorBoardCallback, LectureTestCallback


class Timed(LectureTensorBoardCallback):
    """The callback with a clock around everything that it writes."""

    seconds = 0.0

    def __init__(self):
        super().__init__()
        for name in ("_on_training_start", "_write_histograms", "_write_images", "_on_training_end"):
            setattr(self, name, self._timed(getattr(self, name)))
        self.running = False

    def _timed(self, function):
        def timed():
            if self.running:  # within another of these
                return function()
            self.running, started = True, time.process_time()
            function()
            self.seconds += time.process_time() - started
            self.running = False

        return timed


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
    spent = callback.seconds
    # What it costs where there is nothing to write, too little for a clock of its own: both hooks, at every step.
    callback.on_rollout_start()
    started = time.process_time()
    for _ in range(100_000):
        callback.on_rollout_start()
        callback.on_step()
    hooks = (time.process_time() - started) / 100_000 * model.num_timesteps
cost = spent + hooks
rest = total - cost
print(
    f"{args.episodes} episodes, {model.num_timesteps:,} steps, {model.engine_in_use} engine: {rest:.1f} s of the "
    f"processor for training and tests, {cost:.2f} s for the callback"
    f" ({hooks:.2f} s of them to see that nothing is due): {cost / rest:.1%}"
)
