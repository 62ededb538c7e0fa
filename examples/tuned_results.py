"""
Train with the recommended settings on fresh seeds, and save the results.

From the root of the repository::

    python examples/tuned_results.py                                        # every tabular task: 50 seeds (Taxi: 200)
    python examples/tuned_results.py --tasks Taxi-v3 --seeds 3              # one task, fewer seeds
    python examples/tuned_results.py --tasks Taxi-v3 --masked               # with action masks
    python examples/tuned_results.py --tasks Taxi-v3 --algo lecture_qrdqn --seeds 100
    python examples/tuned_results.py --tasks Taxi-v3 --whole --seeds 50     # trains on after the first solved test
    python examples/tuned_results.py --tasks CartPole-v1,Blackjack-v1 --seeds 10

No setting was chosen on these seeds: the search used others. Each run is ``tuned(task, seed=seed).learn()``, which ends
at the first solved test. ``--whole`` gives it its first budget instead, which is trained to its end, with exact tests
all along: this shows from which step on all tests were optimal. The result is an exact test over all starts with a
limit of 1000 steps. CartPole then plays 100 fresh episodes, Blackjack 100,000.

Every run is a row of ``results/tuned.csv``; ``results/tuned.md`` has medians. Rows that are there are not run again.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from result_rows import markdown_table, read_rows, write_rows
from stable_baselines3.common.logger import configure

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, LectureTestCallback, TestResult, exact_test, run_test

RESULTS = Path(__file__).parent / "results"
FIRST_SEED = 30_000
TABULAR = (
    "Taxi-v3",
    "TaxiRainy-v3",
    "FrozenLake-v1",
    "FrozenLakeNotSlippery-v1",
    "FrozenLake8x8-v1",
    "FrozenLake8x8NotSlippery-v1",
    "CliffWalking-v1",
    "CliffWalkingSlippery-v1",
)
ALGORITHMS = {"lecture_dqn": LectureDQN, "lecture_qrdqn": LectureQRDQN}
OPTIMAL = {"Taxi-v3": 7.90}  # lowest reward of a policy that counts as optimal; in other tasks an optimality of 0.99
#: What tells runs apart, and what comes of them
KEYS = ("task", "algorithm", "masked", "whole", "seed")
FIGURES = ("steps", "solved", "reward", "optimality", "first_optimal", "optimal_from", "seconds")
LIMIT = 1000


class History(LectureTestCallback):
    """Tests, and records the step of every result."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(verbose=0, **kwargs)
        self.history: list[tuple[int, TestResult]] = []

    def _log(self, result: TestResult) -> None:
        self.history.append((self.num_timesteps, result))


def is_optimal(task: str, result: TestResult) -> bool:
    if task in OPTIMAL:
        return result.success_rate == 1 and result.mean_reward >= OPTIMAL[task]
    return result.optimality is not None and result.optimality >= 0.99


def train(task: str, algo: str, masked: bool, whole: bool, seed: int) -> dict[str, Any]:
    """
    Train once.

    :param task: Id of the environment
    :param algo: Name of the algorithm
    :param masked: Whether to use action masks
    :param whole: Whether to train the whole first budget
    :param seed: Seed of the model
    :return: The figures
    """
    begin = time.process_time()
    model = ALGORITHMS[algo].tuned(task, use_masking=masked, seed=seed, device="cpu")
    curve = learn_whole(model) if whole else {}
    if not whole:
        model.learn()
    seconds = time.process_time() - begin
    figures: dict[str, Any] = {"steps": model.num_timesteps, **curve, "seconds": round(seconds, 2)}
    if task in TABULAR:
        result = exact_test(model, max_episode_steps=LIMIT)
        return {**figures, "solved": result.success_rate, "reward": result.mean_reward, "optimality": result.optimality}
    if task == "Blackjack-v1":
        return {**figures, "reward": play_blackjack(model, 100_000, 10_000 + seed)}
    return {**figures, "reward": run_test(model, seed=10_000 + seed).mean_reward}


