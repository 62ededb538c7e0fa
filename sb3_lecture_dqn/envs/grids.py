"""The grids of Taxi, FrozenLake and CliffWalking: positions of their states, and names of states and actions."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

# Colours of the letters in FrozenLake's map; ice has no mark.
_LAKE_COLOURS = {"S": "white", "F": None, "H": "tab:blue", "G": "tab:green"}


@dataclass(frozen=True)
class Mark:
    """
    A named cell of a grid.

    :param row: Its row, from 0 at the top
    :param column: Its column, from 0 at the left
    :param letter: Its name
    :param colour: The colour of its frame, for matplotlib
    """

    row: int
    column: int
    letter: str
    colour: Any


@dataclass(frozen=True)
class Case:
    """
    The part of a state besides its position. All states of a case are drawn in one grid.

    :param title: Its name
    :param at: Row and column of its grid among all grids
    """

    title: str
    at: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class GridLayout:
    """
    The layout of a grid world: S states on R x C cells, with one grid for every case.

    :param shape: ``(R, C)``
    :param cells: Row and column of every state, int64 of shape ``(S, 2)``
    :param case_of: The case of every state, int64 of shape ``(S,)``
    :param cases: The cases
    :param moves: Rows and columns by which an action moves, for the actions that move
    :param action_names: A name for every action
    :param columns: Properties of the states by name, S entries each
    :param walls: Walls between two neighbouring cells, as pairs of (row, column)
    :param marks: Named cells
    """

    shape: tuple[int, int]
    cells: np.ndarray
    case_of: np.ndarray
    cases: Sequence[Case]
    moves: Mapping[int, tuple[int, int]]
    action_names: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    walls: Sequence[tuple[tuple[int, int], tuple[int, int]]] = ()
    marks: Sequence[Mark] = ()

    def side_by_side(self, names: tuple[str, str], cases: Sequence[int]) -> "GridLayout":
        """
        Return the layout of two values of every state in one picture: the states number S to 2S - 1 are the same again.

        :param names: Names of the two sides
        :param cases: The cases that are drawn, one in a row; wide grids are below each other instead
        :return: The layout
        """
        is_wide = self.shape[1] > 2 * self.shape[0]
        places = {case: row for row, case in enumerate(cases)}
        shown = [
            Case(
                f"{name}: {case.title}" if case.title else name,
                (side, places.get(number, 0)) if is_wide else (places.get(number, 0), side),
            )
            for side, name in enumerate(names)
            for number, case in enumerate(self.cases)
        ]
        return dataclasses.replace(
            self,
            cells=np.concatenate([self.cells, self.cells]),
            case_of=np.concatenate([self.case_of, self.case_of + len(self.cases)]),
            cases=shown,
            columns={},
        )


def grid_layout(env: gym.Env) -> GridLayout | None:
    """
    Return the layout of a grid world.

    :param env: An environment
    :return: Its layout; ``None`` if it is not gymnasium's TaxiEnv, FrozenLakeEnv or CliffWalkingEnv
    """
    # Imported here because it loads all of gymnasium's toy-text environments.
    from gymnasium.envs.toy_text import CliffWalkingEnv, FrozenLakeEnv, TaxiEnv

    inner: Any = env.unwrapped
    if isinstance(inner, TaxiEnv):
        return _taxi(inner)
    if isinstance(inner, FrozenLakeEnv):
        letters = np.asarray(inner.desc).astype(str)
        return _plain_grid(letters, ["left", "down", "right", "up"], _LAKE_COLOURS)
    if isinstance(inner, CliffWalkingEnv):
        letters = np.where(inner._cliff, "C", "")
        letters.flat[inner.start_state_index], letters[-1, -1] = "S", "G"
        return _plain_grid(letters, ["up", "right", "down", "left"], {"S": "white", "C": "tab:red", "G": "tab:green"})
    return None


_DIRECTIONS = {
    "up": (-1, 0),
    "north": (-1, 0),
    "down": (1, 0),
    "south": (1, 0),
    "left": (0, -1),
    "west": (0, -1),
    "right": (0, 1),
    "east": (0, 1),
}


def _moves(action_names: Sequence[str]) -> dict[int, tuple[int, int]]:
    return {action: _DIRECTIONS[name] for action, name in enumerate(action_names) if name in _DIRECTIONS}


def _plain_grid(letters: np.ndarray, action_names: list[str], colours: Mapping[str, Any]) -> GridLayout:
    """The layout if the states are the cells, numbered row by row."""
    rows, columns = (index.ravel() for index in np.indices(letters.shape))
    marks = [
        Mark(row, column, letters[row, column], colours[letters[row, column]])
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if colours.get(letters[row, column])
    ]
    return GridLayout(
        shape=letters.shape,
        cells=np.stack([rows, columns], axis=1),
        case_of=np.zeros(letters.size, np.int64),
        cases=[Case("")],
        moves=_moves(action_names),
        action_names=action_names,
        columns={"row": rows.tolist(), "column": columns.tolist(), "cell": letters.ravel().tolist()},
        marks=marks,
    )


def _taxi(env: Any) -> GridLayout:
    decoded = np.array([list(env.decode(state)) for state in range(env.observation_space.n)])
    names = [env.desc[1 + row, 2 * column + 1].decode() for row, column in env.locs]
    colours = [tuple(channel / 255 for channel in colour) for colour in env.locs_colors]
    places = [*names, "in taxi"]
    shape = env.desc.shape[0] - 2, env.desc.shape[1] // 2  # the map has a frame, and a wall or gap between two columns
    cases = [
        Case(f"{place} → {destination_name}", (passenger, destination))
        for passenger, place in enumerate(places)
        for destination, destination_name in enumerate(names)
    ]
    action_names = ["south", "north", "east", "west", "pick up", "drop off"]
    walls = [
        ((row, column), (row, column + 1))
        for row in range(shape[0])
        for column in range(shape[1] - 1)
        if env.desc[1 + row, 2 * column + 2] == b"|"
    ]
    return GridLayout(
        shape=shape,
        cells=decoded[:, :2],
        case_of=decoded[:, 2] * len(names) + decoded[:, 3],
        cases=cases,
        moves=_moves(action_names),
        action_names=action_names,
        columns={
            "taxi row": decoded[:, 0].tolist(),
            "taxi column": decoded[:, 1].tolist(),
            "passenger": [places[passenger] for passenger in decoded[:, 2]],
            "destination": [names[destination] for destination in decoded[:, 3]],
        },
        walls=walls,
        marks=[Mark(at[0], at[1], name, colour) for at, name, colour in zip(env.locs, names, colours, strict=True)],
    )
