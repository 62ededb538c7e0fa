"""
Measure the time until a policy of Taxi is optimal from all 300 starts for good: the recommended settings and stock SB3.

    python examples/benchmarks/time_to_optimal.py --seeds 20

Both have settings that a search has found on other seeds: ours are those of ``LectureDQN.tuned``, and those of SB3's
``DQN`` come from ``stock_search.py``. Both cut episodes after 200 steps. Exact tests, every 500 environment steps,
check whether the policy is optimal: a mean reward of 7.90, which means that all starts are solved, with at most 9 extra
steps over all 300. It is optimal for good at the first of the tests that are followed by optimal tests only. Ours
trains for its first budget of 20,000 steps. SB3's trains until 20 tests in a row were optimal, and gives up after
200,000 steps or 40 s.

Ours and SB3 take turns seed by seed. The times are CPU times of one core without the tests, so other programs do not
count. Medians are those of a survival estimate (Kaplan & Meier 1958): all runs have the same limit, so a run that was
not optimal counts as later than all others, and if most are, the median is above the limit. In the ratios, such a run
counts with the time at which it ended, so that they are lower bounds. The intervals are of 95 %, by a bootstrap of the
seeds.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from machine import describe_machine, sentence
from measure import use_one_core
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_lecture_dqn import LectureDQN, exact_test, make_env
from sb3_lecture_dqn.training.due import Due

RESULTS = Path(__file__).parent / "results"
SEARCHED = RESULTS / "stock_search.json"
OPTIMAL = 7.90
TEST_EVERY = 500
ENOUGH = 20
#: Limits of SB3's training: environment steps, and CPU time in seconds
LIMIT, LONGEST = 200_000, 40.0
FIRST_SEED = 40_000
#: A step and the CPU seconds until then
When = tuple[int, float]


class UntilOptimal(BaseCallback):
    """
    Tests at regular steps, with the clock stopped.

    :param stop: Whether to end the training when :data:`ENOUGH` tests in a row were optimal
    :param longest: CPU time after which to end it if the last test was not optimal, in seconds
    """

    def __init__(self, stop: bool, longest: float = math.inf) -> None:
        super().__init__()
        self.stop, self.longest = stop, longest
        self.first: When | None = None
        self.for_good: When | None = None
        self.in_a_row = 0
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
        if exact_test(self.model).mean_reward >= OPTIMAL:
            now = self.num_timesteps, self.spent
            self.first, self.for_good, self.in_a_row = self.first or now, self.for_good or now, self.in_a_row + 1
        else:
            self.for_good, self.in_a_row = None, 0
        self.began = time.process_time()
        return (self.in_a_row > 0 or self.spent < self.longest) and not (self.stop and self.in_a_row >= ENOUGH)


def train_ours(seed: int) -> dict[str, Any]:
    """
    Train with the recommended settings, for their first budget.

    :param seed: Seed of the model
    :return: When the policy was first optimal, and for good, ``None`` for never; the reward at the end
    """
    callback = UntilOptimal(stop=False)
    model = LectureDQN.tuned("Taxi-v3", seed=seed, device="cpu")
    return _found(model.learn(model._default_timesteps, callback=callback), callback)


def train_stock(settings: dict[str, Any], seed: int, longest: float = LONGEST) -> dict[str, Any]:
    """
    Train stock SB3.

    :param settings: Its settings, as in ``stock_search.py``
    :param seed: Seed of the model
    :param longest: CPU time after which to give up, in seconds
    :return: As :func:`train_ours`
    """
    settings = dict(settings)
    n_envs, arch, steps = (settings.pop(name) for name in ("n_envs", "net_arch", "exploration_steps"))
    env = make_vec_env(lambda: make_env("Taxi-v3", max_episode_steps=200), n_envs)
    kwargs = {"policy_kwargs": {"net_arch": arch}, "exploration_fraction": steps / LIMIT, "device": "cpu"}
    callback = UntilOptimal(stop=True, longest=longest)
    model = DQN("MlpPolicy", env, seed=seed, **kwargs, **settings)
    return _found(model.learn(LIMIT, callback=callback), callback)


def _found(model: Any, callback: UntilOptimal) -> dict[str, Any]:
    found = {"first": callback.first, "for_good": callback.for_good, "ended": callback.spent}
    return {**found, "reward": exact_test(model).mean_reward}


def median(values: np.ndarray) -> Any:
    """Return medians along the last axis; infinite values are those of runs that were not optimal."""
    return np.quantile(values, 0.5, axis=-1, method="inverted_cdf")


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """
    Compare the medians.

    :param rows: One row per seed and contestant, as in ``time_to_optimal.csv``
    :return: Lines of a table in Markdown
    """
    lines = [
        "| until optimal | ours: env steps | CPU time | SB3 `DQN`: CPU time | not optimal: ours, SB3 | ratio |",
        "|---|---|---|---|---|---|",
    ]
    n_seeds = len(rows) // 2
    ended = column(rows, "stock", "ended_seconds")
    drawn = np.random.default_rng(0).integers(n_seeds, size=(10_000, n_seeds))
    for what, key in (("first", "first"), ("for good", "for_good")):
        steps, ours = (column(rows, "ours", f"{key}_{unit}") for unit in ("steps", "seconds"))
        stock = column(rows, "stock", f"{key}_seconds")
        missed = f"{np.isinf(ours).sum()} and {np.isinf(stock).sum()} of {n_seeds}"
        # A run that was not optimal counts with the time at which it ended, so the ratio is a lower bound.
        least = np.minimum(stock, ended)
        ratio = with_interval(median(least) / median(ours), median(least[drawn]) / median(ours[drawn]), "{:.0f}×")
        cells = [
            with_interval(median(steps), median(steps[drawn]), "{:,.0f}"),
            with_interval(median(ours), median(ours[drawn]), "{:.2f} s"),
            with_interval(median(stock), median(stock[drawn]), "{:.1f} s").replace(
                "inf s", f"over {median(ended):.0f} s"
            ),
            missed,
            "at least " * bool(np.isinf(stock).any()) + ratio,
        ]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


def column(rows: list[dict[str, Any]], who: str, key: str) -> np.ndarray:
    values = (row[key] for row in rows if row["who"] == who)
    return np.array([math.inf if value in ("", None) else float(value) for value in values])


def with_interval(value: Any, draws: np.ndarray, text: str) -> str:
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return f"{text.format(value)} ({text.format(low)} – {text.format(high)})"


def main() -> None:
    """Write ``results/time_to_optimal.csv``, every run, and the table ``results/time_to_optimal.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help=f"seeds {FIRST_SEED:,}, … (default: 20)")
    args = parser.parse_args()
    machine = describe_machine("time_to_optimal.py")
    use_one_core()
    th.set_num_threads(1)
    settings = json.loads(SEARCHED.read_text(encoding="utf-8"))[0]["settings"]
    LectureDQN.tuned("Taxi-v3", seed=0).learn(5000)  # compiles, also the updates, which begin after 4000 steps
    rows: list[dict[str, Any]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + args.seeds):
        for who, found in (("ours", train_ours(seed)), ("stock", train_stock(settings, seed))):
            row: dict[str, Any] = {"seed": seed, "who": who, "reward": round(found["reward"], 4)}
            row["ended_seconds"] = round(found["ended"], 3)
            for key in ("first", "for_good"):
                steps, seconds = found[key] or (None, None)
                row |= {f"{key}_steps": steps, f"{key}_seconds": seconds and round(seconds, 3)}
            rows.append(row)
            print(row, flush=True)
    with (RESULTS / "time_to_optimal.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    chosen = ", ".join(f"{name}={value}" for name, value in settings.items())
    note = f"SB3's settings, the best of `stock_search.py`: {chosen}."
    text = "\n".join([sentence(machine), "", *summary(rows), "", note, ""])
    (RESULTS / "time_to_optimal.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
