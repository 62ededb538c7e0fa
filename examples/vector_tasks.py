"""
Compare ``LectureDQN.tuned(env)`` on vector observations with SB3's ``DQN`` with the settings of RL Zoo.

From the root of the repository, with the extra ``zoo`` and Box2D::

    python examples/vector_tasks.py                                         # both tasks, 10 seeds each: hours
    python examples/vector_tasks.py --tasks Acrobot-v1 --algos tuned --seeds 2

``tuned`` has no settings for these tasks, and no search saw them: it gets those of every vector observation. RL Zoo's
settings were tuned on these very tasks. The result is the mean return of 100 fresh episodes with greedy actions, of the
last model, and for ``DQN`` also of the best one of the tests that RL Zoo makes every 25,000 steps. The share is
``(tuned - random) / (stock - random)``, with means over seeds and the better of the two stock models.

Every run is a row of ``results/vector_tasks.csv``; ``results/vector_tasks.md`` has the table. Rows that are there are
not run again.
"""

import argparse
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
import yaml
from result_rows import markdown_table, read_rows, write_rows
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

from sb3_lecture_dqn import LectureDQN
from sb3_lecture_dqn.engine.divergence import DivergedError

RESULTS = Path(__file__).parent / "results"
TASKS = ("Acrobot-v1", "LunarLander-v3")
ALGOS = ("stock", "tuned", "random")
FIRST_SEED = 20_000
N_EPISODES = 100
KEYS = ("task", "algo", "seed")
FIGURES = ("steps", "diverged", "reward", "best_reward", "seconds")


def mean_return(task: str, choose: Any, seed: int) -> float:
    """Play fresh episodes, and return their mean return."""
    env, returns = gym.make(task), []
    for episode in range(N_EPISODES):
        obs, _ = env.reset(seed=10_000_000 + 1000 * seed + episode)
        returns.append(0.0)
        ended = False
        while not ended:
            obs, reward, terminated, truncated, _ = env.step(choose(obs))
            returns[-1] += float(reward)
            ended = terminated or truncated
    env.close()
    return float(np.mean(returns))


def greedy(model: Any) -> Any:
    return lambda obs: int(model.predict(obs, deterministic=True)[0])


def train_stock(task: str, seed: int, timesteps: int | None) -> dict[str, Any]:
    """Train as ``rl_zoo3.train`` does."""
    settings = yaml.safe_load((files("rl_zoo3") / "hyperparams" / "dqn.yml").read_text(encoding="utf-8"))[task]
    n_timesteps = int(settings.pop("n_timesteps"))
    if "policy_kwargs" in settings:
        settings["policy_kwargs"] = eval(settings["policy_kwargs"], {"dict": dict})  # RL Zoo writes them as code
    with tempfile.TemporaryDirectory() as folder:
        every = min(25_000, timesteps or n_timesteps)
        tests = EvalCallback(Monitor(gym.make(task)), eval_freq=every, best_model_save_path=folder, verbose=0)
        model = DQN(env=task, seed=seed, device="cpu", **settings).learn(timesteps or n_timesteps, tests)
        best = DQN.load(Path(folder) / "best_model", device="cpu")
    rewards = mean_return(task, greedy(model), seed), mean_return(task, greedy(best), seed)
    return {"steps": model.num_timesteps, "diverged": False, "reward": rewards[0], "best_reward": rewards[1]}


def train_tuned(task: str, seed: int, timesteps: int | None) -> dict[str, Any]:
    model, has_diverged = LectureDQN.tuned(task, seed=seed, device="cpu"), False
    try:
        model.learn(timesteps)
    except DivergedError:
        has_diverged = True
    return {
        "steps": model.num_timesteps,
        "diverged": has_diverged,
        "reward": mean_return(task, greedy(model), seed),
    }


def play_randomly(task: str, seed: int, timesteps: int | None) -> dict[str, Any]:
    rng, n_actions = np.random.default_rng(seed), gym.make(task).action_space.n  # type: ignore[attr-defined]
    return {"reward": mean_return(task, lambda _: int(rng.integers(n_actions)), seed)}


RUNS = {"stock": train_stock, "tuned": train_tuned, "random": play_randomly}


def markdown(rows: list[dict[str, Any]]) -> str:
    """
    Write the table of all results.

    :param rows: Results of every run
    :return: The table in Markdown
    """
    lines = []
    means: dict[tuple[str, str], float] = {}
    for row in rows:
        key = row["task"], row["algo"]
        runs = [run for run in rows if (run["task"], run["algo"]) == key]
        if key in means:
            continue
        figures = {"": [float(run["reward"]) for run in runs]}
        if row["algo"] == "stock":
            figures[", best test"] = [float(run["best_reward"]) for run in runs]
        means[key] = max(float(np.mean(rewards)) for rewards in figures.values())
        for words, rewards in figures.items():
            share = ""
            if row["algo"] == "tuned" and {(row["task"], "stock"), (row["task"], "random")} <= means.keys():
                random, stock = means[row["task"], "random"], means[row["task"], "stock"]
                share = f"{(means[key] - random) / (stock - random):.3f}"
            cells = [row["task"], f"{row['algo']}{words}", str(len(runs))]
            cells += [str(sum(str(run["diverged"]) == "True" for run in runs)) if row["algo"] != "random" else ""]
            steps = [int(run["steps"]) for run in runs if run["steps"] not in (None, "")]
            cells += [f"{int(np.median(steps)):,}" if steps else ""]
            cells += [f"{np.mean(rewards):.1f} ({min(rewards):.1f} – {max(rewards):.1f})", share]
            lines.append(cells)
    about = (
        "Written by `python examples/vector_tasks.py` from `vector_tasks.csv`: mean returns of "
        f"{N_EPISODES} episodes,\nmeans over seeds with the lowest and highest."
    )
    titles = ("task", "algorithm", "seeds", "diverged", "steps", "reward", "share of stock")
    return markdown_table(about, titles, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS), help="ids, separated by commas")
    parser.add_argument("--algos", default="random,stock,tuned", help="of random, stock and tuned")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds")
    parser.add_argument("--timesteps", type=int, help="the budget of a training, instead of its own")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    th.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "vector_tasks.csv"
    rows = read_rows(file)
    done = {tuple(str(row[key]) for key in KEYS) for row in rows}
    order = {algo: place for place, algo in enumerate(("random", "stock", "tuned"))}
    for seed in range(FIRST_SEED, FIRST_SEED + args.seeds):
        for task in args.tasks.split(","):
            for algo in args.algos.split(","):
                if (task, algo, str(seed)) in done:
                    continue
                begin = time.process_time()
                figures = RUNS[algo](task, seed, args.timesteps)
                row = {**dict.fromkeys((*KEYS, *FIGURES)), "task": task, "algo": algo, "seed": seed, **figures}
                rows.append({**row, "seconds": round(time.process_time() - begin, 1)})
                print(rows[-1], flush=True)
                rows.sort(key=lambda row: (TASKS.index(row["task"]), order[row["algo"]], int(row["seed"])))
                write_rows(file, (*KEYS, *FIGURES), rows)
                (args.out / "vector_tasks.md").write_text(markdown(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
