"""
The lecture's ladder on Taxi, rung by rung: Q-table, network with the action in, naive DQN, + replay, + target network,
Double Q-learning, the recommended settings. It makes one figure and one table of several seeds.

    python examples/lecture_ladder.py               # one seed, about a minute on two cores
    python examples/lecture_ladder.py --seeds 3     # as in the guide

Every rung but the last has the lecture's settings (SGD with learning rate 0.001, five updates on one transition each a
step, ε by episode) and the same number of environment steps. Only the Q-table, whose cells learn one by one, has
another learning rate. The last rung has its own settings and budget. Greedy policies are tested exactly, over all 300
starts. A run without a target network may diverge: then it ends, in a cross of the figure, and is not in the figures of
the table. The mean of a rung ends where its shortest run does. With fewer than five seeds, every run is a thin line.
With more, there are bands: 95 % intervals of the mean by a bootstrap. Results go to ``results/ladder.png``,
``results/ladder.json`` (all tests of all runs) and ``results/ladder.md``.

    python examples/lecture_ladder.py --redraw      # the figure again, from ladder.json
"""

import argparse
import json
import os
import statistics
import sys
import time
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


def run(rung: str, seed: int, timesteps: int, tests: int) -> tuple[list[tuple[int, TestResult]], float, bool]:
    """
    Train one rung.

    :param rung: Its name
    :param seed: Seed of the model
    :param timesteps: Environment steps; the recommended settings have their own
    :param tests: Number of tests in these steps
    :return: Tests by environment step, seconds, and whether it diverged
    """
    th.set_num_threads(1)
    if rung == OURS:
        model, budget = LectureDQN.tuned("Taxi-v3", seed=seed, device="cpu"), None
    else:
        settings = {"policy": "LecturePolicy", **RUNGS[rung]}
        model, budget = LectureDQN(env="Taxi-v3", seed=seed, device="cpu", **settings), timesteps
    history = History(exact=True, test_freq=max(1, timesteps // tests))
    started, diverged = time.perf_counter(), False
    try:
        model.learn(budget, callback=history)
    except DivergedError as error:
        print(f"{rung}, seed {seed}: {error}", file=sys.stderr)
        diverged = True
    return history.history, time.perf_counter() - started, diverged


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
        "| rung | env steps | diverged | solved starts | lowest – highest | steps | reward | seconds a seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n")
    with ProcessPoolExecutor(args.processes) as pool:
        futures = {
            rung: [pool.submit(run, rung, seed, args.timesteps, args.tests) for seed in range(args.seeds)]
            for rung in [*RUNGS, OURS]
        }
        for rung, of_seeds in futures.items():
            histories, seconds, diverged = zip(*[future.result() for future in of_seeds], strict=True)
            runs[rung] = [
                {
                    "step": [step for step, _ in history],
                    "solved": [round(test.success_rate, 4) for _, test in history],
                    "reward": [round(test.mean_reward, 2) for _, test in history],
                    "diverged": ended,
                }
                for history, ended in zip(histories, diverged, strict=True)
            ]
            last = [history[-1] for history, ended in zip(histories, diverged, strict=True) if not ended]
            figures = "– | – | – | –"
            if last:
                solved = [test.success_rate for _, test in last]
                figures = (
                    f"{statistics.mean(solved):.1%} | {min(solved):.1%} – {max(solved):.1%} | "
                    f"{statistics.mean(test.mean_steps for _, test in last):.2f} | "
                    f"{statistics.mean(test.mean_reward for _, test in last):.2f}"
                )
            n_steps = max(history[-1][0] for history in histories)  # of the last test, at step 199,980 of 200,000
            lines.append(f"| {rung} | {n_steps:,} | {sum(diverged)} | {figures} | {statistics.median(seconds):.0f} |")
            print(lines[-1], flush=True)
    stored.write_text(json.dumps(runs) + "\n", encoding="utf-8")
    draw(runs, args.out / "ladder.png")
    (args.out / "ladder.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(f"Figure and table: {args.out / 'ladder.png'}, {args.out / 'ladder.md'}")


if __name__ == "__main__":
    main()
