"""Pictures of states and of action values, from arrays to matplotlib's figures. Needs the extra ``viz``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_lecture_dqn.envs.grids import GridLayout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Cells between two grids of a picture: room for a title
_GAP = 1.0
#: Length of an arrow in cells
_ARROW = 0.62
_COLOURS = "viridis"
#: The grey of states without a value
_MISSING = "0.85"
#: Inches around the grids: left, right (with the colour scale), below, above (with the title)
_MARGINS = 0.15, 0.95, 0.15, 0.5
#: The bars of the chosen action, of others, and of forbidden ones: they differ in lightness, edge and hatching too
CHOSEN: dict[str, Any] = {"facecolor": "#E69F00", "edgecolor": "black", "linewidth": 1.5}
OTHER: dict[str, Any] = {"facecolor": "#0072B2", "edgecolor": "#0072B2", "linewidth": 0.5}
FORBIDDEN: dict[str, Any] = {"facecolor": "0.95", "edgecolor": "0.6", "hatch": "////", "linewidth": 0.0}


def require_viz(purpose: str) -> None:
    """
    Import matplotlib. The first import takes half a second.

    :param purpose: What is drawn, for the message
    :raises ImportError: If matplotlib is not installed; the message names the extra
    """
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.collections
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{purpose} needs matplotlib: pip install 'sb3-lecture-dqn[viz]'") from error


def as_plain_text(text: str) -> str:
    """
    Escape dollars, between which matplotlib would read a formula.

    :param text: Any text
    :return: The escaped text, which matplotlib draws as the given text
    """
    return text.replace("$", r"\$")


def to_array(figure: "Figure", dpi: int = 100) -> np.ndarray:
    """
    Render a figure.

    :param figure: The figure
    :param dpi: Pixels per inch
    :return: The pixels, uint8 of shape ``(height, width, 3)``
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def draw_values(
    values: np.ndarray,
    actions: np.ndarray | None = None,
    layout: GridLayout | None = None,
    title: str = "",
    limits: tuple[float, float] | None = None,
    label: str | None = "value",
) -> "Figure":
    """
    Draw the values of states as colours and the actions of a policy as arrows, on grids or in rows.

    :param values: A value for every state, NaN to leave the state out, shape ``(S,)``
    :param actions: An action for every state, integers of shape ``(S,)``, not drawn if the value is NaN; ``None`` for
        no arrows
    :param layout: The places of the states on grids; ``None`` for rows of 25 states
    :param title: Title
    :param limits: Values at the ends of the colour scale; ``None`` for the lowest and the highest value
    :param label: Label of the colour scale; ``None`` for no scale, and larger titles of the grids
    :return: The figure
    """
    if layout is None:
        return _draw_row(values, actions, title, limits, label)
    return _draw_grids(values, actions, layout, title, limits, label)


def _draw_grids(
    values: np.ndarray,
    actions: np.ndarray | None,
    layout: GridLayout,
    title: str,
    limits: tuple[float, float] | None,
    label: str | None,
) -> "Figure":
    from matplotlib.collections import LineCollection, PolyCollection

    n_rows, n_columns = layout.shape
    shown = np.flatnonzero(~np.isnan(values))
    used = sorted(set(layout.case_of[shown].tolist()))
    # Corner of every case's grid, as x and y in cells. All grids are one picture on one pair of axes: one pair for each
    # grid would take several times as long to draw.
    corners = np.array([case.at for case in layout.cases])[:, ::-1] * [n_columns + _GAP, n_rows + _GAP]
    width, height = (corners[used].max(axis=0) + np.array([n_columns, n_rows])).astype(int)
    x, y = (layout.cells[:, ::-1] + corners[layout.case_of]).T
    picture = np.full((height, width), np.nan)
    picture[y[shown].astype(int), x[shown].astype(int)] = values[shown]
    low, high = limits or (float(np.min(values[shown])), float(np.max(values[shown])))
    figure, axes = _heat_map(picture, low, high, title, label, inches_per_cell=0.75 if len(used) == 1 else 0.36)

    frames, inner, walls, marks = [], [], [], []
    for case in used:
        corner = corners[case]
        frames.append(_box(corner - 0.5, n_columns, n_rows))
        inner += [corner + np.array([(c, -0.5), (c, n_rows - 0.5)]) for c in np.arange(0.5, n_columns - 1)]
        inner += [corner + np.array([(-0.5, r), (n_columns - 0.5, r)]) for r in np.arange(0.5, n_rows - 1)]
        walls += [_wall(*wall) + corner for wall in layout.walls]
        marks += [_box(corner + np.array([mark.column, mark.row]) - 0.44, 0.88, 0.88) for mark in layout.marks]
        axes.text(
            *(corner - [0.5, 0.6]), layout.cases[case].title, fontsize=8 if label is not None else 10, va="bottom"
        )
    axes.add_collection(PolyCollection(frames, facecolors=_MISSING, zorder=-1))
    axes.add_collection(LineCollection(inner, colors="white", linewidths=0.3, alpha=0.5))
    axes.add_collection(
        LineCollection(marks, colors=[mark.colour for mark in layout.marks] * len(used), linewidths=1.6)
    )
    axes.add_collection(
        LineCollection(frames + walls, colors="black", linewidths=2.0, capstyle="projecting", clip_on=False)
    )
    for letter in sorted({mark.letter for mark in layout.marks}):
        offsets = np.array([(mark.column - 0.3, mark.row - 0.28) for mark in layout.marks if mark.letter == letter])
        places = np.concatenate([corners[case] + offsets for case in used])
        _draw_letter(axes, letter, places, size=24 if len(used) > 1 else 70, colour="white")
    if actions is not None:
        _draw_actions(axes, layout, actions[shown], x[shown], y[shown])
    return figure


