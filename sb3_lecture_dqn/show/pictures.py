"""Drawing: arrays in, matplotlib's figures out. Needs the extra ``viz``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sb3_lecture_dqn.envs.grids import GridLayout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Cells between two grids of a picture: room for a title.
_GAP = 1.0
_ARROW = 0.62
_COLOURS = "viridis"
_MISSING = "0.85"
# Inches around the grids: left, right (with the colour scale), below, above (with the title).
_MARGINS = 0.15, 0.95, 0.15, 0.5


def require_viz(what: str) -> None:
    """
    Import what draws, which takes half a second the first time.

    :param what: What needs it, for the message
    :raises ImportError: If it cannot; the message names the extra
    """
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.collections
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{what} needs matplotlib: pip install 'sb3-lecture-dqn[viz]'") from error


def as_plain_text(text: str) -> str:
    """
    Keep matplotlib from reading text as formulas, which it does between two dollars.

    :param text: Any text
    :return: What is drawn as that text
    """
    return text.replace("$", r"\$")


def to_array(figure: "Figure", dpi: int = 100) -> np.ndarray:
    """
    Draw a figure.

    :param figure: The figure
    :param dpi: Pixels per inch
    :return: uint8 of shape ``(height, width, 3)``
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
    label: str = "value",
) -> "Figure":
    """
    Values of states as colours, and what a policy does as arrows: on the grids of a layout, or else in a row.

    :param values: A number for every state, NaN for one that is left out, shape ``(S,)``
    :param actions: An action for every state, integers of shape ``(S,)``; none is drawn where the value is NaN
    :param layout: Where the states are; ``None``: side by side, 25 to a row
    :param title: Title
    :param limits: Values at the ends of the colour scale, ``None`` for the lowest and the highest there are
    :param label: What the values are
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
    label: str,
) -> "Figure":
    from matplotlib.collections import LineCollection, PolyCollection

    n_rows, n_columns = layout.shape
    shown = np.flatnonzero(~np.isnan(values))
    used = sorted(set(layout.case_of[shown].tolist()))
    # Corner of every case's grid, as x and y in cells. All grids are one picture on one pair of axes: a pair for each
    # would take several times as long to draw.
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
        axes.text(*(corner - [0.5, 0.6]), layout.cases[case].title, fontsize=8, va="bottom")
    axes.add_collection(PolyCollection(frames, facecolors=_MISSING, zorder=-1))  # shows where there is no value
    axes.add_collection(LineCollection(inner, colors="white", linewidths=0.3, alpha=0.5))
    axes.add_collection(
        LineCollection(marks, colors=[mark.colour for mark in layout.marks] * len(used), linewidths=1.6)
    )
    axes.add_collection(
        LineCollection(frames + walls, colors="black", linewidths=2.0, capstyle="projecting", clip_on=False)
    )
    for letter in sorted({mark.letter for mark in layout.marks}):
        at = np.array([(mark.column - 0.3, mark.row - 0.28) for mark in layout.marks if mark.letter == letter])
        here = np.concatenate([corners[case] + at for case in used])
        _draw_letter(axes, letter, here, size=24 if len(used) > 1 else 70, colour="white")
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
        here = actions == action
        letter = layout.action_names[action][0].upper()
        axes.scatter(x[here], y[here], s=60, color="white", edgecolors="black", linewidths=0.5, zorder=3)
        _draw_letter(axes, letter, np.stack([x[here], y[here]], axis=1), size=22, colour="black")


def _draw_letter(axes: Any, letter: str, at: np.ndarray, size: float, colour: str) -> None:
    """A letter at many places: as a marker, for which matplotlib needs a fraction of the time of texts."""
    outline: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.4}
    axes.scatter(*at.T, s=size, marker=f"$\\mathbf{{{letter}}}$", color=colour, zorder=4, **outline)


def _draw_row(
    values: np.ndarray,
    actions: np.ndarray | None,
    title: str,
    limits: tuple[float, float] | None,
    label: str,
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
    picture: np.ndarray, low: float, high: float, title: str, label: str, inches_per_cell: float
) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure

    # Placed by hand: a layout engine of matplotlib's draws everything twice.
    left, right, below, above = _MARGINS
    height, width = np.array(picture.shape) * inches_per_cell
    size = left + width + right, below + height + above
    figure = Figure(figsize=size)
    axes = figure.add_axes((left / size[0], below / size[1], width / size[0], height / size[1]))
    axes.set_axis_off()
    image = axes.imshow(picture, cmap=_COLOURS, vmin=low, vmax=high, interpolation="nearest", aspect="auto")
    tall = min(height, 3.0)
    scale = figure.add_axes(((left + width + 0.15) / size[0], below / size[1], 0.15 / size[0], tall / size[1]))
    figure.colorbar(image, cax=scale, label=label)
    figure.text(left / size[0], 1 - 0.08 / size[1], title, fontsize=10, va="top")
    return figure, axes


def _box(corner: np.ndarray, width: float, height: float) -> np.ndarray:
    points: np.ndarray = corner + np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)])
    return points


def _wall(cell: tuple[int, int], neighbour: tuple[int, int]) -> np.ndarray:
    """The ends of the edge that two cells share, as x and y."""
    (row, column), (other_row, other_column) = cell, neighbour
    middle = np.array([(column + other_column) / 2, (row + other_row) / 2])
    along = np.array([abs(other_row - row), abs(other_column - column)]) / 2
    return np.stack([middle - along, middle + along])


def draw_action_values(
    values: np.ndarray, action: int | None, action_names: Sequence[str], limits: tuple[float, float], title: str = ""
) -> "Figure":
    """
    The values of the actions in one state as bars.

    :param values: A number for every action, NaN for no bar, shape ``(A,)``
    :param action: The action that is taken, which stands out; ``None`` for none
    :param action_names: A name for every action
    :param limits: Values at the ends of the scale
    :param title: Title
    :return: The figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6, 4.0))
    axes = figure.add_axes((0.24, 0.13, 0.71, 0.79))
    colours = ["tab:orange" if index == action else "tab:blue" for index in range(len(values))]
    axes.barh(range(len(values)), values, color=colours)
    # Both axes are set, the first action above: matplotlib would fit them to the bars that there are in this picture.
    axes.set(xlim=limits, ylim=(len(values) - 0.5, -0.5), xlabel="Q(s, a)")
    axes.set_yticks(range(len(values)), action_names)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_title(title, fontsize=10)
    return figure


