"""Layouts and pictures of grid worlds, compared with checked pictures."""

import dataclasses
import os
import pathlib

import gymnasium as gym
import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from sb3_lecture_dqn import TabularModel
from sb3_lecture_dqn.envs.grids import grid_layout
from sb3_lecture_dqn.show.pictures import CHOSEN, FORBIDDEN, OTHER, ActionBars, draw_values, to_array

REFERENCES = pathlib.Path(__file__).parent / "images"
# Versions of matplotlib and FreeType differ a little in fonts and antialiasing: in the greys of few edges.
FAR_APART = 60
FEW_PIXELS = 0.0005


def grid(env_id, **kwargs):
    """Return the optimum of an environment: values, actions and layout."""
    env = gym.make(env_id, **kwargs)
    table = TabularModel.from_env(env)
    q_values = table.optimal_action_values(0.9)
    values = np.where(table.acting_states(), q_values.max(axis=1), np.nan)
    # The first of equally good actions, in spite of rounding.
    return values, (q_values >= q_values.max(axis=1, keepdims=True) - 1e-9).argmax(axis=1), grid_layout(env)


def picture(values, actions, layout):
    return to_array(draw_values(values, actions, layout, "optimum"), dpi=60)


def share_of_other_pixels(drawn, name):
    """Return the share of pixels that clearly differ from the reference. UPDATE_IMAGES=1 replaces the reference."""
    if tuple(map(int, matplotlib.__version__.split(".")[:2])) < (3, 11):
        pytest.skip("the references are of matplotlib 3.11, and older ones set texts elsewhere")
    path = REFERENCES / f"{name}.png"
    if os.environ.get("UPDATE_IMAGES"):
        Image.fromarray(drawn).save(path, optimize=True)
    with Image.open(path) as image:
        reference = np.asarray(image.convert("RGB")).astype(int)
    assert drawn.shape == reference.shape
    return float((np.abs(drawn - reference).max(axis=2) > FAR_APART).mean())


GRIDS = {
    "taxi": ("Taxi-v3", {}),
    "frozen_lake": ("FrozenLake-v1", {}),
    "frozen_lake_8x8": ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}),
    "cliff_walking": ("CliffWalking-v1", {}),
}


@pytest.mark.parametrize("name", GRIDS)
def test_grids_look_as_they_did(name):
    env_id, kwargs = GRIDS[name]
    assert share_of_other_pixels(picture(*grid(env_id, **kwargs)), name) < FEW_PIXELS


def test_states_without_a_grid_are_in_rows():
    values, actions, _ = grid("FrozenLake-v1", map_name="8x8")
    assert share_of_other_pixels(picture(values, actions, None), "rows") < FEW_PIXELS


