"""
The lecture's ladder on Taxi, rung by rung: Q-table, network with the action in, naive DQN, + replay, + target network,
Double Q-learning, the recommended settings. Prints a table and draws one figure.

Every rung but the last has the lecture's settings (SGD with learning rate 0.001, five updates on one transition each a
step, ε by episode) and the same number of environment steps; only the Q-table, whose cells learn one by one, has a
learning rate of its own. The last has its own settings and its own budget, of which it needs no more than a part.
"""

import argparse
import pathlib
import time

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn import LectureDQN, exact_test, optimal_values
from sb3_lecture_dqn.common.pictures import Curve, draw_curves

NAIVE = {"store_and_replay": False, "double_dqn": False}
RUNGS = {
    "Q-table": {"policy": "TablePolicy", "learning_rate": 0.1, **NAIVE},
    "state and action in": {"policy": "ActionInPolicy", **NAIVE},
    "naive DQN": NAIVE,
    "+ replay": {"double_dqn": False},
    "+ target network (the lecture's)": {},
    "Double Q-learning": {"double_q": True},
}
OURS = "ours: recommended settings"


class Curves(BaseCallback):
    """What the greedy policy reaches from all 300 starts, computed exactly at equal distances."""

    def __init__(self, n_points, budget):
        super().__init__()
        self.every = max(1, budget // n_points)
        self.points = []
        self.due = 0

    def _on_rollout_start(self):
        if self.num_timesteps >= self.due:
            self.due += self.every
            self.test()

    def _on_step(self):
        return True

    def _on_training_end(self):
        self.test()

    def test(self):
        self.points.append((self.num_timesteps, exact_test(self.model)))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--timesteps", type=int, default=60_000, help="environment steps of a rung (default: 60000)")
parser.add_argument("--points", type=int, default=30, help="tests of a rung (default: 30)")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--engine", default="auto", choices=["auto", "torch", "numba"])
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("ladder.png"))
args = parser.parse_args()

panels = {"share of solved starts": {}, "reward per episode": {}}
print("| rung | env steps | solved starts | steps | reward | optimality | seconds |")
print("|---|---|---|---|---|---|---|")
for name in [*RUNGS, OURS]:
    if name == OURS:
        model, budget = LectureDQN.tuned("Taxi-v3", seed=args.seed, engine=args.engine), None
    else:
        settings = dict(RUNGS[name])
        policy = settings.pop("policy", "LecturePolicy")
        model = LectureDQN(policy, "Taxi-v3", seed=args.seed, engine=args.engine, **settings)
        budget = args.timesteps
    callback = Curves(args.points, args.timesteps)
    started = time.perf_counter()
    model.learn(budget, callback=callback)
    seconds = time.perf_counter() - started
    steps, results = zip(*callback.points, strict=True)
    for panel, values in (
        ("share of solved starts", [result.success_rate for result in results]),
        ("reward per episode", [result.mean_reward for result in results]),
    ):
        panels[panel][name] = Curve(np.array(steps), np.array(values), np.full(len(steps), np.nan))
    last = results[-1]
    print(
        f"| {name} | {steps[-1]:,} | {last.success_rate:.1%} | {last.mean_steps:.2f} | {last.mean_reward:.2f} "
        f"| {last.optimality:.4f} | {seconds:.0f} |",
        flush=True,
    )
best = {"share of solved starts": 1.0, "reward per episode": optimal_values("Taxi-v3").mean_reward}
draw_curves(panels, {"optimum": best}, "environment steps").savefig(args.out, dpi=120)
print(f"Figure: {args.out}")