def learn_whole(model: LectureDQN) -> dict[str, int | None]:
    """Train the first budget with exact tests. Find the first optimal one, and the first of the optimal last ones."""
    budget = model._default_timesteps
    with tempfile.TemporaryDirectory() as folder:
        model.set_logger(configure(folder, ["csv"]))  # a callback of one's own would be slower
        model.learn(budget, LectureTestCallback(exact=True, test_freq=budget // 80, verbose=0), log_interval=None)
        model.logger.close()
        with open(Path(folder) / "progress.csv", encoding="utf-8") as file:
            tests = [row for row in csv.DictReader(file) if row.get("eval/optimality")]
    steps = [int(row["time/total_timesteps"]) for row in tests]
    optimal = [float(row["eval/optimality"]) > 1 - 1e-9 for row in tests]
    n_last = next((i for i, good in enumerate(reversed(optimal)) if not good), len(optimal))
    first = steps[optimal.index(True)] if any(optimal) else None
    return {"first_optimal": first, "optimal_from": steps[-n_last] if n_last else None}


def play_blackjack(model: LectureDQN, n_episodes: int, seed: int) -> float:
    """Return the mean return in gymnasium's environment; the model predicts once, for all states."""
    env = gym.make("Blackjack-v1").unwrapped
    shape = [part.n for part in env.observation_space]
    actions = model.predict(np.arange(np.prod(shape)), deterministic=True)[0].reshape(shape)
    returns = 0.0
    obs, _ = env.reset(seed=seed)
    for _ in range(n_episodes):
        terminated = False
        while not terminated:
            obs, reward, terminated, _, _ = env.step(actions[obs])
            returns += reward
        obs, _ = env.reset()
    return returns / n_episodes


def markdown(rows: list[dict[str, Any]]) -> str:
    """
    Write the table of all results.

    :param rows: Results of every run
    :return: The table in Markdown
    """
    lines = []
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[key]) for key in KEYS[:-1]), []).append(row)
    for (task, algo, masked, whole), runs in groups.items():
        name = ", ".join(
            [task, *["masked"] * (masked == "True"), *["QR-DQN"] * (algo != "lecture_dqn")]
            + ["whole budget"] * (whole == "True")
        )
        cells = [name, str(len(runs))]
        cells += [spread([run[figure] for run in runs], digits) for figure, digits in COLUMNS]
        lines.append(cells)
    about = (
        "Written by `python examples/tuned_results.py` from `tuned.csv`. Medians over seeds, with the lowest and\n"
        'highest. "Steps" are those at the first solved test, or the whole first budget. Seconds are of CPU time.'
    )
    columns = ("steps", "solved", "reward", "optimality", "first optimal", "optimal from then on", "seconds")
    return markdown_table(about, ("task", "seeds", *columns), lines)


COLUMNS = tuple(zip(FIGURES, (0, 4, 4, 4, 0, 0, 1), strict=True))


def spread(values: list[Any], digits: int) -> str:
    known = [float(value) for value in values if value not in (None, "")]
    if not known:
        return ""
    # Runs that never came to it count as later than all others.
    low, middle, high = min(known), float(np.median(known + [np.inf] * (len(values) - len(known)))), max(known)
    text = f"{middle:,.{digits}f}" if low == high else f"{middle:,.{digits}f} ({low:,.{digits}f} – {high:,.{digits}f})"
    return text if len(known) == len(values) else f"{text}, {len(values) - len(known)} never"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TABULAR), help="ids, separated by commas")
    parser.add_argument("--seeds", type=int, help="number of seeds; 50 by default, 200 for Taxi")
    parser.add_argument("--algo", default="lecture_dqn", choices=ALGORITHMS)
    parser.add_argument("--masked", action="store_true", help="with action masks")
    parser.add_argument("--whole", action="store_true", help="train the whole first budget, with exact tests")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    th.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "tuned.csv"
    rows = read_rows(file)
    done = {tuple(str(row[key]) for key in KEYS) for row in rows}
    for task in args.tasks.split(","):
        first: Any = ALGORITHMS[args.algo].tuned(task, args.masked, seed=0)
        first.learn(first.learning_starts + 100)  # compiles before times are taken, also the updates
        for seed in range(FIRST_SEED, FIRST_SEED + (args.seeds or (200 if task == "Taxi-v3" else 50))):
            key = (task, args.algo, args.masked, args.whole, seed)
            if tuple(map(str, key)) in done:
                continue
            figures = train(task, args.algo, args.masked, args.whole, seed)
            rows.append({**dict.fromkeys(FIGURES), **dict(zip(KEYS, key, strict=True)), **figures})
            print(rows[-1], flush=True)
            write_rows(file, (*KEYS, *FIGURES), rows)
            (args.out / "tuned.md").write_text(markdown(rows), encoding="utf-8")
    print(f"Runs: {file}, table: {args.out / 'tuned.md'}")


if __name__ == "__main__":
    main()
