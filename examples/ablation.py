"""
Measure which ideas matter: each is changed alone, on Taxi with the recommended settings.

From the root of the repository::

    python examples/ablation.py                                   # every row, 30 seeds, 2 processes
    python examples/ablation.py --rows nothing,masks --seeds 10   # some rows

Every run trains for the whole first budget, with exact tests at 80 steps of it. It has two measures: the share of the
300 starts that are solved at the end, and the environment steps until the policy was first optimal. The table has
medians of these steps; a run that was never optimal counts as later than all others. Its last column compares each row
with the first, seed by seed: the mean difference of the steps, in which a run that was never optimal has its whole
budget. The intervals are of 95 %, by a bootstrap of the seeds (percentiles: Efron & Tibshirani 1993, chapter 13). Every
run is a row of ``results/ablation.csv``, and ``results/ablation.md`` has the table.
"""

import argparse
import csv
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from tuned_results import RESULTS, History, is_optimal

from sb3_lecture_dqn import LectureDQN, exact_test
from sb3_lecture_dqn.training.tuned import tuned_settings

TASK = "Taxi-v3"
FIRST_SEED = 50_000
MEMORY = tuned_settings("lecture_dqn", TASK).keywords["replay_buffer_kwargs"]


def never(reward: float, terminal: bool, info: dict[str, Any]) -> bool:
    return False


#: Changes of each row to the recommended settings
ROWS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no replay": {"store_and_replay": False},
    "no target network": {"double_dqn": False},
    # All transitions are in one partition, so success_fraction has no effect
    "one memory instead of two": {"replay_buffer_kwargs": {**MEMORY, "success_criterion": never}},
    "no share of successes": {"replay_buffer_kwargs": {**MEMORY, "success_fraction": None}},
    "transitions stored again": {"replay_buffer_kwargs": {**MEMORY, "deduplicate": False}},
    "least tried in the state only": {"explore_least_tried": True},
    "plain ε-greedy": {"explore_least_tried": False},
    "constant learning rate": {"learning_rate": 0.004},
    "with Double-Q": {"double_q": True},
    "with masks": {"use_masking": True},
}


def run(row: str, seed: int) -> dict[str, Any]:
    """
    Train once.

    :param row: Name of the change
    :param seed: Seed of the model
    :return: A row of the results
    """
    th.set_num_threads(1)
    model = LectureDQN.tuned(TASK, seed=seed, device="cpu", **ROWS[row])
    budget = model._default_timesteps
    tests = History(exact=True, test_freq=budget // 80)
    model.learn(budget, callback=tests)
    first = next((step for step, test in tests.history if is_optimal(TASK, test)), None)
    return {"row": row, "seed": seed, "budget": budget, "first": first, "solved": exact_test(model).success_rate}


def interval(draws: np.ndarray, text: str) -> str:
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return f"({text.format(low)} – {text.format(high)})"


def median(values: np.ndarray) -> Any:
    return np.quantile(values, 0.5, axis=-1, method="inverted_cdf")


def markdown(results: list[dict[str, Any]]) -> str:
    """
    Write the table of all results.

    :param results: Results of every run
    :return: The table in Markdown
    """
    lines = [
        f"Written by `python examples/ablation.py` from `ablation.csv`: {TASK}, 95 % bootstrap intervals over seeds.",
        "",
        "| change | seeds | never optimal | solved at the end | env steps until optimal, median | later by, mean |",
        "|---|---|---|---|---|---|",
    ]
    firsts: dict[str, np.ndarray] = {}
    for row in dict.fromkeys(result["row"] for result in results):
        runs = [result for result in results if result["row"] == row]
        first = np.array([math.inf if one["first"] in (None, "") else float(one["first"]) for one in runs])
        solved = np.array([float(one["solved"]) for one in runs])
        firsts[row] = np.minimum(first, int(runs[0]["budget"]))
        drawn = np.random.default_rng(0).integers(len(runs), size=(10_000, len(runs)))
        later = "–"
        if row != "nothing" and len(firsts.get("nothing", ())) == len(runs):
            difference = firsts[row] - firsts["nothing"]
            later = f"{difference.mean():+,.0f} {interval(difference[drawn].mean(axis=1), '{:+,.0f}')}"
        lines.append(
            f"| {row} | {len(runs)} | {int(np.isinf(first).sum())} | "
            f"{solved.mean():.2%} {interval(solved[drawn].mean(axis=1), '{:.2%}')} | "
            f"{median(first):,.0f} {interval(median(first[drawn]), '{:,.0f}')} | {later} |"
        )
    return "\n".join(lines).replace("inf", "never") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="rows, separated by commas")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = [(row, FIRST_SEED + seed) for row in args.rows.split(",") for seed in range(args.seeds)]
    results: list[dict[str, Any]] = []
    with ProcessPoolExecutor(args.processes) as pool:
        for result in pool.map(run, *zip(*jobs, strict=True)):
            print(result, flush=True)
            results.append(result)
    with (args.out / "ablation.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, results[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(results)
    table = markdown(results)
    (args.out / "ablation.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