def _draw_actions(axes: Any, layout: GridLayout, actions: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    movements = np.array([layout.moves.get(action, (0, 0))[::-1] for action in range(len(layout.action_names))])
    steps = movements[actions] * _ARROW
    moving = steps.any(axis=1)
    in_cells: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "units": "xy", "scale": 1, "pivot": "mid"}
    shape = {"width": 0.12, "headwidth": 3.2, "headlength": 3.2, "headaxislength": 3.0, "linewidth": 0.4}
    axes.quiver(x[moving], y[moving], *steps[moving].T, **in_cells, **shape, color="white", edgecolor="black")
    for action in np.unique(actions[~moving]).tolist():
        chosen = actions == action
        letter = layout.action_names[action][0].upper()
        axes.scatter(x[chosen], y[chosen], s=60, color="white", edgecolors="black", linewidths=0.5, zorder=3)
        _draw_letter(axes, letter, np.stack([x[chosen], y[chosen]], axis=1), size=22, colour="black")


def _draw_letter(axes: Any, letter: str, places: np.ndarray, size: float, colour: str) -> None:
    """Draw a letter at places of shape ``(n, 2)``, as a marker: matplotlib takes far longer for texts."""
    outline: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.4}
    axes.scatter(*places.T, s=size, marker=f"$\\mathbf{{{letter}}}$", color=colour, zorder=4, **outline)


def _draw_row(
    values: np.ndarray,
    actions: np.ndarray | None,
    title: str,
    limits: tuple[float, float] | None,
    label: str | None,
) -> "Figure":
    n_columns = min(len(values), 25)
    n_rows = -(-len(values) // n_columns)
    picture = np.full(n_rows * n_columns, np.nan)
    picture[: len(values)] = values
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    figure, axes = _heat_map(picture.reshape(n_rows, n_columns), low, high, title, label, inches_per_cell=0.32)
    axes.set_facecolor(_MISSING)
    if actions is not None:
        for state in np.flatnonzero(~np.isnan(values)).tolist():
            row, column = divmod(state, n_columns)
            axes.text(column, row, str(actions[state]), va="center", ha="center", fontsize=6, color="white")
        for row in range(n_rows):
            axes.text(-0.8, row, str(row * n_columns), va="center", ha="right", fontsize=6)
    return figure


def _heat_map(
    picture: np.ndarray, low: float, high: float, title: str, label: str | None, inches_per_cell: float
) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure

    # Without matplotlib's layout engines, which draw everything twice.
    left, right, below, above = _MARGINS
    right = right if label is not None else left
    height, width = np.array(picture.shape) * inches_per_cell
    size = left + width + right, below + height + above
    figure = Figure(figsize=size)
    axes = figure.add_axes((left / size[0], below / size[1], width / size[0], height / size[1]))
    axes.set_axis_off()
    image = axes.imshow(picture, cmap=_COLOURS, vmin=low, vmax=high, interpolation="nearest", aspect="auto")
    if label is not None:
        tall = min(height, 3.0)
        scale = figure.add_axes(((left + width + 0.15) / size[0], below / size[1], 0.15 / size[0], tall / size[1]))
        figure.colorbar(image, cax=scale, label=label)
    figure.text(left / size[0], 1 - 0.08 / size[1], title, fontsize=10, va="top")
    return figure, axes


def _box(corner: np.ndarray, width: float, height: float) -> np.ndarray:
    points: np.ndarray = corner + np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)])
    return points


