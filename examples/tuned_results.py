"""
Train with the recommended settings on fresh seeds, and save the results.

From the root of the repository::

    python examples/tuned_results.py                               # every task, 10 seeds each (Taxi: 20)
    python examples/tuned_results.py --tasks Taxi-v3 --seeds 3     # one task, fewer seeds
    python examples/tuned_results.py --algo lecture_qrdqn --tasks Taxi-v3 --seeds 10

Tabular tasks are tested exactly, over all starts, with a limit of 1000 steps: every 1000 steps of the training, and at
the end. The times include these tests. CartPole keeps the best model of its tests, which then plays 100 fresh episodes;
Blackjack plays 100,000. Results go to ``results/tuned.json`` and ``results/tuned.md``.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, LectureTestCallback, TestResult, exact_test, run_test

RESULTS = Path(__file__).parent / "results"
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
TASKS = (*TABULAR, "CartPole-v1", "Blackjack-v1")
ALGORITHMS = {"lecture_dqn": LectureDQN, "lecture_qrdqn": LectureQRDQN}
OPTIMAL = {"Taxi-v3": 7.90}  # lowest reward of a policy that counts as optimal; in other tasks an optimality of 0.99


class History(LectureTestCallback):
    """Tests, and records the step of every result."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(verbose=0, **kwargs)
        self.history: list[tuple[int, TestResult]] = []

    def _log(self, result: TestResult) -> None:
        self.history.append((self.num_timesteps, result))


def train(task: str, seed: int, masked: bool = False, algo: str = "lecture_dqn") -> dict[str, Any]:
    """
    Train once.

    :param task: Id of the environment
    :param seed: Seed of the model
    :param masked: Whether to use action masks
    :param algo: Name of the algorithm
    :return: The results
    """
    begin = time.perf_counter()
    model = ALGORITHMS[algo].tuned(task, use_masking=masked, seed=seed, device="cpu")
    if task not in TABULAR:
        return {"seed": seed, **play(task, model, seed), "seconds": time.perf_counter() - begin}
    tests = History(exact=True, test_freq=1000)
    model.learn(callback=tests)
    seconds = time.perf_counter() - begin
    result = exact_test(model)
    good = [step for step, test in tests.history if is_optimal(task, test)]
    return {
        "seed": seed,
        "reward": result.mean_reward,
        "solved": result.success_rate,
        "optimality": result.optimality,
        "first_optimal": good[0] if good else None,
        "budget": model.num_timesteps,
        "seconds": seconds,
    }


def is_optimal(task: str, result: TestResult) -> bool:
    if task in OPTIMAL:
        return result.success_rate == 1 and result.mean_reward >= OPTIMAL[task]
    return result.optimality is not None and result.optimality >= 0.99


def play(task: str, model: LectureDQN, seed: int) -> dict[str, Any]:
    if task == "Blackjack-v1":
        model.learn()
        return {"reward": play_blackjack(model, 100_000, 10_000 + seed), "budget": model.num_timesteps}
    with tempfile.TemporaryDirectory() as folder:
        tests = History(test_freq=2500, max_episode_steps=None, best_model_save_path=folder)
        model.learn(callback=tests)
        best = LectureDQN.load(Path(folder) / "best_model", device="cpu")
    result = run_test(best, max_episode_steps=None, seed=10_000 + seed)
    first = [step for step, test in tests.history if test.mean_reward == tests.best_mean_reward]
    return {"reward": result.mean_reward, "first_optimal": first[0], "budget": model.num_timesteps}


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


def markdown(results: dict[str, list[dict[str, Any]]]) -> str:
    """
    Write the table of all results.

    :param results: Results of every run, by task
    :return: The table in Markdown
    """
    lines = [
        "Written by `python examples/tuned_results.py`. Medians over seeds, with the lowest and highest in brackets.",
        "",
        "| task | seeds | reward | solved | optimality | env steps until first optimal | budget | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task, runs in results.items():
        cells = [task, str(len(runs))]
        cells += [spread([run.get(name) for run in runs], digits) for name, digits in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


COLUMNS = (("reward", 4), ("solved", 4), ("optimality", 4), ("first_optimal", 0), ("budget", 0), ("seconds", 1))


def spread(values: list[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, middle, high = min(known), float(np.median(known)), max(known)
    text = f"{middle:,.{digits}f}" if low == high else f"{middle:,.{digits}f} ({low:,.{digits}f} – {high:,.{digits}f})"
    return text if len(known) == len(values) else f"{text}, {len(values) - len(known)} never"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS), help="ids, separated by commas")
    parser.add_argument("--seeds", type=int, help="number of seeds; 10 by default, 20 for Taxi")
    parser.add_argument("--algo", default="lecture_dqn", choices=ALGORITHMS)
    parser.add_argument("--masked", action="store_true", help="with action masks")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    th.set_num_threads(1)
    os.makedirs(args.out, exist_ok=True)
    file = args.out / "tuned.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for task in args.tasks.split(","):
        ALGORITHMS[args.algo].tuned(task, args.masked, seed=0).learn(2000)  # compiles before times are taken
        name = f"{task}, masked" if args.masked else task
        if args.algo != "lecture_dqn":
            name += f", {ALGORITHMS[args.algo].__name__}"
        results[name] = []
        for seed in range(args.seeds or (20 if task == "Taxi-v3" else 10)):
            results[name].append(train(task, seed, args.masked, args.algo))
            print(name, results[name][-1], flush=True)
            file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            (args.out / "tuned.md").write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    main()
