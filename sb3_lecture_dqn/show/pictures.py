"""Drawing: functions from arrays to matplotlib's figures. Needs the extra ``viz``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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


def draw_action_values(
    values: np.ndarray, action: int | None, action_names: Sequence[str], limits: tuple[float, float], title: str = ""
) -> "Figure":
    """
    Draw the values of the actions in one state as bars.

    :param values: A value for every action, NaN for no bar, shape ``(A,)``
    :param action: The action to highlight; ``None`` to highlight none
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
    # Both axes are fixed, with the first action on top: matplotlib would fit them to the bars of this picture.
    axes.set(xlim=limits, ylim=(len(values) - 0.5, -0.5), xlabel="Q(s, a)")
    axes.set_yticks(range(len(values)), action_names)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_title(title, fontsize=10)
    return figure


class Curve(NamedTuple):
    """
    A line with a band.

    :param x: Shape ``(n,)``
    :param mean: Height of the line, shape ``(n,)``
    :param half_width: Half the width of the band, NaN for no band, shape ``(n,)``
    """

    x: np.ndarray
    mean: np.ndarray
    half_width: np.ndarray


def draw_curves(
    panels: Mapping[str, Mapping[str, Curve]], references: Mapping[str, Mapping[str, float]], x_label: str
) -> "Figure":
    """
    Draw learning curves, one panel for every quantity.

    The lines decide the height of a panel. A wider band is cut off.

    :param panels: Curves by panel and by name
    :param references: Heights of horizontal lines, by name and by panel
    :param x_label: Label of the x axis
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
        heights = [curve.mean for curve in curves.values()]
        for number, (label, curve) in enumerate(curves.items()):
            band = curve.mean - curve.half_width, curve.mean + curve.half_width
            marker = "." if len(curve.x) < 10 else None
            lines[label] = draw_curve(axes, curve.x, curve.mean, *band, color=f"C{number}", marker=marker)
        for style, (label, levels) in zip((":", "--"), references.items(), strict=False):
            if name in levels:
                lines[label] = axes.axhline(levels[name], color="black", linestyle=style, linewidth=1)
                heights.append(np.array([levels[name]]))
        axes.set(title=name, xlabel=x_label, ylim=limits_around(heights))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.legend(
        list(lines.values()), [*map(as_plain_text, lines)], loc="outside lower center", ncols=min(3, len(lines))
    )
    return figure


def draw_curve(axes: Any, x: np.ndarray, height: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> Any:
    """
    Draw a line with a band.

    :param axes: Matplotlib's axes
    :param x: Shape ``(n,)``
    :param height: Height of the line, shape ``(n,)``
    :param low: Lower edge of the band, NaN for no band, shape ``(n,)``
    :param high: Upper edge of the band, shape ``(n,)``
    :param style: Keywords of ``axes.plot``, with ``color``
    :return: Matplotlib's line
    """
    (line,) = axes.plot(x, height, **style)
    step = "post" if style.get("drawstyle") == "steps-post" else None
    axes.fill_between(x, low, high, step=step, color=style["color"], alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3)
    return line


def limits_around(lines: Sequence[np.ndarray]) -> tuple[float, float]:
    """
    Return the limits of an axis that shows some values with a margin.

    :param lines: Arrays of the values
    :return: The lowest and the highest value that is not NaN, moved apart by 5 % of their distance at each end
    """
    values = np.concatenate(lines)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