def _wall(cell: tuple[int, int], neighbour: tuple[int, int]) -> np.ndarray:
    """Return the ends of the edge between two cells, as x and y."""
    (row, column), (other_row, other_column) = cell, neighbour
    middle = np.array([(column + other_column) / 2, (row + other_row) / 2])
    along = np.array([abs(other_row - row), abs(other_column - column)]) / 2
    return np.stack([middle - along, middle + along])


class ActionBars:
    """
    A picture of the action values of one state as bars, drawn many times on the same axes.

    Only what changes is drawn again: the rest is copied, which is several times as fast.

    :param action_names: A name for every action
    :param limits: Values at the ends of the axis
    :param masked: Whether actions may be forbidden, so that the legend tells how they look
    :param n_lines: Number of lines of text above the bars
    """

    def __init__(
        self, action_names: Sequence[str], limits: tuple[float, float], masked: bool = False, n_lines: int = 2
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        self.limits = limits
        width, height = 3.8, 4.0
        figure = Figure(figsize=(width, height), dpi=100)
        canvas: Any = FigureCanvasAgg(figure)
        above, below = 0.12 + 0.22 * n_lines, 0.85
        self.axes = figure.add_axes((0.24, below / height, 0.71, 1 - (above + below) / height))
        # Both axes are fixed, with the first action on top: matplotlib would fit them to the bars of a picture.
        self.axes.set(xlim=limits, ylim=(len(action_names) - 0.5, -0.5), xlabel="action value Q(s, a)")
        self.axes.set_yticks(range(len(action_names)), [*map(as_plain_text, action_names)])
        self.axes.axvline(0, color="black", linewidth=0.8)
        places = range(len(action_names))
        self.bars = self.axes.barh(places, np.zeros(len(action_names)), height=0.7, **OTHER, animated=True).patches
        # A forbidden action has no value: its whole row is hatched.
        left, right = limits
        self.forbidden = self.axes.barh(
            places, [right - left] * len(action_names), left=left, height=0.7, **FORBIDDEN, animated=True
        ).patches
        self.lines = [
            figure.text(0.03, 1 - (0.1 + 0.22 * i) / height, "", fontsize=10, va="top", animated=True)
            for i in range(n_lines)
        ]
        box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "black"}
        self.note = self.axes.text(
            0.5, 0.5, "", transform=self.axes.transAxes, fontsize=15, ha="center", va="center", bbox=box, animated=True
        )
        handles = [Patch(**CHOSEN, label="chosen"), Patch(**OTHER, label="other")]
        handles += [Patch(**FORBIDDEN, label="not valid")] if masked else []
        figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=9, frameon=False)
        canvas.draw()
        self._canvas, self._background = canvas, canvas.copy_from_bbox(figure.bbox)

    def draw(self, values: np.ndarray | None, action: int | None, lines: Sequence[str], note: str = "") -> np.ndarray:
        """
        Draw the bars of one state.

        :param values: A value for every action, NaN for a forbidden action, shape ``(A,)``; ``None`` for no bars
        :param action: The chosen action, ``None`` for none
        :param lines: Lines of text above the bars, at most ``n_lines``
        :param note: Text across the picture
        :return: The pixels, uint8 of shape ``(height, width, 3)``
        """
        self._canvas.restore_region(self._background)
        shown: list[Any] = []
        for index, (bar, hatched) in enumerate(zip(self.bars, self.forbidden, strict=True)):
            if values is None:
                continue
            if np.isnan(values[index]):
                shown.append(hatched)
                continue
            bar.set(width=values[index], **(CHOSEN if index == action else OTHER))
            shown.append(bar)
        for text, line in zip(self.lines, [*lines, *[""] * len(self.lines)], strict=False):
            text.set_text(as_plain_text(line))
        self.note.set_text(as_plain_text(note))
        for artist in [*shown, *self.lines, *([self.note] if note else [])]:
            artist.draw(self._canvas.get_renderer())
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()
