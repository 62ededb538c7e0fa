"""
Why a network at all? A Taxi with too many states for a table, learnt by a table and by networks.

From the root of the repository::

    python examples/large_world.py                              # as in the guide
    python examples/large_world.py --steps 20000 --seeds 2      # a first look

The world is Taxi on 20 x 20 cells, with random walls, four stops and two passengers. Five contestants learn in it with
the same number of environment steps: a table, and networks with one-hot vectors or embeddings, each with action masks
and without. Each has the best learning rate of a short list: the one that delivered most passengers in the later half
of the tests, on a seed that is not used again. All policies are tested greedily on the same 100 starts. Results go to
``large_world.json`` (one row for each run; a run that is there is not made again), ``large_world_results.md`` and
``large_world.png``.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture_dqn import LectureDQN
from sb3_lecture_dqn.show.curves import Curve, draw_curve, styles_of

SOUTH, NORTH, EAST, WEST, PICK_UP, DROP_OFF = range(6)
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # row and column of each move, in Taxi's order
STEP, DELIVERY, MISTAKE = -1.0, 20.0, -10.0  # Taxi's rewards


def random_moves(size: int, wall_share: float, seed: int) -> list[list[int]]:
    """
    Draw walls between cells so that every cell can be reached, and return where the moves lead.

    :param size: Rows and columns of the world
    :param wall_share: Share of the borders between neighbours that are walls; fewer if more would close a cell off
    :param seed: Seed of the walls
    :return: The next cell for each of the four moves and each cell; the same cell if a wall is in the way
    """
    moves = [list(range(size**2)) for _ in DIRECTIONS]
    borders = [(cell, cell + size, SOUTH) for cell in range(size * (size - 1))]
    borders += [(cell, cell + 1, EAST) for cell in range(size**2) if (cell + 1) % size]
    group = list(range(size**2))  # by cell: cells with the same number reach each other

    def open_border(cell: int, other: int, direction: int) -> None:
        moves[direction][cell], moves[direction + 1][other] = other, cell

    closed = []
    for index in np.random.default_rng(seed).permutation(len(borders)):
        cell, other, _ = border = borders[index]
        if group[cell] == group[other]:
            closed.append(border)
        else:
            open_border(*border)
            old, new = group[other], group[cell]
            group = [new if number == old else number for number in group]
    for border in closed[int(wall_share * len(borders)) :]:
        open_border(*border)
    return moves


class LargeTaxi(gym.Env[np.ndarray, np.int64]):
    """
    Taxi with random walls and several passengers, who ride one at a time.

    An observation has the taxi's cell, and for each passenger a trip: ``place * n_stops + destination``. A place is a
    stop, or ``n_stops`` in the taxi. Actions and rewards are Taxi's: -1 a step, +20 for each delivery, -10 for
    picking up or dropping off where it is impossible. A passenger leaves the taxi at the destination only, and stays
    there. The episode ends when every passenger is at the destination.

    :param size: Rows and columns of the world
    :param n_passengers: Number of passengers
    :param n_stops: Number of stops
    :param wall_share: See :func:`random_moves`
    :param walls_seed: Seed of the walls and of the stops' cells
    :param max_steps: Steps after which an episode is truncated
    :param render_mode: ``"ansi"`` or ``None``
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        size: int = 20,
        n_passengers: int = 2,
        n_stops: int = 4,
        wall_share: float = 0.1,
        walls_seed: int = 0,
        max_steps: int = 1000,
        render_mode: str | None = None,
    ) -> None:
        self.size, self.n_passengers, self.n_stops = size, n_passengers, n_stops
        self.max_steps, self.render_mode = max_steps, render_mode
        self.sizes = [size**2, *[(n_stops + 1) * n_stops] * n_passengers]
        self.observation_space = spaces.MultiDiscrete(self.sizes)
        self.action_space = spaces.Discrete(6)
        self.moves = random_moves(size, wall_share, walls_seed)
        cells = np.random.default_rng([walls_seed, 1]).choice(size**2, n_stops, replace=False)
        self.stops: list[int] = cells.tolist()
        self._distances: list[list[int]] | None = None
        self.stop_of = {cell: stop for stop, cell in enumerate(self.stops)}
        self.cell, self.places, self.destinations, self.steps = 0, [0] * n_passengers, [0] * n_passengers, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Start an episode. Every passenger waits at a stop that is not the destination. In half of the episodes one of
        them is in the taxi.

        :param seed: Seed of the starts
        :param options: ``{"observation": ...}`` for a start of your own
        :return: The observation and an empty info
        """
        super().reset(seed=seed)
        if options and "observation" in options:
            self.cell, *trips = (int(number) for number in options["observation"])
            self.places = [trip // self.n_stops for trip in trips]
            self.destinations = [trip % self.n_stops for trip in trips]
        else:
            self.cell = int(self.np_random.integers(self.size**2))
            self.places = self.np_random.integers(self.n_stops, size=self.n_passengers).tolist()
            away = self.np_random.integers(1, self.n_stops, size=self.n_passengers).tolist()
            self.destinations = [(place + far) % self.n_stops for place, far in zip(self.places, away, strict=True)]
            if self.np_random.random() < 0.5:
                self.places[int(self.np_random.integers(self.n_passengers))] = self.n_stops
        self.steps = 0
        return self.observation(), {}

    def observation(self) -> np.ndarray:
        """
        Return the observation of the present state.

        :return: int64 of shape ``(1 + n_passengers,)``
        """
        pairs = zip(self.places, self.destinations, strict=True)
        return np.array([self.cell, *[place * self.n_stops + destination for place, destination in pairs]])

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Do one action.

        :param action: South, north, east, west, pick up, drop off
        :return: Observation, reward, whether all passengers are there, whether the steps are used up, and an info with
            ``is_success``
        """
        reward = STEP
        if action < PICK_UP:
            self.cell = self.moves[action][self.cell]
        elif (passenger := self.passenger_for(int(action))) is None:
            reward = MISTAKE
        elif action == PICK_UP:
            self.places[passenger] = self.n_stops
        else:
            self.places[passenger] = self.destinations[passenger]
            reward = DELIVERY
        self.steps += 1
        solved = self.places == self.destinations
        return self.observation(), reward, solved, self.steps >= self.max_steps and not solved, {"is_success": solved}

    def passenger_for(self, action: int) -> int | None:
        """
        Return whom the taxi can pick up or drop off in the present state.

        :param action: Pick up or drop off
        :return: The first such passenger, ``None`` if there is none
        """
        stop, in_taxi = self.stop_of.get(self.cell), self.n_stops
        if stop is None:
            return None
        if in_taxi in self.places:
            rider = self.places.index(in_taxi)
            return rider if action == DROP_OFF and self.destinations[rider] == stop else None
        waiting = (i for i, place in enumerate(self.places) if place == stop != self.destinations[i])
        return next(waiting, None) if action == PICK_UP else None

    def fewest_steps(self) -> int:
        """
        Count the steps of the best way from the present state, with the passengers in the best order.

        :return: The number of steps to the end of the episode
        """
        if self._distances is None:
            self._distances = [self._distances_to(stop) for stop in self.stops]
        trips = [(p, d) for p, d in zip(self.places, self.destinations, strict=True) if p != d]
        best = []
        for order in itertools.permutations(range(len(trips))):
            places = [trips[i][0] for i in order]
            # Who is in the taxi is first, and at one stop the first passenger is.
            if self.n_stops in places[1:] or any(
                trips[i][0] == trips[j][0] and i > j for i, j in itertools.combinations(order, 2)
            ):
                continue
            cell, steps = self.cell, 0
            for i in order:
                for stop in trips[i]:
                    if stop < self.n_stops:
                        steps += self._distances[stop][cell] + 1
                        cell = self.stops[stop]
            best.append(steps)
        return min(best)

    def _distances_to(self, stop: int) -> list[int]:
        """Steps from every cell, by breadth-first search; moves can be undone."""
        steps = [-1] * self.size**2
        steps[stop] = 0
        queue = [stop]
        for cell in queue:
            for targets in self.moves:
                if steps[targets[cell]] < 0:
                    steps[targets[cell]] = steps[cell] + 1
                    queue.append(targets[cell])
        return steps

    def action_masks(self) -> np.ndarray:
        """
        Return which actions are valid: moves without a wall in the way, and possible pick-ups and drop-offs.

        :return: bool of shape ``(6,)``
        """
        cell = self.cell
        valid = [targets[cell] != cell for targets in self.moves]
        if cell in self.stop_of:
            valid += [self.passenger_for(PICK_UP) is not None, self.passenger_for(DROP_OFF) is not None]
        else:
            valid += [False, False]
        return np.array(valid)

    def render(self) -> str | None:
        """
        Draw the world as text: walls, stops by number, and the taxi, ``T`` or ``@`` with a passenger.

        :return: The text, ``None`` without ``render_mode``
        """
        if self.render_mode is None:
            return None
        size, taxi = self.size, "@" if self.n_stops in self.places else "T"
        lines = ["+" + "--" * size + "+"]
        for row in range(size):
            cells, below = "|", "|"
            for cell in range(row * size, (row + 1) * size):
                cells += taxi if cell == self.cell else str(self.stop_of.get(cell, "."))
                cells += "|" if self.moves[EAST][cell] == cell else " "
                below += "- " if self.moves[SOUTH][cell] == cell else "  "
            lines += [cells, below] if row < size - 1 else [cells]
        for i, (place, destination) in enumerate(zip(self.places, self.destinations, strict=True)):
            lines.append(f"passenger {i}: {'in the taxi' if place == self.n_stops else f'at {place}'} to {destination}")
        return "\n".join([*lines[: -self.n_passengers], lines[0], *lines[-self.n_passengers :]])


