"""
The lecture's ladder on Taxi, rung by rung: Q-table, network with the action in, naive DQN, + replay, + target network,
Double Q-learning, the recommended settings. It makes one figure and one table of several seeds.

    python examples/lecture_ladder.py               # one seed, about a minute on two cores
    python examples/lecture_ladder.py --seeds 5     # as in the guide

Every rung but the last has the lecture's settings (SGD with learning rate 0.001, five updates on one transition each a
step, ε by episode) and the same number of environment steps. Only the Q-table, whose cells learn one by one, has
another learning rate. The last rung has its own settings, and ends when its policy is optimal. Greedy policies are
tested exactly, over all 300 starts. A run without a target network may diverge: then it ends, in a cross of the figure.
In the table, it counts as a run that solves no start; beside it are the figures of the others. "First optimal" is the
median over seeds of the step of the first test with a mean reward of 7.90 or more. The mean of a rung ends where its
shortest run does. With fewer than five seeds, every run is a thin line. With more, there are bands: 95 % intervals of
the mean by a bootstrap. Results go to ``results/ladder.png``,
``results/ladder.json`` (all tests of all runs) and ``results/ladder.md``.

    python examples/lecture_ladder.py --redraw      # the figure again, from ladder.json
"""

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from tuned_results import RESULTS, History

from sb3_lecture_dqn import DivergedError, LectureDQN, TestResult, optimal_values
from sb3_lecture_dqn.show.curves import RunLine, draw_curves, mean_curve

NAIVE = {"store_and_replay": False, "double_dqn": False}
RUNGS: dict[str, dict[str, Any]] = {
    "Q-table": {"policy": "TablePolicy", "learning_rate": 0.1, **NAIVE},
    "state and action in": {"policy": "ActionInPolicy", **NAIVE},
    "naive DQN": NAIVE,
    "+ replay": {"double_dqn": False},
    "+ target network (the lecture's)": {},
    "Double Q-learning": {"double_q": True},
}
OURS = "ours: recommended settings"
OURS_TESTED_EVERY = 500
OPTIMAL = 7.90


def run(rung: str, seed: int, timesteps: int, tests: int) -> tuple[list[tuple[int, TestResult]], bool]:
    """
    Train one rung.

    :param rung: Its name
    :param seed: Seed of the model
    :param timesteps: Environment steps; the recommended settings have their own
    :param tests: Number of tests in these steps
    :return: Tests by environment step, and whether it diverged
    """
    th.set_num_threads(1)
    if rung == OURS:
        model, budget = LectureDQN.tuned("Taxi-v3", seed=seed, device="cpu"), None
    else:
        settings = {"policy": "LecturePolicy", **RUNGS[rung]}
        model, budget = LectureDQN(env="Taxi-v3", seed=seed, device="cpu", **settings), timesteps
    often = timesteps // tests if budget else OURS_TESTED_EVERY
    history = History(exact=True, test_freq=max(1, often), test_at_end=budget is None)
    diverged = False
    try:
        model.learn(budget, callback=history)
    except DivergedError as error:
        print(f"{rung}, seed {seed}: {error}", file=sys.stderr)
        diverged = True
    return history.history, diverged


def table_row(histories: Sequence[list[tuple[int, TestResult]]], diverged: Sequence[bool]) -> str:
    """
    Write what comes of the runs of a rung.

    :param histories: Tests of every run by environment step
    :param diverged: Whether each run diverged; its policy then counts as one that solves no start
    :return: The cells of the table
    """
    last = [history[-1][1] for history, ended in zip(histories, diverged, strict=True) if not ended]
    solved = [test.success_rate for test in last]
    n_runs, n_steps = len(histories), statistics.median(history[-1][0] for history in histories)
    figures = "– | – | – | –"
    if last:
        figures = (
            f"{statistics.mean(solved):.1%} | {min(solved):.1%} – {max(solved):.1%} | "
            f"{statistics.mean(test.mean_steps for test in last):.2f} | "
            f"{statistics.mean(test.mean_reward for test in last):.2f}"
        )
    firsts = [next((step for step, test in of_run if test.mean_reward >= OPTIMAL), math.inf) for of_run in histories]
    first = statistics.median_high(firsts)
    return (
        f"{n_steps:,.0f} | {sum(diverged)} of {n_runs} | {sum(solved) / n_runs:.1%} | {figures} | "
        f"{'never' if math.isinf(first) else f'{first:,}'}"
    )


def draw(runs: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """
    Draw all rungs.

    :param runs: For every rung, its runs: their tests as lists, and whether they diverged
    :param file: The picture
    """
    panels = {
        panel: {
            rung: mean_curve([RunLine(np.array(one["step"]), np.array(one[name]), one["diverged"]) for one in of_rung])
            for rung, of_rung in runs.items()
        }
        for panel, name in (("share of solved starts", "solved"), ("reward per episode", "reward"))
    }
    best = {"share of solved starts": 1.0, "reward per episode": optimal_values("Taxi-v3").mean_reward}
    draw_curves(panels, {"optimum": best}, "environment steps").savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=200_000, help="environment steps of a rung (default: 200000)")
    parser.add_argument("--tests", type=int, default=30, help="tests of a rung (default: 30)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, … (default: 1)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: one for every core")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--redraw", action="store_true", help="train nothing: draw the stored tests again")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    stored = args.out / "ladder.json"
    if args.redraw:
        draw(json.loads(stored.read_text(encoding="utf-8")), args.out / "ladder.png")
        return

    runs: dict[str, list[dict[str, Any]]] = {}
    lines = [
        f"Written by `python examples/lecture_ladder.py --timesteps {args.timesteps} --seeds {args.seeds}`: Taxi, "
        "means over the seeds, after the last step.",
        "",
        "| rung | env steps | diverged | solved starts | of the others | lowest – highest | steps | reward "
        "| first optimal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n")
    with ProcessPoolExecutor(args.processes) as pool:
        futures = {
            rung: [pool.submit(run, rung, seed, args.timesteps, args.tests) for seed in range(args.seeds)]
            for rung in [*RUNGS, OURS]
        }
        for rung, of_seeds in futures.items():
            histories, diverged = zip(*[future.result() for future in of_seeds], strict=True)
            runs[rung] = [
                {
                    "step": [step for step, _ in history],
                    "solved": [round(test.success_rate, 4) for _, test in history],
                    "reward": [round(test.mean_reward, 2) for _, test in history],
                    "diverged": ended,
                }
                for history, ended in zip(histories, diverged, strict=True)
            ]
            lines.append(f"| {rung} | {table_row(histories, diverged)} |")
            print(lines[-1], flush=True)
    stored.write_text(json.dumps(runs) + "\n", encoding="utf-8")
    draw(runs, args.out / "ladder.png")
    (args.out / "ladder.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(f"Figure and table: {args.out / 'ladder.png'}, {args.out / 'ladder.md'}")


if __name__ == "__main__":
    main()
