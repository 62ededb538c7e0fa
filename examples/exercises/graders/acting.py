"""Graders of ``epsilon`` and ``test``."""

from typing import Any

import lecture_loop
import numpy as np
import torch
from torch import nn

from graders.common import Function, Mistake, call_for_answer, compare


def grade_epsilon(epsilon: Function) -> None:
    """
    Closed form: the rate of the lecture's loop, for episodes before and after the floor, and another setting.

    The precision of float32 is enough.
    """
    episodes = [(1, 37), (2, 1037), (10, 5000), (100, 64_000), (229, 90_000), (230, 90_400), (5000, 480_000)]
    cases = [(*episode, 0.99, 0.1) for episode in episodes] + [(3, 900, 0.5, 0.05), (9, 2000, 0.5, 0.05)]

    def right(episode: int, total_steps: int, decay: float, minimum: float) -> float:
        return lecture_loop.epsilon(lecture_loop.Config(epsilon_decay=decay, min_epsilon=minimum), episode)

    wrong = {
        "per_step": lambda episode, steps, decay, minimum: max(minimum, decay**steps),
        "no_floor": lambda episode, steps, decay, minimum: decay**episode,
        "min": lambda episode, steps, decay, minimum: min(minimum, decay**episode),
        "from_zero": lambda episode, steps, decay, minimum: max(minimum, decay ** (episode - 1)),
        "times": lambda episode, steps, decay, minimum: max(minimum, decay * episode),
        "constant": lambda episode, steps, decay, minimum: max(minimum, decay),
    }
    answers = [call_for_answer(epsilon, *case) for case in cases]
    compare(answers, right, wrong, _close, cases)


def _close(one: Any, other: Any) -> bool:
    try:
        return bool(np.isclose(float(one), float(other), rtol=1e-4, atol=0))
    except (TypeError, ValueError, RuntimeError):  # not a number
        return False


class Corridor:
    """
    Cells 0 to 7. Actions: 0 left, 1 right, 2 deliver, which is right in cell 7 only: +20, and the episode ends.

    It looks like an environment of gymnasium. It starts in the given cells in turn, and notes what is done in it. A
    reset without a step after it is no episode.
    """

    starts = (5, 3, 0, 2, 6, 0, 4)

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps
        self.n_episodes = self.steps = self.steps_after_the_end = 0
        self.is_running = False
        self.actions: list[tuple[int, int]] = []
        self.first_cells: list[int] = []  # of the episode, for each action

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        self.first = self.cell = self.starts[self.n_episodes % len(self.starts)]
        self.steps, self.is_running = 0, True
        return self.cell, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Make a step. One far beyond the limit is a mistake; those after the end of an episode are counted."""
        if not self.is_running:
            if self.steps == 0:  # before the first reset
                raise Mistake("no_reset")
            self.steps_after_the_end += 1
            if self.steps_after_the_end > 1000:
                raise Mistake("no_break")
        elif self.steps > self.max_steps:
            raise Mistake("no_limit", steps=self.max_steps)
        self.actions.append((self.cell, int(action)))
        self.first_cells.append(self.first)
        self.n_episodes += self.steps == 0
        self.steps += 1
        ends = int(action) == 2 and self.cell == 7
        reward = (20.0 if ends else -10.0) if int(action) == 2 else -1.0
        self.cell = min(max(self.cell + {0: -1, 1: 1, 2: 0}[int(action)], 0), 7)
        self.is_running = self.is_running and not ends
        return self.cell, reward, ends, False, {}


class CorridorNet(nn.Module):
    """Action values with which a start in 5 or 3 delivers, one in 0 goes to and fro, and one in 2 tries to deliver."""

    best = (1, 0, 2, 1, 1, 1, 1, 2)

    def __init__(self) -> None:
        super().__init__()
        values = torch.full((8, 3), -2.0) + torch.tensor([0.0, 0.1, 0.2])
        for cell, action in enumerate(self.best):
            values[cell, action] = 5.0
        self.layers = nn.Sequential(nn.Embedding.from_pretrained(values))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the values of all actions, of shape (B, 3)."""
        values: torch.Tensor = self.layers(states)
        return values


