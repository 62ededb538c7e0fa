"""Loops of a policy as text, on the grid where there is one."""

from collections.abc import Sequence

import numpy as np

from sb3_lecture_dqn.envs.grids import GridLayout

_ARROWS = {(-1, 0): "↑", (1, 0): "↓", (0, -1): "←", (0, 1): "→"}
#: Most states of a loop that are listed
_MOST_STATES = 8


def draw_loop(states: Sequence[int], actions: np.ndarray, layout: GridLayout | None) -> str:
    """
    Draw a loop of a policy.

    On a grid, the cells of the loop have arrows, or the letter of an action that does not move; other cells have the
    letters of the map. A loop that has several cases, such as places of a passenger, has one grid for each.

    :param states: The states of the loop, in the order of the walk
    :param actions: The policy's action in every state, integers of shape ``(S,)``
    :param layout: The grid of the environment; ``None`` to list the states
    :return: Lines of text, at most 72 columns wide unless the grid is wider
    """
    if layout is None:
        listed = [f"{state} -({actions[state]})->" for state in states[:_MOST_STATES]]
        return " ".join([*listed, "..." if len(states) > _MOST_STATES else str(states[0])])
    cases = list(dict.fromkeys(int(layout.case_of[state]) for state in states))
    grids = [_grid([s for s in states if layout.case_of[s] == case], case, actions, layout) for case in cases[:3]]
    return "\n\n".join(grids)


def _grid(states: Sequence[int], case: int, actions: np.ndarray, layout: GridLayout) -> str:
    n_rows, n_columns = layout.shape
    cells = [["."] * n_columns for _ in range(n_rows)]
    for mark in layout.marks:
        cells[mark.row][mark.column] = mark.letter
    for state in states:
        row, column = layout.cells[state]
        action = int(actions[state])
        move = layout.moves.get(action)
        cells[row][column] = layout.action_names[action][0].upper() if move is None else _ARROWS[move]
    walls = {frozenset(wall) for wall in layout.walls}
    lines = [layout.cases[case].title] if layout.cases[case].title else []
    for row in range(n_rows):
        line = cells[row][0]
        for column in range(1, n_columns):
            line += ("|" if frozenset(((row, column - 1), (row, column))) in walls else " ") + cells[row][column]
        lines.append(line)
    return "\n".join(lines)