# Contestants: policy (``None`` for the table), and whether it uses masks
CONTESTANTS: dict[str, tuple[str | None, bool]] = {
    "table, masks": (None, True),
    "one-hot": ("MlpPolicy", False),
    "one-hot, masks": ("MlpPolicy", True),
    "embeddings": ("LecturePolicy", False),
    "embeddings, masks": ("LecturePolicy", True),
}
TABLE_RATES = (0.1, 0.5, 1.0)
NETWORK_RATES = (0.0005, 0.001, 0.002, 0.004, 0.008)
SEARCH_SEED = 1000

# What all contestants share. Both networks have hidden layers of 128 and 64 units
GAMMA, BATCH_SIZE, N_ENVS, UPDATES = 0.95, 64, 16, 4  # every 16 steps: 4 updates of 64 transitions each
EXPLORATION_FRACTION, FINAL_EPS, LEARNING_STARTS = 0.7, 0.05, 2000
HIDDEN_DIM = 64
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "MlpPolicy": {"net_arch": [2 * HIDDEN_DIM, HIDDEN_DIM]},
    "LecturePolicy": {"hidden_dim": HIDDEN_DIM},
}
TEST_STEPS = 200

Act = Callable[[np.ndarray, np.ndarray], np.ndarray]  # from observations and masks to actions
Test = dict[str, Any]


