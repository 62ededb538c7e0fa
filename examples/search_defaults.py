"""
Choose the settings of ``LectureDQN.tuned(env)`` for environments without settings, on generated tasks.

From the root of the repository::

    python examples/search_defaults.py                    # 12 tasks, every candidate
    python examples/search_defaults.py --tasks 2 --timesteps 500 --candidates "table, 16 updates"

The tasks are drawn at random: grids with walls, pits, and a key on the way, slippery or not; chains with a small reward
at the start and a large one at the end; and random decision processes. The agent sees a number or its parts, and the
rewards are multiplied by 10^-3 to 10^3. The best policy is computed exactly, see ``own_tasks.py``, whose tasks are not
among these: they judge what was chosen here. The budget is short, so that candidates differ. Every run is a row of
``results/defaults.csv``, and ``results/defaults.md`` has a line for each candidate. Rows that are there are not run
again.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from own_tasks import MOVES, Outcome, Table, Task, optimality_of
from result_rows import markdown_table, read_rows, write_rows
from stable_baselines3.common.utils import LinearSchedule

from sb3_lecture_dqn import LectureDQN
from sb3_lecture_dqn.engine.divergence import DivergedError

RESULTS = Path(__file__).parent / "results"
FIRST_SEED = 1000
TIMESTEPS = 10_000
FIELDS = ("candidate", "task", "kind", "seed", "diverged", "optimality", "seconds")
TABLE = {"policy": "TablePolicy"}
# In a minibatch of 8, a transition moves its entry half of the way to its target
HALF = LinearSchedule(2.0, 0.0, 1.0)
CANDIDATES: dict[str, dict[str, Any]] = {
    "the default": {},
    "table, 16 updates": {**TABLE, "gradient_steps": 16},
    "table, target every 16 steps": {**TABLE, "target_update_interval": 16},
    "table, minibatches of 8": {**TABLE, "batch_size": 8, "gradient_steps": 8, "learning_rate": HALF},
    "table, exploration by chance": {**TABLE, "explore_least_tried": False},
    "network": {"policy": "LecturePolicy"},
}


class Generated(Task):
    """A task of listed outcomes, of which a subclass draws those of every state and action."""

    limit = 100

    def __init__(self, rng: np.random.Generator) -> None:
        self.scale = 10 ** rng.uniform(-3, 3)
        self.as_number = bool(rng.random() < 0.5)
        self.draw(rng)
        super().__init__()

    def draw(self, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def listed(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        raise NotImplementedError

    def outcomes(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        return [(p, successor, self.scale * reward, ends) for p, successor, reward, ends in self.listed(state, action)]


class Grid(Generated):
    """Reach a goal, past walls and pits, perhaps with a key."""

    n_actions = 5

    def draw(self, rng: np.random.Generator) -> None:
        n_rows, n_columns = rng.integers(4, 9, size=2)
        self.parts = (int(n_rows), int(n_columns), 2)
        cells = [(row, column) for row in range(n_rows) for column in range(n_columns)]
        drawn = rng.permutation(len(cells))
        self.goal, self.key, *rest = (cells[i] for i in drawn)
        n_walls, n_pits = int(0.2 * len(rest)), int(rng.integers(4))
        self.walls, self.pits, self.free = rest[:n_walls], rest[n_walls : n_walls + n_pits], rest[n_walls + n_pits :]
        self.needs_key, self.slips = bool(rng.random() < 0.5), float(rng.choice([0.0, 0.2]))

    def starts(self) -> list[tuple[int, ...]]:
        return [(*cell, 0) for cell in self.free]

    def listed(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        row, column, has_key = state
        if action == 4:
            return [(1.0, (row, column, int(has_key or (row, column) == self.key)), -0.1, False)]
        outcomes = []
        for move in range(4):
            p = (1 - self.slips) * (move == action) + self.slips / 4
            cell = row + MOVES[move][0], column + MOVES[move][1]
            if not (0 <= cell[0] < self.parts[0] and 0 <= cell[1] < self.parts[1]) or cell in self.walls:
                cell = row, column
            reached = cell == self.goal and (has_key == 1 or not self.needs_key)
            reward = 10.0 if reached else -20.0 if cell in self.pits else -0.1
            outcomes.append((p, (*cell, has_key), reward, reached or cell in self.pits))
        return [outcome for outcome in outcomes if outcome[0] > 0]


class Chain(Generated):
    """Go to the far end, where the reward is ten times that of giving up at once."""

    n_actions = 3

    def draw(self, rng: np.random.Generator) -> None:
        self.parts = (int(rng.integers(8, 31)), 2)
        self.forward = rng.integers(2, size=self.parts[0])  # which action goes on

    def starts(self) -> list[tuple[int, ...]]:
        return [(0, 0)]

    def listed(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        place, _ = state
        if action == 2:
            return [(1.0, state, 1.0, True)]
        place = place + 1 if action == self.forward[place] else 0
        ends = place == self.parts[0] - 1
        return [(1.0, (place, int(place > 0)), 10.0 if ends else 0.0, ends)]


class Process(Generated):
    """Random successors, and rewards of a few of them."""

    n_actions = 4

    def draw(self, rng: np.random.Generator) -> None:
        self.parts = (int(rng.integers(4, 12)), int(rng.integers(4, 12)))
        n, shape = int(np.prod(self.parts)), (int(np.prod(self.parts)), self.n_actions, 3)
        self.successors, self.probabilities = rng.integers(n, size=shape), rng.dirichlet(np.ones(3), size=shape[:2])
        self.rewards = rng.normal(size=n) * (rng.random(n) < 0.3)
        self.ends = rng.random(n) < 0.05

    def starts(self) -> list[tuple[int, ...]]:
        return [(0, 0)]

    def listed(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        here, outcomes = state[0] * self.parts[1] + state[1], []
        for successor, p in zip(self.successors[here, action], self.probabilities[here, action], strict=True):
            row, column = divmod(int(successor), self.parts[1])
            outcomes.append((float(p), (row, column), float(self.rewards[successor]), bool(self.ends[successor])))
        total = sum(outcome[0] for outcome in outcomes)
        return [(p / total, *rest) for p, *rest in outcomes]  # type: ignore[misc]


def generated(number: int) -> Task:
    """Draw a task in which the best policy differs from the random one."""
    rng = np.random.default_rng(number)
    kind = (Grid, Chain, Process)[number % 3]
    while True:
        task = kind(rng)
        table = Table(task)
        random, best = table.values(lambda q: q.mean(axis=1)), table.values(lambda q: q.max(axis=1))
        if len(table.states) >= 8 and best - random > 0.1 * task.scale:
            return task


def train(candidate: str, number: int, timesteps: int) -> dict[str, Any]:
    """Train once, and return a row of the results."""
    task, seed, has_diverged = generated(number), FIRST_SEED + number, False
    begin = time.process_time()
    model = LectureDQN.tuned(task, seed=seed, device="cpu", **CANDIDATES[candidate])
    try:
        model.learn(timesteps)
    except DivergedError:
        has_diverged = True
    seconds = round(time.process_time() - begin, 1)
    optimality = optimality_of(model, task)[2]
    values = (candidate, number, type(task).__name__, seed, has_diverged, optimality, seconds)
    return dict(zip(FIELDS, values, strict=True))


def markdown(rows: list[dict[str, Any]], timesteps: int) -> str:
    """Write the table of all candidates."""
    lines = []
    for name in dict.fromkeys(row["candidate"] for row in rows):
        runs = [row for row in rows if row["candidate"] == name]
        found = np.array([float(run["optimality"]) for run in runs])
        n_diverged = sum(str(run["diverged"]) == "True" for run in runs)
        cells = [f"{found.mean():.4f}", f"{np.median(found):.4f}", f"{found.min():.4f}", str((found >= 0.95).sum())]
        seconds = f"{np.mean([float(run['seconds']) for run in runs]):.1f}"
        lines.append([name, str(len(runs)), str(n_diverged), *cells, seconds])
    about = (
        f"Written by `python examples/search_defaults.py` from `defaults.csv`: exact, after {timesteps:,} steps on\n"
        "generated tasks, with one seed each. Seconds are of CPU time, means."
    )
    titles = ("candidate", "tasks", "diverged", "mean", "median", "worst", "tasks of at least 0.95", "seconds")
    return markdown_table(about, titles, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=12, help="number of tasks")
    parser.add_argument("--timesteps", type=int, default=TIMESTEPS, help="environment steps of a training")
    parser.add_argument("--candidates", default=None, help="one of them, instead of all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    th.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    file, names = args.out / "defaults.csv", [args.candidates] if args.candidates else list(CANDIDATES)
    rows = read_rows(file)
    done = {(row["candidate"], int(row["task"])) for row in rows}
    for number in range(args.tasks):
        for name in names:
            if (name, number) not in done:
                rows.append(train(name, number, args.timesteps))
                print(rows[-1], flush=True)
                rows.sort(key=lambda row: (list(CANDIDATES).index(row["candidate"]), int(row["task"])))
                write_rows(file, FIELDS, rows)
                (args.out / "defaults.md").write_text(markdown(rows, args.timesteps), encoding="utf-8")


if __name__ == "__main__":
    main()