@pytest.mark.parametrize("name", GRIDS)
def test_a_wrong_arrow_is_another_picture(name):
    """The comparison can fail: it notices the opposite move in one of a hundred states."""
    env_id, kwargs = GRIDS[name]
    values, actions, layout = grid(env_id, **kwargs)
    shown = np.flatnonzero(~np.isnan(values))
    opposite = {a: b for a, move in layout.moves.items() for b, other in layout.moves.items()
                if move == (-other[0], -other[1])}  # fmt: skip
    wrong = actions.copy()
    for state in shown[:: max(1, len(shown) // 8)]:
        wrong[state] = opposite.get(int(actions[state]), 0)
    assert share_of_other_pixels(picture(values, wrong, layout), name) > FEW_PIXELS


def test_a_missing_wall_is_another_picture():
    values, actions, layout = grid("Taxi-v3")
    fewer = dataclasses.replace(layout, walls=layout.walls[1:])
    assert share_of_other_pixels(picture(values, actions, fewer), "taxi") > FEW_PIXELS
    assert share_of_other_pixels(picture(values, actions, layout), "taxi") < FEW_PIXELS


@pytest.mark.parametrize("name", GRIDS)
def test_arrows_point_where_the_actions_lead(name):
    """In the picture, the narrow tip of an arrow is on the side to which the action moves."""
    env_id, kwargs = GRIDS[name]
    env = gym.make(env_id, **kwargs)
    layout, states = grid_layout(env), np.flatnonzero(TabularModel.from_env(env).acting_states())
    state = int(states[len(states) // 2])
    values = np.where(np.arange(len(layout.cells)) == state, 0.0, np.nan)
    row, column = layout.cells[state] + np.array(layout.cases[layout.case_of[state]].at) * (np.array(layout.shape) + 1)
    for action, (down, right) in layout.moves.items():
        figure = draw_values(values, np.full(len(values), action), layout)
        drawn = to_array(figure, dpi=100)
        corners = figure.axes[0].transData.transform([(column - 0.5, row - 0.5), (column + 0.5, row + 0.5)])
        (left, top), (end, bottom) = np.round(corners * [1, -1] + [0, len(drawn)]).astype(int)
        inside = drawn[top + 8 : bottom - 8, left + 8 : end - 8]  # inside the walls and frames
        white = (inside > 240).all(axis=2)
        widths = white.sum(axis=1 if down else 0)
        first, last = widths[widths > 0][[1, -2]]
        assert (last < first) == (down + right > 0), layout.action_names[action]


# Layouts


@pytest.mark.parametrize("name", GRIDS)
def test_the_layout_agrees_with_the_transitions(name):
    """A move leads to the neighbouring cell, or nowhere at a wall, at the edge or in special states."""
    env_id, kwargs = GRIDS[name]
    env = gym.make(env_id, **{**kwargs, **({"is_slippery": False} if "Lake" in env_id else {})})
    layout, table = grid_layout(env), TabularModel.from_env(env)
    walls = {frozenset(wall) for wall in layout.walls}
    special = (
        {(mark.row, mark.column) for mark in layout.marks if mark.letter in "CHG"} if "Taxi" not in env_id else set()
    )
    for state in np.flatnonzero(table.acting_states()).tolist():
        cell = tuple(layout.cells[state].tolist())
        for action, (down, right) in layout.moves.items():
            neighbour = cell[0] + down, cell[1] + right
            outside = not all(0 <= x < n for x, n in zip(neighbour, layout.shape, strict=True))
            expected = cell if outside or frozenset((cell, neighbour)) in walls else neighbour
            if expected in special:
                continue
            reached = int(table.next_states[state, action, 0])
            assert tuple(layout.cells[reached].tolist()) == expected
            assert layout.case_of[reached] == layout.case_of[state]


def test_the_layout_of_taxi():
    layout = grid_layout(gym.make("Taxi-v3"))
    env = gym.make("Taxi-v3").unwrapped
    assert len(layout.walls) == 6
    assert ((0, 1), (0, 2)) in layout.walls
    state = env.encode(3, 2, 4, 3)
    assert layout.cells[state].tolist() == [3, 2]
    case = layout.cases[layout.case_of[state]]
    assert (case.title, case.at) == ("in taxi → B", (4, 3))
    assert {name: column[state] for name, column in layout.columns.items()} == {
        "taxi row": 3, "taxi column": 2, "passenger": "in taxi", "destination": "B"}  # fmt: skip
    assert [(mark.letter, mark.row, mark.column, mark.colour) for mark in layout.marks] == [
        ("R", 0, 0, to_rgb("red")), ("G", 0, 4, to_rgb("lime")), ("Y", 4, 0, to_rgb("yellow")),
        ("B", 4, 3, to_rgb("blue"))]  # fmt: skip


def test_other_environments_have_no_layout():
    assert grid_layout(gym.make("CartPole-v1")) is None


# Other pictures


def colour_at(bars, drawn, value, row):
    """Return the colour of a pixel of the axes."""
    x, y = bars.axes.transData.transform((value, row))
    return tuple((drawn[len(drawn) - 1 - round(y), round(x)] / 255).round(2).tolist())


def test_the_bar_of_the_chosen_action_stands_out():
    bars = ActionBars(["left", "right", "stay"], (-3, 3))
    drawn = bars.draw(np.array([1.0, -2.0, 2.0]), 1, ["title"])
    other, chosen = (tuple(np.round(to_rgb(style["facecolor"]), 2).tolist()) for style in (OTHER, CHOSEN))
    for value, row, colour in [(0.5, 0, other), (-1, 1, chosen), (1, 2, other), (1.5, 0, (1, 1, 1)), (1, 1, (1, 1, 1))]:
        assert colour_at(bars, drawn, value, row) == colour
    (legend,) = bars.axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["chosen", "other"]


def test_a_forbidden_action_is_hatched_over_the_whole_axis_and_in_the_legend():
    bars = ActionBars(["left", "right"], (-3, 3), masked=True)
    drawn = bars.draw(np.array([1.0, np.nan]), 0, [])
    grey = to_rgb(FORBIDDEN["facecolor"])
    row = [colour_at(bars, drawn, value, 1) for value in np.linspace(-2.9, 2.9, 60)]
    assert sum(max(abs(a - b) for a, b in zip(pixel, grey, strict=True)) < 0.02 for pixel in row) > 20
    assert [text.get_text() for text in bars.axes.figure.legends[0].get_texts()] == ["chosen", "other", "not valid"]


def test_a_picture_does_not_depend_on_those_before_it():
    """Only what changes is drawn again, on the same axes."""
    limits = (-5, 20)
    bars, nan = ActionBars("abcd", limits, masked=True), np.nan
    before = bars.axes.get_xlim(), bars.axes.get_ylim()
    for values in ([1, 2, 3, 4], [nan, 2, nan, nan], None, [nan] * 4, [-9, 99, 0, 0], [0] * 4):
        array = None if values is None else np.array(values, float)
        drawn = bars.draw(array, 1, ["one line", "another"], "" if values else "the end")
        assert drawn.shape == (400, 380, 3)
        fresh = ActionBars("abcd", limits, masked=True).draw(
            array, 1, ["one line", "another"], "" if values else "the end"
        )
        assert (drawn == fresh).all()
    assert (bars.axes.get_xlim(), bars.axes.get_ylim()) == before == (limits, (3.5, -0.5))


def test_the_lines_of_text_and_the_note_are_drawn():
    bars = ActionBars("ab", (-1, 1))
    empty = bars.draw(None, None, [])
    with_text = bars.draw(None, None, ["$a_b$ episode 1", "passenger at R (red)"])
    with_note = bars.draw(None, None, ["$a_b$ episode 1", "passenger at R (red)"], "delivered, +20")
    assert (empty != with_text).any(axis=2)[:56].any()
    assert not (empty != with_text).any(axis=2)[60:].any()
    assert (with_note != with_text).any(axis=2)[60:].any()