def run_test(act: Act, starts: Sequence[np.ndarray], **world: Any) -> Test:
    """
    Test a policy on the same starts as all others, for at most 200 steps each.

    :param act: The policy
    :param starts: Observations to start from
    :param world: Arguments of the world
    :return: Share of solved starts, share of delivered passengers, and the steps of solved starts over the fewest,
        ``None`` if there are no solved starts
    """
    envs = [LargeTaxi(**world) for _ in starts]
    observations = [env.reset(options={"observation": start})[0] for env, start in zip(envs, starts, strict=True)]
    fewest = [env.fewest_steps() for env in envs]
    running = list(range(len(envs)))
    delivered, ratios = 0, []
    for step in range(TEST_STEPS):
        obs = np.array([observations[i] for i in running])
        masks = np.array([envs[i].action_masks() for i in running])
        still = []
        for i, action in zip(running, act(obs, masks), strict=True):
            observations[i], reward, solved, _, _ = envs[i].step(int(action))
            delivered += reward == DELIVERY
            if solved:
                ratios.append((step + 1) / fewest[i])
            else:
                still.append(i)
        running = still
        if not running:
            break
    return {
        "solved": len(ratios) / len(envs),
        "delivered": delivered / len(envs) / envs[0].n_passengers,
        "steps / fewest": float(np.mean(ratios)) if ratios else None,
    }


