"""
An environment of your own from scratch, with action masks, and the same environment as arrays.

    python examples/recipes/custom_env.py

A robot in a warehouse of 5 x 5 cells fetches a parcel from one corner and brings it to another, around a wall.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_checker import check_env

from sb3_lecture_dqn import LectureDQN, TabularVecEnv, exact_test, run_test

SIZE = 5
WALL = {(2, 1), (2, 2), (2, 3)}
PARCEL, DOOR = (0, 4), (4, 0)
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right


def encode(row: int, column: int, loaded: bool) -> int:
    return (row * SIZE + column) * 2 + loaded


def decode(state: int) -> tuple[int, int, bool]:
    cell, loaded = divmod(state, 2)
    return cell // SIZE, cell % SIZE, bool(loaded)


def is_free(row: int, column: int) -> bool:
    return 0 <= row < SIZE and 0 <= column < SIZE and (row, column) not in WALL


def masks_of(state: int) -> np.ndarray:
    row, column, _ = decode(state)
    return np.array([is_free(row + down, column + right) for down, right in MOVES])


def move(state: int, action: int) -> tuple[int, float, bool]:
    """Return the next state, the reward, and whether the episode is over."""
    row, column, loaded = decode(state)
    if masks_of(state)[action]:
        row, column = row + MOVES[action][0], column + MOVES[action][1]
    loaded = loaded or (row, column) == PARCEL
    delivered = loaded and (row, column) == DOOR
    return encode(row, column, loaded), 10.0 if delivered else -1.0, delivered


STARTS = np.array([float(is_free(*decode(s)[:2]) and not decode(s)[2]) for s in range(2 * SIZE**2)])
STARTS[encode(*PARCEL, False)] = 0.0
STARTS /= STARTS.sum()


class WarehouseEnv(gym.Env):
    """A gymnasium environment. `action_masks` gives it masks, by sb3-contrib's protocol."""

    def __init__(self) -> None:
        self.observation_space = spaces.Discrete(2 * SIZE**2)
        self.action_space = spaces.Discrete(len(MOVES))
        self.state = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = int(self.np_random.choice(len(STARTS), p=STARTS))
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.state, reward, terminated = move(self.state, int(action))
        return self.state, reward, terminated, False, {"is_success": terminated}  # for the success rate of tests

    def action_masks(self) -> np.ndarray:
        return masks_of(self.state)


class TabularWarehouseEnv(WarehouseEnv):
    """The same with a table. `is_tabular` says that each step depends on the state and the action alone."""

    is_tabular = True

    def __init__(self) -> None:
        super().__init__()
        states, actions = range(2 * SIZE**2), range(len(MOVES))
        self.P = [[[(1.0, *move(state, action))] for action in actions] for state in states]
        self.initial_state_distrib = STARTS

    def action_mask(self, state: int) -> np.ndarray:
        return masks_of(state)


SETTINGS = {
    "use_masking": True,
    "gamma": 0.95,
    "batch_size": 32,
    "gradient_steps": 4,
    "learning_rate": 3e-3,
    "target_update_interval": 100,
    "exploration_decay": 0.97,
    "policy_kwargs": {"optimizer_class": th.optim.Adam},
    "seed": 0,
}

if __name__ == "__main__":
    check_env(WarehouseEnv())
    gym.register("Warehouse-v0", WarehouseEnv, max_episode_steps=100)
    gym.register("TabularWarehouse-v0", TabularWarehouseEnv, max_episode_steps=100)

    # By its id: its limit of 100 steps, and masks from its action_masks().
    model = LectureDQN("Warehouse-v0", **SETTINGS).learn(5000)
    print(f"through gymnasium: {run_test(model)}")

    # With its table it is stepped on arrays, which is faster, and tested exactly.
    model = LectureDQN(TabularVecEnv("TabularWarehouse-v0", n_envs=8), **SETTINGS).learn(10_000)
    print(f"as arrays: {exact_test(model)}")
