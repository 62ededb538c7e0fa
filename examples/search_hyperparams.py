"""
Search settings for ``LectureDQN.tuned`` at random, around the package's settings.

From the root of the repository::

    python examples/search_hyperparams.py Taxi-v3                       # 30 trials of up to 3 seeds
    python examples/search_hyperparams.py FrozenLake8x8-v1 --trials 10  # another tabular task

Every trial draws some settings anew and keeps the rest. Its score is the mean, over seeds 1000, 1001, …, of the share
of the budget that was left when the policy became optimal for good: 0 if the last policy is not optimal. The results
reported for the package use other seeds, see ``tuned_results.py``. Trials are saved as they end, sorted by score.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.utils import LinearSchedule
from tuned_results import TABULAR, History, is_optimal

from sb3_lecture_dqn import LectureDQN

FIRST_SEED = 1000
SPACE: dict[str, tuple[Any, ...]] = {
    "learning_rate": (0.001, 0.002, 0.003, 0.004, 0.005, 0.007),
    "batch_size": (32, 64, 128),
    "gradient_steps": (2, 3, 4, 6),
    "target_update_interval": (8, 16, 32, 64, 128),
    "tau": (0.1, 0.3, 1.0),
    "gamma": (0.9, 0.93, 0.95, 0.99, 0.997),
    "exploration_fraction": (0.1, 0.3, 0.5, 0.7),
    "exploration_final_eps": (0.02, 0.05, 0.1),
    "double_q": (False, True),
    "loss": ("mse", "huber"),
}


def draw(rng: np.random.Generator, n_changes: int) -> dict[str, Any]:
    names = rng.choice(list(SPACE), n_changes, replace=False)
    return {str(name): SPACE[name][rng.integers(len(SPACE[name]))] for name in names}


def score(task: str, settings: dict[str, Any], seed: int) -> float:
    """
    Train once.

    :param task: Id of a tabular environment
    :param settings: Settings that differ from the package's
    :param seed: Seed of the model
    :return: Share of the budget that was left when the policy became optimal for good
    """
    if "learning_rate" in settings:
        settings = {**settings, "learning_rate": LinearSchedule(settings["learning_rate"], 0.0, 1.0)}
    model = LectureDQN.tuned(task, seed=seed, device="cpu", **settings)
    tests = History(exact=True, test_freq=1000)
    try:
        model.learn(model._default_timesteps, tests)  # the whole budget, also if a test is solved before
    except ValueError:  # the loss has become infinite
        return 0.0
    last_bad = max((step for step, test in tests.history if not is_optimal(task, test)), default=0)
    return 1 - last_bad / model.num_timesteps if is_optimal(task, tests.history[-1][1]) else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TABULAR)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of a trial; it ends early where one scores 0")
    parser.add_argument("--changes", type=int, default=3, help="settings drawn anew in each trial")
    parser.add_argument("--search-seed", type=int, default=0, help="seed of what is drawn")
    parser.add_argument("--out", type=Path, default=Path("search.json"))
    args = parser.parse_args()
    th.set_num_threads(1)
    rng = np.random.default_rng(args.search_seed)
    trials: list[dict[str, Any]] = []
    for trial in range(args.trials):
        settings = draw(rng, args.changes) if trial else {}
        scores: list[float] = []
        while len(scores) < args.seeds and 0.0 not in scores:
            scores.append(score(args.task, settings, FIRST_SEED + len(scores)))
        trials.append({"score": sum(scores) / args.seeds, "scores": scores, "settings": settings})
        print(trials[-1], flush=True)
        args.out.write_text(json.dumps(sorted(trials, key=lambda one: -one["score"]), indent=1) + "\n")


if __name__ == "__main__":
    main()
