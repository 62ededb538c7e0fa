"""
Measure which ideas matter: each is switched off alone, on Taxi with the recommended settings, masks and Double-Q.

From the root of the repository::

    python examples/ablation.py                         # every row, 10 seeds, 2 processes
    python examples/ablation.py --rows nothing,masks    # some rows

Every run has two exact measures: the share of the 300 starts that are solved at the end, and the number of env steps
until the policy was first optimal (a run that never is counts with its whole budget). The table has means over seeds
with 95 % bootstrap intervals (percentiles: Efron & Tibshirani 1993, chapter 13). Results go to
``results/ablation.json`` and ``results/ablation.md``.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from scipy.stats import bootstrap
from tuned_results import RESULTS, History, is_optimal

from sb3_lecture_dqn import LectureDQN, exact_test
from sb3_lecture_dqn.envs.make import make_training_env
from sb3_lecture_dqn.training.tuned import tuned_settings

TASK = "Taxi-v3"
SETTINGS = tuned_settings("lecture_dqn_masked", TASK)


def rows() -> dict[str, dict[str, Any]]:
    """
    Return the changes of each row to the recommended settings with masks and Double-Q.

    :return: Arguments of ``LectureDQN``, by row
    """
    memory = SETTINGS.keywords["replay_buffer_kwargs"]
    return {
        "nothing": {},
        "masks": {"use_masking": False},
        "double_q": {"double_q": False},
        # All transitions are in one partition, so success_fraction has no effect
        "memory split": {"replay_buffer_kwargs": {**memory, "success_criterion": never}},
        "deduplication": {"replay_buffer_kwargs": {**memory, "deduplicate": False}},
        "success_fraction": {"replay_buffer_kwargs": {**memory, "success_fraction": None}},
        "explore_least_tried": {"explore_least_tried": False},
    }


def never(reward: float, terminal: bool, info: dict[str, Any]) -> bool:
    return False


def run(row: str, seed: int) -> dict[str, Any]:
    th.set_num_threads(1)
    env = make_training_env(TASK, SETTINGS.max_episode_steps, SETTINGS.n_envs)
    keywords = {**SETTINGS.keywords, "double_q": True, **rows()[row]}
    model = LectureDQN(env=env, seed=seed, device="cpu", **keywords)
    tests = History(exact=True, test_freq=1000)
    model.learn(SETTINGS.n_timesteps, callback=tests)
    first = next((step for step, test in tests.history if is_optimal(TASK, test)), model.num_timesteps)
    return {"row": row, "seed": seed, "solved": exact_test(model).success_rate, "first_optimal": first}


def interval(values: list[float]) -> str:
    if len(set(values)) == 1:
        return f"{values[0]:,.5g}"
    low, high = bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=0).confidence_interval
    return f"{np.mean(values):,.5g} ({low:,.5g} – {high:,.5g})"


def markdown(results: list[dict[str, Any]]) -> str:
    lines = [
        f"Written by `python examples/ablation.py`: {TASK}, means and 95 % bootstrap intervals over seeds.",
        "",
        "| switched off | seeds | solved | env steps until first optimal |",
        "|---|---|---|---|",
    ]
    for row in dict.fromkeys(result["row"] for result in results):
        runs = [result for result in results if result["row"] == row]
        measures = [interval([one[name] for one in runs]) for name in ("solved", "first_optimal")]
        lines.append(f"| {row} | {len(runs)} | {' | '.join(measures)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(rows()), help="rows, separated by commas")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = [(row, seed) for row in args.rows.split(",") for seed in range(args.seeds)]
    results: list[dict[str, Any]] = []
    with ProcessPoolExecutor(args.processes) as pool:
        for result in pool.map(run, *zip(*jobs, strict=True)):
            print(result, flush=True)
            results.append(result)
            (args.out / "ablation.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    table = markdown(results)
    (args.out / "ablation.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