def train_network(
    policy: str, masks: bool, rate: float, seed: int, steps: int, test: Callable[[int, Act], None], **world: Any
) -> None:
    """
    Train a network.

    :param policy: ``"MlpPolicy"`` or ``"LecturePolicy"``
    :param masks: Whether it uses masks
    :param rate: Learning rate
    :param seed: Seed
    :param steps: Environment steps
    :param test: Called with the number of steps and the policy after every step
    :param world: Arguments of the world
    """
    model = LectureDQN(
        policy,
        DummyVecEnv([lambda: LargeTaxi(**world)] * N_ENVS),
        learning_rate=rate,
        use_masking=masks,
        gamma=GAMMA,
        batch_size=BATCH_SIZE,
        gradient_steps=UPDATES,
        buffer_size=200_000,
        replay_buffer_kwargs={"success_criterion": "positive_reward", "success_fraction": 0.1},
        learning_starts=LEARNING_STARTS,
        target_update_interval=256,
        exploration_decay=None,
        exploration_fraction=EXPLORATION_FRACTION,
        exploration_final_eps=FINAL_EPS,
        policy_kwargs={"optimizer_class": th.optim.Adam, **ARCHITECTURES[policy]},
        seed=seed,
        device="cpu",
    )

    def act(obs: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        actions, _ = model.predict(obs, deterministic=True, action_masks=allowed if masks else None)
        return actions

    class AfterStep(BaseCallback):
        def _on_step(self) -> bool:
            test(self.num_timesteps, act)
            return True

    model.learn(steps, callback=AfterStep())


def train_table(rate: float, seed: int, steps: int, test: Callable[[int, Act], None], **world: Any) -> None:
    """
    Train a table by Q-learning with masks, and with as much replay as the networks have.

    Of equal values, it chooses one at random. So it wanders about where it has learnt nothing.

    :param rate: Learning rate
    :param seed: Seed
    :param steps: Environment steps
    :param test: Called with the number of steps and the policy after every step
    :param world: Arguments of the world
    """
    env, rng = LargeTaxi(**world), np.random.default_rng(seed)
    test_rng = np.random.default_rng([seed, 1])
    sizes = env.sizes
    table = np.zeros((int(np.prod(sizes)), 6))
    # A transition is a row: state, action, reward, whether it is terminal, next state; and the next mask
    memory, next_masks = np.zeros((steps, 5), int), np.ones((steps, 6), bool)

    def choose(obs: np.ndarray, allowed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        values = np.where(allowed, table[np.ravel_multi_index(obs.T, sizes)], -np.inf)
        best = values == values.max(axis=1, keepdims=True)
        actions: np.ndarray = np.where(best, rng.random(best.shape), -1.0).argmax(axis=1)
        return actions

    def update(rows: np.ndarray | slice) -> None:
        states, actions, rewards, terminal, next_states = memory[rows].T
        best = np.where(next_masks[rows], table[next_states], -np.inf).max(axis=1)
        targets = rewards + GAMMA * (1 - terminal) * best
        table[states, actions] += rate * (targets - table[states, actions])

    obs, mask, ended = env.reset(seed=seed)[0], env.action_masks(), False
    state = int(np.ravel_multi_index(obs, sizes))
    for step in range(steps):
        if ended:
            obs, mask = env.reset()[0], env.action_masks()
            state = int(np.ravel_multi_index(obs, sizes))
        eps = max(FINAL_EPS, 1 - (1 - FINAL_EPS) * step / (EXPLORATION_FRACTION * steps))
        if rng.random() < eps:
            action = int(rng.choice(mask.nonzero()[0]))
        else:
            action = int(choose(obs[None], mask[None], rng)[0])
        obs, reward, terminated, truncated, _ = env.step(action)
        mask, ended = env.action_masks(), terminated or truncated
        next_state = int(np.ravel_multi_index(obs, sizes))
        memory[step] = state, action, reward, terminated, next_state
        if not terminated:
            next_masks[step] = mask
        state = next_state
        update(slice(step, step + 1))
        if (step + 1) % N_ENVS == 0:
            for _ in range(UPDATES):
                update(rng.integers(step + 1, size=BATCH_SIZE))
        test(step + 1, lambda obs, masks: choose(obs, masks, test_rng))


class Tests:
    """
    Tests of one run, at equal distances.

    :param steps: Environment steps of the run
    :param n_tests: Number of tests, the last one at the end
    :param n_starts: Number of starts, the same for every run
    :param world: Arguments of the world
    """

    def __init__(self, steps: int, n_tests: int, n_starts: int, **world: Any) -> None:
        self.times = [steps * (i + 1) // n_tests for i in range(n_tests)]
        self.world = world
        env = LargeTaxi(**world)
        env.reset(seed=12345)
        self.starts = [env.reset()[0] for _ in range(n_starts)]
        self.history: list[tuple[int, Test]] = []
        self.seconds = 0.0

    def __call__(self, step: int, act: Act) -> None:
        if len(self.history) < len(self.times) and step >= self.times[len(self.history)]:
            begin = time.process_time()
            self.history.append((step, run_test(act, self.starts, **self.world)))
            self.seconds += time.process_time() - begin


class Study:
    """
    All runs of a study, each made once.

    :param file: Rows of the runs, JSON
    :param steps: Environment steps of a run
    :param n_tests: Number of tests of a run
    :param n_starts: Number of starts of a test
    :param world: Arguments of the world
    """

    def __init__(self, file: Path, steps: int, n_tests: int, n_starts: int, **world: Any) -> None:
        self.file, self.world = file, world
        self.settings: dict[str, Any] = {"steps": steps, "tests": n_tests, "starts": n_starts, "world": world}
        self.rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []

    def row(self, contestant: str, rate: float, seed: int) -> dict[str, Any]:
        """
        Return a run, and make it if it is not there.

        :param contestant: Its name
        :param rate: Learning rate
        :param seed: Seed
        :return: The row
        """
        wanted = {"contestant": contestant, "rate": rate, "seed": seed, **self.settings}
        for row in self.rows:
            if wanted.items() <= row.items():
                return row
        policy, masks = CONTESTANTS[contestant]
        steps, n_tests, n_starts = (self.settings[name] for name in ("steps", "tests", "starts"))
        test, begin = Tests(steps, n_tests, n_starts, **self.world), time.process_time()
        if policy is None:
            train_table(rate, seed, steps, test, **self.world)
        else:
            train_network(policy, masks, rate, seed, steps, test, **self.world)
        seconds = time.process_time() - begin - test.seconds
        row = {**wanted, "seconds": round(seconds, 2), "history": test.history}
        last = row["history"][-1][1]
        print(f"{contestant}, learning rate {rate}, seed {seed}: {last}, {row['seconds']:.0f} s", flush=True)
        self.rows.append(row)
        self.file.write_text("[\n" + ",\n".join(json.dumps(row) for row in self.rows) + "\n]\n", encoding="utf-8")
        return row

    def best_rate(self, contestant: str) -> float:
        """
        Search the learning rate.

        :param contestant: Its name
        :return: The rate that delivered most passengers in the later half of the tests
        """

        def score(rate: float) -> float:
            history = self.row(contestant, rate, SEARCH_SEED)["history"]
            return float(np.mean([test["delivered"] for _, test in history[len(history) // 2 :]]))

        return max(TABLE_RATES if CONTESTANTS[contestant][0] is None else NETWORK_RATES, key=score)


def quartiles(values: Sequence[float | None], form: str) -> str:
    """
    Write a median and quartiles.

    :param values: Numbers; ``None`` are left out
    :param form: Format of a number
    :return: ``median (lower – upper)``, a dash if there are no numbers
    """
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    return f"{middle:{form}} ({low:{form}} – {high:{form}})"


def markdown(runs: dict[str, list[dict[str, Any]]], steps: int) -> str:
    """
    Write the table of the results.

    :param runs: Rows by contestant
    :param steps: Environment steps of a run
    :return: The table in Markdown
    """
    lines = [
        f"Written by `python examples/large_world.py`: medians over seeds after {steps:,} env steps, with quartiles.",
        "",
        "| contestant | learning rate | seeds | solved starts | delivered passengers | steps / fewest | CPU s a seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for contestant, rows in runs.items():
        last = [row["history"][-1][1] for row in rows]
        cells = [contestant, f"{rows[0]['rate']:g}", str(len(rows))]
        cells += [quartiles([test[name] for test in last], ".1%") for name in ("solved", "delivered")]
        cells.append(quartiles([test["steps / fewest"] for test in last], ".2f"))
        cells.append(f"{np.median([row['seconds'] for row in rows]):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(runs: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """
    Draw the tests over environment steps: medians as lines, quartiles as bands.

    :param runs: Rows by contestant
    :param file: The picture
    """
    from matplotlib.figure import Figure

    styles = styles_of(runs)
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, name in zip(panels, ("solved", "delivered"), strict=True):
        for contestant, rows in runs.items():
            steps = np.array([step for step, _ in rows[0]["history"]])
            values = [[test[name] for _, test in row["history"]] for row in rows]
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            draw_curve(axes, Curve(steps, middle, low, high), styles[contestant], contestant)
        axes.set(
            title={"solved": "solved starts", "delivered": "delivered passengers"}[name], xlabel="environment steps"
        )
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.xaxis.set_major_formatter("{x:,.0f}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, handlelength=3)
    figure.savefig(file, dpi=100)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120_000, help="environment steps of a run (default: 120000)")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0, 1, … (default: 10)")
    parser.add_argument("--size", type=int, default=20, help="rows and columns of the world (default: 20)")
    parser.add_argument("--passengers", type=int, default=2, help="default: 2")
    parser.add_argument("--stops", type=int, default=4, help="default: 4")
    parser.add_argument("--tests", type=int, default=10, help="tests of a run (default: 10)")
    parser.add_argument("--starts", type=int, default=100, help="starts of a test (default: 100)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "guide", help="folder of the results")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    th.set_num_threads(1)
    world = {"size": args.size, "n_passengers": args.passengers, "n_stops": args.stops}
    study = Study(args.out / "large_world.json", args.steps, args.tests, args.starts, **world)
    rates = {contestant: study.best_rate(contestant) for contestant in CONTESTANTS}
    runs: dict[str, list[dict[str, Any]]] = {contestant: [] for contestant in CONTESTANTS}
    for seed in range(args.seeds):
        for contestant, rate in rates.items():
            runs[contestant].append(study.row(contestant, rate, seed))
    table = markdown(runs, args.steps)
    (args.out / "large_world_results.md").write_text(table, encoding="utf-8")
    draw(runs, args.out / "large_world.png")
    print(table)


if __name__ == "__main__":
    main()