class Curve(NamedTuple):
    """
    A line with a band.

    :param x: Shape ``(n,)``
    :param mean: Shape ``(n,)``
    :param half_width: Half the width of the band, NaN where there is none, shape ``(n,)``
    """

    x: np.ndarray
    mean: np.ndarray
    half_width: np.ndarray


def draw_curves(
    panels: Mapping[str, Mapping[str, Curve]], references: Mapping[str, Mapping[str, float]], x_label: str
) -> "Figure":
    """
    Learning curves, one panel for every figure.

    A panel is as high as its curves and lines; of a band that is wider, what is in the panel is seen.

    :param panels: Curves by panel and by name
    :param references: Levels to be drawn as horizontal lines, by their name and by panel
    :param x_label: What runs along the x axis
    :return: The figure
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    n_columns = min(2, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(4.6 * n_columns, 3.2 * n_rows + 0.4), layout="constrained")
    lines: dict[str, Any] = {}
    for index, (name, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(n_rows, n_columns, index + 1)
        for number, (label, curve) in enumerate(curves.items()):
            marker = "." if len(curve.x) < 10 else None
            (lines[label],) = axes.plot(curve.x, curve.mean, color=f"C{number}", marker=marker)
        for style, (label, levels) in zip((":", "--"), references.items(), strict=False):
            if name in levels:
                lines[label] = axes.axhline(levels[name], color="black", linestyle=style, linewidth=1)
        height = axes.get_ylim()
        for number, curve in enumerate(curves.values()):
            band = curve.mean - curve.half_width, curve.mean + curve.half_width
            axes.fill_between(curve.x, *band, color=f"C{number}", alpha=0.25, linewidth=0)
        axes.set(title=name, xlabel=x_label, ylim=height)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
    figure.legend(
        list(lines.values()), [*map(as_plain_text, lines)], loc="outside lower center", ncols=min(3, len(lines))
    )
    return figure
