"""
Search settings for stock SB3's ``DQN`` on Taxi, as ``examples/search_hyperparams.py`` does for ours.

    python examples/benchmarks/stock_search.py

The first trials are chosen by hand: settings that are known to solve Taxi, those of ``LectureDQN.tuned`` as far as
``DQN`` has them, and a table (no hidden layer). The others draw all settings of ``SPACE`` at random. The score of a
trial is the CPU time until the policy was optimal from all 300 starts for good, see ``time_to_optimal.py``. A trial
ends when it has taken twice the time of the best so far, 40 s, or 200,000 steps. The best trials are repeated with two
more seeds, 1001 and 1002; the one with the lowest median wins. ``results/stock_search.json`` has all trials.
``time_to_optimal.py`` takes the winner, on other seeds.
"""

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from contestants import SOLVING
from measure import use_one_core
from time_to_optimal import LONGEST, SEARCHED, train_stock

FIRST_SEED = 1000
SPACE: dict[str, tuple[Any, ...]] = {
    "n_envs": (1, 4, 8),
    "net_arch": ([], [64], [64, 64], [256]),
    "learning_rate": (1e-3, 3e-3, 1e-2, 3e-2),
    "gamma": (0.9, 0.95, 0.99),
    "batch_size": (32, 64, 128, 256),
    "train_freq": (1, 4, 8),
    "gradient_steps": (1, 2, 4, 8),
    "target_update_interval": (32, 100, 300, 1000),
    "buffer_size": (10_000, 100_000),
    "learning_starts": (1000, 4000),
    "exploration_steps": (5000, 12_000, 20_000, 40_000),
    "exploration_final_eps": (0.02, 0.05, 0.1),
}
KNOWN = {name: {"n_envs": 1, "net_arch": [64, 64], **SOLVING, "exploration_steps": 20_000}[name] for name in SPACE}
AS_OURS = {
    **{"n_envs": 8, "net_arch": [64], "learning_rate": 4e-3, "gamma": 0.9, "batch_size": 64, "train_freq": 1},
    **{"gradient_steps": 8, "target_update_interval": 32, "buffer_size": 10_000, "learning_starts": 4000},
    **{"exploration_steps": 12_000, "exploration_final_eps": 0.05},
}
TABLE = {**AS_OURS, "net_arch": [], "learning_rate": 3e-2, "exploration_steps": 20_000}
LONGER = {"buffer_size": 100_000, "exploration_steps": 40_000, "learning_starts": 1000}
BY_HAND = (KNOWN, AS_OURS, TABLE, AS_OURS | LONGER, TABLE | LONGER)


def seconds(settings: dict[str, Any], seed: int, longest: float) -> float:
    """
    Train once.

    :param settings: The settings
    :param seed: Seed of the model
    :param longest: CPU time after which to give up, in seconds
    :return: CPU time until the policy was optimal for good; infinity if it was not
    """
    found = train_stock(settings, seed, longest)["for_good"]
    return math.inf if found is None else float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument(
        "--repeated", type=int, default=4, help="number of trials that are repeated with two more seeds"
    )
    args = parser.parse_args()
    use_one_core()
    th.set_num_threads(1)
    rng = np.random.default_rng(0)
    trials: list[dict[str, Any]] = []
    for number in range(args.trials):
        drawn = {name: values[rng.integers(len(values))] for name, values in SPACE.items()}
        settings = BY_HAND[number] if number < len(BY_HAND) else drawn
        best = min((trial["seconds"][0] for trial in trials), default=math.inf)
        trials.append({"seconds": [seconds(settings, FIRST_SEED, min(LONGEST, 2 * best))], "settings": settings})
        print(trials[-1], flush=True)
        write(trials)
    for trial in sorted(trials, key=lambda one: one["seconds"][0])[: args.repeated]:
        trial["seconds"] += [seconds(trial["settings"], FIRST_SEED + i, LONGEST) for i in (1, 2)]
        print(trial, flush=True)
        write(trials)


def write(trials: list[dict[str, Any]]) -> None:
    """Write all trials, the best first: those with more seeds, and of these the one with the lowest median."""
    ordered = sorted(trials, key=lambda one: (-len(one["seconds"]), statistics.median(one["seconds"])))
    plain = [{**one, "seconds": [round(s, 2) if math.isfinite(s) else None for s in one["seconds"]]} for one in ordered]
    Path(SEARCHED).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
