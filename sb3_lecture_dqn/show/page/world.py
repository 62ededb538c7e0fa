"""The world of a page: the table of an environment, its grid, and its exact optimum."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.envs.exact import policy_figures
from sb3_lecture_dqn.envs.grids import GridLayout, grid_layout
from sb3_lecture_dqn.envs.masks import table_masks
from sb3_lecture_dqn.envs.tabular import TabularModel
from sb3_lecture_dqn.evaluation.environment import tabular_env
from sb3_lecture_dqn.evaluation.like_model import step_limit_of
from sb3_lecture_dqn.evaluation.run import PENALTY_REWARD
from sb3_lecture_dqn.show.page.arrays import packed

#: Steps after which the page cuts an episode of an environment without a limit
DEFAULT_LIMIT = 1000
#: Largest difference of equal optimal values
_EQUAL_VALUES = 1e-9
#: matplotlib's names of the colours of marks, as the page's script reads them
_COLOURS = {"white": "#ffffff", "tab:blue": "#1f77b4", "tab:green": "#2ca02c", "tab:red": "#d62728"}


class World:
    """
    A tabular environment with its optimum, as a page shows it.

    :param table: The environment
    :param gamma: The discount factor of the run
    :param limit: Steps after which an episode is cut
    :param use_masking: Whether the run used the masks of the environment
    :param looks: How the environment looks, see :func:`looks_of`
    :raises ValueError: If the optimal values do not converge, as with endless episodes and ``gamma=1``
    """

    def __init__(self, table: TabularModel, gamma: float, limit: int, use_masking: bool, looks: dict[str, Any]) -> None:
        self.table, self.limit, self.looks = table, limit, looks
        #: The valid actions, bool of shape ``(S, A)``; ``None`` if the run used no masks
        self.valid = table_masks(table) if use_masking else None
        self.acting = table.acting_states()
        #: Optimal action values at the run's discount factor, float64 of shape ``(S, A)``
        self.optimal_q = table.optimal_action_values(gamma)
        allowed = self.optimal_q if self.valid is None else np.where(self.valid, self.optimal_q, -np.inf)
        #: Which actions are optimal, bool of shape ``(S, A)``
        self.optimal_actions = allowed >= allowed.max(axis=1, keepdims=True) - _EQUAL_VALUES

    @classmethod
    def of_model(cls, model: Any) -> "World":
        """
        Make the world of a model.

        :param model: A model of this package; its environment is not stepped
        :return: Its environment in its present state
        :raises NotTabularError: If the environment is not tabular; the message says why
        :raises CannotCopyError: If the model has no environment, or sub-environments have different tables
        """
        env = tabular_env(model, None, None)
        looks = looks_of(env.model, getattr(model, "env_id", None))
        return cls(env.model, model.gamma, step_limit_of(env) or DEFAULT_LIMIT, bool(model.use_masking), looks)

    @classmethod
    def of_description(cls, described: dict[str, Any], gamma: float) -> "World":
        """
        Make a world from its description.

        :param described: The result of :meth:`description`
        :param gamma: The discount factor of the run
        :return: The world
        :raises ValueError: If the description is not valid
        """
        arrays = [described[name].tolist() for name in ("probabilities", "next_states", "rewards", "terminated")]
        P = [
            [
                [outcome for outcome in zip(*columns, strict=True) if outcome[0] > 0]
                for columns in zip(*state, strict=True)
            ]
            for state in zip(*arrays, strict=True)
        ]
        table = TabularModel(P, described["initial_state_distrib"], described["action_masks"])
        check_number("limit", described["limit"], 1, integer=True)
        looks = described["looks"]
        if not all(isinstance(looks[name], str) for name in ("env_id", "kind")) or "layout" not in looks:
            raise ValueError("it does not say how the environment looks")
        if not isinstance(names := looks["action_names"], list) or len(names) != table.n_actions:
            raise ValueError(f"it must have the names of {table.n_actions} actions")
        return cls(table, gamma, described["limit"], bool(described["use_masking"]), looks)

    def is_like(self, other: "World") -> bool:
        """
        Look whether another world has the same states, actions, outcomes and starts; step limits and masks may differ.

        :param other: The other world
        :return: Whether all tables are equal
        """
        names = ("probabilities", "next_states", "rewards", "terminated", "initial_state_distrib")
        return all(np.array_equal(getattr(self.table, name), getattr(other.table, name)) for name in names)

    def description(self) -> dict[str, Any]:
        """
        Describe the world for a recording.

        :return: Arrays, numbers and text by name
        """
        table = self.table
        names = ("probabilities", "next_states", "rewards", "terminated", "initial_state_distrib", "action_masks")
        arrays = {name: getattr(table, name) for name in names}
        return {**arrays, "limit": self.limit, "use_masking": self.valid is not None, "looks": self.looks}

    def data(self) -> dict[str, Any]:
        """
        Describe the world for a page.

        :return: JSON
        """
        table = self.table
        optimum = table.optimum(self.limit)
        figures = policy_figures(table, optimum.actions, self.limit, PENALTY_REWARD)
        return {
            "n_states": table.n_states,
            "n_actions": table.n_actions,
            "n_outcomes": table.n_outcomes,
            "action_names": self.looks["action_names"],
            "next": packed(table.next_states, "int32"),
            "reward": packed(table.rewards, "float32"),
            "ended": packed(table.terminated, "uint8"),
            "success": packed(table.successes, "uint8"),
            "probability": None if table.deterministic else packed(table.probabilities, "float32"),
            "starts": packed(table.start_states, "int32"),
            "start_probability": packed(table.initial_state_distrib[table.start_states], "float32"),
            "acting": packed(self.acting, "uint8"),
            "valid": None if self.valid is None else packed(self.valid, "uint8"),
            "layout": self.looks["layout"],
            "optimal": {
                "q": packed(self.optimal_q, "float32"),
                "actions": packed(self.optimal_actions, "uint8"),
                "mean_reward": optimum.mean_reward,
                "mean_steps": table.mean_over_starts(figures.steps),
                "solvable": int(np.count_nonzero(figures.successes[table.start_states] > 0)),
            },
        }


def looks_of(table: TabularModel, env_id: str | None) -> dict[str, Any]:
    """
    Describe how an environment looks.

    :param table: Its model
    :param env_id: Its id, if it is known
    :return: JSON: its id or name, its kind, the names of its actions, and its grid; ``None`` if it has no grid
    """
    layout = None if table.env is None else grid_layout(table.env)
    names = range(table.n_actions) if layout is None else layout.action_names
    name = env_id or (table.spec.id if table.spec is not None else None)
    return {
        "env_id": name or ("table" if table.env is None else type(table.env).__name__),
        "kind": _kind_of(table.env),
        "action_names": [str(name) for name in names],
        "layout": None if layout is None else _layout_data(layout),
    }


def _kind_of(env: gym.Env | None) -> str:
    # Imported here because it loads all of gymnasium's toy-text environments.
    from gymnasium.envs.toy_text import CliffWalkingEnv, FrozenLakeEnv, TaxiEnv

    kinds: Sequence[tuple[str, type]] = (
        ("taxi", TaxiEnv),
        ("frozen_lake", FrozenLakeEnv),
        ("cliff", CliffWalkingEnv),
    )
    return next((kind for kind, cls in kinds if isinstance(env, cls)), "table")


def _layout_data(layout: GridLayout) -> dict[str, Any]:
    passengers, destinations = layout.columns.get("passenger"), layout.columns.get("destination")
    cases = []
    for number, case in enumerate(layout.cases):
        state = int(np.flatnonzero(layout.case_of == number)[0])
        passenger = None if passengers is None else passengers[state]
        cases.append(
            {
                "title": case.title,
                "at": list(case.at),
                "passenger": "taxi" if passenger == "in taxi" else passenger,
                "destination": None if destinations is None else destinations[state],
            }
        )
    return {
        "rows": layout.shape[0],
        "columns": layout.shape[1],
        "cells": packed(layout.cells, "int16"),
        "case_of": packed(layout.case_of, "int16"),
        "cases": cases,
        "moves": {str(action): list(move) for action, move in layout.moves.items()},
        "walls": [[list(cell) for cell in wall] for wall in layout.walls],
        "marks": [
            {"row": int(mark.row), "column": int(mark.column), "letter": str(mark.letter), "colour": _hex(mark.colour)}
            for mark in layout.marks
        ],
    }


def _hex(colour: Any) -> str | None:
    if colour is None:
        return None
    if isinstance(colour, str):
        return _COLOURS[colour]
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour)
