"""
Measure the time until a policy of Taxi is optimal from all 300 starts: the recommended settings and stock SB3.

    python examples/benchmarks/time_to_optimal.py --seeds 5

SB3's ``DQN`` has settings that are known to solve Taxi: Adam 3e-3, batches of 256, γ 0.9, an update every 4 steps, a
target copy every 100, ε from 1 to 0.05 over 20,000 steps, and the id's limit of 200 steps an episode (with the
lecture's 1000 it takes several times as long). Ours has the settings of ``LectureDQN.tuned`` and trains for its whole
budget. An exact test after every 2000 steps checks whether the policy is optimal: a mean reward of 7.90, which means
that all starts are solved, with at most 9 extra steps over all 300. Ours and SB3 take turns seed by seed. The times are
CPU times without the tests, so other programs do not count.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch as th
from contestants import SOLVING
from machine import describe_machine, sentence
from measure import use_one_core
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn import LectureDQN, exact_test, make_env
from sb3_lecture_dqn.training.due import Due

OPTIMAL = 7.90
TEST_EVERY = 2000
LIMIT = 200_000


class UntilOptimal(BaseCallback):
    """
    Tests at regular steps, with the clock stopped.

    :param stop: Whether to end the training when the policy is optimal
    """

    def __init__(self, stop: bool) -> None:
        super().__init__()
        self.stop = stop
        self.first: tuple[int, float] | None = None
        self.spent = 0.0
        self.due = TEST_EVERY

    def next_due(self) -> Due:
        return Due(calls=max(1, -(-(self.due - self.num_timesteps) // self.training_env.num_envs)))

    def _on_training_start(self) -> None:
        exact_test(self.model)  # compiles
        self.began = time.process_time()

    def _on_step(self) -> bool:
        if self.num_timesteps < self.due:
            return True
        self.spent += time.process_time() - self.began
        self.due += TEST_EVERY
        if self.first is None and exact_test(self.model).mean_reward >= OPTIMAL:
            self.first = self.num_timesteps, self.spent
        self.began = time.process_time()
        return self.first is None or not self.stop

    def _on_training_end(self) -> None:
        self.spent += time.process_time() - self.began


def ours(seed: int) -> dict[str, Any]:
    """
    Train with the recommended settings.

    :param seed: Seed of the model
    :return: Steps and seconds until the policy was first optimal, and of the whole training; the reward at the end
    """
    callback = UntilOptimal(stop=False)
    model = LectureDQN.tuned("Taxi-v3", seed=seed, device="cpu").learn(callback=callback)
    return _figures(model, callback)


def stock(seed: int) -> dict[str, Any]:
    """Train stock SB3 until its policy is optimal."""
    callback = UntilOptimal(stop=True)
    env = make_env("Taxi-v3", max_episode_steps=200)
    model = DQN("MlpPolicy", env, exploration_fraction=20_000 / LIMIT, seed=seed, **SOLVING)
    return _figures(model.learn(LIMIT, callback=callback), callback)


def _figures(model: Any, callback: UntilOptimal) -> dict[str, Any]:
    steps, seconds = callback.first or (None, None)
    result = exact_test(model)
    return {
        "steps": steps,
        "seconds": seconds,
        "all_steps": model.num_timesteps,
        "all_seconds": callback.spent,
        "reward": result.mean_reward,
    }


def main() -> None:
    """Print the table and write it to ``results/time_to_optimal.md``."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, … (default: 5)")
    args = parser.parse_args()
    machine = describe_machine("time_to_optimal.py")
    use_one_core()
    th.set_num_threads(1)
    LectureDQN.tuned("Taxi-v3", seed=0).learn(2000)  # compiles
    lines = [
        "| seed | ours: first optimal | whole budget | reward then | SB3 DQN: first optimal "
        "| SB3 / ours, first optimal | SB3 / our whole budget |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios, to_first = [], []
    for seed in range(args.seeds):
        own, peer = ours(seed), stock(seed)
        ratios.append(peer["all_seconds"] / own["all_seconds"])
        to_first.append(peer["all_seconds"] / (own["seconds"] or own["all_seconds"]))
        first = "never" if own["steps"] is None else f"{own['steps']:,} steps, {own['seconds']:.1f} s"
        theirs = "not" if peer["steps"] is None else ""
        lines.append(
            f"| {seed} | {first} | {own['all_steps']:,} steps, {own['all_seconds']:.1f} s | {own['reward']:.4f} "
            f"| {theirs} {peer['all_steps']:,} steps, {peer['all_seconds']:.1f} s "
            f"| {to_first[-1]:.1f}× | {ratios[-1]:.1f}× |"
        )
        print(lines[-1], flush=True)
    for what, found in (("to the first optimal policy", to_first), ("against our whole budget", ratios)):
        lines.append(f"\nMedian {what}: {statistics.median(found):.1f}× (lowest {min(found):.1f}×).")
    text = "\n".join([sentence(machine), "", *lines, ""])
    (Path(__file__).parent / "results" / "time_to_optimal.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