def _figures(episodes: list[list[float]], limit: int) -> dict[str, tuple[float, ...]]:
    """Work out the right figures of a test and those of common mistakes, from the rewards of all episodes."""
    n, steps = len(episodes), [len(rewards) for rewards in episodes]
    penalties, rewards = [rs.count(-10.0) for rs in episodes], [sum(rs) for rs in episodes]
    solved = [rs[-1] == 20 for rs in episodes]
    right = (sum(steps) / n, sum(penalties) / n, sum(rewards) / n, sum(solved) / n)
    won = [rs for rs in episodes if rs[-1] == 20]
    discounted = sum(0.75**t * r for rs in episodes for t, r in enumerate(rs)) / n
    return {
        "right": right,
        "limit_is_solved": (*right[:3], 1.0),
        "solved_below_limit": (*right[:3], sum(count < limit for count in steps) / n),
        "divided by 100": tuple(figure * n / 100 for figure in right),
        "totals": (sum(steps), sum(penalties), sum(rewards), sum(solved)),
        "solved is a total": (*right[:3], sum(solved)),
        "per_step": (right[0], sum(penalties) / sum(steps), sum(rewards) / sum(steps), right[3]),
        "negative_is_penalty": (right[0], sum(r < 0 for rs in episodes for r in rs) / n, *right[2:]),
        "penalty_reward": (right[0], -10 * right[1], *right[2:]),
        "discounted": (*right[:2], discounted, right[3]),
        "last_only": (steps[-1], penalties[-1], rewards[-1], solved[-1]),
        "last_only, divided": tuple(figure / n for figure in (steps[-1], penalties[-1], rewards[-1], solved[-1])),
        "solved_only": (sum(map(len, won)) / len(won), 0.0, sum(map(sum, won)) / len(won), right[3]),
    }


def _rewards(limit: int, n_episodes: int) -> list[list[float]]:
    env, episodes = Corridor(limit), []
    for _ in range(n_episodes):
        cell, _ = env.reset()
        episodes.append([])
        while env.is_running and len(episodes[-1]) < limit:
            cell, reward, *_ = env.step(CorridorNet.best[cell])
            episodes[-1].append(reward)
    return episodes


def grade_test(test: Function) -> None:
    """Against the lecture's loop, in a corridor in which an episode is solved early, another by its last step."""
    for limit, n_episodes in ((5, 4), (7, 9)):
        env, net = Corridor(limit), CorridorNet()
        answer = call_for_answer(test, net, env, n_episodes, limit)
        others = [action for cell, action in env.actions if action != CorridorNet.best[cell]]
        if others:
            smallest = all(action == int(CorridorNet().layers[0].weight[cell].argmin()) for cell, action in env.actions)
            stale = all(
                action == CorridorNet.best[first]
                for first, (_, action) in zip(env.first_cells, env.actions, strict=True)
            )
            key = "smallest" if smallest else "stale_state" if stale else "explores"
            raise Mistake(key, given=len(others), expected=len(env.actions))
        if env.steps_after_the_end:
            raise Mistake("no_reset" if env.n_episodes < n_episodes else "no_break")
        if env.n_episodes != n_episodes:
            raise Mistake("number_of_episodes", given=env.n_episodes, expected=n_episodes)
        try:
            given = tuple(float(figure) for figure in answer)
        except (TypeError, ValueError, RuntimeError):
            given = ()
        if len(given) != 4:
            raise Mistake("not_four", given=answer)
        config = lecture_loop.Config(num_tests=n_episodes, max_time_steps=limit)
        expected = lecture_loop.test(net, Corridor(limit), config)  # type: ignore[arg-type]
        figures = _figures(_rewards(limit, n_episodes), limit)
        assert figures["right"][:3] == expected
        if np.allclose(given, figures["right"]):
            continue
        if np.allclose(given, _figures(_rewards(limit + 1, n_episodes), limit + 1)["right"]):
            raise Mistake("one_step_more", steps=limit)
        if np.allclose(given, figures["divided by 100"]):
            raise Mistake("number_of_episodes", given=n_episodes, expected=n_episodes)
        key = next((key for key, wrong in figures.items() if np.allclose(given, wrong)), "wrong")
        key = {"solved is a total": "totals"}.get(key, key).partition(",")[0]
        raise Mistake(key, case=(n_episodes, limit), given=given, expected=figures["right"])
