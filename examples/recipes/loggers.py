"""
SB3's loggers: to the terminal, CSV, JSON and TensorBoard at once, with a value of your own.

    python examples/recipes/loggers.py
"""

import csv
import json
import os
import sys

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    JSONOutputFormat,
    Logger,
    TensorBoardOutputFormat,
)

from sb3_lecture_dqn import LectureDQN, LectureTestCallback


class MemoryCallback(BaseCallback):
    """Records how many successes the memory holds."""

    def _on_step(self) -> bool:
        self.logger.record("memory/successes", self.model.replay_buffer.success.size)
        return True


os.makedirs("runs", exist_ok=True)
formats = [
    HumanOutputFormat(sys.stdout),
    CSVOutputFormat("runs/progress.csv"),
    JSONOutputFormat("runs/progress.json"),
    TensorBoardOutputFormat("runs/tensorboard"),
]
model = LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0)
model.set_logger(Logger("runs", formats))
model.learn(4000, callback=[MemoryCallback(), LectureTestCallback(test_freq=1000, n_test_episodes=10)], log_interval=50)
model.logger.close()

with open("runs/progress.csv") as file:
    by_csv = list(csv.DictReader(file))
with open("runs/progress.json") as file:
    by_json = [json.loads(line) for line in file]
assert [float(row["memory/successes"]) for row in by_csv] == [row["memory/successes"] for row in by_json]
print(f"{len(by_csv)} rows; successes held at the end: {by_json[-1]['memory/successes']}")
