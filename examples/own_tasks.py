"""
Measure ``LectureDQN.tuned(env)`` on environments of one's own, for which there are no settings.

From the root of the repository::

    python examples/own_tasks.py                                # every task, 10 seeds each
    python examples/own_tasks.py --tasks Warehouse --seeds 2 --timesteps 5000

Each task is a class as a user would write it, registered nowhere: a warehouse, an elevator, a card game, a Taxi of
10 x 10 cells, a grid with a key and a door, a slippery bridge, and two worlds in the manner of MiniGrid. They list
their outcomes, so that the best policy can be computed; training does not use that. The result is exact: the share of
the way from the random policy's expected reward to that of the best one. Every run is a row of
``results/own_tasks.csv``, and ``results/own_tasks.md`` has the table. Rows that are there are not run again.
"""

import argparse
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch as th
from result_rows import markdown_table, read_rows, write_rows

from sb3_lecture_dqn import LectureDQN
from sb3_lecture_dqn.engine.divergence import DivergedError

RESULTS = Path(__file__).parent / "results"
FIRST_SEED = 40_000
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
Outcome = tuple[float, tuple[int, ...], float, bool]


class Task(gym.Env):
    """
    A task that lists its outcomes.

    A subclass has the numbers of values of each part of a state, ``parts``, and of actions; ``starts`` and
    ``outcomes``. An outcome is its probability, the next state, the reward, and whether the episode ends.
    """

    parts: tuple[int, ...]
    n_actions: int
    limit: int = 200
    #: Whether the agent sees the state as one number instead of its parts
    as_number: bool = False
    #: Names of the parts, if the agent sees them as a dictionary
    names: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        spaces = gym.spaces
        self.action_space = spaces.Discrete(self.n_actions)
        if self.as_number:
            self.observation_space: gym.Space[Any] = spaces.Discrete(int(np.prod(self.parts)))
        elif self.names:
            parts = zip(self.names, self.parts, strict=True)
            self.observation_space = spaces.Dict({name: spaces.Discrete(n) for name, n in parts})
        else:
            self.observation_space = spaces.MultiDiscrete(self.parts)

    def starts(self) -> list[tuple[int, ...]]:
        raise NotImplementedError

    def outcomes(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        raise NotImplementedError

    def observed(self, states: list[tuple[int, ...]]) -> Any:
        """A batch of observations."""
        array = np.array(states)
        if self.as_number:
            return np.ravel_multi_index(array.T, self.parts)
        return dict(zip(self.names, array.T, strict=True)) if self.names else array

    def observation(self) -> Any:
        if self.names:
            return dict(zip(self.names, self.state, strict=True))
        return int(np.ravel_multi_index(self.state, self.parts)) if self.as_number else np.array(self.state)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        starts = self.starts()
        self.state, self.n_steps = starts[self.np_random.integers(len(starts))], 0
        return self.observation(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        outcomes = self.outcomes(self.state, int(action))
        chosen = self.np_random.choice(len(outcomes), p=[outcome[0] for outcome in outcomes])
        _, self.state, reward, ended = outcomes[chosen]
        self.n_steps += 1
        return self.observation(), reward, ended, not ended and self.n_steps >= self.limit, {}


def moved(row: int, column: int, action: int, n_rows: int, n_columns: int) -> tuple[int, int]:
    new_row, new_column = row + MOVES[action][0], column + MOVES[action][1]
    inside = 0 <= new_row < n_rows and 0 <= new_column < n_columns
    return (new_row, new_column) if inside else (row, column)


class Warehouse(Task):
    """Fetch a box and bring it to the door; pits cost 50."""

    parts, n_actions, as_number = (6, 6, 2), 6, True
    pits = ((2, 2), (3, 4), (1, 4))

    def starts(self) -> list[tuple[int, ...]]:
        return [(row, column, 0) for row in range(6) for column in range(6) if (row, column) not in self.pits]

    def outcomes(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        row, column, loaded = state
        if action < 4:
            row, column = moved(row, column, action, 6, 6)
            in_pit = (row, column) in self.pits
            return [(1.0, (row, column, loaded), -50.0 if in_pit else -1.0, in_pit)]
        if action == 4 and (row, column) == (0, 5) and not loaded:
            return [(1.0, (row, column, 1), 5.0, False)]
        if action == 5 and (row, column) == (5, 0) and loaded:
            return [(1.0, state, 20.0, True)]
        return [(1.0, state, -10.0, False)]


class Elevator(Task):
    """Fetch a passenger from a floor, and bring it to another: up, down, open."""

    parts, n_actions = (8, 9, 8), 3  # the car's floor, the passenger's (8: in the car), where it wants to go

    def starts(self) -> list[tuple[int, ...]]:
        return [(car, waits, to) for car in range(8) for waits in range(8) for to in range(8) if waits != to]

    def outcomes(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        car, waits, to = state
        if action < 2:
            return [(1.0, (min(max(car + (1, -1)[action], 0), 7), waits, to), -1.0, False)]
        if waits == car:
            return [(1.0, (car, 8, to), -1.0, False)]
        if waits == 8 and car == to:
            return [(1.0, state, 30.0, True)]
        return [(1.0, state, -5.0, False)]


class Cards(Task):
    """Draw cards from 1 to 10, or stand: a total up to 21 is the reward, more costs 20. One card may be put back."""

    parts, n_actions = (32, 11, 2), 3  # the total, the last card, whether a card was put back

    def starts(self) -> list[tuple[int, ...]]:
        return [(card, card, 0) for card in range(1, 11)]

    def outcomes(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        total, last, is_back = state
        if action == 1 or (total > 21 and (action == 0 or is_back)):  # too much can only be paid, or put back
            return [(1.0, state, float(total) if total <= 21 else -20.0, True)]
        if action == 2:
            return [(1.0, (total - last, 0, 1), -1.0, False)] if not is_back else [(1.0, state, -1.0, False)]
        return [(0.1, (total + card, card, is_back), 0.0, False) for card in range(1, 11)]


class LargeTaxi(Task):
    """Taxi of 10 x 10 cells with six stops, and one wall with a gap."""

    parts, n_actions, as_number, limit = (10, 10, 7, 6), 6, True, 400
    stops = ((0, 0), (0, 9), (9, 0), (9, 9), (4, 2), (5, 7))

    def starts(self) -> list[tuple[int, ...]]:
        stops = range(6)
        return [(r, c, p, d) for r in range(10) for c in range(10) for p in stops for d in stops if p != d]

    def outcomes(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        row, column, passenger, to = state
        if action < 4:
            new_row, new_column = moved(row, column, action, 10, 10)
            if {column, new_column} == {4, 5} and row not in (3, 8):
                new_row, new_column = row, column
            return [(1.0, (new_row, new_column, passenger, to), -1.0, False)]
        here = self.stops.index((row, column)) if (row, column) in self.stops else None
        if action == 4 and here is not None and passenger == here:
            return [(1.0, (row, column, 6, to), -1.0, False)]
        if action == 5 and here is not None and passenger == 6:
            return [(1.0, (row, column, here, to), 20.0 if here == to else -1.0, here == to)]
        return [(1.0, state, -10.0, False)]


class KeyAndDoor(Task):
    """Two rooms: fetch the key, open the door, reach the goal. Only the goal has a reward."""

    parts, n_actions = (7, 9, 2, 2), 6  # row, column, has the key, door is open

    def starts(self) -> list[tuple[int, ...]]:
        return [(row, column, 0, 0) for row in range(7) for column in range(4)]

    def outcomes(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        row, column, key, is_open = state
        if action < 4:
            new_row, new_column = moved(row, column, action, 7, 9)
            if new_column == 4 and not (new_row == 3 and is_open):
                new_row, new_column = row, column
            reached = (new_row, new_column) == (6, 8)
            return [(1.0, (new_row, new_column, key, is_open), 1.0 if reached else -0.01, reached)]
        if action == 4:
            return [(1.0, (row, column, int(key or (row, column) == (6, 0)), is_open), -0.01, False)]
        return [(1.0, (row, column, key, int(is_open or (key and (row, column) == (3, 3)))), -0.01, False)]


class Bridge(Task):
    """Cross a bridge in the wind: at the side it ends with -100; there is a long way around."""

    parts, n_actions, as_number = (5, 12), 4, True

    def starts(self) -> list[tuple[int, ...]]:
        return [(4, 0)]

    def outcomes(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        ends = []
        for step, probability in ((action, 0.8), *((side, 0.1) for side in ((2, 3) if action < 2 else (0, 1)))):
            row, column = moved(*state, step, 5, 12)
            falls, reached = row == 4 and 0 < column < 11, (row, column) == (4, 11)
            ends.append((probability, (row, column), -100.0 if falls else 50.0 if reached else -1.0, falls or reached))
        return ends


class MiniGrid(Task):
    """
    Two rooms with a door between them, seen from above: turn left, turn right, go forward, pick up, toggle.

    A state has the row, the column, the direction, what is carried (1: the key), and whether the door is open. The
    last two actions reach what is in front of the agent.
    """

    n_actions, n_rows, n_columns, wall, door_row, key = 5, 6, 7, 3, 2, (5, 0)

    def starts(self) -> list[tuple[int, ...]]:
        cells = [(row, column) for row in range(self.n_rows) for column in range(self.wall)]
        return [(*cell, direction, 0, 0) for cell in cells if cell != self.key for direction in range(4)]

    def is_free(self, cell: tuple[int, int], carried: int, is_open: int) -> bool:
        row, column = cell
        if column == self.wall and not (row == self.door_row and is_open):
            return False
        key_lies_there = cell == self.key and not carried and not is_open
        return 0 <= row < self.n_rows and 0 <= column < self.n_columns and not key_lies_there

    def outcomes(self, state: tuple[int, ...], action: int) -> list[Outcome]:
        row, column, direction, carried, is_open = state
        ahead = (row + (-1, 0, 1, 0)[direction], column + (0, 1, 0, -1)[direction])
        if action < 2:
            return self.turned(state, (direction + (-1, 1)[action]) % 4)
        if action == 2 and self.is_free(ahead, carried, is_open):
            row, column = ahead
        elif action == 3 and ahead == self.key and not carried and not is_open:
            carried = 1
        elif action == 4 and ahead == (self.door_row, self.wall) and carried == 1 and not is_open:
            carried, is_open = 0, 1
        return self.entered((row, column, direction, carried, is_open), ahead, action)

    def turned(self, state: tuple[int, ...], direction: int) -> list[Outcome]:
        return [(1.0, (*state[:2], direction, *state[3:]), -0.01, False)]

    def entered(self, state: tuple[int, ...], ahead: tuple[int, int], action: int) -> list[Outcome]:
        raise NotImplementedError


class DoorKey(MiniGrid):
    """Fetch the key, open the door, go to the green square. The agent sees a dictionary."""

    parts, names = (6, 7, 4, 2, 2), ("row", "column", "direction", "carried", "door")

    def entered(self, state: tuple[int, ...], ahead: tuple[int, int], action: int) -> list[Outcome]:
        reached = state[:2] == (5, 6)
        return [(1.0, state, 1.0 if reached else -0.01, reached)]


class FetchBall(MiniGrid):
    """Fetch the key, open the door, and take the ball behind it to the box in the first room. Turns may fail."""

    parts = (6, 7, 4, 3, 2)  # 2: the ball is carried
    ball, box = (5, 6), (0, 0)

    def turned(self, state: tuple[int, ...], direction: int) -> list[Outcome]:
        return [(0.9, (*state[:2], direction, *state[3:]), -0.01, False), (0.1, state, -0.01, False)]

    def is_free(self, cell: tuple[int, int], carried: int, is_open: int) -> bool:
        ball_lies_there = cell == self.ball and carried != 2
        return super().is_free(cell, carried, is_open) and cell != self.box and not ball_lies_there

    def starts(self) -> list[tuple[int, ...]]:
        return [start for start in super().starts() if start[:2] != self.box]

    def entered(self, state: tuple[int, ...], ahead: tuple[int, int], action: int) -> list[Outcome]:
        if action == 3 and ahead == self.ball and state[3] == 0:
            state = (*state[:3], 2, state[4])
        delivered = action == 4 and ahead == self.box and state[3] == 2
        return [(1.0, state, 1.0 if delivered else -0.01, delivered)]


ALL = (Warehouse, Elevator, Cards, LargeTaxi, KeyAndDoor, Bridge, DoorKey, FetchBall)
TASKS: dict[str, type[Task]] = {task.__name__: task for task in ALL}
FIELDS = ("task", "seed", "policy", "steps", "diverged", "reward", "best", "optimality", "seconds")


class Table:
    """The outcomes of a task as arrays, of all states that can be reached."""

    def __init__(self, task: Task) -> None:
        self.states = list(task.starts())
        number = {state: i for i, state in enumerate(self.states)}
        rows = []
        for state in self.states:  # it grows
            for action in range(task.n_actions):
                for probability, successor, reward, ended in task.outcomes(state, action):
                    if not ended and successor not in number:
                        number[successor] = len(self.states)
                        self.states.append(successor)
                    rows.append((number[state], action, probability, number.get(successor, 0), reward, ended))
        s, a, p, n, r, e = map(np.array, zip(*rows, strict=True))
        self.pair, self.p, self.next_states, self.rewards, self.goes_on = s * task.n_actions + a, p, n, r, ~e
        self.shape, self.limit, self.n_starts = (len(self.states), task.n_actions), task.limit, len(task.starts())

    def values(self, choose: Any) -> float:
        """Compute the expected reward from the starts, with a function from action values to those of the states."""
        values = np.zeros(self.shape[0])
        for _ in range(self.limit):
            gains = self.p * (self.rewards + self.goes_on * values[self.next_states])
            values = choose(np.bincount(self.pair, gains, np.prod(self.shape)).reshape(self.shape))
        return float(values[: self.n_starts].mean())


def optimality_of(model: Any, task: Task) -> tuple[float, float, float]:
    """
    Compare a model's policy exactly with the random and the best one.

    :param model: The model
    :param task: The task
    :return: Its expected reward, that of the best policy, and the share of the way from the random to the best one
    """
    table = Table(task)
    actions, every = model.predict(task.observed(table.states), deterministic=True)[0], np.arange(len(table.states))
    random, best = table.values(lambda q: q.mean(axis=1)), table.values(lambda q: q.max(axis=1))
    reward = table.values(lambda q: q[every, actions])
    return reward, best, (reward - random) / (best - random)


def train(name: str, seed: int, timesteps: int | None) -> dict[str, Any]:
    """
    Train once.

    :param name: Name of the task
    :param seed: Seed of the model
    :param timesteps: The budget; ``None`` for that of ``tuned``
    :return: A row of the results
    """
    begin, has_diverged = time.process_time(), False
    model = LectureDQN.tuned(TASKS[name](), seed=seed, device="cpu")
    try:
        model.learn(timesteps)
    except DivergedError:
        has_diverged = True
    seconds = round(time.process_time() - begin, 1)
    figures = (type(model.policy).__name__, model.num_timesteps, has_diverged, *optimality_of(model, TASKS[name]()))
    return dict(zip(FIELDS, (name, seed, *figures, seconds), strict=True))


def markdown(rows: list[dict[str, Any]]) -> str:
    """
    Write the table of all results.

    :param rows: Results of every run
    :return: The table in Markdown
    """
    lines = []
    for name in dict.fromkeys(row["task"] for row in rows):
        runs = [row for row in rows if row["task"] == name]
        steps, reward, optimality = (
            [float(run[figure]) for run in runs] for figure in ("steps", "reward", "optimality")
        )
        n_diverged = sum(str(run["diverged"]) == "True" for run in runs)
        spread = f"{np.median(optimality):.4f} ({min(optimality):.4f} – {max(optimality):.4f})"
        cells = [f"{np.median(steps):,.0f}", f"{np.median(reward):.3f}", f"{float(runs[0]['best']):.3f}", spread]
        lines.append([name, str(len(runs)), str(n_diverged), *cells])
    about = "Written by `python examples/own_tasks.py` from `own_tasks.csv`: exact, medians, lowest and highest."
    titles = ("task", "seeds", "diverged", "steps", "reward", "the best policy's", "optimality")
    return markdown_table(about, titles, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS), help="names, separated by commas")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds")
    parser.add_argument("--timesteps", type=int, help="the budget, instead of that of `tuned`")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    th.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    file, names = args.out / "own_tasks.csv", list(TASKS)
    rows = read_rows(file)
    done = {(row["task"], int(row["seed"])) for row in rows}
    for seed in range(FIRST_SEED, FIRST_SEED + args.seeds):
        for name in args.tasks.split(","):
            if (name, seed) in done:
                continue
            rows.append(train(name, seed, args.timesteps))
            print(rows[-1], flush=True)
            rows.sort(key=lambda row: (names.index(row["task"]), int(row["seed"])))
            write_rows(file, FIELDS, rows)
            (args.out / "own_tasks.md").write_text(markdown(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
